"""Music from packages of the Debian archive: 263 freely licensed tracks of games, 17.9 h, in many genres.

``manifests/music-packages.json`` lists the packages: version, size, SHA-256, licence, where the music lies, what is
left out and why, and who wrote it. ``manifests/splits-music.json`` gives the split of each track, the same in every
set. Splits are by artist, with two things to know: where a package does not say who wrote a track, the package is one
artist; and Eric Matyas' tracks are divided between training and validation, because the quick set, six packages of
one artist each, needs some of all three splits. No artist of the test split occurs in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from ctxe_lib import archives, audio
from ctxe_lib.corpus import Skipped, Track, ordered_map

__all__ = ["Package", "manifest", "music_packages", "music_splits", "tracks"]

_STEMS: Final = ("guitar", "song")


@dataclass(frozen=True)
class Package:
    """A package with music; fields as in the manifest.

    Parameters
    ----------
    package, version : str
        Name and version.
    pool : str
        Path below a mirror's base address.
    size : int
        Bytes of the .deb.
    sha256 : str
        Of the .deb, hexadecimal.
    licence : str
        Short name, of tracks that `artists` gives no other.
    copyright : str
        File within the package that states it in full.
    root : str
        Folder of the music within the package, or within `archive`.
    include : sequence of str
        Patterns of files below `root`. A `*` also matches slashes.
    group : str
        Artist of the tracks that `artists` does not name, or the package's name where nobody is stated.
    quick : bool
        Whether the quick set has it; the full set has all.
    archive : str
        A zip file within the package that holds the music, if any.
    stems : bool
        Whether a track is a folder with the two stems guitar.ogg and song.ogg.
    exclude : sequence of dict
        Files left out: ``match`` (a pattern) and ``reason``.
    artists : sequence of dict
        ``match``, ``group`` and, where it differs, ``licence``; the first match counts.
    note : str
        What else there is to know.
    """

    package: str
    version: str
    pool: str
    size: int
    sha256: str
    licence: str
    copyright: str
    root: str
    include: tuple[str, ...]
    group: str
    quick: bool
    archive: str = ""
    stems: bool = False
    exclude: tuple[dict[str, str], ...] = ()
    artists: tuple[dict[str, str], ...] = ()
    note: str = ""

    def holds(self, path: str) -> bool:
        """Whether a path below `root` is music that is used."""
        return any(fnmatchcase(path, pattern) for pattern in self.include) and not any(
            fnmatchcase(path, rule["match"]) for rule in self.exclude
        )

    def artist(self, path: str) -> tuple[str, str]:
        """Group and licence of a file below `root`."""
        for rule in self.artists:
            if fnmatchcase(path, rule["match"]):
                return rule["group"], rule.get("licence", self.licence)
        return self.group, self.licence


def manifest(name: str) -> Any:
    """Content of a JSON file in ``ctxe_lib/manifests``."""
    return json.loads(resources.files("ctxe_lib").joinpath("manifests", name).read_text(encoding="utf-8"))


def music_packages(quick: bool = False) -> list[Package]:
    """The packages of the full set, or the six of the quick set, in the manifest's order."""
    packages = [Package(**entry) for entry in manifest("music-packages.json")]
    return [package for package in packages if package.quick or not quick]


def music_splits() -> dict[str, str]:
    """Split of each track of the full set; the quick set's tracks are among them."""
    return {track: split for split, ids in manifest("splits-music.json").items() for track in ids}


def tracks(
    packages: Iterable[Package], files: Mapping[str, Path], sample_rate: int = 16_000, workers: int = 2
) -> Iterator[Track | Skipped]:
    """Decode the music of packages.

    Parameters
    ----------
    packages : iterable of Package
        What to read.
    files : mapping of package name to Path
        The .deb files.
    sample_rate : int
        In Hz.
    workers : int
        Threads that decode; the result does not depend on it.

    Yields
    ------
    Track or Skipped
        A track's id is the package's name and its path below the music's folder.

    Raises
    ------
    ArchiveError
        If a package cannot be read to its end.
    """

    def decode(job: tuple[Package, str, list[archives.Member]]) -> Track | Skipped:
        package, path, members = job
        name = f"{package.package}/{path}"
        try:
            sounds = [_decode(member, sample_rate) for member in members]
            if package.stems and len(sounds) < len(_STEMS):
                raise ValueError(f"has {len(sounds)} of {len(_STEMS)} stems")
        except ValueError as error:
            return Skipped(name, package.package, str(error))
        group, licence = package.artist(path)
        return Track(name, group, package.package, audio.mix(sounds) if package.stems else sounds[0], None, licence)

    jobs = (job for package in packages for job in _files(package, files[package.package]))
    yield from ordered_map(decode, jobs, workers)


def _decode(member: archives.Member, sample_rate: int) -> np.ndarray:
    if member.content is None:
        raise ValueError(member.reason)
    return audio.decode(member.content, sample_rate)


def _files(package: Package, deb: Path) -> Iterator[tuple[Package, str, list[archives.Member]]]:
    """The music of a package: of each track its path, and the one member or two stems that it is made of."""
    root = package.root + "/"
    source: Path | bytes = deb
    if package.archive:
        inner = list(archives.members(deb, lambda name: name == package.archive))
        if not inner or inner[0].content is None:
            raise archives.ArchiveError(f"{deb} holds no readable {package.archive}; fetch it again")
        source = inner[0].content
    found = archives.members(source, lambda name: name.startswith(root) and package.holds(name.removeprefix(root)))
    if not package.stems:
        for member in found:
            yield package, member.name.removeprefix(root), [member]
        return
    songs: dict[str, list[archives.Member]] = {}
    for member in found:
        songs.setdefault(member.name.removeprefix(root).rpartition("/")[0], []).append(member)
    for path, stems in songs.items():
        yield package, path, stems
