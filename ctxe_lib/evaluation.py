"""Evaluation: methods x test segments -> one tidy table of scores per segment.

ODG is computed as in section 3.5 of the paper: on excerpts of 2 s whose gap begins at 0.5 s. The reference is the
recording; the degraded signal differs from it in the gap alone, where it has the method's audio, clipped at full
scale. Tracks are trimmed to where they sound, so an excerpt that reaches over an end of its track is completed with
silence: that is what surrounds a note, and few excerpts of music reach so far. PEAQ counts only frames from the first
to the last sound, so that the gap weighs more in a short note than in a long one. See :mod:`ctxe_lib.peaq` for what
this ODG cannot tell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import metrics, peaq, weights
from ctxe_lib.corpus import Corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, available_methods, inpaint
from ctxe_lib.parallel import map_batches
from ctxe_lib.records import write_table

__all__ = [
    "EXCERPT_SECONDS",
    "GAP_AT_SECONDS",
    "describe",
    "evaluate",
    "excerpts",
    "odg",
    "record_of",
    "score",
    "trained_on",
]

EXCERPT_SECONDS = 2.0
"""Duration of the excerpts that ODG is computed on."""
GAP_AT_SECONDS = 0.5
"""Where the gap begins in them."""
BLOCK = 1024
"""Segments held in memory at a time."""


def trained_on(corpus: Corpus) -> str:
    """Which networks a corpus is scored with: ``instruments`` for those of single notes, else ``music``."""
    return "instruments" if corpus.name.startswith("instruments") else "music"


def score(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
    """Scores of one method on a batch.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals.
    gaps : np.ndarray [shape=(n, gap)]
        What the method put into the gaps.
    geometry : Geometry

    Returns
    -------
    dict of str to np.ndarray [shape=(n,)]
        ``snr_td`` and ``snr_ms``, in dB; NaN where the reference is silent. ODG takes more of the track than the
        segment: see :func:`odg`.
    """
    return {
        "snr_td": metrics.snr_td(segments, gaps, geometry),
        "snr_ms": metrics.snr_ms(segments, gaps, geometry),
    }


def excerpts(corpus: Corpus, starts: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Excerpts for ODG: :data:`EXCERPT_SECONDS` of the track, with the segment's gap at :data:`GAP_AT_SECONDS`.

    Parameters
    ----------
    corpus : Corpus
    starts : np.ndarray [shape=(n,)]
        Where the segments begin, in samples of the corpus.
    geometry : Geometry

    Returns
    -------
    audio : np.ndarray [shape=(n, samples), dtype=float32]
        Full scale 1; zero beyond the ends of the track.
    whole : np.ndarray of bool [shape=(n,)]
        Whether the excerpt lies within its track.
    """
    starts = np.asarray(starts, np.int64)
    length, lead = (round(seconds * geometry.sample_rate) for seconds in (EXCERPT_SECONDS, GAP_AT_SECONDS))
    begins = starts + geometry.context - lead
    track = corpus.tracks.iloc[corpus.track_rows(starts)]
    first = np.maximum(begins, track["offset"].to_numpy())
    stop = np.minimum(begins + length, (track["offset"] + track["samples"]).to_numpy())
    audio = np.zeros((len(starts), length), np.float32)
    for row, begin, a, b in zip(audio, begins, first, stop, strict=True):
        row[a - begin : b - begin] = corpus.read(np.array([a]), b - a)[0]
    return audio, stop - first == length


