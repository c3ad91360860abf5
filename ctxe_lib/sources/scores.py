"""Music rendered from the scores that music21 comes with, for machines that reach no recorded music.

It is no substitute for recordings: one small soundfont plays what the notation says, at its tempo or at 120 quarters a
minute, without a room, a player's timing or a voice. Every track says so in its source, and the corpus is marked as
rendered.

The composers are long dead, and the chosen files carry no restriction of their own (others in the collection do). They
are played once through, repeats left out. Where a score names no sensible instruments (music21 plays most string parts
as a piano or an ensemble), this list does; chorales go round five ensembles.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

import joblib
import mido  # type: ignore[import-untyped]
import music21
import numpy as np
import soxr
import tinysoundfont
from music21.musicxml.xmlObjects import MusicXMLWarning

from ctxe_lib.corpus import Skipped, Track
from ctxe_lib.sources.soundfonts import RENDER_RATE, Font

__all__ = ["COLLECTION", "LICENCE", "SCORES", "SOURCE", "Score", "render", "tracks"]

COLLECTION: Final = Path(music21.__file__).parent / "corpus"
"""Folder of the scores."""

SOURCE: Final = "music21 score, rendered with {font}"
"""Source of every track."""

LICENCE: Final = "public domain music, encoding as distributed with music21"

_LEVEL = 0.9  # peak of each track
_TAIL = 2.0  # seconds for the last notes to fade
_NOTES = ("note_on", "note_off")


@dataclass(frozen=True)
class Score:
    """A score of music21's collection.

    Parameters
    ----------
    path : str
        Below music21's corpus folder; without its ending, also the track's id.
    group : str
        The work: its movements stay in one split.
    split : str
        One of :data:`ctxe_lib.corpus.SPLITS`.
    programs : tuple of int
        General MIDI program of each part, from 0; repeated if there are more parts.
    """

    path: str
    group: str
    split: str
    programs: tuple[int, ...]


_PIANO, _QUARTET = (0,), (40, 40, 41, 42)
_ENSEMBLES = (
    (52,),  # choir
    _QUARTET,
    (19,),  # church organ
    (68, 71, 60, 70),  # oboe, clarinet, horn, bassoon
    (56, 60, 57, 58),  # trumpet, horn, trombone, tuba
)
_WORKS = (
    ("haydn/opus1no1", "train", _QUARTET, [f"haydn/opus1no1/movement{i}.mxl" for i in range(1, 6)]),
    ("mozart/k155", "train", _QUARTET, [f"mozart/k155/movement{i}.mxl" for i in range(1, 4)]),
    ("mozart/k80", "train", _QUARTET, [f"mozart/k80/movement{i}.mxl" for i in range(1, 5)]),
    ("beethoven/opus18no1", "train", _QUARTET, [f"beethoven/opus18no1/movement{i}.mxl" for i in (2, 3)]),
    ("weber/concertino", "train", (71, 0, 0), ["weber/concertino_clarinet.mxl"]),
    ("schumann_clara/opus1", "train", _PIANO, [f"schumann_clara/polonaise_op1n{i}.mxl" for i in range(1, 5)]),
    ("bach/bwv846", "train", (6,), ["bach/bwv846.mxl"]),
    ("mozart/k156", "validation", _QUARTET, [f"mozart/k156/movement{i}.mxl" for i in range(1, 5)]),
    ("mozart/k545", "validation", _PIANO, ["mozart/k545/movement1_exposition.mxl"]),
    ("haydn/opus74no1", "test", _QUARTET, ["haydn/opus74no1/movement3.mxl"]),
    ("schumann_robert/opus41no1", "test", _QUARTET, [f"schumann_robert/opus41no1/movement{i}.mxl" for i in (2, 3)]),
    ("handel/rinaldo", "test", (73, 0, 0), ["handel/rinaldo/Lascia_chio_pianga.mxl"]),
    ("corelli/opus3no1", "test", (40, 40, 19), ["corelli/opus3no1/1grave.xml"]),
    ("joplin/maple_leaf_rag", "test", _PIANO, ["joplin/maple_leaf_rag.mxl"]),
)
_CHORALES = [f"bach/bwv{number}.mxl" for number in range(255, 285)]
_CHORALE_SPLITS = ("train", "test", "train", "validation", "train", "test")

SCORES: Final = (
    *(Score(path, work, split, programs) for work, split, programs, paths in _WORKS for path in paths),
    *(
        Score(path, path.removesuffix(".mxl"), split, programs)
        for path, split, programs in zip(_CHORALES, cycle(_CHORALE_SPLITS), cycle(_ENSEMBLES), strict=False)
    ),
)
"""What is rendered: 61 scores, 80 minutes."""


def render(score: Path, programs: Sequence[int], font: Font, sample_rate: int = 16_000) -> np.ndarray:
    """Play a score.

    Parameters
    ----------
    score : Path
        Any file that music21 reads.
    programs : sequence of int
        General MIDI program of each part, from 0; repeated if there are more parts.
    font : Font
        General MIDI soundfont.
    sample_rate : int
        Rate of the result in Hz.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        Mean of both channels, with a peak of 0.9.

    Raises
    ------
    ValueError
        If it is no score, or holds nothing that sounds.
    """
    midi = mido.MidiFile(file=io.BytesIO(_midi(score)))
    synth = tinysoundfont.Synth(samplerate=RENDER_RATE)
    loaded = synth.sfload(font.content if isinstance(font.content, bytes) else str(font.content))
    parts = [track for track in midi.tracks if any(message.type == "note_on" for message in track)]
    for channel, (part, program) in enumerate(zip(parts, cycle(programs), strict=False)):
        synth.program_select(channel, loaded, 0, program)
        # Parts of one instrument share a channel in the file; there, one part's rest would end another's note.
        for message in part:
            if message.type in _NOTES:
                message.channel = channel

    blocks: list[np.ndarray] = []
    time, rendered = 0.0, 0
    for message in midi:  # all parts merged, with the seconds between one message and the next
        time += message.time
        if message.type in _NOTES:
            blocks.append(_generate(synth, round(time * RENDER_RATE) - rendered))
            rendered += len(blocks[-1])
            if message.type == "note_on":  # with velocity 0 it ends the note
                synth.noteon(message.channel, message.note, message.velocity)
            else:
                synth.noteoff(message.channel, message.note)
    samples = np.concatenate([*blocks, _generate(synth, round(_TAIL * RENDER_RATE))])
    samples = soxr.resample(samples, RENDER_RATE, sample_rate, quality="HQ")
    peak = float(np.abs(samples).max())
    if not 0 < peak < np.inf:
        raise ValueError(f"its rendering has a peak of {peak}")
    return samples * np.float32(_LEVEL / peak)


def _midi(score: Path) -> bytes:
    """A score as a MIDI file, its repeats left out; a ValueError if there is something wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MusicXMLWarning)  # a bar that is longer than its time signature, and so on
            stream = music21.converter.parse(score, forceSource=True, storePickle=False)
        for mark in list(stream[music21.repeat.RepeatMark]):
            mark.activeSite.remove(mark)
        return music21.midi.translate.streamToMidiFile(stream).writestr()
    except Exception as error:  # there is no telling what its parsers stumble over
        raise ValueError(f"is no score that music21 can play ({error!r})") from error


