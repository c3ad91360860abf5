"""What the claims of :mod:`ctxe_lib.claims` are judged by: one function for each thing that they state.

A measure takes what has been measured and how much may be computed anew, and the claim's own arguments; the manifest
of claims names it. It raises :class:`ctxe_lib.tables.NotMeasured` where something has to be computed first, and
:class:`NotTestable` where that would not help.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import losses, lpc, metrics, networks, probes, stft, studies, tables
from ctxe_lib.audio import FULL_SCALE
from ctxe_lib.corpus import segment_starts
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import weights_folder
from ctxe_lib.records import read_table
from ctxe_lib.tables import NotMeasured, Results

__all__ = ["MEASURES", "Effort", "Measured", "NotTestable", "difference"]

DECIBELS_BETWEEN = 40.0
"""Level difference of the two gaps whose losses are compared."""


LOSS_VARIANTS = ("equation (1) itself", "released code's loss")
"""How the study of the recipe calls the variants with either loss, see :data:`ctxe_lib.ablations.VARIANTS`."""


class NotTestable(LookupError):
    """A claim that cannot be tested with what is at hand; the message says why."""


@dataclass(frozen=True)
class Measured:
    """What was obtained for a claim.

    Attributes
    ----------
    value : float
    low, high : float
        95 % interval; both the value itself where it is exact, NaN where there are too few clusters for one.
    segments, clusters : int
        What the mean is over; 0 for what is computed exactly.
    source : str
        File in ``results/`` that it was computed from, or the corpus; empty for the library alone.
    command : str
        What makes the source.
    own : float, optional
        Lower end of the interval of the method's own score, where the value is its gain over another: a gain alone
        would be had by silence too, whose SNR is 0 dB, wherever the other is worse.
    """

    value: float
    low: float
    high: float
    segments: int = 0
    clusters: int = 0
    source: str = ""
    command: str = "make notebooks ONLY=12"
    own: float | None = None

    @classmethod
    def exact(cls, value: float, source: str = "") -> Measured:
        """A number without uncertainty."""
        return cls(float(value), float(value), float(value), source=source)


@dataclass(frozen=True)
class Effort:
    """How much is computed anew for the ledger.

    Attributes
    ----------
    semitones, sums
        Tones and sweeps, as in :func:`ctxe_lib.probes.probe`: as many as the notebook of probes has scored already.
    per_track : int
        Segments per track for what varies a method.
    most : int
        Segments at most.
    """

    semitones: float = 1.5
    sums: int = 8
    per_track: int = 3
    most: int = 60


# -- the library ----------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[..., Measured]] = {}
"""Functions that measure claims, by the name that the manifest uses."""


def _measure(function: Callable[..., Measured]) -> Callable[..., Measured]:
    MEASURES[function.__name__.strip("_")] = function
    return function


@lru_cache
def _layers(kind: networks.Kind) -> pd.DataFrame:
    return networks.layer_table(networks.build_network(kind, Geometry(), layers="plain"))


@_measure
def _geometry(results: Results, effort: Effort, name: str) -> Measured:
    return Measured.exact(getattr(Geometry(), name))


@_measure
def _reconstruction_error(results: Results, effort: Effort) -> Measured:
    signal, geometry = np.random.default_rng(results.seed).standard_normal(Geometry().length), Geometry()
    return Measured.exact(-float(metrics.snr(signal, stft.istft(stft.stft(signal, geometry), geometry))))


@_measure
def _encoder_output(results: Results, effort: Effort) -> Measured:
    shape = _layers("magnitude").set_index("layer").loc["conv6", "output"]
    return Measured.exact(math.prod(int(size) for size in str(shape).split(" x ")))


@_measure
def _dense_share(results: Results, effort: Effort) -> Measured:
    table = _layers("magnitude")
    return Measured.exact(table.loc[table["layer"] == "dense", "share (%)"].item())


@_measure
def _complex_extra(results: Results, effort: Effort) -> Measured:
    count = {kind: _layers(kind)["parameters"].sum() for kind in ("magnitude", "complex")}  # type: ignore[arg-type]
    return Measured.exact(100 * (count["complex"] / count["magnitude"] - 1))


@_measure
def _other_sizes(results: Results, effort: Effort) -> Measured:
    sizes = (Geometry(gap=768), Geometry(gap=1536), Geometry(context=4096))
    built = (networks.build_network("magnitude", size, layers="plain").output_shape[1:3] for size in sizes)
    return Measured.exact(sum(shape == (size.gap_frames, size.bins) for shape, size in zip(built, sizes, strict=True)))


@_measure
def _loss_of_loud(results: Results, effort: Effort, loss: str) -> Measured:
    """Loss at a 10 % error of a gap of energy 1e4 over that of one that is weaker by DECIBELS_BETWEEN."""
    energy = 1e4 * np.array([1, 10 ** (-DECIBELS_BETWEEN / 10)], np.float32)
    target = np.sqrt(energy)[:, None, None, None]
    loud, weak = np.asarray(losses.LOSSES[loss](target, 0.9 * target))
    return Measured.exact(loud / weak)


@_measure
def _loss_effect(results: Results, effort: Effort, kind: str) -> Measured:
    """Validation SNR of short trainings that differ in the loss alone: equation (1) less the released code's."""
    path = weights_folder() / f"{kind}-ablations.parquet"
    missing = NotMeasured("no short trainings that differ in the loss alone", "make studies")
    try:
        table, _ = read_table(path, missing.command)
    except FileNotFoundError:
        raise missing from None
    found = table.set_index("variant")["snr_raw"].reindex(LOSS_VARIANTS)
    if found.isna().any():
        raise missing
    ours, released = found
    return replace(Measured.exact(ours - released, f"weights/{path.name}"), command=missing.command)


