"""The corpus on disk: what it holds, that it is the same every time, and that it is never half made."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctxe_lib.corpus import SPLITS, Corpus, Skipped, Track, build_corpus, hash_split, ordered_map, segment_starts
from ctxe_lib.geometry import Geometry

GEOMETRY = Geometry()


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(16_000 * seconds))


def tracks(count: int = 10) -> Iterator[Track]:
    for i in range(count):
        split = SPLITS[i % 3]
        yield Track(f"source/{i}.wav", f"artist {i % 4}", "source", noise(i, 1 + i / 10), split, "CC0")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return build_corpus("small", tracks(), tmp_path / "small", GEOMETRY, provenance={"from": "noise"})


def test_audio_is_stored_as_it_was(corpus: Corpus) -> None:
    for i, (offset, samples) in enumerate(corpus.tracks[["offset", "samples"]].to_numpy().tolist()):
        stored = corpus.read(np.array([offset]), samples)[0]
        original = noise(i, 1 + i / 10)
        np.testing.assert_allclose(stored, original[:samples], atol=0.5 / 32768 + 1e-7)
        assert len(original) - 512 < samples <= len(original)


def test_index_follows_the_papers_rule(corpus: Corpus) -> None:
    for split in SPLITS:
        starts, owners = corpus.starts(split), corpus.segment_tracks(split)
        assert starts.dtype == np.int64 and owners.dtype == np.int32 and len(starts) == len(owners) > 0
        rows = corpus.tracks.iloc[owners]
        assert (rows["split"] == split).all()
        within = starts - rows["offset"].to_numpy()
        assert (within % 512 == 0).all() and (within >= 0).all()
        assert (within + GEOMETRY.length <= rows["samples"].to_numpy()).all()
        np.testing.assert_array_equal(corpus.track_rows(starts), owners)
    counted = [(samples - GEOMETRY.length) // 512 + 1 for samples in corpus.tracks["samples"]]
    assert corpus.tracks["segments"].tolist() == counted  # none of this noise is silent


def test_a_segment_with_a_silent_gap_is_left_out() -> None:
    pcm = np.full(20_000, 3000, np.int16)
    pcm[8000:12_000] = 0
    kept = segment_starts(pcm, GEOMETRY)
    every = np.arange(0, len(pcm) - GEOMETRY.length + 1, 512)
    levels = [np.abs(pcm[s + 2048 : s + 3072] / 32768).mean() for s in every]
    np.testing.assert_array_equal(kept, every[np.array(levels) >= 1e-3])
    assert 0 < len(kept) < len(every)


def test_statistics_are_those_of_table_1(corpus: Corpus) -> None:
    table = corpus.statistics()
    assert table["split"].tolist() == list(SPLITS)
    assert table["percentage"].sum() == pytest.approx(100)
    assert table["tracks"].tolist() == [4, 3, 3]
    assert table["segments"].tolist() == [len(corpus.starts(split)) for split in SPLITS]
    assert table["hours"].sum() == pytest.approx(corpus.tracks["samples"].sum() / 16_000 / 3600)


def test_the_same_input_gives_the_same_fingerprint_and_another_another(corpus: Corpus, tmp_path: Path) -> None:
    def fingerprint(items: Iterator[Track], geometry: Geometry = GEOMETRY) -> str:
        return build_corpus("again", items, tmp_path / "again", geometry, provenance={"from": "elsewhere"}).fingerprint

    assert fingerprint(tracks()) == corpus.fingerprint
    assert fingerprint(ordered_map(lambda track: track, tracks(), workers=3)) == corpus.fingerprint
    assert fingerprint(tracks(9)) != corpus.fingerprint
    assert fingerprint(tracks(), Geometry(gap=512)) != corpus.fingerprint
    moved = (Track(t.id, t.group, t.source, t.audio, "train") for t in tracks())
    assert fingerprint(moved) != corpus.fingerprint


def test_unusable_tracks_are_reported(tmp_path: Path) -> None:
    sounds = {
        "nan": np.full(16_000, np.nan),
        "empty": np.zeros(0),
        "silent": np.zeros(16_000),
        "short": np.full(5000, 0.5),
        "quiet gap": np.concatenate([np.full(1024, 0.5), np.zeros(4096 + 512), np.full(1024, 0.5)]),
        "good": noise(0),
    }
    items = [Track(name, name, "made up", sound) for name, sound in sounds.items()]
    broken = Skipped("broken", "made up", "is no audio")
    corpus = build_corpus("mixed", [broken, *items], tmp_path / "mixed", GEOMETRY, provenance={})
    reasons = {skip["id"]: skip["reason"] for skip in corpus.description["skipped"]}
    assert corpus.tracks["track"].tolist() == ["good"]
    assert reasons["broken"] == "is no audio" and "NaN" in reasons["nan"] and "no samples" in reasons["empty"]
    assert reasons["silent"].startswith("silent: ") and reasons["short"].startswith("too short: ")
    assert reasons["quiet gap"] == "silent wherever a segment's gap would be"


def test_without_a_usable_track_there_is_no_corpus(tmp_path: Path) -> None:
    items = [Track("a", "a", "made up", np.zeros(9999))]
    with pytest.raises(ValueError, match=r"no usable track among 1 files\n  a: silent"):
        build_corpus("none", items, tmp_path / "none", GEOMETRY, provenance={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_build_leaves_the_old_corpus(corpus: Corpus, interruption: type[BaseException]) -> None:
    def stopping() -> Iterator[Track]:
        yield from tracks(3)
        raise interruption

    with pytest.raises(interruption):
        build_corpus("small", stopping(), corpus.folder, GEOMETRY, provenance={})
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["small"]
    assert Corpus.open(corpus.folder).fingerprint == corpus.fingerprint


def test_what_a_killed_build_left_is_cleared_by_the_next(corpus: Corpus) -> None:
    dead, alive = (corpus.folder.with_name(f".small.building-{pid}") for pid in (4_194_305, os.getppid()))
    dead.mkdir()
    alive.mkdir()
    build_corpus("small", tracks(), corpus.folder, GEOMETRY, provenance={})
    assert {path.name for path in corpus.folder.parent.iterdir()} == {"small", alive.name}


def test_splits_come_from_the_track_then_the_list_then_the_group(tmp_path: Path) -> None:
    items = [
        Track("own", "g", "s", noise(1), "validation"),
        Track("listed", "g", "s", noise(2)),
        Track("grouped", "g", "s", noise(3)),
    ]
    listed = {"own": "train", "listed": "test"}
    corpus = build_corpus("split", items, tmp_path / "split", GEOMETRY, splits=listed, provenance={})
    assert corpus.tracks["split"].tolist() == ["validation", "test", hash_split("g")]
    with pytest.raises(ValueError, match="'dev' of track 'x' must be one of train, validation, test"):
        build_corpus("x", [Track("x", "g", "s", noise(1), "dev")], tmp_path / "x", GEOMETRY, provenance={})
    with pytest.raises(ValueError, match="'x' occurs twice"):
        build_corpus("x", [Track("x", "g", "s", noise(1))] * 2, tmp_path / "x", GEOMETRY, provenance={})


def test_hashed_splits_are_about_70_20_10() -> None:
    counts = np.unique([hash_split(f"artist {i}") for i in range(5000)], return_counts=True)
    shares = dict(zip(counts[0].tolist(), counts[1] / 5000, strict=True))
    assert shares == pytest.approx({"train": 0.7, "validation": 0.2, "test": 0.1}, abs=0.02)


@pytest.mark.parametrize(
    ("count", "splits"), [(1, {"test"}), (2, {"train", "test"}), (3, set(SPLITS)), (7, set(SPLITS))]
)
@pytest.mark.parametrize("start", SPLITS)
def test_filling_leaves_no_split_empty(tmp_path: Path, count: int, splits: set[str], start: str) -> None:
    items = [Track(str(i), str(i), "s", noise(i, 0.5), start) for i in range(count)]
    corpus = build_corpus("filled", items, tmp_path / "filled", GEOMETRY, provenance={}, fill=True)
    assert set(corpus.tracks["split"]) == splits
    assert corpus.statistics()["tracks"].sum() == count


def test_reading_gives_float32_segments(corpus: Corpus) -> None:
    starts = np.random.default_rng(0).choice(corpus.starts("train"), 64)
    batch = corpus.read(starts)
    assert batch.shape == (64, GEOMETRY.length) and batch.dtype == np.float32
    raw = np.fromfile(corpus.folder / "audio.i16", "<i2")
    for segment, start in zip(batch, starts, strict=True):
        np.testing.assert_array_equal(segment * 32768, raw[start : start + GEOMETRY.length])
    assert corpus.read(np.zeros(0, np.int64)).shape == (0, GEOMETRY.length)


@pytest.mark.parametrize(("start", "length"), [(-1, None), (10**9, None), (0, 0), (0, 10**9)])
def test_reading_outside_is_refused(corpus: Corpus, start: int, length: int | None) -> None:
    with pytest.raises(ValueError, match="must lie within"):
        corpus.read(np.array([start]), length)


def test_selection_is_spread_over_every_track_and_repeatable(corpus: Corpus, tmp_path: Path) -> None:
    chosen = corpus.select("test", 4, seed=1)
    rows = corpus.track_rows(chosen)
    assert np.unique(rows, return_counts=True)[1].tolist() == [4, 4, 4]
    assert np.isin(chosen, corpus.starts("test")).all() and (np.diff(chosen) > 0).all()
    for row in np.unique(rows):  # one in each quarter
        own = corpus.starts("test")[corpus.segment_tracks("test") == row]
        places = np.searchsorted(own, chosen[rows == row])
        assert (places * 4 // len(own)).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(chosen, corpus.select("test", 4, seed=1))
    assert (chosen != corpus.select("test", 4, seed=2)).any()
    assert len(corpus.select("test", 10**6, seed=1)) == len(corpus.starts("test"))

    alone = build_corpus(
        "one", [t for t in tracks() if t.id == "source/5.wav"], tmp_path / "one", GEOMETRY, provenance={}
    )
    offset = corpus.tracks["offset"].iloc[5]
    np.testing.assert_array_equal(alone.select("test", 4, seed=1), chosen[rows == 5] - offset)


def test_wrong_questions_are_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="split='dev' must be one of"):
        corpus.starts("dev")
    with pytest.raises(ValueError, match="per_track=0"):
        corpus.select("test", 0, seed=1)


def test_opening_says_what_is_wrong(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"build_data\.py music-quick"):
        Corpus.open(tmp_path / "music-quick")
    with (corpus.folder / "audio.i16").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"is damaged: 500 samples .* --force"):
        Corpus.open(corpus.folder)
    description = json.loads((corpus.folder / "corpus.json").read_text())
    (corpus.folder / "corpus.json").write_text(json.dumps(description | {"format": 0}))
    with pytest.raises(ValueError, match="has format 0"):
        Corpus.open(corpus.folder)


def test_ordered_map_keeps_order_with_bounded_look_ahead() -> None:
    taken: list[int] = []

    def slowed(item: int) -> int:
        time.sleep(0.02 * (item % 3))
        return item

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    results = ordered_map(slowed, items(), workers=2)
    assert next(results) == 0 and len(taken) <= 4
    assert list(results) == list(range(1, 20))


def test_ordered_map_passes_errors_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda i: 1 // i, [1, 0, 1]))
