"""The NSynth loader, on tiny archives of the same layout."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ctxe_lib.corpus import Skipped, Track, build_corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.sources import nsynth

GOOD = ("bass_synthetic_033-060-100", "bass_synthetic_033-064-025", "flute_acoustic_002-072-127")


def wav(seconds: float = 4.0, pitch: int = 60) -> bytes:
    time = np.arange(round(16_000 * seconds)) / 16_000
    file = io.BytesIO()
    soundfile.write(file, 0.4 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time), 16_000, format="WAV")
    return file.getvalue()


def entry(note: str) -> dict[str, object]:
    instrument, pitch, _ = note.rsplit("-", 2)
    return {"note_str": note, "instrument_str": instrument, "pitch": int(pitch), "qualities": [0, 1, 0]}


def write(archive: Path, members: list[tuple[str, bytes | None]]) -> Path:
    """A tar.gz with these members; one without content is a link to a file outside."""
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return archive


def layout(part: str, notes: dict[str, bytes | None], listed: list[str]) -> list[tuple[str, bytes | None]]:
    examples = json.dumps({note: entry(note) for note in listed}).encode()
    audio = [(f"nsynth-{part}/audio/{note}.wav", content) for note, content in notes.items()]
    return [(f"nsynth-{part}/examples.json", examples), *audio]


@pytest.mark.parametrize("list_first", [True, False])
def test_notes_come_with_instrument_and_official_split(tmp_path: Path, list_first: bool) -> None:
    members = layout("valid", {note: wav(pitch=int(note[-7:-4])) for note in GOOD}, list(GOOD))
    archive = write(tmp_path / nsynth.ARCHIVES[1], members if list_first else [*members[1:], members[0]])
    items = list(nsynth.tracks([archive]))
    assert all(isinstance(item, Track) for item in items)
    assert [item.id for item in items] == list(GOOD)
    first, _, last = (item for item in items if isinstance(item, Track))
    assert (first.group, first.split, first.licence) == ("bass_synthetic_033", "validation", "CC-BY-4.0")
    assert (last.group, last.source) == ("flute_acoustic_002", "nsynth-valid.jsonwav.tar.gz")
    expected, _ = soundfile.read(io.BytesIO(wav(pitch=60)))
    np.testing.assert_array_equal(first.audio, expected.astype(np.float32))


def test_whatever_is_wrong_is_reported_and_left_out(tmp_path: Path) -> None:
    notes: dict[str, bytes | None] = {
        GOOD[0]: wav(),
        "organ_electronic_001-060-100": wav()[:20_000],
        "organ_electronic_001-061-100": wav(0.1),
        "organ_electronic_001-062-100": b"not a wav file at all",
        "organ_electronic_001-063-100": b"",
        "organ_electronic_001-064-100": wav(60),
        "organ_electronic_001-065-100": None,
        "vocal_acoustic_000-060-100": wav(),
    }
    listed = [note for note in notes if not note.startswith("vocal")]
    odd = [
        ("nsynth-train/../../outside.wav", wav()),
        ("/nsynth-train/audio/reed_acoustic_000-060-100.wav", wav()),
        ("nsynth-train/audio/._bass_synthetic_033-060-100.wav", b"resource fork"),
    ]
    again = (f"nsynth-train/audio/{GOOD[0]}.wav", wav())
    members = [*layout("train", notes, [*listed, GOOD[2]]), *odd, again, again]
    archive = write(tmp_path / nsynth.ARCHIVES[0], members)
    before = sorted(tmp_path.rglob("*"))
    items = list(nsynth.tracks([archive]))
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent / "outside.wav").exists()
    assert [item.id for item in items if isinstance(item, Track)] == [GOOD[0]]
    assert len({item.id for item in items}) == len(items)
    reasons = {item.id: item.reason for item in items if isinstance(item, Skipped)}
    for note, reason in {
        "organ_electronic_001-060-100": "",
        "organ_electronic_001-061-100": "lasts 0.100 s instead of 4",
        "organ_electronic_001-062-100": "is no readable audio",
        "organ_electronic_001-063-100": "is no readable audio",
        "organ_electronic_001-064-100": "lasts 60.000 s instead of 4",
        "organ_electronic_001-065-100": "it is a link",
        GOOD[2]: "is listed in examples.json and has no audio",
    }.items():
        assert reason in reasons.pop(note)
    unlisted = "is not listed in examples.json, or occurs a second time"
    assert [(name.partition(": ")[2], reason) for name, reason in reasons.items()] == [
        ("nsynth-train/audio/vocal_acoustic_000-060-100.wav", unlisted),
        ("nsynth-train/../../outside.wav", "its name leads out of the archive"),
        ("/nsynth-train/audio/reed_acoustic_000-060-100.wav", "its name leads out of the archive"),
        ("nsynth-train/audio/._bass_synthetic_033-060-100.wav", unlisted),
        *[(f"nsynth-train/audio/{GOOD[0]}.wav", unlisted)] * 2,
    ]


def test_the_result_is_a_corpus(tmp_path: Path) -> None:
    archives = [
        write(tmp_path / name, layout(part, {f"{part}_acoustic_000-060-100": wav()}, [f"{part}_acoustic_000-060-100"]))
        for name, part in zip(nsynth.ARCHIVES, ("train", "valid", "test"), strict=True)
    ]
    corpus = build_corpus("tiny", nsynth.tracks(archives), tmp_path / "tiny", Geometry(), provenance={})
    assert corpus.tracks["split"].tolist() == ["train", "validation", "test"]
    assert corpus.tracks["group"].tolist() == ["train_acoustic_000", "valid_acoustic_000", "test_acoustic_000"]
    assert corpus.tracks["samples"].min() > 60_000


@pytest.mark.parametrize("list_first", [True, False])
def test_a_truncated_archive_is_an_error(tmp_path: Path, list_first: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    members = layout("test", {note: wav() + noise for note in GOOD}, list(GOOD))
    archive = write(tmp_path / "cut.tar.gz", members if list_first else [*members[1:], members[0]])
    archive.write_bytes(archive.read_bytes()[:-150_000])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz cannot be read.*fetch it again"):
        list(nsynth.tracks([archive]))


def test_archives_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "page.tar.gz").write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match="cannot be read"):
        list(nsynth.tracks([tmp_path / "page.tar.gz"]))
    with pytest.raises(ValueError, match=r"holds no nsynth-\*/examples\.json"):
        list(nsynth.tracks([write(tmp_path / "none.tar.gz", [("nsynth-test/audio/a-060-100.wav", wav())])]))
    for content, message in [(b"{", "is no JSON"), (b"[]", "does not name"), (b'{"a": {"pitch": 3}}', "does not name")]:
        with pytest.raises(ValueError, match=message):
            list(nsynth.tracks([write(tmp_path / "list.tar.gz", [("nsynth-test/examples.json", content)])]))
    with pytest.raises(FileNotFoundError):
        list(nsynth.tracks([tmp_path / "gone.tar.gz"]))
