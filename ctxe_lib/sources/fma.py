"""The paper's music: ``fma_small.zip``, 8,000 clips of 30 s (Defferrard et al., "FMA: a dataset for music analysis").

The archive holds MP3 files by number, ``fma_small/000/000002.mp3``, compressed once more with BZIP2. They are decoded
straight from it, and nothing is unpacked to disk. Some clips are known to be much shorter than 30 s (98565, 98567,
98569) or to hold no sound (99134, 108925, 133297): what cannot be used is reported, as everywhere.

The authors' split took the first 70 % of the files for training, the next 20 % for validation and the last 10 % for
testing, in the order in which a file system happened to list them, so theirs cannot be had again. Here the files are
sorted by number.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctxe_lib import audio
from ctxe_lib.corpus import SPLITS, Skipped, Track, ordered_map

__all__ = ["ARCHIVE", "LICENCE", "PUBLISHER", "SHA1", "tracks"]

ARCHIVE: Final = "fma_small.zip"

PUBLISHER: Final = "https://os.unil.cloud.switch.ch/fma/"
"""Where its authors offer it."""

SHA1: Final = "ade154f733639d52e35e32f5593efe5be76c6d70"
"""Of the archive, as its authors state it."""

LICENCE: Final = "Creative Commons, by track"

_CLIP = re.compile(r"fma_small/\d{3}/(\d{6})\.mp3")
_OTHERS = frozenset({"fma_small/README.txt", "fma_small/checksums"})
_LARGEST = 16 << 20  # bytes; the largest clip has about 1.3 million


def tracks(archive: Path, sample_rate: int = 16_000) -> Iterator[Track | Skipped]:
    """Read the clips.

    Parameters
    ----------
    archive : Path
        :data:`ARCHIVE`.
    sample_rate : int
        In Hz.

    Yields
    ------
    Track or Skipped
        A track is one clip, in the order of the numbers. Its group is the clip itself: the archive does not say who
        plays. Its split follows from its place among all clips, the unusable ones included. Skipped are clips that
        cannot be read, and files that are not of the layout.

    Raises
    ------
    ValueError
        If the file is no zip archive, or holds no clip.
    """
    try:
        content = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no complete zip archive ({error}): fetch it again") from error
    with content:
        clips: dict[str, zipfile.ZipInfo] = {}
        for member in content.infolist():
            match = _CLIP.fullmatch(member.filename)
            if match and match[1] not in clips:
                clips[match[1]] = member
            elif not member.is_dir() and member.filename not in _OTHERS:
                name = f"{member.filename} at byte {member.header_offset}"
                yield Skipped(name, archive.name, "is no file of FMA's layout, or occurs a second time")
        if not clips:
            raise ValueError(f"{archive} holds no fma_small/*/*.mp3: is it {ARCHIVE}?")

        numbers = sorted(clips)
        splits = {number: _split(place, len(numbers)) for place, number in enumerate(numbers)}

        def read(number: str) -> Track | Skipped:
            try:
                samples = audio.decode(_content(content, clips[number]), sample_rate)
            except ValueError as error:
                return Skipped(number, archive.name, str(error))
            return Track(number, number, archive.name, samples, splits[number], LICENCE)

        yield from ordered_map(read, numbers)


def _split(place: int, count: int) -> str:
    """Split of the clip at a place (from 0) in the sorted list of all: 70, 20 and 10 %."""
    return SPLITS[(100 * place >= 70 * count) + (100 * place >= 90 * count)]


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Content of a member, or a ValueError that says why there is none."""
    if member.file_size > _LARGEST:
        raise ValueError(f"has {member.file_size} bytes, a clip of 30 s has about 1 million")
    try:
        return archive.read(member)
    # A damaged member shows as any of these: wrong checksum, broken compression, one that zipfile does not know,
    # or a bit that says it is encrypted.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is damaged in the archive ({error})") from error
