"""Instrument notes rendered from sampled soundfonts, after the pattern of NSynth.

Notes are 4 s long, held for 3 s, at MIDI pitches 21 to 108 and velocities 25, 50, 75, 100 and 127 (section 3.2 of the
paper and Engel et al., "Neural audio synthesis of musical notes with WaveNet autoencoders", 2017). All of them would
be 440 for each of some 440 presets, 33 GB: each preset gives a few, drawn with a seed that is its own name, one from
each of as many equal ranges of pitch, with the velocities dealt out evenly.

An *instrument* is a General MIDI program: its presets in all fonts, and their variations, are one group. Programs are
divided by ``manifests/splits-instruments.json``, so that a program is in the same split in every set, and no recorded
sample of any of the three fonts is heard in two splits: fonts build several programs from one recording, so violin,
viola and fiddle, or all the piano programs, stay together, and so do the synthetic leads and pads with everything
that they are layered from.

Left out are sound effects (programs 120 to 127), percussion kits (bank 128), csound's MT-32 bank (127), which lists
the samples of its other banks again, and MuseScore's ``Expr.`` presets: they differ from their plain neighbours only
in the answer to a breath controller, which nothing moves here.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soxr
import tinysoundfont

from ctxe_lib.corpus import Skipped, Track
from ctxe_lib.sources.packages import manifest

__all__ = ["PITCHES", "VELOCITIES", "Font", "Note", "Preset", "Renderer", "draw_notes", "instrument_splits", "tracks"]

PITCHES: Final = range(21, 109)
"""MIDI pitches of NSynth: the 88 keys of a piano."""

VELOCITIES: Final = (25, 50, 75, 100, 127)
"""MIDI velocities of NSynth."""

RENDER_RATE: Final = 48_000
"""Rate of the synthesiser in Hz; at 16 kHz its filters become unstable."""

_HELD, _DECAY = 3.0, 1.0  # seconds
_FLUSH = 0.1  # seconds after which a voice that was cut off has faded: the next note starts from silence
_REFERENCE = (60, 127)  # pitch and velocity at which a preset is brought to its level
_LEVEL, _CEILING = 0.5, 0.99
_SILENT = 1e-4  # of full scale, before the level is set: 80 dB below a loud note


@dataclass(frozen=True)
class Font:
    """A soundfont.

    Parameters
    ----------
    name : str
        Short name, the first part of its tracks' ids.
    content : bytes or Path
        An sf2 or sf3 file, or its path.
    licence : str
        Short name of its licence.
    """

    name: str
    content: bytes | Path
    licence: str


@dataclass(frozen=True)
class Preset:
    """One preset of a soundfont that is used: bank, program (0 to 119) and the font's name for it."""

    bank: int
    program: int
    name: str

    @property
    def id(self) -> str:
        """Such as ``008-040-slow-violin``."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{self.bank:03d}-{self.program:03d}-{words}"


@dataclass(frozen=True)
class Note:
    """MIDI pitch and velocity."""

    pitch: int
    velocity: int


def instrument_splits() -> dict[str, str]:
    """Split of each General MIDI instrument, in the order of the programs.

    Returns
    -------
    dict of str to str
        120 names, each with one of :data:`ctxe_lib.corpus.SPLITS`: 91 train, 11 validation, 18 test.
    """
    return manifest("splits-instruments.json")


def draw_notes(seed: str, count: int) -> list[Note]:
    """Notes of a preset: one from each of `count` equal ranges of pitch, velocities dealt out evenly.

    Parameters
    ----------
    seed : str
        Name that the draw depends on, and nothing else.
    count : int
        Notes, 1 to 88.

    Returns
    -------
    list of Note
        By ascending pitch; no pitch twice.

    Raises
    ------
    ValueError
        If there are not that many pitches.
    """
    if not 1 <= count <= len(PITCHES):
        raise ValueError(f"notes={count} must be 1 to {len(PITCHES)}, the number of pitches")
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(seed.encode()).digest(), np.uint32))
    edges = np.arange(count + 1) * len(PITCHES) // count
    pitches = PITCHES.start + rng.integers(edges[:-1], edges[1:])
    velocities = rng.permuted(np.resize(rng.permutation(VELOCITIES), count))
    return [Note(int(pitch), int(velocity)) for pitch, velocity in zip(pitches, velocities, strict=True)]


class Renderer:
    """Plays single notes of a soundfont.

    Parameters
    ----------
    font : Font
        What to play.
    sample_rate : int
        Rate of the result in Hz.

    Raises
    ------
    ValueError
        If it is no soundfont.
    """

    def __init__(self, font: Font, sample_rate: int = 16_000) -> None:
        self._sample_rate = sample_rate
        self._synth = tinysoundfont.Synth(samplerate=RENDER_RATE)
        content = font.content if isinstance(font.content, bytes) else str(font.content)
        try:
            self._id = self._synth.sfload(content)
        except Exception as error:
            raise ValueError(f"soundfont {font.name} cannot be loaded ({error}): is it an sf2 or sf3 file?") from error

    def presets(self) -> list[Preset]:
        """Presets that are instruments, by bank and program; the module's docstring says which are not."""
        listed = (
            Preset(bank, program, name)
            for bank, program in itertools.product(range(127), range(len(instrument_splits())))
            if (name := self._synth.sfpreset_name(self._id, bank, program))
        )
        return [preset for preset in listed if " Expr" not in preset.name]

    def play(self, preset: Preset, note: Note) -> np.ndarray:
        """Render a note.

        The result depends on the preset and the note alone, not on what was played before.

        Returns
        -------
        np.ndarray [shape=(4 * sample_rate,), dtype=float32]
            Mean of both channels, at the font's own level.
        """
        self._synth.program_select(0, self._id, preset.bank, preset.program)
        self._synth.noteon(0, note.pitch, note.velocity)
        held = np.frombuffer(self._synth.generate_simple(round(_HELD * RENDER_RATE)), np.float32)
        self._synth.noteoff(0, note.pitch)
        decay = np.frombuffer(self._synth.generate_simple(round(_DECAY * RENDER_RATE)), np.float32)
        self._synth.sounds_off()
        self._synth.generate_simple(round(_FLUSH * RENDER_RATE))
        stereo = np.concatenate([held, decay])
        mono = (stereo[::2] + stereo[1::2]) / 2
        return soxr.resample(mono, RENDER_RATE, self._sample_rate, quality="HQ")

    def level(self, preset: Preset) -> float:
        """Peak of the preset's C4 at velocity 127, or of the nearest pitch that sounds; infinite if none does."""
        pitch, velocity = _REFERENCE
        for other in sorted(PITCHES, key=lambda candidate: abs(candidate - pitch)):
            peak = float(np.abs(self.play(preset, Note(other, velocity))).max())
            if _SILENT <= peak < np.inf:
                return peak
        return np.inf