def odg(
    excerpts: np.ndarray,
    gaps: Mapping[str, np.ndarray],
    geometry: Geometry,
    *,
    n_jobs: int = 1,
    dask: str | None = None,
    progress: bool = False,
    label: str | None = None,
) -> dict[str, np.ndarray]:
    """Objective difference grades of what methods put into the gaps of excerpts.

    Each excerpt is heard once, however many methods there are: 4 to 8 ms each.

    Parameters
    ----------
    excerpts : np.ndarray [shape=(n, samples)]
        Originals with the gap at :data:`GAP_AT_SECONDS`, from :func:`excerpts` or from elsewhere; full scale 1.
    gaps : mapping of str to np.ndarray [shape=(n, gap)]
        Audio of the gaps by method.
    geometry : Geometry
        Gives sample rate and gap.
    n_jobs, dask, progress, label
        As in :func:`ctxe_lib.parallel.map_batches`.

    Returns
    -------
    dict of str to np.ndarray [shape=(n,)]
        From 0.22 (no difference) to -3.98; NaN where an excerpt is silent, or too short for PEAQ.

    Raises
    ------
    ValueError
        If the excerpts are no floats, shapes do not fit, the gap does not lie within the excerpts, or its audio is not
        finite.
    """
    excerpts = np.asarray(excerpts)
    if not np.issubdtype(excerpts.dtype, np.floating):
        raise ValueError(f"excerpts have dtype {excerpts.dtype}: floats in [-1, 1] are wanted")
    lead = round(GAP_AT_SECONDS * geometry.sample_rate)
    if excerpts.ndim != 2 or excerpts.shape[1] < lead + geometry.gap:
        raise ValueError(
            f"excerpts have shape {excerpts.shape}: (n, samples) with at least {lead + geometry.gap} samples are "
            f"wanted, since the gap of {geometry.gap} begins at {GAP_AT_SECONDS} s"
        )
    for name, audio in gaps.items():
        if np.shape(audio) != (len(excerpts), geometry.gap):
            raise ValueError(f"gaps of {name} have shape {np.shape(audio)}, expected {(len(excerpts), geometry.gap)}")
        if not np.isfinite(audio).all():
            raise ValueError(f"gaps of {name} hold values that are not finite: no ODG can be had of them")
    items: Any = list(zip(excerpts, zip(*gaps.values(), strict=True), strict=True)) if gaps else []
    grade = partial(_grade, methods=len(gaps), sample_rate=geometry.sample_rate)
    grades = map_batches(grade, items, n_jobs=n_jobs, batch=8, dask=dask, progress=progress, label=label)
    return dict(zip(gaps, grades.T, strict=True))


def _grade(items: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], methods: int, sample_rate: int) -> np.ndarray:
    """ODG [items, methods] of excerpts and what each method put into the gap."""
    grades = np.full((len(items), methods), np.nan)
    lead = round(GAP_AT_SECONDS * sample_rate)
    for row, (excerpt, gaps) in zip(grades, items, strict=True):
        with suppress(peaq.NoGrade):
            reference = peaq.Reference(excerpt, sample_rate)
            for column, gap in enumerate(gaps):
                degraded = excerpt.astype(np.float64)
                degraded[lead : lead + len(gap)] = np.clip(gap, -1, 1)
                row[column] = reference.odg(degraded).odg
    return grades


def fill(segments: np.ndarray, *, name: str, geometry: Geometry, trained_on: str) -> np.ndarray:
    """Inpaint one batch; a function of the module, so that it can be sent to other processes and machines."""
    return inpaint(name, segments, geometry, trained_on=trained_on)


def describe(corpus: Corpus, starts: np.ndarray, split: str) -> pd.DataFrame:
    """What a table of scores says of each segment.

    Parameters
    ----------
    corpus : Corpus
    starts : np.ndarray [shape=(n,)]
        Where the segments begin, in samples of the corpus.
    split : str

    Returns
    -------
    pandas.DataFrame
        corpus, split, track, group, cluster, segment (the start). ``cluster`` is the unit of confidence intervals: the
        track of music, the instrument of notes.
    """
    tracks = corpus.tracks.iloc[corpus.track_rows(starts)]
    return pd.DataFrame(
        {
            "corpus": corpus.name,
            "split": split,
            "track": tracks["track"].to_numpy(),
            "group": tracks["group"].to_numpy(),
            "cluster": tracks["group" if trained_on(corpus) == "instruments" else "track"].to_numpy(),
            "segment": starts,
        }
    )


