"""The claim ledger: every checkable statement of the paper's sections 2 to 5, with a verdict that follows from numbers.

A claim is data (``manifests/claims.json``): what the paper says and where, the function of this module that measures
it here, and a rule. :func:`judge` makes the verdict of the measured value and the rule, nothing else does:

- ``equals`` x with a ``tolerance``: confirmed where the value lies within the tolerance of x. With ``direction``, the
  sign counts too: its interval must lie on x's side of zero, and where only that holds, the direction is confirmed.
- ``at_least`` x, ``at_most`` x: confirmed where the whole interval lies beyond x; the direction is confirmed where it
  lies beyond zero on that side.

A claim about trained networks is confirmed only by networks that have learnt: one that is below plain interpolation on
the test segments confirms nothing, whatever it does. The ledger says how many examples each network has seen. What has
not been measured says which command does it, what cannot be tested here says why.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import losses, lpc, metrics, networks, probes, stft, studies, tables, weights
from ctxe_lib.audio import FULL_SCALE
from ctxe_lib.corpus import segment_starts
from ctxe_lib.files import write_atomically
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import ROOT
from ctxe_lib.records import environment
from ctxe_lib.sources.packages import manifest
from ctxe_lib.tables import NotMeasured, Results

__all__ = [
    "VERDICTS",
    "Measured",
    "NotTestable",
    "check",
    "claims",
    "grouped",
    "html",
    "judge",
    "ledger",
    "read",
    "write",
]

VERDICTS = ("confirmed", "direction confirmed", "not confirmed", "not testable here", "not yet measured")
"""All there are, in the order of tables."""

GROUPS = ("confirmed", "own disagreement", "not learnt", "otherwise", "not measured", "not testable")
"""What may become of a claim, see :func:`grouped`."""

DECIBELS_BETWEEN = 40.0
"""Level difference of the two gaps whose losses are compared."""


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
    """

    value: float
    low: float
    high: float
    segments: int = 0
    clusters: int = 0
    source: str = ""
    command: str = "make notebooks ONLY=12"

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


# -- rules --------------------------------------------------------------------------------------------------------


def judge(value: float, low: float, high: float, rule: Mapping[str, Any]) -> tuple[str, str]:
    """Verdict of a measured value under a claim's rule, and the reason in words.

    Parameters
    ----------
    value, low, high : float
        As in :class:`Measured`.
    rule : mapping
        ``{"equals": x, "tolerance": t, "direction": bool}``, ``{"at_least": x}`` or ``{"at_most": x}``.

    Returns
    -------
    verdict : str
        One of the first three of :data:`VERDICTS`.
    reason : str

    Raises
    ------
    ValueError
        If the rule is none of these, or the value not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"value={value} must be finite: what has no value was not measured")
    low, high = (
        bound if math.isfinite(bound) else math.copysign(math.inf, side) for bound, side in ((low, -1), (high, 1))
    )
    exact = low == high
    if "equals" in rule:
        expected, tolerance = rule["equals"], rule["tolerance"]
        near = abs(value - expected) <= tolerance
        within = f"{'within' if near else 'not within'} {tolerance:g} of {expected:g}"
        if not tolerance:
            within = f"{'equals' if near else 'differs from'} {expected:g}"
        if not rule.get("direction"):
            return ("confirmed" if near else "not confirmed"), within
        beyond = low > 0 if expected > 0 else high < 0
        side = f"{'interval' if beyond else 'interval not'} {'above' if expected > 0 else 'below'} 0"
        verdict = ("confirmed" if near else "direction confirmed") if beyond else "not confirmed"
        return verdict, f"{within}, {side}"
    if "at_least" in rule:
        bound, beyond, same_side, sides = rule["at_least"], low >= rule["at_least"], low > 0, ("above", "below")
    elif "at_most" in rule:
        bound, beyond, same_side, sides = rule["at_most"], high <= rule["at_most"], high < 0, ("below", "above")
    else:
        raise ValueError(f"rule {dict(rule)} must have equals, at_least or at_most")
    if beyond:
        return "confirmed", f"{'' if exact else 'interval '}{sides[0]} {bound:g}"
    missed = f"{'' if exact else 'interval reaches '}{sides[1]} {bound:g}"
    if same_side and bound:
        return "direction confirmed", f"{missed}, but {sides[0]} 0"
    return "not confirmed", missed


def rule_text(rule: Mapping[str, Any]) -> str:
    """A rule in words."""
    if "equals" in rule:
        tolerance = f" ± {rule['tolerance']:g}" if rule["tolerance"] else ""
        return f"{rule['equals']:g}{tolerance}{', same sign' if rule.get('direction') else ''}"
    return f"≥ {rule['at_least']:g}" if "at_least" in rule else f"≤ {rule['at_most']:g}"


# -- measures: the library ----------------------------------------------------------------------------------------

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
    """Validation SNR of networks that differ in the loss alone: equation (1) less the released code's."""
    cards = [weights.read_card(name) for name in weights.available()]
    found = {(card["recipe"]["loss"], _recipe_key(card)): card for card in cards if card.get("recipe", {}).get("loss")}
    for (loss, key), card in found.items():
        if loss == "paper" and card["kind"] == kind and ("released", key) in found:
            other = found["released", key]
            value = card["validation"]["snr_raw_db"] - other["validation"]["snr_raw_db"]
            return Measured.exact(value, f"weights/{card['name']}.json, weights/{other['name']}.json")
    raise NotMeasured(
        "no two networks that differ in the loss alone",
        "ctxe train loss-released --loss released --corpus music-quick; ctxe export loss-released loss-released; "
        "the same with --loss paper",
    )


