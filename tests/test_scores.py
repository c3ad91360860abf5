"""Scores rendered with the soundfont that comes with pretty_midi."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import music21
import numpy as np
import pretty_midi
import pytest

from ctxe_lib.corpus import SPLITS, Skipped, Track
from ctxe_lib.sources import scores
from ctxe_lib.sources.scores import Score
from ctxe_lib.sources.soundfonts import Font

FONT = Font("TimGM6mb", Path(pretty_midi.__file__).with_name("TimGM6mb.sf2"), "GPL-2")
ORGAN = (19,)


def write(path: Path, *parts: str, repeated: bool = False) -> Path:
    """A score with parts in music21's own notation, 120 quarters a minute."""
    score = music21.stream.Score()
    for notes in parts:
        part = music21.converter.parse(f"tinyNotation: 4/4 {notes}")
        if repeated:
            list(part[music21.stream.Measure])[-1].rightBarline = music21.bar.Repeat(direction="end")
        score.insert(0, part)
    score.write("musicxml", path)
    return path


def strongest(audio: np.ndarray) -> float:
    """Frequency of the strongest partial, in Hz."""
    return float(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * 16_000 / len(audio))


def test_notes_sound_when_and_as_written(tmp_path: Path) -> None:
    audio = scores.render(write(tmp_path / "a.xml", "a2 e'2 r1"), [79], FONT)
    assert strongest(audio[4_000:14_000]) == pytest.approx(440, rel=0.01)
    assert strongest(audio[20_000:30_000]) == pytest.approx(659.3, rel=0.01)
    assert np.abs(audio).max() == pytest.approx(0.9)
    assert np.abs(audio[-8_000:]).max() < 0.01
    assert len(audio) == pytest.approx(16_000 * (2 + 2), abs=16_000)


def test_repeats_are_left_out(tmp_path: Path) -> None:
    once = scores.render(write(tmp_path / "once.xml", "c'4 d' e' f'"), ORGAN, FONT)
    twice = scores.render(write(tmp_path / "twice.xml", "c'4 d' e' f'", repeated=True), ORGAN, FONT)
    np.testing.assert_array_equal(once, twice)


def test_each_part_has_its_program(tmp_path: Path) -> None:
    score = write(tmp_path / "a.xml", "c'1", "r1 c'1", "r1 r1 c'1")
    audio = scores.render(score, (80, 0), FONT)  # square lead, piano, square lead
    first, second, third = (audio[start + 8_000 : start + 28_000] for start in (0, 32_000, 64_000))
    level = [np.sqrt(np.mean(part[-4_000:] ** 2) / np.mean(part[:4_000] ** 2)) for part in (first, second, third)]
    assert level[0] == pytest.approx(level[2], rel=0.1)
    assert level[0] > 0.9
    assert level[1] < 0.6  # a piano decays, a square wave does not


def test_one_part_does_not_end_the_note_of_another(tmp_path: Path) -> None:
    audio = scores.render(write(tmp_path / "a.xml", "c'1", "c'4 r2."), ORGAN, FONT)
    both, alone = audio[4_000:7_000], audio[20_000:30_000]
    assert np.sqrt(np.mean(alone**2)) > 0.3 * np.sqrt(np.mean(both**2))


def test_a_score_without_notes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"peak of 0\.0"):
        scores.render(write(tmp_path / "rest.xml", "r1"), ORGAN, FONT)


def test_tracks_say_that_they_are_rendered_whatever_the_number_of_workers(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text("<score-partwise>")
    chosen = [
        Score("bach/bwv255.mxl", "bach/bwv255", "train", ORGAN),
        Score("bach/no_such_piece.mxl", "bach/none", "train", ORGAN),
        Score(str(broken), "broken", "train", ORGAN),
        Score("bach/bwv274.mxl", "bach/bwv274", "test", (40, 40, 41, 42)),
    ]
    items = [list(scores.tracks(FONT, scores=chosen, workers=workers)) for workers in (1, 2)]
    for alone, pair in zip(*items, strict=True):
        assert alone.source == pair.source == "music21 score, rendered with TimGM6mb"
        assert alone.id == pair.id
        if isinstance(alone, Track) and isinstance(pair, Track):
            np.testing.assert_array_equal(alone.audio, pair.audio)
    assert [type(item) for item in items[0]] == [Track, Skipped, Skipped, Track]
    last = items[0][-1]
    assert isinstance(last, Track)
    assert (last.id, last.group, last.split) == ("bach/bwv274", "bach/bwv274", "test")
    assert len(last.audio) > 16 * 16_000


def test_the_list_of_scores() -> None:
    paths = [score.path for score in scores.SCORES]
    assert len(set(paths)) == len(paths) == 61
    assert [path for path in paths if not (scores.COLLECTION / path).is_file()] == []
    splits = defaultdict(set)
    for score in scores.SCORES:
        splits[score.group].add(score.split)
    assert all(len(where) == 1 for where in splits.values())
    for split, least in zip(SPLITS, (30, 9, 15), strict=True):
        assert sum(score.split == split for score in scores.SCORES) >= least