@_measure
def _convergence_error(results: Results, effort: Effort) -> Measured:
    geometry, rng = Geometry(), np.random.default_rng(results.seed)
    segments, gaps = rng.standard_normal((8, geometry.length)), rng.standard_normal((8, geometry.gap))
    both = (segments, metrics.restore(segments, gaps, geometry))
    original, filled = (np.abs(stft.stft(x, geometry))[:, geometry.scored_frames] for x in both)
    convergence = np.linalg.norm(original - filled, axis=(1, 2)) / np.linalg.norm(original, axis=(1, 2))
    error = np.abs(metrics.snr_ms(segments, gaps, geometry) + 20 * np.log10(convergence))
    return Measured.exact(error.max())


# -- the data -------------------------------------------------------------------------------------------


@_measure
def _segments_of_clips(results: Results, effort: Effort, clips: int, seconds: float) -> Measured:
    geometry = Geometry()
    loud = np.full(round(seconds * geometry.sample_rate), 1000, np.int16)
    return Measured.exact(clips * len(segment_starts(loud, geometry)) / 1e6)


@_measure
def _train_percentage(results: Results, effort: Effort, kind: str) -> Measured:
    corpus = results.corpus(kind)
    if corpus.name not in ("music-full", "music-fma"):
        raise NotTestable(f"{corpus.name} holds a larger share of the test tracks on purpose; `make results DATA=full`")
    shares = corpus.statistics().set_index("split")["percentage"]
    return Measured.exact(shares["train"], _data(results, kind))


@_measure
def _shared_groups(results: Results, effort: Effort) -> Measured:
    """Artists, albums and instruments of test tracks that other splits have too."""
    shared = 0
    for kind in tables.KINDS:
        tracks = results.corpus(kind).tracks
        test = tracks["split"] == "test"
        shared += len(set(tracks.loc[test, "group"]) & set(tracks.loc[~test, "group"]))
    return Measured.exact(shared, ", ".join(_data(results, kind) for kind in tables.KINDS))


