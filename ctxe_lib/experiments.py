"""Beside the main tables: other gap durations (section 4.4), overfitting (Table 3), and the hybrid from other seeds.

Each writes a table of scores per segment with its record, as :mod:`ctxe_lib.evaluation` does.

Gap durations
-------------
Gaps of every duration lie about the same places, with contexts of the same length. A network is trained for gaps of
one duration; to inpaint a shorter one, the gap is enlarged by samples that were not lost, forwards, backwards or to
both sides, and of what the network gives only the true gap is kept.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import metrics, stft, weights
from ctxe_lib.corpus import SPLITS, Corpus
from ctxe_lib.evaluation import describe, excerpts, fill, odg, record_of, score, trained_on
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, Inpainter, available_methods, network
from ctxe_lib.parallel import map_batches
from ctxe_lib.records import write_table

__all__ = [
    "ENLARGEMENTS",
    "GAPS_MS",
    "NETWORK_GAPS_MS",
    "SLOW",
    "enlarge",
    "gap_durations",
    "other_seeds",
    "overfitting",
]

GAPS_MS = (8, 16, 24, 32, 48, 64, 80, 96)
"""Durations of the gaps, in ms; the paper has 48 and 64."""

NETWORK_GAPS_MS = (16, 32, 48, 64)
"""Those that networks are scored at."""

ENLARGEMENTS = ("centred", "forwards", "backwards")
"""Where the samples that a gap is enlarged by lie: half on each side, all behind it, all before it."""

ENLARGED_THREE_WAYS = (48,)
"""Those that are enlarged in all three ways, as in the paper; the others are enlarged on both sides alike."""

SLOW = ("sparse",)
"""Methods that gap durations leave out unless asked for: their time per segment is a hundred times LPC's."""


