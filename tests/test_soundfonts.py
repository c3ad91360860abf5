"""Notes rendered from the soundfont that comes with pretty_midi."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from ctxe_lib.corpus import Skipped, Track
from ctxe_lib.sources import soundfonts
from ctxe_lib.sources.soundfonts import Font, Note, Preset, Renderer, draw_notes, instrument_splits

TIMGM = Font("timgm6mb", Path(pretty_midi.__file__).with_name("TimGM6mb.sf2"), "GPL-2")
FLUTE = Preset(0, 73, "Flute TB")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(TIMGM)


@pytest.mark.parametrize("pitch", [60, 81])
def test_notes_have_the_pitch_they_are_named_after(renderer: Renderer, pitch: int) -> None:
    audio = renderer.play(FLUTE, Note(pitch, 100))
    assert audio.shape == (64_000,)
    assert np.isfinite(audio).all()
    spectrum = np.abs(np.fft.rfft(audio[16_000:48_000] * np.hanning(32_000)))
    expected = 440 * 2 ** ((pitch - 69) / 12)
    # The strongest harmonic may be an overtone: the fundamental is the lowest strong one.
    lowest = np.flatnonzero(spectrum > 0.1 * spectrum.max())[0] * 16_000 / 32_000
    assert lowest == pytest.approx(expected, rel=0.01)


def test_a_note_is_held_for_three_seconds(renderer: Renderer) -> None:
    audio = renderer.play(FLUTE, Note(72, 100))
    held, after = (np.sqrt(np.mean(audio[slice(*part)] ** 2)) for part in [(40_000, 47_000), (60_000, 64_000)])
    assert held > 0.01
    assert after < 0.1 * held


def test_velocity_changes_loudness(renderer: Renderer) -> None:
    soft, loud = (np.abs(renderer.play(FLUTE, Note(72, velocity))).max() for velocity in (25, 127))
    assert loud > 3 * soft


def test_a_note_does_not_depend_on_those_before_it(renderer: Renderer) -> None:
    first = Renderer(TIMGM).play(FLUTE, Note(70, 75))
    # A pad whose release outlasts the note: what it leaves behind would be heard in the next one.
    renderer.play(Preset(0, 89, "Warm Pad"), Note(50, 127))
    np.testing.assert_array_equal(renderer.play(FLUTE, Note(70, 75)), first)


def test_sample_rate_is_free() -> None:
    assert Renderer(TIMGM, 8_000).play(FLUTE, Note(60, 100)).shape == (32_000,)


def test_presets_leave_out_effects_and_percussion(renderer: Renderer) -> None:
    presets = renderer.presets()
    assert [preset.program for preset in presets] == list(range(120))
    assert {preset.bank for preset in presets} == {0}
    assert presets[110].id == "000-110-fiddle"


def test_no_soundfont() -> None:
    with pytest.raises(ValueError, match="soundfont broken cannot be loaded"):
        Renderer(Font("broken", b"RIFF and nothing more", ""))
    with pytest.raises(ValueError, match="soundfont gone cannot be loaded"):
        Renderer(Font("gone", Path("no/such/file.sf2"), ""))


@pytest.mark.parametrize("count", [1, 8, 88])
def test_drawn_notes_spread_over_pitch_and_velocity(count: int) -> None:
    notes = draw_notes("a preset", count)
    pitches = [note.pitch for note in notes]
    assert pitches == sorted(set(pitches))
    assert len(pitches) == count
    assert set(pitches) <= set(range(21, 109))
    # Each equal range of pitch gives one note.
    assert all(
        edge // count <= pitch - 21 < -(-(edge + 88) // count)
        for pitch, edge in zip(pitches, range(0, 88 * count, 88), strict=True)
    )
    dealt = Counter(note.velocity for note in notes)
    assert set(dealt) <= {25, 50, 75, 100, 127}
    assert max(dealt.values()) <= -(-count // 5)
    assert notes == draw_notes("a preset", count)
    assert count == 88 or notes != draw_notes("another preset", count)


@pytest.mark.parametrize("count", [0, 89])
def test_drawn_notes_refuse_impossible_counts(count: int) -> None:
    with pytest.raises(ValueError, match=f"notes={count} must be 1 to 88"):
        draw_notes("a preset", count)


def test_tracks_of_the_font() -> None:
    items = list(soundfonts.tracks([TIMGM], 2))
    tracks = [item for item in items if isinstance(item, Track)]
    assert len({item.id for item in items}) == len(items)
    assert len(tracks) > 220
    splits = instrument_splits()
    for track in tracks:
        assert track.split == splits[track.group]
        assert 0 < np.abs(track.audio).max() < 1
    assert {track.group for track in tracks if track.split == "test"} == {n for n, s in splits.items() if s == "test"}
    violin = next(track for track in tracks if track.group == "violin")
    assert violin.id.startswith("timgm6mb/000-040-violin/")
    assert (violin.source, violin.licence) == ("timgm6mb", "GPL-2")


class FakeRenderer(Renderer):
    """One preset whose low notes are silent, whose middle ones are loud, and whose highest holds a NaN."""

    def __init__(self, font: Font, sample_rate: int) -> None:
        pass

    def presets(self) -> list[Preset]:
        return [Preset(0, 0, "Fake Piano"), Preset(1, 1, "Mute")]

    def play(self, preset: Preset, note: Note) -> np.ndarray:
        audio = np.zeros(100, np.float32)
        if preset.name == "Mute" or note.pitch < 62:
            return audio
        audio[50] = np.nan if note.pitch > 100 else 0.2 if note.pitch < 80 else 2.0
        return audio


def test_silent_and_broken_notes_are_counted_and_levels_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfonts, "Renderer", FakeRenderer)
    items = list(soundfonts.tracks([Font("fake", b"", "none")], 88))
    assert [item for item in items if isinstance(item, Skipped)] == [
        Skipped(
            "fake/000-000-fake-piano (NaN or infinite samples)", "fake", "NaN or infinite samples in 8 of 88 notes"
        ),
        Skipped("fake/000-000-fake-piano (no sound)", "fake", "no sound in 41 of 88 notes"),
        Skipped("fake/001-001-mute (no sound)", "fake", "no sound in 88 of 88 notes"),
    ]
    peaks = {int(item.id[-7:-4]): item.audio.max() for item in items if isinstance(item, Track)}
    assert sorted(peaks) == list(range(62, 101))
    # The nearest pitch to C4 that sounds is 62, but 0.5 there would clip the loud notes tenfold.
    assert peaks[80] == pytest.approx(0.99)
    assert peaks[62] == pytest.approx(0.099)


def test_level_is_that_of_the_nearest_sounding_pitch() -> None:
    fake = FakeRenderer(TIMGM, 16_000)
    assert fake.level(Preset(0, 0, "Fake Piano")) == pytest.approx(0.2)
    assert fake.level(Preset(1, 1, "Mute")) == np.inf


def samples_of_presets(path: Path) -> dict[tuple[int, int], set[str]]:
    """Names of the samples of each (bank, program), read from the soundfont's own tables."""
    content = path.read_bytes()
    chunks: dict[bytes, bytes] = {}
    at = content.index(b"pdta") + 4
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at + 4)
        chunks[content[at : at + 4]] = content[at + 8 : at + 8 + size]
        at += 8 + size
    names = [name.rstrip(b"\0LR -").decode() for name, *_ in struct.iter_unpack("<20s26x", chunks[b"shdr"])]

    def generators(bags: bytes, values: bytes, first: int, last: int, wanted: int) -> set[int]:
        start, stop = (struct.unpack_from("<H", bags, 4 * bag)[0] for bag in (first, last))
        pairs = struct.iter_unpack("<HH", values[4 * start : 4 * stop])
        return {value for operator, value in pairs if operator == wanted}

    bags = [bag for (bag,) in struct.iter_unpack("<20xH", chunks[b"inst"])]
    instruments = [
        {names[i] for i in generators(chunks[b"ibag"], chunks[b"igen"], first, last, 53)}
        for first, last in itertools.pairwise(bags)
    ]
    headers = list(struct.iter_unpack("<20xHHH12x", chunks[b"phdr"]))
    return {
        (bank, program): set().union(
            *(instruments[i] for i in generators(chunks[b"pbag"], chunks[b"pgen"], first, last, 41))
        )
        for (program, bank, first), (_, _, last) in itertools.pairwise(headers)
    }


def test_no_sample_is_heard_in_two_splits() -> None:
    splits = instrument_splits()
    assert Counter(splits.values()) == {"train": 91, "validation": 11, "test": 18}
    assert isinstance(TIMGM.content, Path)
    heard: dict[str, set[str]] = {}
    for (bank, program), samples in samples_of_presets(TIMGM.content).items():
        if bank < 127 and program < len(splits):
            assert samples
            for sample in samples:
                heard.setdefault(sample, set()).add(list(splits.values())[program])
    assert {sample: where for sample, where in heard.items() if len(where) > 1} == {}