@_measure
def _dropped_windows(results: Results, effort: Effort, kind: str) -> Measured:
    """Share of the test tracks' windows that the threshold drops although their gap holds samples other than zero."""
    corpus = results.corpus(kind)
    geometry = corpus.geometry
    step, dropped, windows = round(0.032 * geometry.sample_rate), 0, 0
    tracks = corpus.tracks[corpus.tracks["split"] == "test"]
    for offset, samples in zip(tracks["offset"], tracks["samples"], strict=True):
        pcm: np.ndarray = (corpus.read(np.array([offset]), int(samples))[0] * FULL_SCALE).astype(np.int16)
        starts = np.arange(0, len(pcm) - geometry.length + 1, step)
        active = np.concatenate([[0], np.cumsum(pcm != 0)])
        first = starts + geometry.context
        sounding = int(np.count_nonzero(active[first + geometry.gap] - active[first]))
        dropped += sounding - len(segment_starts(pcm, geometry))
        windows += len(starts)
    return Measured.exact(100 * dropped / windows, _data(results, kind))


def _data(results: Results, kind: str) -> str:
    corpus = results.corpus(kind)
    return f"{corpus.name} {corpus.fingerprint[:12]}"


# -- tables of scores -----------------------------------------------------------------------------------


def _mean(results: Results, values: pd.Series, kind: str, what: str = "") -> Measured:
    """Mean of values that are indexed by cluster, with its interval, from one of the tables of results."""
    clusters = values.index.get_level_values("cluster")
    low, high = results.interval(values.to_numpy(), clusters.to_numpy())
    source = results.path(kind, what).name
    command = tables.COMMANDS[what].format(results.corpora[kind])
    return Measured(float(values.mean()), low, high, len(values), clusters.nunique(), source, command)


def _scores(results: Results, kind: str, method: str, metric: str) -> pd.Series:
    """Scores of a method by cluster and segment, without those that are not finite."""
    scores = results.table(kind)
    own = scores[scores["method"] == method]
    if own.empty or metric not in own:
        raise tables.not_scored(results, kind, method, metric)
    return own.set_index(["cluster", "segment"])[metric].replace([np.inf, -np.inf], np.nan).dropna()


@_measure
def _mean_score(results: Results, effort: Effort, kind: str, method: str, metric: str) -> Measured:
    return _mean(results, _scores(results, kind, method, metric), kind)


@_measure
def difference(results: Results, effort: Effort, kind: str, method: str, other: str, metric: str) -> Measured:
    return _mean(results, tables.paired(results, kind, method, other, metric), kind)


@_measure
def _t_test(results: Results, effort: Effort, kind: str, method: str, other: str, metric: str, unit: str) -> Measured:
    difference = tables.paired(results, kind, method, other, metric)
    rows = tables.paired_tests(results, kind, method, other, metric)
    p = rows.loc[rows["unit"] == unit, "p"].item()
    if not math.isfinite(p):
        raise NotTestable(f"a t-test takes two {unit} or more")
    return _over(difference, Measured.exact(p, results.path(kind).name))


@_measure
def _extreme(results: Results, effort: Effort, kind: str, method: str, other: str, metric: str, which: str) -> Measured:
    difference = tables.paired(results, kind, method, other, metric)
    return _over(difference, Measured.exact(getattr(difference, which)(), results.path(kind).name))


def _over(values: pd.Series, found: Measured) -> Measured:
    """The same with the number of segments and clusters that it was computed from."""
    clusters = values.index.get_level_values("cluster").nunique()
    return replace(found, segments=len(values), clusters=clusters, command="make results")


def _of_two(results: Results, first: pd.Series, second: pd.Series) -> tuple[float, float, float]:
    """Difference of the means of two sets of values with clusters of their own, and its interval."""
    draws = []
    for offset, values in enumerate((first, second)):
        _, index = np.unique(values.index.get_level_values("cluster"), return_inverse=True)
        count, total = np.bincount(index), np.bincount(index, weights=values.to_numpy())
        if len(count) < 2:
            return float(first.mean() - second.mean()), math.nan, math.nan
        drawn = np.random.default_rng((results.seed, offset)).integers(len(count), size=(results.draws, len(count)))
        draws.append(total[drawn].sum(axis=1) / count[drawn].sum(axis=1))
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    return float(first.mean() - second.mean()), float(low), float(high)


