"""The paper's instruments: NSynth, 305,979 notes of 4 s, with its official split.

Three archives, ``nsynth-{train,valid,test}.jsonwav.tar.gz`` (Engel et al., 2017), each with a folder of its own name::

    nsynth-train/examples.json                          what is known of each note
    nsynth-train/audio/bass_synthetic_033-022-050.wav   instrument-pitch-velocity: 16 kHz, mono, 16 bits, 4 s

They are read as streams, and nothing is unpacked to disk.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np

from ctxe_lib import audio
from ctxe_lib.corpus import Skipped, Track

__all__ = ["ARCHIVES", "LICENCE", "PUBLISHER", "tracks"]

ARCHIVES: Final = tuple(f"nsynth-{part}.jsonwav.tar.gz" for part in ("train", "valid", "test"))
"""The files of the data set."""

PUBLISHER: Final = "http://download.magenta.tensorflow.org/datasets/nsynth/"
"""Where its authors offer them. They state no checksums: what a corpus was built from is in its provenance."""

LICENCE: Final = "CC-BY-4.0"

_SPLITS: Final = {"train": "train", "valid": "validation", "test": "test"}
_MEMBER = re.compile(r"nsynth-(train|valid|test)/(?:audio/([\w-]+)\.wav|examples\.json)")
_SECONDS = 4
_LARGEST = 1 << 20  # bytes; a note has 128,044


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
        with _damage_reported(archive):
            yield from _notes(archive, sample_rate)


def _notes(archive: Path, sample_rate: int) -> Iterator[Track | Skipped]:
    instruments = _instruments(archive)
    missing = dict.fromkeys(instruments)
    seen: set[str] = set()
    for member, file in _members(archive):
        match = _MEMBER.fullmatch(member.name)
        note = match[2] if match else None
        if member.name in seen:
            yield Skipped(f"{member.name} at byte {member.offset}", archive.name, "occurs a second time")
        elif match is None or not member.isfile():
            yield Skipped(member.name, archive.name, "is no file of NSynth's layout")
        elif note is not None and note not in missing:
            yield Skipped(member.name, archive.name, "is not listed in examples.json")
        elif note is not None:
            del missing[note]
            try:
                samples = _decode(file, member.size, sample_rate)
            except ValueError as error:
                yield Skipped(note, archive.name, str(error))
            else:
                yield Track(note, instruments[note], archive.name, samples, _SPLITS[match[1]], LICENCE)
        seen.add(member.name)
    for note in missing:
        yield Skipped(note, archive.name, "is listed in examples.json and has no audio")


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{archive} is damaged ({error}): fetch it again") from error


def _members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Members of an archive that are no folders, each with its content, in the archive's order."""
    # Not tarfile's own gzip stream: that one takes a truncated file for a complete one.
    with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if not member.isdir():
                yield member, (member.isfile() and tar.extractfile(member)) or io.BytesIO()
            tar.members.clear()  # which grows by every member that has been passed
        while stream.read(1 << 20):
            pass  # to the end, where the checksum is


def _instruments(archive: Path) -> dict[str, str]:
    """Instrument of each note, by an archive's examples.json.

    This is a pass of its own, because the list may come after the audio; it ends where the list is found.
    """
    for member, file in _members(archive):
        if member.isfile() and (match := _MEMBER.fullmatch(member.name)) and not match[2]:
            try:
                # The hook keeps one word of each note: the whole would take gigabytes.
                notes = json.load(file, object_hook=lambda entry: entry.get("instrument_str", entry))
            except ValueError as error:
                raise ValueError(f"{member.name} in {archive} is no JSON ({error}): fetch the archive again") from error
            if not isinstance(notes, dict) or not all(isinstance(name, str) for name in notes.values()):
                raise ValueError(f"{member.name} in {archive} does not name an instrument_str for each note")
            return notes
    raise ValueError(f"{archive} holds no nsynth-*/examples.json: is it one of {', '.join(ARCHIVES)}?")


def _decode(file: IO[bytes], size: int, sample_rate: int) -> np.ndarray:
    """Audio of a note, or a ValueError that says why there is none."""
    if size > _LARGEST:
        raise ValueError(f"has {size} bytes, a note of {_SECONDS} s has 128,044")
    samples = audio.decode(file.read(), sample_rate)
    if len(samples) != _SECONDS * sample_rate:
        raise ValueError(f"lasts {len(samples) / sample_rate:.3f} s instead of {_SECONDS}")
    return samples
