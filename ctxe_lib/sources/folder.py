"""Any folder of audio files as a source.

Files are found in all subfolders, in the order of their paths. Each is a group of its own: its split follows from its
path below the folder, so that it stays where it is when other files come or go.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from pathlib import Path

from ctxe_lib import audio
from ctxe_lib.corpus import Skipped, Track, ordered_map

__all__ = ["audio_files", "listing", "tracks"]


def audio_files(folder: Path) -> list[Path]:
    """Files that are audio by their names, in all subfolders, by path.

    Raises
    ------
    ValueError
        If there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    found = [path for path in sorted(folder.rglob("*")) if not path.is_dir() and _is_audio(path)]
    if not found:
        endings = " ".join(sorted(audio.SUFFIXES))
        raise ValueError(f"{folder} holds no audio file: their names end in one of {endings}")
    return found


def listing(folder: Path) -> str:
    """SHA-256 over the paths, sizes and times of a folder's audio files: it changes when they do."""
    digest = hashlib.sha256()
    for path in audio_files(folder):
        about = path.lstat()
        digest.update(f"{_name(path, folder)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def tracks(folder: Path, sample_rate: int = 16_000, workers: int = 2) -> Iterator[Track | Skipped]:
    """Decode the audio files of a folder.

    Parameters
    ----------
    folder : Path
        Searched with all its subfolders.
    sample_rate : int
        In Hz.
    workers : int
        Threads; the result does not depend on their number.

    Yields
    ------
    Track or Skipped
        One for each file; its id is its path below the folder.

    Raises
    ------
    ValueError
        If there is no such folder, or no audio file in it.
    """

    def decode(path: Path) -> Track | Skipped:
        name = _name(path, folder)
        try:
            if path.suffix.lower() not in audio.SUFFIXES:
                raise ValueError(f"{path.suffix} is no format that libsndfile reads: convert it to .flac or .wav")
            samples = audio.decode(path, sample_rate)
        except ValueError as error:
            return Skipped(name, str(folder), str(error))
        return Track(name, name, str(folder), samples)

    yield from ordered_map(decode, audio_files(folder), workers)


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in audio.SUFFIXES or (mimetypes.guess_type(path.name)[0] or "").startswith("audio/")


def _name(path: Path, folder: Path) -> str:
    """A file's path below the folder; bytes of it that are no UTF-8 are written out."""
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
