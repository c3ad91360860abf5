"""The sets of audio that this project knows by name: what each needs, and how it becomes tracks.

``SOURCES["music-quick"]`` is one of them, and ``data_scripts/build_data.py`` builds it. A further one takes an entry
here and a module that yields :class:`ctxe_lib.corpus.Track` and :class:`ctxe_lib.corpus.Skipped`. Modules that need a
synthesiser are imported when they are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import soundfile

from ctxe_lib import archives
from ctxe_lib.corpus import Corpus, Skipped, Track, build_corpus
from ctxe_lib.download import Download, fetch, progress
from ctxe_lib.geometry import Geometry
from ctxe_lib.sources import fma, folder, nsynth, packages

if TYPE_CHECKING:
    from ctxe_lib.sources.soundfonts import Font

__all__ = ["SOURCES", "Source", "build", "folder_source", "is_current"]

_Files = Mapping[str, Path]
_Items = Iterator[Track | Skipped]
_Details = dict[str, Any]

NOTES: Final = {"quick": 8, "full": 32}
"""Notes per preset of the rendered instruments."""


@dataclass(frozen=True)
class Source:
    """What a corpus is made of.

    Parameters
    ----------
    title : str
        What it is, in a line.
    licence : str
        Of its audio.
    tracks : callable
        Given the fetched files by name and the sample rate in Hz, yields tracks and what was skipped.
    details : callable
        What decides on the content, apart from the geometry: plain JSON values.
    downloads : callable
        What to fetch.
    splits : callable
        Split of each track that does not bring its own.
    rendered : bool
        Whether the audio is synthesised, not recorded.
    fill : bool
        Whether a split that would stay empty takes a track of another.
    """

    title: str
    licence: str
    tracks: Callable[[_Files, int], _Items]
    details: Callable[[], _Details]
    downloads: Callable[[], list[Download]] = list
    splits: Callable[[], dict[str, str]] = dict
    rendered: bool = False
    fill: bool = False

    def describe(self) -> _Details:
        """What decides on the corpus' content, apart from the geometry, as JSON gives it back."""
        splits = json.dumps(self.splits(), sort_keys=True).encode()
        said = {"title": self.title, "licence": self.licence, "splits": hashlib.sha256(splits).hexdigest()}
        return json.loads(json.dumps(said | self.details()))


def build(name: str, source: Source, target: Path, geometry: Geometry, *, mirror: str | None = None) -> Corpus:
    """Fetch what a source needs, and build its corpus.

    Parameters
    ----------
    name : str
        The corpus' name.
    source : Source
        Such as an entry of :data:`SOURCES`.
    target : Path
        The corpus' own folder.
    geometry : Geometry
        Sample rate and sizes of a segment.
    mirror : str, optional
        Base address of a Debian mirror.

    Returns
    -------
    Corpus
        Its provenance has two parts: ``source``, by which :func:`is_current` judges, and ``built``, the versions of
        what decoded it and the hashes of files whose publisher states none.

    Raises
    ------
    DownloadError
        If a file cannot be fetched.
    ValueError
        If an archive is damaged, or there is no usable track.
    """
    files = {item.name: fetch(item, mirror=mirror) for item in source.downloads()}
    splits = source.splits()
    built = {
        "libsndfile": soundfile.__libsndfile_version__,
        "soxr": metadata.version("soxr"),
        "files": {item.name: _sha256(files[item.name]) for item in source.downloads() if not item.digest},
    }

    def watched() -> _Items:
        with progress(name, len(splits) or None, unit="tracks", scale=1) as advance:
            for item in source.tracks(files, geometry.sample_rate):
                yield item
                advance(1)

    return build_corpus(
        name,
        watched(),
        target,
        geometry,
        splits=splits,
        provenance={"source": source.describe(), "built": built},
        rendered=source.rendered,
        fill=source.fill,
    )


def is_current(source: Source, target: Path, geometry: Geometry) -> bool:
    """Whether a folder holds the corpus that building the source would give."""
    try:
        corpus = Corpus.open(target)
    except (FileNotFoundError, ValueError):
        return False
    return corpus.geometry == geometry and corpus.description["provenance"].get("source") == source.describe()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- recordings ---------------------------------------------------------------------------------------------------


def _package(entry: _Details) -> Download:
    return Download(
        Path(entry["pool"]).name,
        pool=entry["pool"],
        package=f"{entry['package']}={entry['version']}",
        size=entry["size"],
        digest=f"sha256:{entry['sha256']}",
    )