def enlarge(gap: int, target: int, direction: str) -> int:
    """Samples before a gap that an enlarged gap begins.

    Parameters
    ----------
    gap, target : int
        Samples of the gap and of the enlarged gap.
    direction : str
        One of :data:`ENLARGEMENTS`.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the direction is unknown or the gap longer than the target.
    """
    if gap > target:
        raise ValueError(f"a gap of {gap} samples cannot be enlarged to {target}: it is longer")
    extra = target - gap
    offsets = {"centred": extra // 2, "forwards": 0, "backwards": extra}
    if direction not in offsets:
        raise ValueError(f"direction={direction!r} must be one of {', '.join(ENLARGEMENTS)}")
    return offsets[direction]


def gap_durations(
    corpus: Corpus,
    path: Path,
    *,
    methods: Sequence[str] | None = None,
    gaps_ms: Sequence[int] = GAPS_MS,
    per_track: int = 4,
    seed: int = 0,
    n_jobs: int = -1,
    progress: bool = True,
) -> pd.DataFrame:
    """Score methods at gaps of several durations about the same places of the test split.

    Parameters
    ----------
    corpus : Corpus
    path : Path
        Of the table, ending in ``.parquet``.
    methods : sequence of str, optional
        Keys of :data:`ctxe_lib.inpaint.METHODS`; all that can run but :data:`SLOW` ones if not given. Networks are
        scored at those of :data:`NETWORK_GAPS_MS` that are no longer than the gap they were trained for.
    gaps_ms : sequence of int
        Durations, in ms; each a multiple of the hop.
    per_track : int
        Segments per track. Places too near the ends of a track for the longest segment are left out and counted.
    seed : int
        Of the selection.
    n_jobs : int
        Batches at the same time; -1 for as many as there are cores.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        corpus, split, track, group, cluster, segment, method, trained_on, gap_ms, enlargement, snr_td, snr_ms. The
        enlargement is ``none`` where the method takes gaps of that duration, else one of :data:`ENLARGEMENTS`, or
        ``mixed`` for the mean of the three signals, another reading of the paper's "averaging the reconstructions".

    Raises
    ------
    ValueError
        If no place of the test split is far enough from the ends of its track.
    """
    base, kind = corpus.geometry, trained_on(corpus)
    names = list(methods or (name for name in available_methods(kind) if name not in SLOW))
    samples = {ms: ms * base.sample_rate // 1000 for ms in gaps_ms}
    trained = {name: _trained_gap(METHODS[name].weights_name(kind), base) for name in names}
    starts = corpus.select("test", per_track, seed)
    rows = corpus.tracks.iloc[corpus.track_rows(starts)]
    centre = starts + base.context + base.gap // 2
    enlarged = [2 * gap - samples[ms] for gap in trained.values() if gap for ms in gaps_ms if samples[ms] <= gap]
    reach = base.context + max([*samples.values(), *enlarged]) // 2  # the farthest sample from the centre that is read
    first, last = rows["offset"].to_numpy(), (rows["offset"] + rows["samples"]).to_numpy()
    inside = (centre - reach >= first) & (centre + reach <= last)
    if not inside.any():
        raise ValueError(f"no test track of {corpus.name} has {2 * reach / base.sample_rate:.2f} s around a place")
    starts, centre = starts[inside], centre[inside]
    described = describe(corpus, starts, "test")
    parts: list[pd.DataFrame] = []
    seconds = dict.fromkeys(names, 0.0)
    for ms, gap in samples.items():
        geometry = dataclasses.replace(base, gap=gap)
        segments = corpus.read(centre - gap // 2 - base.context, geometry.length).astype(np.float64)
        for name in names:
            target, begin = trained[name], time.monotonic()
            if target and (gap > target or ms not in NETWORK_GAPS_MS):
                continue
            filled: dict[str, np.ndarray] = {}
            for direction in _enlargements(ms, gap, target):
                offset = enlarge(gap, target, direction) if direction != "none" else 0
                whole = dataclasses.replace(base, gap=target) if target else geometry
                pieces = corpus.read(centre - gap // 2 - offset - base.context, whole.length).astype(np.float64)
                call = partial(fill, name=name, geometry=whole, trained_on=kind)
                jobs = 1 if target else n_jobs
                label = f"{corpus.name} {name} {ms} ms"
                out = map_batches(call, pieces, n_jobs=jobs, progress=progress, label=label)
                filled[direction] = out[:, offset : offset + gap]
            if len(filled) > 1:
                filled["mixed"] = np.mean(list(filled.values()), axis=0)
            for direction, gaps in filled.items():
                scores = pd.DataFrame(score(segments, gaps, geometry))
                labelled = described.assign(method=name, trained_on=kind, gap_ms=ms, enlargement=direction)
                parts.append(labelled.join(scores))
            seconds[name] += time.monotonic() - begin
    table = pd.concat(parts, ignore_index=True)
    what = "scores per segment at gaps of several durations"
    settings = {"split": "test", "per_track": per_track, "gaps_ms": list(gaps_ms), "left_out": int((~inside).sum())}
    record = record_of(corpus, table, what, names, seconds, seed=seed, **settings)
    write_table(path, table, record)
    return table


def _enlargements(ms: int, gap: int, target: int) -> tuple[str, ...]:
    """Ways to bring a gap of `ms` to the gap that a network takes."""
    if not target or gap == target:
        return ("none",)
    return ENLARGEMENTS if ms in ENLARGED_THREE_WAYS else ENLARGEMENTS[:1]


def _trained_gap(name: str | None, geometry: Geometry) -> int:
    """Samples of the gap that a network was trained for; 0 where the method is none."""
    if name is None:
        return 0
    trained = Geometry(**weights.read_card(name).get("geometry", {}))
    if dataclasses.replace(trained, gap=geometry.gap) != geometry:
        raise ValueError(
            f"network {name} was trained for {trained}, which differs from {geometry} in more than the gap"
        )
    return trained.gap


def overfitting(
    corpus: Corpus, path: Path, *, segments: int = 200, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """Score the raw output of the paper's networks on all three splits, as Table 3 does.

    Parameters
    ----------
    corpus : Corpus
    path : Path
        Of the table, ending in ``.parquet``.
    segments : int
        Per split, spread over its tracks.
    seed : int
        Of the selection.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        corpus, split, track, group, cluster, segment, method, trained_on, snr_raw; empty where no network has been
        trained on this kind of sound.
    """
    kind, geometry = trained_on(corpus), corpus.geometry
    names = [name for name in ("magnitude", "complex") if METHODS[name].weights_name(kind) in weights.available()]
    parts: list[pd.DataFrame] = []
    seconds = dict.fromkeys(names, 0.0)
    for split in SPLITS:
        tracks = int((corpus.tracks["split"] == split).sum())
        if not tracks:
            continue
        starts = corpus.select(split, math.ceil(segments / tracks), seed)
        starts = starts[np.linspace(0, len(starts) - 1, min(segments, len(starts))).round().astype(int)]
        audio = corpus.read(starts)
        target = stft.gap_coefficients(audio.astype(np.float64), geometry)
        for name in names:
            begin = time.monotonic()
            encoder, _ = weights.load_encoder(str(METHODS[name].weights_name(kind)))
            output = map_batches(encoder.predict, audio, progress=progress, label=f"{corpus.name} {split} {name}")
            described = describe(corpus, starts, split)
            scores = metrics.snr_raw(target, output)
            parts.append(described.assign(method=name, trained_on=kind, snr_raw=scores))
            seconds[name] += time.monotonic() - begin
    columns = [*describe(corpus, np.zeros(0, np.int64), "").columns, "method", "trained_on", "snr_raw"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    what = "SNR of raw outputs, all splits"
    record = record_of(corpus, table, what, names, seconds, segments_per_split=segments, seed=seed)
    write_table(path, table, record)
    return table


def other_seeds(
    corpus: Corpus, path: Path, *, per_track: int = 10, seed: int = 0, progress: bool = True
) -> pd.DataFrame:
    """Score the hybrid, and those trained as it was from other seeds, on the segments of the main scores.

    Parameters
    ----------
    corpus : Corpus
    path : Path
        Of the table, ending in ``.parquet``.
    per_track : int
        Segments per track, as in :func:`ctxe_lib.evaluation.evaluate`.
    seed : int
        Of the selection.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        corpus, split, track, group, cluster, segment, network (name of its weights), network_seed, trained_on, snr_td,
        snr_ms, odg; empty where there is no hybrid.

    Raises
    ------
    ValueError
        If there are no test segments.
    """
    kind, geometry, names = trained_on(corpus), corpus.geometry, weights.seeds_of("hybrid")
    starts = corpus.select("test", per_track, seed)
    if not len(starts):
        raise ValueError(f"corpus {corpus.name} has no segments in its test split")
    described = describe(corpus, starts, "test")
    segments = corpus.read(starts).astype(np.float64)
    cards, gaps, seconds = {}, {}, {}
    for name in names:
        begin = time.monotonic()
        cards[name] = weights.read_card(name)
        gaps[name] = _filled_by(network(name), segments, geometry, progress=progress, label=f"{corpus.name} {name}")
        seconds[name] = time.monotonic() - begin
    begin = time.monotonic()
    audio = excerpts(corpus, starts, geometry)[0]
    grades = odg(audio, gaps, geometry, n_jobs=-1, progress=progress, label=f"{corpus.name} ODG")
    seconds["odg"] = time.monotonic() - begin
    parts = [
        described.assign(network=name, network_seed=cards[name]["recipe"]["seed"], trained_on=kind)
        .join(pd.DataFrame(score(segments, gaps[name], geometry)))
        .assign(odg=grades[name])
        for name in names
    ]
    columns = [*described.columns, "network", "network_seed", "trained_on", "snr_td", "snr_ms", "odg"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    settings = {"split": "test", "per_track": per_track, "seed": seed}
    record = record_of(corpus, table, "scores of the hybrid from several seeds", [], seconds, **settings)
    record["weights"] = {name: card["sha256"] for name, card in cards.items()}
    write_table(path, table, record)
    return table


def _filled_by(run: Inpainter, segments: np.ndarray, geometry: Geometry, **options: Any) -> np.ndarray:
    """Audio of the gaps, [n, gap]; `options` as in :func:`ctxe_lib.parallel.map_batches`."""
    return map_batches(lambda batch: run(batch, geometry), segments, **options)