def record_of(
    corpus: Corpus, table: pd.DataFrame, what: str, names: Sequence[str], seconds: Mapping[str, float], **settings: Any
) -> dict[str, Any]:
    """The record of a table of scores, see :mod:`ctxe_lib.records`.

    Parameters
    ----------
    corpus : Corpus
    table : pandas.DataFrame
        With the columns of :func:`describe`.
    what : str
        What the table holds.
    names : sequence of str
        Methods.
    seconds : mapping of str to float
        Time that each took.
    **settings
        What was asked for: split, seed and so on.

    Returns
    -------
    dict
    """
    kind = trained_on(corpus)
    return {
        "what": what,
        "corpus": corpus.name,
        "rendered": corpus.description.get("rendered", False),
        "data": corpus.fingerprint,
        **settings,
        "segments": int(table["segment"].nunique()),
        "clusters": int(table["cluster"].nunique()),
        "geometry": corpus.geometry.to_dict(),
        "methods": list(names),
        "weights": {
            weight: weights.read_card(weight)["sha256"]
            for name in names
            if (weight := METHODS[name].weights_name(kind)) is not None
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def evaluate(
    corpus: Corpus,
    path: Path,
    *,
    methods: Sequence[str] | None = None,
    split: str = "test",
    per_track: int = 10,
    seed: int = 0,
    n_jobs: int = -1,
    dask: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Score methods on segments of a corpus and write the table with its record.

    Parameters
    ----------
    corpus : Corpus
    path : Path
        Of the table, ending in ``.parquet``.
    methods : sequence of str, optional
        Keys of :data:`ctxe_lib.inpaint.METHODS`; all that can run if not given.
    split : str
    per_track : int
        Segments per track, spread over each track.
    seed : int
        Of the selection.
    n_jobs : int
        Batches worked on at the same time; -1 for as many as there are cores. Networks use all cores by themselves.
    dask : str, optional
        Address of a Dask scheduler whose workers do the work instead; each needs this library and its weights.
    progress : bool
        Show progress bars.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`describe`, method, trained_on, snr_td, snr_ms, odg (NaN where a score can't be had).

    Raises
    ------
    ValueError
        If the split is empty or a method unknown.
    """
    geometry, kind = corpus.geometry, trained_on(corpus)
    names = list(methods or available_methods(kind))
    starts = corpus.select(split, per_track, seed)
    if not len(starts):
        raise ValueError(f"corpus {corpus.name} has no segments in its {split} split")
    base = describe(corpus, starts, split)
    scores: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    seconds = dict.fromkeys([*names, "odg"], 0.0)
    completed = 0
    options: dict[str, Any] = {"dask": dask, "progress": progress}
    for i in range(0, len(starts), BLOCK):
        segments = corpus.read(starts[i : i + BLOCK], geometry.length).astype(np.float64)
        gaps: dict[str, np.ndarray] = {}
        for name in names:
            begin = time.monotonic()
            call = partial(fill, name=name, geometry=geometry, trained_on=kind)
            jobs = 1 if METHODS[name].network else n_jobs
            gaps[name] = map_batches(call, segments, n_jobs=jobs, label=f"{corpus.name} {name}", **options)
            seconds[name] += time.monotonic() - begin
        begin = time.monotonic()
        audio, whole = excerpts(corpus, starts[i : i + BLOCK], geometry)
        completed += int(np.count_nonzero(~whole))
        grades = odg(audio, gaps, geometry, n_jobs=n_jobs, label=f"{corpus.name} ODG", **options)
        seconds["odg"] += time.monotonic() - begin
        for name in names:
            scores[name].append(pd.DataFrame(score(segments, gaps[name], geometry) | {"odg": grades[name]}))
    table = pd.concat(
        [
            base.assign(method=name, trained_on=kind).join(pd.concat(parts, ignore_index=True))
            for name, parts in scores.items()
        ],
        ignore_index=True,
    )
    record = record_of(corpus, table, "scores per segment", names, seconds, split=split, per_track=per_track, seed=seed)
    record["odg"] = {
        "excerpt_seconds": EXCERPT_SECONDS,
        "gap_at_seconds": GAP_AT_SECONDS,
        "excerpts_completed_with_silence": completed,
        "without_grade": {name: int(part["odg"].isna().sum()) for name, part in table.groupby("method", sort=False)},
    }
    write_table(path, table, record)
    return table