def _recipe_key(card: Mapping[str, Any]) -> str:
    recipe = {name: value for name, value in card["recipe"].items() if name != "loss"}
    return json.dumps([recipe, card["steps"], card["data"]["fingerprint"]], sort_keys=True)


@_measure
def _convergence_error(results: Results, effort: Effort) -> Measured:
    geometry, rng = Geometry(), np.random.default_rng(results.seed)
    segments, gaps = rng.standard_normal((8, geometry.length)), rng.standard_normal((8, geometry.gap))
    restored = segments.copy()
    restored[:, geometry.gap_samples] = gaps
    original, filled = (np.abs(stft.stft(x, geometry))[:, geometry.scored_frames] for x in (segments, restored))
    convergence = np.linalg.norm(original - filled, axis=(1, 2)) / np.linalg.norm(original, axis=(1, 2))
    error = np.abs(metrics.snr_ms(segments, gaps, geometry) + 20 * np.log10(convergence))
    return Measured.exact(error.max())


# -- measures: the data -------------------------------------------------------------------------------------------


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


# -- measures: tables of scores -----------------------------------------------------------------------------------


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
def _difference(results: Results, effort: Effort, kind: str, method: str, other: str, metric: str) -> Measured:
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


# -- measures: methods on segments of music -----------------------------------------------------------------------


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


# -- measures: probes ---------------------------------------------------------------------------------------------


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
    return _level(results, here - there)


@_measure
def _sweep_readings(results: Results, effort: Effort, method: str) -> Measured:
    linear, exponential = (_probed(results, effort, "music", method, "sweeps", reading) for reading in probes.SWEEPS)
    return _level(results, exponential - linear)


# -- the ledger ---------------------------------------------------------------------------------------------------


def claims() -> list[dict[str, Any]]:
    """All claims, as ``manifests/claims.json`` has them."""
    return manifest("claims.json")


def _learnt(results: Results, names: list[str]) -> dict[str, dict[str, Any]]:
    """For each network of a claim: its SNR_MS less plain interpolation's on the test segments, and examples seen."""
    found = {}
    for name in names:
        kind, _, method = name.partition("-")
        margin = _difference(results, Effort(), kind, method, "interpolation", "snr_ms")
        found[name] = {key: getattr(margin, key) for key in ("value", "low", "high")}
        found[name]["examples"] = weights.read_card(name).get("examples")
    return found


def _verdict(row: Mapping[str, Any]) -> tuple[str, str]:
    """Verdict and reason of a row that has a value: the rule's, unless its networks have not learnt."""
    low, high = (math.nan if row[key] is None else row[key] for key in ("low", "high"))
    verdict, reason = judge(row["value"], low, high, row["rule"])
    full = tables.paper()["examples"]["steps"] * tables.paper()["examples"]["batch"] / 1e6
    for name, margin in row["networks"].items():
        reason += f"; {name} saw {margin['examples']:,} examples, the paper's {full:.0f} million"
        if margin["high"] is not None and margin["high"] < 0:
            verdict = "not confirmed"
            reason += f", and is {-margin['value']:.1f} dB of SNR_MS below plain interpolation"
    return verdict, reason