@_measure
def _kind_gain(results: Results, effort: Effort, method: str, metric: str) -> Measured:
    notes, music = (_scores(results, kind, method, metric) for kind in ("instruments", "music"))
    clusters = sum(values.index.get_level_values("cluster").nunique() for values in (notes, music))
    source = ", ".join(results.path(kind).name for kind in tables.KINDS)
    return Measured(*_of_two(results, notes, music), len(notes) + len(music), clusters, source, "make results")


@_measure
def _split_difference(results: Results, effort: Effort, kind: str, method: str) -> Measured:
    scores = results.table(kind, "overfit")
    own = scores[scores["method"] == method].dropna(subset=["snr_raw"])
    if own.empty:
        raise tables.not_scored(results, kind, method, "snr_raw")
    by_split = own.set_index(["split", "cluster"])["snr_raw"]
    if not {"train", "test"} <= set(own["split"]):
        raise NotTestable(f"{results.corpora[kind]} has no training or no test tracks")
    train, test = by_split.loc["train"], by_split.loc["test"]
    clusters = own.loc[own["split"] != "validation", "cluster"].nunique()
    path, command = results.path(kind, "overfit").name, tables.COMMANDS["overfit"].format(results.corpora[kind])
    return Measured(*_of_two(results, train, test), len(train) + len(test), clusters, path, command)


def _gap_scores(results: Results, kind: str, gap_ms: int, metric: str = "snr_ms") -> pd.DataFrame:
    """Scores at one duration: one row per cluster and segment, one column per method."""
    scores = tables.enlargements_averaged(results.table(kind, "gaps"))
    own = scores[scores["gap_ms"] == gap_ms]
    return own.pivot(index=["cluster", "segment"], columns="method", values=metric)


@_measure
def _gap_difference(results: Results, effort: Effort, kind: str, method: str, other: str, gap_ms: int) -> Measured:
    wide = _gap_scores(results, kind, gap_ms)
    for name in (method, other):
        if name not in wide:
            raise tables.not_scored(results, kind, name, "snr_ms")
    return _mean(results, (wide[method] - wide[other]).dropna(), kind, "gaps")


@_measure
def _gap_change(results: Results, effort: Effort, kind: str, method: str, gap_ms: int, other_ms: int) -> Measured:
    shorter, longer = (_gap_scores(results, kind, ms) for ms in (gap_ms, other_ms))
    if method not in shorter or method not in longer:
        raise tables.not_scored(results, kind, method, "snr_ms")
    return _mean(results, (shorter[method] - longer[method]).dropna(), kind, "gaps")


@_measure
def _silence_as_zero(results: Results, effort: Effort, kind: str, method: str) -> Measured:
    """Change of the mean if segments without a finite score counted as 0 dB."""
    scores = results.table(kind)
    all_scores = scores.loc[scores["method"] == method, "snr_ms"].replace([np.inf, -np.inf], np.nan)
    change = all_scores.fillna(0).mean() - all_scores.mean()
    return replace(Measured.exact(change, results.path(kind).name), segments=len(all_scores), command="make results")


@_measure
def _one_window(results: Results, effort: Effort, kind: str, method: str) -> Measured:
    """Width of the interval with one segment of each track, over the width with all; mean over ten draws."""
    scores = _scores(results, kind, method, "snr_ms")
    widths = []
    for draw in range(11):
        chosen = scores.groupby(level="cluster").sample(1, random_state=draw) if draw else scores
        low, high = results.interval(chosen.to_numpy(), chosen.index.get_level_values("cluster").to_numpy())
        widths.append(high - low)
    if not widths[0] > 0:
        raise NotTestable("an interval takes two tracks or more")
    return _over(scores, Measured.exact(float(np.mean(widths[1:]) / widths[0]), results.path(kind).name))


