"""The paper's instruments: NSynth, 305,979 notes of 4 s, with its official split.

Three archives, ``nsynth-{train,valid,test}.jsonwav.tar.gz`` (Engel et al., 2017), each with a folder of its own name::

    nsynth-train/examples.json                          what is known of each note
    nsynth-train/audio/bass_synthetic_033-022-050.wav   instrument-pitch-velocity: 16 kHz, mono, 16 bits, 4 s

They are read as streams, and nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ctxe_lib import audio
from ctxe_lib.archives import Member, members
from ctxe_lib.corpus import Skipped, Track

__all__ = ["ARCHIVES", "LICENCE", "PUBLISHER", "tracks"]

ARCHIVES: Final = tuple(f"nsynth-{part}.jsonwav.tar.gz" for part in ("train", "valid", "test"))
"""The files of the data set."""

PUBLISHER: Final = "http://download.magenta.tensorflow.org/datasets/nsynth/"
"""Where its authors offer them. They state no checksums: what a corpus was built from is in its provenance."""

LICENCE: Final = "CC-BY-4.0"

_SPLITS: Final = {"train": "train", "valid": "validation", "test": "test"}
_FILE = re.compile(r"nsynth-(train|valid|test)/(?:audio/([\w-]+)\.wav|examples\.json)")
_SECONDS = 4


def tracks(archives: Iterable[Path], sample_rate: int = 16_000) -> Iterator[Track | Skipped]:
    """Read the notes of NSynth.

    Parameters
    ----------
    archives : iterable of Path
        Any of :data:`ARCHIVES`.
    sample_rate : int
        In Hz.

    Yields
    ------
    Track or Skipped
        A track is one note; its group is the instrument (``instrument_str``), its split the official one. Skipped
        are: a wav file that cannot be read or is not 4 s long, a note of ``examples.json`` without audio, audio
        that ``examples.json`` does not list, and any other file.

    Raises
    ------
    ValueError
        If an archive is damaged or holds no ``examples.json``.
    """
    for archive in archives:
        instruments = _instruments(archive)
        missing = dict.fromkeys(instruments)
        others = 0
        for member in members(archive, lambda name: not name.endswith("/examples.json")):
            match = _FILE.fullmatch(member.name)
            note = match[2] if match else None
            if match is None or note not in missing:
                reason = member.reason or "is not listed in examples.json, or occurs a second time"
                others += 1
                yield Skipped(f"{archive.name}, file {others}: {member.name}", archive.name, reason)
                continue
            del missing[note]
            try:
                samples = _decode(member, sample_rate)
            except ValueError as error:
                yield Skipped(note, archive.name, str(error))
            else:
                yield Track(note, instruments[note], archive.name, samples, _SPLITS[match[1]], LICENCE)
        for note in missing:
            yield Skipped(note, archive.name, "is listed in examples.json and has no audio")


def _instruments(archive: Path) -> dict[str, str]:
    """Instrument of each note, by an archive's examples.json.

    This is a pass of its own, because the list may come after the audio; it ends where the list is found.
    """
    for member in members(archive, lambda name: bool((match := _FILE.fullmatch(name)) and not match[2])):
        try:
            # The hook keeps one word of each note: the whole would take gigabytes.
            notes = json.loads(member.content or b"", object_hook=lambda entry: entry.get("instrument_str", entry))
        except ValueError as error:
            raise ValueError(f"{member.name} in {archive} is no JSON ({error}): fetch the archive again") from error
        if not isinstance(notes, dict) or not all(isinstance(name, str) for name in notes.values()):
            raise ValueError(f"{member.name} in {archive} does not name an instrument_str for each note")
        return notes
    raise ValueError(f"{archive} holds no nsynth-*/examples.json: is it one of {', '.join(ARCHIVES)}?")


def _decode(member: Member, sample_rate: int) -> np.ndarray:
    """Audio of a note, or a ValueError that says why there is none."""
    if member.content is None:
        raise ValueError(member.reason)
    samples = audio.decode(member.content, sample_rate)
    if len(samples) != _SECONDS * sample_rate:
        raise ValueError(f"lasts {len(samples) / sample_rate:.3f} s instead of {_SECONDS}")
    return samples
