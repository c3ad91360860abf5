"""A corpus: audio on disk as 16-bit samples, and an index of its segments.

A corpus is a folder::

    audio.i16             all tracks back to back: int16, little endian, mono, trimmed
    tracks.parquet        one row per track: track, group, source, licence, split, offset, samples, segments, clipped
    starts.npy            where each segment begins in audio.i16, in samples (int64)
    segment_tracks.npy    which track (row of tracks.parquet) each segment belongs to (int32)
    corpus.json           name, geometry, fingerprint, statistics, skipped tracks with reasons, provenance

Segments follow section 3.2 of the paper and the authors' released code: tracks are split before they are cut, each
is trimmed (:func:`ctxe_lib.audio.trim`), windows begin every 32 ms, and those whose gap is silent (mean magnitude
below 1e-3) are left out. Segments overlap tenfold, so they are views of the audio, never copies on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ctxe_lib import audio
from ctxe_lib.geometry import Geometry

__all__ = [
    "SPLITS",
    "Corpus",
    "JoinedCorpus",
    "Skipped",
    "Track",
    "build_corpus",
    "hash_split",
    "open_corpora",
    "ordered_map",
    "segment_starts",
]

SPLITS = ("train", "validation", "test")
"""Names of the splits, 70, 20 and 10 % of the music (section 3.2 of the paper)."""

FORMAT = 1
"""Version of the layout on disk; a corpus of another version is built anew."""

_SILENT_GAP = 1e-3
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Track:
    """One track of a source.

    Parameters
    ----------
    id : str
        Unique and stable, such as ``package/file.ogg``.
    group : str
        What must not be divided between splits: artist, album or instrument.
    source : str
        Package, archive or folder that it comes from.
    audio : np.ndarray [shape=(n,)]
        Mono, at the geometry's sample rate, full scale 1.
    split : str, optional
        One of :data:`SPLITS` where the source says so.
    licence : str
        Short name.
    """

    id: str
    group: str
    source: str
    audio: np.ndarray
    split: str | None = None
    licence: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    id: str
    source: str
    reason: str


def hash_split(group: str) -> str:
    """Split of a group that no list names: by its name's hash, about 70, 20 and 10 %.

    Parameters
    ----------
    group : str
        Artist, album, instrument or track.

    Returns
    -------
    str
        One of :data:`SPLITS`, the same on every machine and for every set the group occurs in.
    """
    share = _hash(group)
    return SPLITS[(share >= 0.7) + (share >= 0.9)]


def _hash(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def ordered_map(function: Callable[[_In], _Out], items: Iterable[_In], workers: int = 2) -> Iterator[_Out]:
    """Apply a function in threads, results in the order of the items.

    Decoding, resampling and decompressing run outside Python's lock, so threads use all cores and nothing is copied.
    At most `workers` + 1 results wait, so memory stays bounded.

    Parameters
    ----------
    function : callable
        Applied to each item.
    items : iterable
        Consumed lazily, in the calling thread.
    workers : int
        Threads.

    Yields
    ------
    object
        ``function(item)`` for each item.
    """
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def segment_starts(pcm: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Where the segments of a trimmed track begin.

    Parameters
    ----------
    pcm : np.ndarray [shape=(n,), dtype=int16]
        Audio.
    geometry : Geometry
        Sizes of a segment.

    Returns
    -------
    np.ndarray [shape=(segments,), dtype=int64]
        Every 32 ms, as long as a whole segment fits and the mean magnitude of its gap is at least 1e-3.
    """
    starts = np.arange(0, len(pcm) - geometry.length + 1, round(0.032 * geometry.sample_rate))
    level = np.concatenate([[0], np.cumsum(np.abs(pcm.astype(np.int64)))])
    gap = level[starts + geometry.context + geometry.gap] - level[starts + geometry.context]
    return starts[gap >= _SILENT_GAP * audio.FULL_SCALE * geometry.gap]