@_measure
def _paper_difference(results: Results, effort: Effort, method: str, other: str, **where: str) -> Measured:
    value = {name: tables.paper_value(method=name, **where) for name in (method, other)}
    return Measured.exact(round(value[method] - value[other], 10), "paper.json")


@_measure
def _paper_mean(results: Results, effort: Effort, **where: str) -> Measured:
    return Measured.exact(tables.paper_value(**where), "paper.json")


# -- methods on segments of music -----------------------------------------------------------------------


def _segments(results: Results, effort: Effort, kind: str) -> tuple[np.ndarray, np.ndarray, Geometry]:
    corpus = results.corpus(kind)
    starts, clusters = studies.choose(corpus, "test", effort.per_track, seed=results.seed, most=effort.most)
    return corpus.read(starts).astype(np.float64), clusters, corpus.geometry


def _mean_of(results: Results, values: np.ndarray, clusters: np.ndarray, source: str) -> Measured:
    finite = np.isfinite(values)
    values, clusters = values[finite], clusters[finite]
    low, high = results.interval(values, clusters)
    return Measured(float(values.mean()), low, high, len(values), len(np.unique(clusters)), source)


@_measure
def _frames_effect(results: Results, effort: Effort, kind: str, frames: int) -> Measured:
    """SNR_MS of LPC on fewer central frames, less that on all that lie within the gap, on every test segment."""
    scores, corpus = _scores(results, kind, "lpc", "snr_ms"), results.corpus(kind)
    starts, geometry, own = scores.index.get_level_values("segment"), corpus.geometry, corpus.geometry.scored_frames
    spared = (own.stop - own.start - frames) // 2
    fewer = []
    for first in range(0, len(starts), 512):
        segments = corpus.read(starts[first : first + 512].to_numpy()).astype(np.float64)
        gaps = lpc.inpaint(segments, geometry)
        fewer.append(studies.snr_ms_of(segments, gaps, geometry, slice(own.start + spared, own.stop - spared)))
    return _mean(results, (np.concatenate(fewer) - scores).dropna(), kind)


def _both(results: Results, effort: Effort) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Geometry]:
    """Segments of music, clusters, original magnitudes of the gap, and gaps by PGHI and 100 iterations from them."""

    def make() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Geometry]:
        segments, clusters, geometry = _segments(results, effort, "music")
        magnitude = np.abs(stft.gap_coefficients(segments, geometry))
        return segments, clusters, magnitude, studies.phase_fill(segments, magnitude, geometry), geometry

    return results.remember(f"phase {effort}", make)


@_measure
def _phase_gain(results: Results, effort: Effort, start: Any, iterations: int) -> Measured:
    """PGHI and 100 iterations against one of the two alone, from the original magnitudes."""
    segments, clusters, magnitude, both, geometry = _both(results, effort)
    alone = studies.phase_fill(segments, magnitude, geometry, start=start, iterations=iterations)
    score = [metrics.snr_ms(segments, gaps, geometry) for gaps in (both, alone)]
    return _mean_of(results, score[0] - score[1], clusters, _data(results, "music"))


@_measure
def _phase_ms_td(results: Results, effort: Effort) -> Measured:
    segments, clusters, _, gaps, geometry = _both(results, effort)
    gain = metrics.snr_ms(segments, gaps, geometry) - metrics.snr_td(segments, gaps, geometry)
    return _mean_of(results, gain, clusters, _data(results, "music"))


# -- probes ---------------------------------------------------------------------------------------------


def _probed(
    results: Results, effort: Effort, kind: str, method: str, what: str = "tones", reading: str = "paper"
) -> pd.Series:
    """SNR_MS of a method on probes, by frequency of the tone or number of the sum of sweeps."""
    table = results.remember(
        f"probes {effort}",
        lambda: probes.probe(
            results.folder / "probes.parquet", semitones=effort.semitones, sums=effort.sums, seed=results.seed
        )[0],
    )
    trained_on = kind if METHODS[method].network and not METHODS[method].shared else ""
    wanted = {"probe": what, "reading": reading, "method": method, "trained_on": trained_on}
    own = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    if own.empty:
        raise tables.not_scored(results, kind, method, "snr_ms")
    return own.set_index("frequency" if what == "tones" else np.arange(len(own)))["snr_ms"]


