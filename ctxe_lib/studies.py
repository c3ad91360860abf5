"""What the pages on reference methods, phase recovery and metrics vary, and how far the library is from the originals.

Each study takes segments and returns gap audio or a table; scores and intervals are those of
:mod:`ctxe_lib.evaluation` and :mod:`ctxe_lib.statistics`. Tables of agreement compare with numbers that the original
programs gave for synthetic signals and speech (``tests/reference``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import librosa
import numpy as np
import pandas as pd
import scipy.linalg
import scipy.signal
import soxr
from numpy.typing import NDArray

from ctxe_lib import audio, evaluation, interpolation, lpc, metrics, peaq, phase
from ctxe_lib.corpus import Corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.statistics import cluster_bootstrap
from ctxe_lib.stft import gap_audio, istft, merge, stft

__all__ = [
    "ESTIMATORS",
    "RESAMPLERS",
    "STARTS",
    "Difference",
    "autocorrelation",
    "band_slips",
    "choose",
    "covariance",
    "edges",
    "excerpts",
    "extrapolate",
    "grades",
    "inconsistency",
    "lpc_agreement",
    "lpc_edge_agreement",
    "peaq_agreement",
    "phase_agreement",
    "phase_fill",
    "same_order",
    "scores",
    "snr_ms_of",
    "with_gaps",
]

Array = NDArray[np.float64]


# -- segments, scores, differences --------------------------------------------------------------------------------


def choose(
    corpus: Corpus,
    split: str,
    per_track: int,
    *,
    seed: int = 0,
    most: int | None = None,
    room: tuple[int, int] = (0, 0),
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Choose segments of a split, and say which cluster of the bootstrap each belongs to.

    Parameters
    ----------
    corpus : Corpus
    split : str
    per_track : int
        Segments per track, as in :meth:`Corpus.select`.
    seed : int
        Of the selection.
    most : int, optional
        No more than this many, spread evenly over the selection.
    room : tuple of int
        Samples that the track must have before the segment and behind its first sample.

    Returns
    -------
    starts : np.ndarray [shape=(n,)]
        Positions in the corpus, in samples.
    clusters : np.ndarray [shape=(n,)]
        Track of music or instrument of notes, as in :func:`ctxe_lib.evaluation.evaluate`.

    Raises
    ------
    ValueError
        If nothing is left.
    """
    starts = corpus.select(split, per_track, seed)
    tracks = corpus.tracks.iloc[corpus.track_rows(starts)]
    offset = tracks["offset"].to_numpy()
    fits = (starts - room[0] >= offset) & (starts + room[1] <= offset + tracks["samples"].to_numpy())
    kept = np.flatnonzero(fits)
    if most is not None and len(kept) > most:
        kept = kept[np.arange(most) * len(kept) // most]
    if not len(kept):
        raise ValueError(f"no segment of {corpus.name}'s {split} split has room={room} samples around it")
    return starts[kept], evaluation.describe(corpus, starts[kept], split)["cluster"].to_numpy(dtype=object)


def scores(
    segments: Array, clusters: NDArray[np.object_], gaps: Mapping[Any, Array], geometry: Geometry
) -> pd.DataFrame:
    """Score several fills of the same gaps.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals.
    clusters : np.ndarray [shape=(n,)]
    gaps : mapping of hashable to np.ndarray [shape=(n, gap)]
        Gap audio by method.
    geometry : Geometry

    Returns
    -------
    pandas.DataFrame
        cluster, segment (its number), method, and the scores, as :func:`ctxe_lib.statistics.summarise` takes them.
    """
    parts = [
        pd.DataFrame({"cluster": clusters, "segment": np.arange(len(segments)), "method": method}).join(
            pd.DataFrame(evaluation.score(segments, filled, geometry))
        )
        for method, filled in gaps.items()
    ]
    return pd.concat(parts, ignore_index=True)


class Difference(NamedTuple):
    """Mean of a paired difference with its 95 % interval, clusters drawn with replacement.

    Attributes
    ----------
    mean, low, high : float
        In the unit of the score.
    segments, clusters, excluded : int
        Pairs, clusters they belong to, and pairs without a finite difference.
    """

    mean: float
    low: float
    high: float
    segments: int
    clusters: int
    excluded: int

    @property
    def verdict(self) -> str:
        """What the interval says of the first against the second."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "not distinguishable from"

    @classmethod
    def of(
        cls, table: pd.DataFrame, metric: str, method: Hashable, other: Hashable, *, draws: int = 2000, seed: int = 0
    ) -> Difference:
        """Compare two methods segment by segment.

        Parameters
        ----------
        table : pandas.DataFrame
            As :func:`scores` gives it.
        metric : str
            Column to compare.
        method, other : hashable
            Values of the column ``method``: the first less the second.
        draws, seed : int
            Of the bootstrap.

        Raises
        ------
        ValueError
            If one of the methods is not in the table.
        """
        there = set(table["method"])
        if not {method, other} <= there:
            raise ValueError(f"methods {method!r} and {other!r} must be among {', '.join(map(str, there))}")
        wide = table.pivot(index=["cluster", "segment"], columns="method", values=metric)
        return cls.over(wide[method] - wide[other], draws=draws, seed=seed)

    @classmethod
    def over(cls, values: pd.Series, *, draws: int = 2000, seed: int = 0) -> Difference:
        """Mean and interval of values whose index has a level ``cluster``; those not finite are excluded."""
        finite = values[np.isfinite(values)]
        clusters = finite.index.get_level_values("cluster").to_numpy()
        low, high = cluster_bootstrap(finite.to_numpy(), clusters, draws=draws, seed=seed)
        return cls(float(finite.mean()), low, high, len(finite), len(set(clusters)), len(values) - len(finite))


# -- notebook 03: linear prediction -------------------------------------------------------------------------------


def autocorrelation(x: Array, order: int) -> Array:
    """All-pole coefficients by the autocorrelation method (Yule-Walker), without a window.

    Parameters
    ----------
    x : np.ndarray [shape=(samples,)]
    order : int

    Returns
    -------
    np.ndarray [shape=(order + 1,)]
        With a leading 1; always a stable model.
    """
    lags = scipy.signal.correlate(x, x, method="fft")[len(x) - 1 :][: order + 1]
    return np.concatenate([[1.0], -scipy.linalg.solve_toeplitz(lags[:-1], lags[1:])])


def covariance(x: Array, order: int) -> Array:
    """All-pole coefficients by the covariance method: least squares of the forward prediction error, no more.

    Parameters
    ----------
    x : np.ndarray [shape=(samples,)]
    order : int

    Returns
    -------
    np.ndarray [shape=(order + 1,)]
        With a leading 1; nothing keeps the model stable.
    """
    rows = np.lib.stride_tricks.sliding_window_view(x, order + 1)
    solution = scipy.linalg.lstsq(rows[:, :-1], -rows[:, -1], lapack_driver="gelsy")[0]
    return np.concatenate([[1.0], solution[::-1]])


ESTIMATORS: dict[str, Callable[[Array, int], Array]] = {
    "Burg": lpc.burg,
    "Burg, librosa": lambda x, order: librosa.lpc(x, order=order),
    "autocorrelation": autocorrelation,
    "covariance": covariance,
}
"""Ways to fit an all-pole model to a context [samples], by name; librosa updates Burg's denominator recursively."""


def extrapolate(
    segments: Array, geometry: Geometry, order: int, estimate: Callable[[Array, int], Array]
) -> tuple[Array, Array]:
    """The cross-faded extrapolation of :func:`ctxe_lib.lpc.inpaint` with another estimator, and how far it grows.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
    geometry : Geometry
    order : int
    estimate : callable
        From a context [samples] and the order to coefficients [order + 1], as in :data:`ESTIMATORS`.

    Returns
    -------
    gap : np.ndarray [shape=(n, gap)]
        Each side clipped at ``lpc.BOUND`` times its context's peak, so that a diverging one has a score.
    growth : np.ndarray [shape=(n, 2)]
        Largest sample of each extrapolation before clipping, over its context's peak; infinite where it overflows,
        0 for a silent context.
    """
    before, after = lpc.contexts(segments, geometry)
    sides = np.zeros((2, len(before), geometry.gap))
    growth = np.zeros((len(before), 2))
    for side, rows in enumerate((before, after[:, ::-1])):
        for i, context in enumerate(np.ascontiguousarray(rows)):
            if peak := np.abs(context).max():
                a = estimate(context, order)
                past = scipy.signal.lfiltic([1.0], a, context[: -order - 1 : -1])
                with np.errstate(over="ignore", invalid="ignore"):
                    line, _ = scipy.signal.lfilter([1.0], a, np.zeros(geometry.gap), zi=past)
                line = np.nan_to_num(line, nan=np.inf, posinf=np.inf, neginf=-np.inf)
                growth[i, side] = np.abs(line).max() / peak
                sides[side, i] = np.clip(line, -lpc.BOUND * peak, lpc.BOUND * peak)
    fade = np.cos(np.linspace(0, np.pi / 2, geometry.gap)) ** 2
    return sides[0] * fade + sides[1, :, ::-1] * (1 - fade), growth


def edges(segment: Array, geometry: Geometry, *, order: int = 1000) -> pd.DataFrame:
    """What linear prediction does with awkward contexts, made from one segment.

    Parameters
    ----------
    segment : np.ndarray [shape=(length,)]
    geometry : Geometry
    order : int

    Returns
    -------
    pandas.DataFrame
        case, samples before and after, side used, and the peak of the fill over that of the louder context.
    """
    before, after = segment[: geometry.context], segment[-geometry.context :]
    silence = np.zeros(geometry.context)
    period = np.resize(before[:50], geometry.context)
    half = np.abs(before).max() / 2
    cases = {
        "the segment itself": (before, after),
        "silence before the gap": (silence, after),
        "silence after the gap": (before, silence),
        "silence on both sides": (silence, silence),
        "half of the context before is silent": (np.where(np.arange(len(before)) < len(before) // 2, 0, before), after),
        "recording begins 50 ms before the gap": (before[-geometry.sample_rate // 20 :], after),
        "recording begins with the gap": (before[:0], after),
        "constant": (silence + half, silence + half),
        "clipped at half of the peak": (np.clip(before, -half, half), np.clip(after, -half, half)),
        "50 samples, repeated exactly": (period, period),
        "one click on each side": (np.eye(1, len(before), 100)[0], np.eye(1, len(after), 100)[0]),
    }
    names = {(True, True): "both", (True, False): "before", (False, True): "after", (False, False): "neither: silence"}
    rows = []
    for case, (left, right) in cases.items():
        filled, sides = lpc.bridge(left[None], right[None], geometry.gap, order=order)
        peak = max(np.abs(left).max(initial=0), np.abs(right).max(initial=0))
        ratio = np.abs(filled).max() / peak if peak else 0.0
        rows.append((case, len(left), len(right), names[tuple(sides.used[0].tolist())], ratio))
    return pd.DataFrame(rows, columns=["case", "samples before", "samples after", "used", "peak / context's peak"])


# -- notebook 04: phase recovery ----------------------------------------------------------------------------------

STARTS = ("pghi", "zero", "random", "original")
"""Phases that :func:`phase_fill` starts from."""


def phase_fill(
    segments: Array,
    gap_magnitude: Array,
    geometry: Geometry,
    *,
    start: Literal["pghi", "zero", "random", "original"] = "pghi",
    iterations: int = 100,
    alpha: float = 0.99,
    context: bool = True,
    seed: int = 0,
) -> Array:
    """Fill gaps of given magnitude by one combination of first phase and fast Griffin-Lim iterations.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        The gap is read for ``start="original"`` only.
    gap_magnitude : np.ndarray [shape=(n, gap_frames, bins)]
    geometry : Geometry
    start : {'pghi', 'zero', 'random', 'original'}
        First phase of the frames that touch the gap.
    iterations : int
        Of fast Griffin-Lim; none leaves the first phase.
    alpha : float
        Acceleration.
    context : bool
        Whether PGHI and the iterations know the context's phase. If not, all frames start and change alike, and only
        the samples of the gap are taken from the result.
    seed : int
        Of random phases.

    Returns
    -------
    np.ndarray [shape=(n, gap)]

    Raises
    ------
    ValueError
        If `start` is none of :data:`STARTS`.
    """
    if start not in STARTS:
        raise ValueError(f"start={start!r} must be one of {', '.join(STARTS)}")
    merged = merge(segments, gap_magnitude, geometry)
    magnitude = np.abs(merged)
    whole = {
        "zero": lambda: np.zeros(magnitude.shape),
        "random": lambda: np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitude.shape),
        "original": lambda: np.angle(stft(segments, geometry)),
    }
    if context:
        initial = None if start == "pghi" else whole[start]()[:, geometry.touched_frames]
        return phase.reconstruct(
            segments, gap_magnitude, geometry, iterations=iterations, alpha=alpha, initial_phase=initial
        )
    angle = phase.pghi(magnitude, geometry) if start == "pghi" else whole[start]()
    coefficients = phase.fast_griffin_lim(magnitude, angle, geometry, iterations=iterations, alpha=alpha)
    return gap_audio(coefficients, geometry)


def inconsistency(segments: Array, gaps: Array, gap_magnitude: Array, geometry: Geometry) -> Array:
    """How far the restored signal's magnitudes are from those it was given: what Griffin-Lim makes small.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Supply the contexts.
    gaps : np.ndarray [shape=(n, gap)]
    gap_magnitude : np.ndarray [shape=(n, gap_frames, bins)]
        The given magnitudes.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n,)]
        In dB: 20 log10 of the norm of the difference over the norm of the given magnitudes.
    """
    restored = metrics.restore(segments, gaps, geometry)
    return -metrics.snr_raw(gap_magnitude, stft(restored, geometry)[:, geometry.touched_frames])


# -- notebook 05: metrics -----------------------------------------------------------------------------------------


def snr_ms_of(segments: Array, gaps: Array, geometry: Geometry, frames: slice) -> Array:
    """SNR_MS of other frames than the geometry's five.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
    gaps : np.ndarray [shape=(n, gap)]
    geometry : Geometry
    frames : slice
        Frames of the whole segment's transform.

    Returns
    -------
    np.ndarray [shape=(n,)]
        In dB.
    """
    restored = metrics.restore(segments, gaps, geometry)
    return metrics.snr_raw(stft(segments, geometry)[:, frames], stft(restored, geometry)[:, frames])


def excerpts(corpus: Corpus, starts: NDArray[np.int64], *, position: float, seconds: float = 2.0) -> Array:
    """Sound around gaps, with the gap at a chosen place.

    Parameters
    ----------
    corpus : Corpus
    starts : np.ndarray [shape=(n,)]
        Of segments, with enough room in their tracks (see :func:`choose`).
    position : float
        Where the gap begins, in seconds from the excerpt's start.
    seconds : float
        Length.

    Returns
    -------
    np.ndarray [shape=(n, samples)]
    """
    geometry = corpus.geometry
    first = starts + geometry.context - round(position * geometry.sample_rate)
    return corpus.read(first, round(seconds * geometry.sample_rate)).astype(np.float64)


def with_gaps(sounds: Array, gaps: Array, position: float, sample_rate: int) -> Array:
    """Copies of `sounds` [n, samples] with `gaps` [n, gap] written `position` seconds after their beginning."""
    patched = sounds.copy()
    first = round(position * sample_rate)
    patched[:, first : first + gaps.shape[1]] = gaps
    return patched


def _polyphase(x: Array, rate: int) -> Array:
    common = math.gcd(peaq.RATE, rate)
    return np.asarray(scipy.signal.resample_poly(x, peaq.RATE // common, rate // common))


RESAMPLERS: dict[str, Callable[[Array, int], Array]] = {
    "resample_poly": _polyphase,
    "soxr HQ": lambda x, rate: np.asarray(soxr.resample(x, rate, peaq.RATE, quality="HQ")),
    "soxr VHQ": lambda x, rate: np.asarray(soxr.resample(x, rate, peaq.RATE, quality="VHQ")),
    "Fourier": lambda x, rate: np.asarray(scipy.signal.resample(x, len(x) * peaq.RATE // rate)),
}
"""Ways from a signal [samples] and its rate to 48 kHz, by name; the first is the library's own rule."""


def _upsample(x: Array, rate: int, resampler: str | None) -> Array | NDArray[np.int16]:
    return np.clip(x, -1, 1) if resampler is None else audio.to_int16(RESAMPLERS[resampler](x, rate))[0]


def grades(
    references: Array, fills: Mapping[str, Array], sample_rate: int, *, resampler: str | None = None
) -> dict[str, Array]:
    """ODG of several versions of the same excerpts.

    Parameters
    ----------
    references : np.ndarray [shape=(n, samples)]
    fills : mapping of str to np.ndarray [shape=(n, samples)]
    sample_rate : int
        In Hz.
    resampler : str, optional
        Key of :data:`RESAMPLERS`; results are rounded to int16. The library's own rule if not given.

    Returns
    -------
    dict of str to np.ndarray [shape=(n,)]
        NaN where the reference is silent or too short.
    """
    found = {name: np.full(len(references), np.nan) for name in fills}
    rate = sample_rate if resampler is None else peaq.RATE
    for i, sound in enumerate(references):
        with suppress(peaq.NoGrade):
            heard = peaq.Reference(_upsample(sound, sample_rate, resampler), rate)
            for name, versions in fills.items():
                found[name][i] = heard.odg(_upsample(versions[i], sample_rate, resampler)).odg
    return found


def same_order(table: pd.DataFrame, metric: str, other: str, *, draws: int = 2000, seed: int = 0) -> Difference:
    """How often two scores agree on which of two fills of a gap is the better one.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`scores` gives it, with both columns.
    metric, other : str
        Columns to compare.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    Difference
        Its mean is the share of pairs of methods, over all gaps, that both scores put in the same order; 0.5 is
        chance. Pairs with a tie or without a score are left out, and gaps without any other pair are counted as
        excluded.
    """
    wide = [table.pivot(index=["cluster", "segment"], columns="method", values=name) for name in (metric, other)]
    signs = [np.sign(values.to_numpy()[:, :, None] - values.to_numpy()[:, None, :]) for values in wide]
    upper = np.triu(np.ones(signs[0].shape[1:], dtype=bool), 1)
    product = (signs[0] * signs[1])[:, upper]
    counted = np.isfinite(product) & (product != 0)
    with np.errstate(invalid="ignore"):
        shares = np.where(counted, product > 0, 0).sum(axis=1) / counted.sum(axis=1)
    return Difference.over(pd.Series(shares, wide[0].index), draws=draws, seed=seed)


def band_slips() -> pd.DataFrame:
    """Entries of the PEAQ band table that do not fit their neighbours: slips of the recommendation, kept on purpose.

    Returns
    -------
    pandas.DataFrame
        band, quantity, value in the table and value by the Bark scale ``7 asinh(f / 650)`` in Hz, where they differ
        by more than the table's rounding.
    """
    bark = 7 * np.arcsinh(80 / 650) + 0.25 * np.arange(len(peaq._CENTRE) + 1)
    bark[-1] = 7 * np.arcsinh(18_000 / 650)  # the last band is narrower
    scale = {
        "lower edge": (peaq._LOWER, bark[:-1]),
        "centre": (peaq._CENTRE, (bark[:-1] + bark[1:]) / 2),
        "upper edge": (peaq._UPPER, bark[1:]),
    }
    rows = [
        (band, quantity, table[band], 650 * np.sinh(z[band] / 7))
        for quantity, (table, z) in scale.items()
        for band in np.flatnonzero(np.abs(table - 650 * np.sinh(z / 7)) > 5e-3)
    ]
    return pd.DataFrame(rows, columns=["band", "quantity", "table (Hz)", "by the formula (Hz)"])


# -- agreement with the original programs -------------------------------------------------------------------------


def _relative(value: Array, reference: Array) -> Array:
    """Relative L2 error over the last axis."""
    return np.linalg.norm(value - reference, axis=-1) / np.linalg.norm(reference, axis=-1)


def _vectors(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    with np.load(folder / name) as file:
        return dict(file)


def lpc_agreement(folder: Path, geometry: Geometry) -> pd.DataFrame:
    """Relative L2 errors against the authors' LPC program.

    Parameters
    ----------
    folder : Path
        Holds ``lpc.npz``.
    geometry : Geometry

    Returns
    -------
    pandas.DataFrame
        signal, coefficients of either context, and the gap's audio.
    """
    known = _vectors(folder, "lpc.npz")
    sound = known["segment"] / 32768
    order = known["a_left"].shape[1] - 1
    return pd.DataFrame(
        {
            "signal": known["cls"],
            "coefficients before": _relative(lpc.burg(sound[:, : geometry.context], order), known["a_left"]),
            "coefficients after": _relative(lpc.burg(sound[:, : -geometry.context - 1 : -1], order), known["a_right"]),
            "gap": _relative(lpc.inpaint(sound, geometry, order=order), known["rec_gap"]),
        }
    )


def lpc_edge_agreement(folder: Path, geometry: Geometry) -> pd.DataFrame:
    """What the authors' program and the library return for awkward segments.

    Parameters
    ----------
    folder : Path
        Holds ``lpc_edge.npz``.
    geometry : Geometry

    Returns
    -------
    pandas.DataFrame
        signal, peak of either result over the louder context's peak (NaN where the program returns NaN), and the
        relative L2 error.
    """
    known = _vectors(folder, "lpc_edge.npz")
    filled = lpc.inpaint(known["x"], geometry)
    peaks, _ = lpc.levels(*lpc.contexts(known["x"], geometry))
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "signal": known["names"],
                "original's peak": np.abs(known["rec_gap"]).max(axis=1) / peaks,
                "peak here": np.nan_to_num(np.abs(filled).max(axis=1) / peaks),
                "error": _relative(filled, known["rec_gap"]),
            }
        )


def phase_agreement(folder: Path, geometry: Geometry) -> pd.DataFrame:
    """Errors against the original programs' phase recovery.

    Parameters
    ----------
    folder : Path
        Holds ``pghi.npz``.
    geometry : Geometry

    Returns
    -------
    pandas.DataFrame
        signal, gain, magnitude (original or interpolated), and for PGHI and for PGHI with 100 iterations the largest
        phase error in rad, where the magnitude exceeds the tolerance, and the relative L2 error of the output.
    """
    known = _vectors(folder, "pghi.npz")
    sound = known["segment"] / 32768 * known["gain"][:, None]
    whole = np.abs(stft(sound, geometry))
    loudest = whole.max(axis=(1, 2), keepdims=True)
    half = geometry.window
    shown = slice(geometry.gap_samples.start - half, geometry.gap_samples.stop + half)
    parts = []
    for kind, origin, magnitude in (
        ("oracle", "original", whole[:, geometry.touched_frames]),
        ("interp", "interpolated", interpolation.magnitudes(sound, geometry)),
    ):
        part = {"signal": known["cls"], "gain": known["gain"], "magnitude": origin}
        for name, label, iterations in (("pghi", "PGHI", 0), ("pgla", "PGHI + FGLA", 100)):
            recovered = phase.recover(sound, magnitude, geometry, iterations=iterations)
            turned = recovered[:, geometry.touched_frames] * np.exp(-1j * known[f"phase_{name}_{kind}"].swapaxes(1, 2))
            error = np.where(magnitude > 1e-10 * loudest, np.abs(np.angle(turned)), 0)
            part[f"{label}: phase (rad)"] = error.max(axis=(1, 2))
            part[f"{label}: output"] = _relative(istft(recovered, geometry)[:, shown], known[f"f_{name}_{kind}"])
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def peaq_agreement(folder: Path) -> pd.DataFrame:
    """ODG, DI and MOVs beside those of PQevalAudio.

    Parameters
    ----------
    folder : Path
        Holds ``peaq.npz``.

    Returns
    -------
    pandas.DataFrame
        signal, damage, ODG of the original program and its difference here, that of DI, and the largest relative
        error of a MOV.
    """
    known = _vectors(folder, "peaq.npz")
    signals = [name for name in known["ref"] if f"ref48_{name}" in known]  # the list also names pairs not in the file
    rows = []
    for i, signal in enumerate(signals):
        pair = f"{known['pair_id'][i]:02d}"
        reference, patch, start = known[f"ref48_{signal}"], known[f"patch_{pair}"], int(known[f"patch_start_{pair}"])
        degraded = reference.copy()
        degraded[start : start + len(patch)] = patch
        result = peaq.odg(reference, degraded, peaq.RATE)
        movs, expected = np.array(list(result.movs.values())), known["mov_pqeval"][i]
        error = np.abs(movs - expected) / np.maximum(np.abs(expected), 1e-12)
        rows.append(
            (
                signal,
                known["kind"][i],
                known["odg_pqeval"][i],
                abs(result.odg - known["odg_pqeval"][i]),
                abs(result.di - known["di_pqeval"][i]),
                error.max(),
            )
        )
    columns = ["signal", "damage", "ODG of the original", "ODG difference", "DI difference", "largest MOV error"]
    return pd.DataFrame(rows, columns=columns)