def ledger(results: Results, effort: Effort | None = None) -> list[dict[str, Any]]:
    """Measure and judge every claim.

    Parameters
    ----------
    results : Results
    effort : Effort, optional

    Returns
    -------
    list of dict
        One per claim: id, section, claim, released_code, expected (the rule in words), rule, why (of its
        tolerance), unit, value, low, high,
        segments, clusters, source, networks (each with its margin over interpolation and the examples it saw),
        verdict, reason, notebook, command. Numbers are null where there are none.
    """
    effort = effort or Effort()
    rows = []
    for claim in claims():
        row: dict[str, Any] = {key: claim[key] for key in ("id", "section", "claim", "notebook")}
        row |= {
            "released_code": claim.get("released_code", ""),
            "unit": claim.get("unit", ""),
            "rule": claim.get("rule"),
            "why": claim.get("why", ""),
        }
        row |= {"expected": rule_text(claim["rule"]) if "rule" in claim else ""}
        row |= dict.fromkeys(("value", "low", "high")) | {"segments": 0, "clusters": 0, "source": "", "command": ""}
        row["networks"] = {}
        try:
            if "untestable" in claim:
                raise NotTestable(claim["untestable"])
            row["networks"] = _learnt(results, claim.get("networks", []))
            measured = MEASURES[claim["measure"]](results, effort, **claim["arguments"])
        except NotTestable as error:
            row |= {"verdict": "not testable here", "reason": str(error), "networks": {}}
        except NotMeasured as error:
            row |= {"verdict": "not yet measured", "reason": error.what, "command": error.command, "networks": {}}
        else:
            row |= _finite(asdict(measured))
            row["networks"] = {name: _finite(margin) for name, margin in row["networks"].items()}
            row["verdict"], row["reason"] = _verdict(row)
        rows.append(row)
    return rows


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same with null for what is no number, as JSON has it."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in numbers.items()}


def check(rows: list[dict[str, Any]]) -> None:
    """Make sure that every verdict follows from the numbers beside it and every claim is there.

    Raises
    ------
    ValueError
        That names the first claim of which this is not true.
    """
    known = {claim["id"]: claim for claim in claims()}
    if (missing := set(known) - {row["id"] for row in rows}) or len(rows) != len(known):
        raise ValueError(f"the ledger must have each of the {len(known)} claims once; missing: {sorted(missing)}")
    for row in rows:
        claim = known[row["id"]]
        if row["rule"] != claim.get("rule"):
            raise ValueError(
                f"claim {row['id']} was judged by {row['rule']}, its rule is {claim.get('rule')}: run it again"
            )
        if row["value"] is not None:
            allowed = {_verdict(row)[0]}
        else:
            allowed = {"not testable here"} | ({"not yet measured"} if "rule" in claim else set())
        if row["verdict"] not in allowed:
            follows = " or ".join(sorted(allowed))
            raise ValueError(
                f"claim {row['id']}: {row['verdict']!r} does not follow from {row['value']}, {follows} does"
            )


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many claims have each verdict, all of :data:`VERDICTS` in their order."""
    counts = Counter(row["verdict"] for row in rows)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Claims by what became of them, the unconfirmed ones by the reason.

    Parameters
    ----------
    rows : list of dict
        From :func:`ledger`.

    Returns
    -------
    dict of str to list of dict
        ``confirmed`` (the direction at least); ``own disagreement``: the paper's text differs from its tables or from
        the released code; ``not learnt``: a network of ours is below plain interpolation; ``otherwise``: it came out
        differently here; ``not measured``; ``not testable``.
    """
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    for row in rows:
        if row["verdict"] in VERDICTS[:2]:
            group = "confirmed"
        elif row["value"] is None:
            group = "not testable" if row["verdict"] == VERDICTS[3] else "not measured"
        elif row["released_code"] or row["source"] == "paper.json":
            group = "own disagreement"
        else:
            below = any(margin["high"] is not None and margin["high"] < 0 for margin in row["networks"].values())
            group = "not learnt" if below else "otherwise"
        groups[group].append(row)
    return groups


def write(rows: list[dict[str, Any]], results: Results) -> Path:
    """Write the ledger to ``claims.json`` in the folder of results, with the counts by verdict and its provenance.

    Raises
    ------
    ValueError
        As :func:`check` does.
    """
    check(rows)
    record = {
        "summary": summary(rows),
        "corpora": dict(results.corpora),
        "rendered": [kind for kind in tables.KINDS if results.corpus(kind).description["rendered"]],
        "data": {kind: results.corpus(kind).fingerprint for kind in tables.KINDS},
        "weights": {name: weights.read_card(name)["sha256"] for name in weights.available()},
        "draws": results.draws,
        "seed": results.seed,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
        "claims": rows,
    }
    path = results.folder / "claims.json"
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def read(folder: Path) -> dict[str, Any]:
    """Read what :func:`write` wrote, and check it.

    Raises
    ------
    FileNotFoundError
        If the ledger has not been made.
    ValueError
        As :func:`check` does.
    """
    path = folder / "claims.json"
    if not path.exists():
        raise FileNotFoundError(f"no ledger in {path}: run `make notebooks ONLY=12` first")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    check(record["claims"])
    return record