def build_corpus(
    name: str,
    items: Iterable[Track | Skipped],
    folder: Path,
    geometry: Geometry,
    *,
    splits: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any],
    rendered: bool = False,
    fill: bool = False,
) -> Corpus:
    """Write a corpus.

    It is built in a folder beside the final one and moved there when it is complete: an interrupted build leaves
    neither a half corpus nor a damaged old one.

    Parameters
    ----------
    name : str
        The corpus' name.
    items : iterable of Track or Skipped
        Taken one at a time, in this order.
    folder : Path
        The corpus' own folder.
    geometry : Geometry
        Sample rate and sizes of a segment.
    splits : mapping of track to split, optional
        Committed splits. A track's own split comes first, then this list, then :func:`hash_split` of its group.
    provenance : mapping
        What it was made from: sources with versions, licences and hashes. Plain JSON values.
    rendered : bool
        Whether the audio was synthesised rather than recorded.
    fill : bool
        Whether to give a split that would stay empty a track of another one. Fewer than three tracks make a test
        split first, and then a training split.

    Returns
    -------
    Corpus
        Opened.

    Raises
    ------
    ValueError
        If no track is usable, a track occurs twice, or a split has an unknown name.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    work = folder.with_name(f".{folder.name}.building-{os.getpid()}")
    work.mkdir()
    try:
        _write(name, items, work, geometry, splits or {}, provenance, rendered, fill)
        old = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Corpus.open(folder)


def _clear_leftovers(folder: Path) -> None:
    """Remove what builds of this corpus left behind that were killed."""
    for pattern in (f".{folder.name}.building-*", f".{folder.name}.replaced-*"):
        for left in folder.parent.glob(pattern):
            try:
                os.kill(int(left.name.rpartition("-")[2]), 0)
            except (ProcessLookupError, ValueError):
                shutil.rmtree(left, ignore_errors=True)
            except PermissionError:
                pass  # somebody else's build, still running


def _write(
    name: str,
    items: Iterable[Track | Skipped],
    work: Path,
    geometry: Geometry,
    splits: Mapping[str, str],
    provenance: Mapping[str, Any],
    rendered: bool,
    fill: bool,
) -> None:
    rows: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    starts: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    seen: set[str] = set()
    digest = hashlib.sha256()
    offset = 0
    with (work / "audio.i16").open("wb") as file:
        for item in items:
            if item.id in seen:
                raise ValueError(f"track {item.id!r} occurs twice in {name}: ids must be unique")
            seen.add(item.id)
            if isinstance(item, Skipped):
                skipped.append(item)
                continue
            split = item.split or splits.get(item.id) or hash_split(item.group)
            if split not in SPLITS:
                raise ValueError(f"split {split!r} of track {item.id!r} must be one of {', '.join(SPLITS)}")
            try:
                pcm, clipped = audio.to_int16(item.audio)
                pcm = pcm[audio.trim(pcm, geometry.sample_rate)]
                own = _segments_or_reason(pcm, len(item.audio), geometry)
            except ValueError as error:
                skipped.append(Skipped(item.id, item.source, str(error)))
                continue
            data = pcm.tobytes()
            file.write(data)
            digest.update(data)
            starts.append(own + offset)
            owners.append(np.full(len(own), len(rows), np.int32))
            row: dict[str, Any] = {
                "track": item.id,
                "group": item.group,
                "source": item.source,
                "licence": item.licence,
            }
            row |= {"split": split, "offset": offset, "samples": len(pcm), "segments": len(own), "clipped": clipped}
            rows.append(row)
            offset += len(pcm)
    if not rows:
        reasons = "".join(f"\n  {skip.id}: {skip.reason}" for skip in skipped[:20])
        raise ValueError(f"{name}: no usable track among {len(skipped)} files{reasons}")

    if fill:
        _fill(rows)
    all_starts, all_owners = np.concatenate(starts), np.concatenate(owners)
    np.save(work / "starts.npy", all_starts)
    np.save(work / "segment_tracks.npy", all_owners)
    tracks = pd.DataFrame(rows)
    tracks.to_parquet(work / "tracks.parquet", index=False)
    # By content, since the bytes of a parquet file change from version to version; without licences and the like, which
    # may be corrected without making it other data.
    index = tracks[["track", "split", "offset", "samples", "segments"]].to_numpy().tolist()
    digest.update(json.dumps([index, geometry.to_dict()], sort_keys=True).encode())
    digest.update(all_starts.astype("<i8").tobytes())
    description = {
        "name": name,
        "format": FORMAT,
        "rendered": rendered,
        "fingerprint": digest.hexdigest(),
        "geometry": geometry.to_dict(),
        "statistics": _statistics(tracks, geometry).to_dict(orient="records"),
        "skipped": [asdict(skip) for skip in skipped],
        "provenance": dict(provenance),
    }
    (work / "corpus.json").write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _fill(rows: list[dict[str, Any]]) -> None:
    """Give each split a track, as far as there are tracks."""
    needed = ("test", "train", "validation")[: len(rows)]
    for split in needed:
        counts = Counter(row["split"] for row in rows)
        if not counts[split]:
            donor = max(counts, key=lambda other: (other not in needed, counts[other], other))
            given = min((row for row in rows if row["split"] == donor), key=lambda row: _hash(row["track"]))
            given["split"] = split


def _segments_or_reason(pcm: np.ndarray, untrimmed: int, geometry: Geometry) -> np.ndarray:
    """Segment starts of a trimmed track, or a ValueError that says why there are none."""
    if not len(pcm):
        raise ValueError("silent: no 64-ms frame with a root mean square above 0.01")
    if len(pcm) < geometry.length:
        raise ValueError(
            f"too short: {len(pcm) / geometry.sample_rate:.3f} s of sound in {untrimmed / geometry.sample_rate:.3f} s, "
            f"a segment takes {geometry.seconds:.3f} s"
        )
    starts = segment_starts(pcm, geometry)
    if not len(starts):
        raise ValueError("silent wherever a segment's gap would be")
    return starts


def _statistics(tracks: pd.DataFrame, geometry: Geometry) -> pd.DataFrame:
    table = tracks.groupby("split")[["segments", "samples"]].sum().reindex(SPLITS, fill_value=0)
    table["tracks"] = tracks.groupby("split").size().reindex(SPLITS, fill_value=0)
    table["percentage"] = 100 * table["segments"] / table["segments"].sum()
    table["hours"] = table["samples"] / geometry.sample_rate / 3600
    return table.rename_axis("split").reset_index()[["split", "segments", "percentage", "tracks", "hours"]]


class Corpus:
    """A corpus on disk, memory-mapped; see :func:`build_corpus` and :meth:`open`.

    Attributes
    ----------
    folder : Path
        Where it lies.
    description : dict
        Content of corpus.json.
    geometry : Geometry
        Sizes of its segments.
    tracks : pandas.DataFrame
        One row per track: track, group, source, licence, split, offset and samples (both in samples of the
        audio file), segments, clipped.
    """

    def __init__(self, folder: Path, description: dict[str, Any], tracks: pd.DataFrame) -> None:
        self.folder = folder
        self.description = description
        self.geometry = Geometry(**description["geometry"])
        self.tracks = tracks
        self._audio = np.memmap(folder / "audio.i16", "<i2", "r")
        self._starts = np.load(folder / "starts.npy", mmap_mode="r")
        self._owners = np.load(folder / "segment_tracks.npy", mmap_mode="r")
        expected = int(tracks["samples"].sum()), int(tracks["segments"].sum())
        if (len(self._audio), len(self._starts)) != expected or len(self._owners) != expected[1]:
            raise ValueError(
                f"corpus {folder} is damaged: {len(self._audio)} samples and {len(self._starts)} segments, where its "
                f"table of tracks has {expected[0]} and {expected[1]}; build it again with --force"
            )

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """Open a finished corpus.

        Parameters
        ----------
        folder : Path or str
            The corpus' own folder.

        Raises
        ------
        FileNotFoundError
            If there is none; the message says how to build it.
        ValueError
            If it is damaged or of another version.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"no corpus in {folder}: build it with `python data_scripts/build_data.py {folder.name}`"
            ) from None
        if description.get("format") != FORMAT:
            raise ValueError(f"corpus {folder} has format {description.get('format')}, not {FORMAT}: build it again")
        return cls(folder, description, pd.read_parquet(folder / "tracks.parquet"))

    def __repr__(self) -> str:
        return f"<Corpus {self.name}: {len(self.tracks)} tracks, {len(self._starts)} segments in {self.folder}>"

    @property
    def parts(self) -> list[Corpus]:
        """Itself: what it has in common with :class:`JoinedCorpus`."""
        return [self]

    @property
    def name(self) -> str:
        """The corpus' name."""
        return self.description["name"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over audio and index, hexadecimal."""
        return self.description["fingerprint"]

    def starts(self, split: str) -> np.ndarray:
        """Where the segments of a split begin in the audio file: int64 [segments], in samples."""
        return self._starts[self._in_split(split)]

    def segment_tracks(self, split: str) -> np.ndarray:
        """Row of :attr:`tracks` of each segment of a split: int32 [segments]."""
        return self._owners[self._in_split(split)]

    def track_rows(self, starts: np.ndarray) -> np.ndarray:
        """Row of :attr:`tracks` that each position of the audio file belongs to: int64 [n]."""
        return np.searchsorted(self.tracks["offset"].to_numpy(), starts, side="right") - 1

    def read(self, starts: np.ndarray, length: int | None = None) -> np.ndarray:
        """Read segments.

        Parameters
        ----------
        starts : np.ndarray [shape=(n,)]
            Positions in the audio file, in samples.
        length : int, optional
            Samples of each; the geometry's segment if not given. A longer piece may run on into the next track:
            `offset` and `samples` in :attr:`tracks` give the bounds.

        Returns
        -------
        np.ndarray [shape=(n, length), dtype=float32]
            Audio, full scale 1.

        Raises
        ------
        ValueError
            If a segment lies outside the audio file.
        """
        starts = np.asarray(starts, np.int64)
        length = self.geometry.length if length is None else length
        last = len(self._audio) - length
        if length < 1 or last < 0 or (starts.size and not 0 <= starts.min() <= starts.max() <= last):
            raise ValueError(
                f"length={length} from starts {starts.min(initial=last + 1)} to {starts.max(initial=-1)} must lie "
                f"within the {len(self._audio)} samples of {self.name}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(self._audio, length)
        return windows[starts] * np.float32(1 / audio.FULL_SCALE)

    def statistics(self) -> pd.DataFrame:
        """Table 1 for this corpus: split, segments, percentage (of the segments), tracks, hours."""
        return pd.DataFrame(self.description["statistics"])

    def select(self, split: str, per_track: int, seed: int) -> np.ndarray:
        """Segments for an evaluation, spread evenly over every track of a split.

        Each track's segments are cut into `per_track` equal parts and one segment is drawn from each. The draw
        depends on the seed and the track alone, so that a track gives the same segments in every corpus it is in.

        Parameters
        ----------
        split : str
            One of :data:`SPLITS`.
        per_track : int
            Segments per track; a track that has fewer gives all of them.
        seed : int
            Of the draw.

        Returns
        -------
        np.ndarray [shape=(n,), dtype=int64]
            Positions in the audio file, ascending.
        """
        if per_track < 1:
            raise ValueError(f"per_track={per_track} must be an integer > 0")
        starts, owners = self.starts(split), self.segment_tracks(split)
        chosen = []
        for row in np.unique(owners):
            own = starts[slice(*np.searchsorted(owners, [row, row + 1]))]
            count = min(per_track, len(own))
            rng = np.random.default_rng([seed, zlib.crc32(self.tracks["track"].iloc[row].encode())])
            edges = np.arange(count) * len(own) // count
            widths = np.diff(edges, append=len(own))
            chosen.append(own[edges + (rng.random(count) * widths).astype(np.int64)])
        return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)

    def _in_split(self, split: str) -> np.ndarray:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}")
        return (self.tracks["split"] == split).to_numpy()[self._owners]


class JoinedCorpus:
    """Several corpora as one to train on; see :meth:`Corpus.read` and its like.

    Positions count through the audio of the first, then of the second, and so on.

    Parameters
    ----------
    parts : sequence of Corpus

    Raises
    ------
    ValueError
        If the corpora differ in their geometry.
    """

    def __init__(self, parts: Sequence[Corpus]) -> None:
        self.parts = list(parts)
        self.geometry = self.parts[0].geometry
        for part in self.parts:
            if part.geometry != self.geometry:
                raise ValueError(f"{part.name} has {part.geometry}, {self.parts[0].name} has {self.geometry}")
        self.tracks = pd.concat([part.tracks for part in self.parts], ignore_index=True)
        samples = [int(part.tracks["samples"].sum()) for part in self.parts]
        self._offsets = np.concatenate([[0], np.cumsum(samples)[:-1]]).astype(np.int64)

    @property
    def name(self) -> str:
        """Names of the parts, joined by ``+``."""
        return "+".join(part.name for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the parts' own, hexadecimal."""
        return hashlib.sha256("".join(part.fingerprint for part in self.parts).encode()).hexdigest()

    def starts(self, split: str) -> np.ndarray:
        """Positions of the segments of a split, int64 [segments]."""
        starts = [part.starts(split) + offset for part, offset in zip(self.parts, self._offsets, strict=True)]
        return np.concatenate(starts)

    def read(self, starts: np.ndarray) -> np.ndarray:
        """Segments that begin at ascending or other positions, float32 [n, length]."""
        owners = np.searchsorted(self._offsets, starts, side="right") - 1
        segments = np.empty((len(starts), self.geometry.length), np.float32)
        for i, part in enumerate(self.parts):
            segments[owners == i] = part.read(starts[owners == i] - self._offsets[i])
        return segments


def open_corpora(names: str, folder: Path) -> Corpus | JoinedCorpus:
    """Open a corpus by name, or several joined by ``+``, from the folder that holds them."""
    parts = [Corpus.open(folder / name) for name in names.split("+")]
    return parts[0] if len(parts) == 1 else JoinedCorpus(parts)