def _of_probes(value: float, low: float, high: float, count: int) -> Measured:
    """A mean over probes, each of them a cluster of its own."""
    return Measured(value, low, high, count, count, "probes.parquet", "make notebooks ONLY=11")


def _level(results: Results, values: pd.Series) -> Measured:
    found = _mean_of(results, values.to_numpy(), np.arange(len(values)), "")
    return _of_probes(found.value, found.low, found.high, found.segments)


def _within(values: pd.Series, band: tuple[float, float]) -> pd.Series:
    chosen = values[(values.index >= band[0]) & (values.index < band[1])].dropna()
    if chosen.empty:
        raise NotTestable(f"no tone lies from {band[0]:g} to {band[1]:g} Hz: take them closer together")
    return chosen


def _contrast(results: Results, values: pd.Series) -> Measured:
    """Tones on notes against tones between them."""
    frame = values.rename_axis("frequency").rename("snr_ms").reset_index()
    return _of_probes(*probes.note_contrast(frame, draws=results.draws, seed=results.seed))


@_measure
def _note_contrast(results: Results, effort: Effort, kind: str, method: str) -> Measured:
    return _contrast(results, _probed(results, effort, kind, method))


@_measure
def _contrast_gain(results: Results, effort: Effort, method: str) -> Measured:
    notes, music = (_probed(results, effort, kind, method) for kind in ("instruments", "music"))
    return _contrast(results, notes - music)


@_measure
def _tone_readings(results: Results, effort: Effort, kind: str, method: str) -> Measured:
    here, there = (_probed(results, effort, kind, method, reading=reading) for reading in probes.READINGS)
    return _level(results, (here - there).dropna())


def _tone_gains(results: Results, effort: Effort, kind: str, method: str, other: str) -> pd.Series:
    return _probed(results, effort, kind, method) - _probed(results, effort, kind, other)


@_measure
def _tone_gain(results: Results, effort: Effort, kind: str, method: str, other: str) -> Measured:
    return _level(results, _tone_gains(results, effort, kind, method, other))


@_measure
def _tone_gain_high(results: Results, effort: Effort, kind: str, method: str, other: str, edge: float) -> Measured:
    return _against(results, _tone_gains(results, effort, kind, method, other), (edge, math.inf), (0, edge))


@_measure
def _tone_level(results: Results, effort: Effort, kind: str, method: str, band: tuple[float, float]) -> Measured:
    return _level(results, _within(_probed(results, effort, kind, method), band))


@_measure
def _tone_bands(
    results: Results, effort: Effort, kind: str, method: str, band: tuple[float, float], other: tuple[float, float]
) -> Measured:
    return _against(results, _probed(results, effort, kind, method), band, other)


def _against(results: Results, values: pd.Series, band: tuple[float, float], other: tuple[float, float]) -> Measured:
    """Mean of tones in one band less that in another."""
    parts = [_within(values, edges).rename_axis("cluster") for edges in (band, other)]
    return _of_probes(*_of_two(results, *parts), sum(map(len, parts)))


@_measure
def _sweep_gain(results: Results, effort: Effort, kind: str, method: str, reading: str) -> Measured:
    here, there = (_probed(results, effort, kind, name, "sweeps", reading) for name in (method, "lpc"))
    return replace(_level(results, here - there), own=_level(results, here).low)


@_measure
def _sweep_readings(results: Results, effort: Effort, method: str) -> Measured:
    linear, exponential = (_probed(results, effort, "music", method, "sweeps", reading) for reading in probes.SWEEPS)
    return _level(results, exponential - linear)