def tracks(fonts: Iterable[Font], notes: int, sample_rate: int = 16_000) -> Iterator[Track | Skipped]:
    """Render notes of every instrument.

    Each preset is scaled so that C4 (or the nearest pitch that sounds) at velocity 127 has a peak of 0.5, or less
    where a note of it would otherwise exceed full scale: loudness within a preset is kept.

    Parameters
    ----------
    fonts : iterable of Font
        Soundfonts.
    notes : int
        Notes per preset, 1 to 88.
    sample_rate : int
        In Hz.

    Yields
    ------
    Track or Skipped
        A track is one note: ``font/bank-program-preset/pitch-velocity``; its group is the General MIDI instrument,
        and its split is the group's. Notes without sound are counted in one `Skipped` for each preset.
    """
    splits = list(instrument_splits().items())
    for font in fonts:
        renderer = Renderer(font, sample_rate)
        for preset in renderer.presets():
            name = f"{font.name}/{preset.id}"
            played = {note: renderer.play(preset, note) for note in draw_notes(name, notes)}
            broken = [note for note, audio in played.items() if not np.isfinite(audio).all()]
            sounding = {n: audio for n, audio in played.items() if n not in broken and np.abs(audio).max() >= _SILENT}
            for count, reason in [
                (len(broken), "NaN or infinite samples"),
                (notes - len(broken) - len(sounding), "no sound"),
            ]:
                if count:
                    yield Skipped(f"{name} ({reason})", font.name, f"{reason} in {count} of {notes} notes")
            if not sounding:
                continue
            group, split = splits[preset.program]
            loudest = max(float(np.abs(audio).max()) for audio in sounding.values())
            gain = min(_LEVEL / renderer.level(preset), _CEILING / loudest)
            for note, audio in sounding.items():
                track = f"{name}/{note.pitch:03d}-{note.velocity:03d}"
                yield Track(track, group, font.name, audio * np.float32(gain), split, font.licence)
