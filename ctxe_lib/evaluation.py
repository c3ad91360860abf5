"""Evaluation: methods x test segments -> one tidy table of scores per segment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import metrics, weights
from ctxe_lib.corpus import Corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, available_methods, inpaint
from ctxe_lib.parallel import map_batches
from ctxe_lib.records import write_table

__all__ = ["evaluate", "score", "trained_on"]

BLOCK = 2048
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
        ``snr_td`` and ``snr_ms``, in dB; NaN where the reference is silent.
    """
    return {
        "snr_td": metrics.snr_td(segments, gaps, geometry),
        "snr_ms": metrics.snr_ms(segments, gaps, geometry),
    }


def _fill(segments: np.ndarray, *, name: str, geometry: Geometry, trained_on: str) -> np.ndarray:
    """Inpaint one batch; a function of the module, so that it can be sent to other processes and machines."""
    return inpaint(name, segments, geometry, trained_on=trained_on)


def evaluate(
    corpus: Corpus,
    path: Path,
    *,
    methods: Sequence[str] | None = None,
    split: str = "test",
    per_track: int = 10,
    seed: int = 0,
    geometry: Geometry | None = None,
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
    geometry : Geometry, optional
        The corpus' own if not given.
    n_jobs : int
        Batches worked on at the same time; -1 for as many as there are cores. Networks use all cores by themselves.
    dask : str, optional
        Address of a Dask scheduler whose workers do the work instead; each needs this library and its weights.
    progress : bool
        Show progress bars.

    Returns
    -------
    pandas.DataFrame
        corpus, split, track, group, cluster, segment (position in the corpus, in samples), method, trained_on,
        snr_td, snr_ms. ``cluster`` is the unit of confidence intervals: the track of music, the instrument of notes.

    Raises
    ------
    ValueError
        If the split is empty or a method unknown.
    """
    geometry = geometry or corpus.geometry
    kind = trained_on(corpus)
    names = list(methods or available_methods(kind))
    starts = corpus.select(split, per_track, seed)
    if not len(starts):
        raise ValueError(f"corpus {corpus.name} has no segments in its {split} split")
    tracks = corpus.tracks.iloc[corpus.track_rows(starts)]
    base = pd.DataFrame(
        {
            "corpus": corpus.name,
            "split": split,
            "track": tracks["track"].to_numpy(),
            "group": tracks["group"].to_numpy(),
            "cluster": tracks["group" if kind == "instruments" else "track"].to_numpy(),
            "segment": starts,
        }
    )
    parts: list[pd.DataFrame] = []
    seconds: dict[str, float] = {}
    for name in names:
        begin, scores = time.monotonic(), []
        fill = partial(_fill, name=name, geometry=geometry, trained_on=kind)
        jobs = 1 if METHODS[name].network else n_jobs
        for i in range(0, len(starts), BLOCK):
            segments = corpus.read(starts[i : i + BLOCK], geometry.length).astype(np.float64)
            gaps = map_batches(fill, segments, n_jobs=jobs, dask=dask, progress=progress, label=f"{corpus.name} {name}")
            scores.append(pd.DataFrame(score(segments, gaps, geometry)))
        seconds[name] = round(time.monotonic() - begin, 2)
        parts.append(base.assign(method=name, trained_on=kind).join(pd.concat(scores, ignore_index=True)))
    table = pd.concat(parts, ignore_index=True)
    record: dict[str, Any] = {
        "what": "scores per segment",
        "corpus": corpus.name,
        "rendered": corpus.description.get("rendered", False),
        "data": corpus.fingerprint,
        "split": split,
        "per_track": per_track,
        "seed": seed,
        "geometry": geometry.to_dict(),
        "methods": names,
        "weights": {
            weight: weights.read_card(weight)["sha256"]
            for name in names
            if (weight := METHODS[name].weights_name(kind)) is not None
        },
        "seconds": seconds,
    }
    write_table(path, table, record)
    return table