# -- as a page ----------------------------------------------------------------------------------------------------

_MARKS = dict(zip(VERDICTS, ("✔", "↗", "✘", "–", "…"), strict=True))
_COLOURS = dict(zip(VERDICTS, ("#009E73", "#56B4E9", "#D55E00", "#999999", "#CC79A7"), strict=True))


def _number(value: float) -> str:
    """About three significant digits; whole numbers as they are."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}".replace("-0.00", "0.00")


def obtained(row: Mapping[str, Any]) -> str:
    """Value of a row of the ledger with its interval, unit and n, in words."""
    if row["value"] is None:
        return ""
    text = _number(row["value"])
    if row["low"] is not None and row["low"] < row["high"]:
        text += f" ({_number(row['low'])} to {_number(row['high'])})"
    if row["unit"]:
        text += f" {row['unit']}"
    counts = f"; {row['segments']:,} in {row['clusters']} clusters" if row["clusters"] else ""
    return text + counts


def html(rows: list[dict[str, Any]]) -> str:
    """The ledger as HTML: counts by verdict that filter the table, without any script.

    Parameters
    ----------
    rows : list of dict
        From :func:`ledger`.

    Returns
    -------
    str
    """
    short = {verdict: verdict.replace(" ", "-") for verdict in VERDICTS}
    style, inputs = [], []
    for name, label in [("all", f"all {len(rows)}")] + [
        (short[v], f"{_MARKS[v]} {n} {v}") for v, n in summary(rows).items() if n
    ]:
        checked = " checked" if name == "all" else ""
        inputs.append(
            f'<input type="radio" name="claim" id="claim-{name}"{checked}><label for="claim-{name}">{label}</label>'
        )
        if name != "all":
            style.append(f"#claim-{name}:checked ~ div tbody tr:not(.{name}) {{ display: none }}")
    style += [
        f".claims .{short[v]} .verdict {{ border-left: 4px solid {_COLOURS[v]}; padding-left: 8px }}" for v in VERDICTS
    ]
    body = "".join(_row(row, short[row["verdict"]]) for row in rows)
    heads = "".join(f"<th>{head}</th>" for head in ("Claim", "Expected", "Here", "Verdict"))
    return (
        f"<style>{_STYLE}{' '.join(style)}</style>"
        f'<div class="claims">{"".join(inputs)}<div class="scroll"><table class="dataframe"><thead><tr>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></div>"
    )


def _row(row: Mapping[str, Any], name: str) -> str:
    notebook = row["notebook"]
    there = (ROOT / "notebooks" / f"{notebook}.ipynb").exists()
    link = f'<a href="{notebook}.html">{notebook}</a>' if there else notebook
    released = f"<br><small>Released code: {escape(row['released_code'])}.</small>" if row["released_code"] else ""
    source = f" from {escape(row['source'])}" if row["source"] else ""
    why = f"<br><small>{escape(row['why'])}</small>" if row["why"] else ""
    command = f"<code>{escape(row['command'])}</code>{source}; " if row["command"] else ""
    return (
        f'<tr id="{row["id"]}" class="{name}">'
        f"<td>{escape(row['claim'])} <small>({escape(row['section'])})</small>{released}</td>"
        f"<td>{escape(row['expected'])}{why}</td>"
        f'<td>{escape(obtained(row))}</td><td class="verdict"><b>{_MARKS[row["verdict"]]} {row["verdict"]}</b>'
        f"<br><small>{escape(row['reason'])}.<br>{command}see {link}</small></td></tr>"
    )


_STYLE = (
    ".claims input { position: absolute; opacity: 0 } "
    ".claims label { display: inline-block; border: 1px solid currentColor; border-radius: 1em; padding: 0 .8em; "
    "margin: 0 .4em .6em 0; cursor: pointer } "
    ".claims input:checked + label { font-weight: bold; box-shadow: inset 0 0 0 1px currentColor } "
    ".claims input:focus-visible + label { outline: 2px solid #0072B2 } "
    ".claims .scroll { overflow-x: auto } "
    ".claims td, .claims th { text-align: left; vertical-align: top; white-space: normal } "
    ".claims td:nth-child(1) { min-width: 11em } .claims td:nth-child(3) { min-width: 8em } "
    ".claims td.verdict { min-width: 14em; padding-left: 8px } .claims code { overflow-wrap: anywhere } "
)
