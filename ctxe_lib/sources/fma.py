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
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctxe_lib import audio
from ctxe_lib.archives import Member, members
from ctxe_lib.corpus import SPLITS, Skipped, Track, ordered_map

__all__ = ["ARCHIVE", "LICENCE", "PUBLISHER", "SHA1", "tracks"]

ARCHIVE: Final = "fma_small.zip"

PUBLISHER: Final = "https://os.unil.cloud.switch.ch/fma/"
"""Where its authors offer it."""

SHA1: Final = "ade154f733639d52e35e32f5593efe5be76c6d70"
"""Of the archive, as its authors state it."""

LICENCE: Final = "Creative Commons, by track"

_CLIP = re.compile(r"fma_small/\d{3}/(\d{6})\.mp3")
_ABOUT = frozenset({"fma_small/README.txt", "fma_small/checksums"})


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
        A track is one clip, in the archive's order. Its group is the clip itself: the archive does not say who
        plays. Its split follows from its place in the sorted list of all clips, the unusable ones included. Skipped
        are clips that cannot be read, and files that are not of the layout.

    Raises
    ------
    ValueError
        If the file is no zip archive, or holds no clip.
    """
    found: set[str] = set()

    def look(name: str) -> bool:
        if match := _CLIP.fullmatch(name):
            found.add(match[1])
        return False  # only the names are wanted yet

    list(members(archive, look))
    numbers = sorted(found)
    if not numbers:
        raise ValueError(f"{archive} holds no fma_small/*/*.mp3: is it {ARCHIVE}?")
    left = {number: _split(place, len(numbers)) for place, number in enumerate(numbers)}

    def read(job: tuple[str, str | None, Member]) -> Track | Skipped:
        name, split, member = job
        try:
            if split is None or member.content is None:
                raise ValueError(member.reason or "is no file of FMA's layout, or occurs a second time")
            return Track(name, name, archive.name, audio.decode(member.content, sample_rate), split, LICENCE)
        except ValueError as error:
            return Skipped(name, archive.name, str(error))

    def jobs() -> Iterator[tuple[str, str | None, Member]]:
        for place, member in enumerate(members(archive, lambda name: name not in _ABOUT)):
            match = _CLIP.fullmatch(member.name)
            split = left.pop(match[1], None) if match else None
            yield match[1] if match and split else f"{member.name} (file {place + 1})", split, member

    yield from ordered_map(read, jobs())


def _split(place: int, count: int) -> str:
    """Split of the clip at a place (from 0) in the sorted list of all: 70, 20 and 10 %."""
    return SPLITS[(100 * place >= 70 * count) + (100 * place >= 90 * count)]