def _generate(synth: tinysoundfont.Synth, samples: int) -> np.ndarray:
    """The next samples of a synthesiser: float32 [samples], the mean of both channels."""
    stereo = np.frombuffer(synth.generate_simple(samples), np.float32) if samples else np.zeros(0, np.float32)
    return (stereo[::2] + stereo[1::2]) / 2


def tracks(
    font: Font, sample_rate: int = 16_000, *, scores: Sequence[Score] = SCORES, workers: int = 2
) -> Iterator[Track | Skipped]:
    """Render scores of music21's collection.

    Parameters
    ----------
    font : Font
        General MIDI soundfont.
    sample_rate : int
        In Hz.
    scores : sequence of Score
        What to render.
    workers : int
        Processes; the result does not depend on their number.

    Yields
    ------
    Track or Skipped
        One for each score, in their order.
    """
    yield from joblib.Parallel(workers, return_as="generator")(
        joblib.delayed(_track)(score, font, sample_rate) for score in scores
    )


def _track(score: Score, font: Font, sample_rate: int) -> Track | Skipped:
    name = score.path.rpartition(".")[0]
    source = SOURCE.format(font=font.name)
    try:
        samples = render(COLLECTION / score.path, score.programs, font, sample_rate)
    except ValueError as error:
        return Skipped(name, source, str(error))
    return Track(name, score.group, source, samples, score.split, LICENCE)