def _music(*, quick: bool) -> Source:
    def chosen() -> list[packages.Package]:
        return packages.music_packages(quick)

    def tracks(files: _Files, sample_rate: int) -> _Items:
        debs = {package.package: files[Path(package.pool).name] for package in chosen()}
        return packages.tracks(chosen(), debs, sample_rate)

    def splits() -> dict[str, str]:
        names = {package.package for package in chosen()}
        return {track: split for track, split in packages.music_splits().items() if track.partition("/")[0] in names}

    return Source(
        f"music of {'six' if quick else 'fifteen'} packages of the Debian archive",
        "free licences, stated for each track",
        tracks,
        lambda: {"packages": [asdict(package) for package in chosen()]},
        lambda: [_package(asdict(package)) for package in chosen()],
        splits,
    )


def _fma() -> Source:
    file = Download(fma.ARCHIVE, (fma.PUBLISHER + fma.ARCHIVE,), digest=f"sha1:{fma.SHA1}")
    return Source(
        "FMA small, the paper's music",
        fma.LICENCE,
        lambda files, sample_rate: fma.tracks(files[fma.ARCHIVE], sample_rate),
        lambda: {"files": [asdict(file)]},
        lambda: [file],
    )


def _nsynth() -> Source:
    files = [Download(name, (nsynth.PUBLISHER + name,)) for name in nsynth.ARCHIVES]
    return Source(
        "NSynth, the paper's instruments",
        nsynth.LICENCE,
        lambda found, sample_rate: nsynth.tracks((found[file.name] for file in files), sample_rate),
        lambda: {"files": [asdict(file) for file in files]},
        lambda: files,
    )


def folder_source(path: Path) -> Source:
    """A folder of audio files as a source."""
    return Source(
        f"audio files in {path}",
        "whatever its owner says",
        lambda _, sample_rate: folder.tracks(path, sample_rate),
        lambda: {"folder": str(path), "listing": folder.listing(path)},
        fill=True,
    )


# -- synthesised --------------------------------------------------------------------------------------------------

_BUNDLED: Final = "TimGM6mb.sf2"


def _bundled_font(name: str) -> Font:
    """The soundfont that pretty_midi comes with: no download."""
    from ctxe_lib.sources.soundfonts import Font

    return Font(name, Path(str(resources.files("pretty_midi").joinpath(_BUNDLED))), "GPL-2")


def _bundled_details() -> _Details:
    return {
        "font": f"{_BUNDLED} of pretty_midi {metadata.version('pretty_midi')}",
        "synthesiser": f"tinysoundfont {metadata.version('tinysoundfont')}",
    }


def _instruments(*, quick: bool) -> Source:
    notes = NOTES["quick" if quick else "full"]
    entries = [] if quick else packages.manifest("soundfont-packages.json")

    def tracks(files: _Files, sample_rate: int) -> _Items:
        from ctxe_lib.sources import soundfonts

        fonts = [_bundled_font("timgm6mb")]
        for entry in entries:
            deb = files[Path(entry["pool"]).name]
            [font] = archives.members(deb, entry["font"].__eq__)
            if font.content is None:
                raise archives.ArchiveError(f"{font.name} in {deb}: {font.reason}")
            fonts.append(soundfonts.Font(entry["name"], font.content, entry["licence"]))
        return soundfonts.tracks(fonts, notes, sample_rate)

    return Source(
        f"notes of sampled instruments, {notes} for each preset of {'one soundfont' if quick else 'three soundfonts'}",
        "free licences, stated for each track",
        tracks,
        lambda: {
            **_bundled_details(),
            "notes": notes,
            "packages": entries,
            "instruments": packages.manifest("splits-instruments.json"),
        },
        lambda: [_package(entry) for entry in entries],
        rendered=True,
    )


def _scores() -> Source:
    def tracks(_: _Files, sample_rate: int) -> _Items:
        from ctxe_lib.sources import scores

        return scores.tracks(_bundled_font("TimGM6mb"), sample_rate)

    return Source(
        "scores that music21 comes with, rendered",
        "public domain music, as encoded in music21",
        tracks,
        lambda: {**_bundled_details(), "scores": f"music21 {metadata.version('music21')}"},
        rendered=True,
    )


SOURCES: Final[Mapping[str, Source]] = {
    "music-quick": _music(quick=True),
    "music-full": _music(quick=False),
    "music-rendered": _scores(),
    "music-fma": _fma(),
    "instruments-quick": _instruments(quick=True),
    "instruments-full": _instruments(quick=False),
    "instruments-nsynth": _nsynth(),
}
"""Sources by the name of the corpus that they become."""
