"""Objective difference grades: PEAQ Basic (ITU-R BS.1387) as PQevalAudio v1r0 computes it.

A reference and a degraded signal pass through a model of the ear; eleven model output variables (MOVs) describe how
their inner representations differ; a small neural network maps these to a distortion index (DI) and to the objective
difference grade (ODG), from 0 (imperceptible) to -4 (very annoying).

Conventions
-----------
- Signals: float in [-1, 1] or int16, shape [samples] or [samples, 2] (mono or stereo), reference and degraded aligned.
- 48 kHz signals are taken as they are. Other rates are resampled by ``scipy.signal.resample_poly(x, up, down)`` with
  its default filter (16 kHz: up = 3, down = 1), then rounded to int16.
- A full-scale sine has 92 dB SPL. Frames of 2048 samples every 1024; 109 bands of a quarter Bark.
- Inner arrays: shape [frames, bins] or [frames, bands], time first.

What this ODG cannot tell
-------------------------
- Where the damage lies matters as much as what it is: the first 0.5 s of sound are left out of the modulation
  differences and of the noise loudness, and short events drown in averages over long signals. Compare ODGs of signals
  of one length with the gap at one place (the paper: 2 s with the gap at 0.5 s).
- It does not rank fills of a gap sensibly: a gap left at zero can score better than a linear prediction. PEAQ was
  made for the small impairments of audio codecs, the missing event is outside of what its network was trained on.
- The resampler alone is worth more than a grade (16 kHz material has no content above 8 kHz, and what a resampler
  leaves there decides the bandwidth variables): compare only ODGs that come from one resampler.
- The mapping is extrapolated outside the range of its training data; its ceiling is 0.22, not 0.

References
----------
.. [1] ITU-R Recommendation BS.1387-1, "Method for objective measurements of perceived audio quality", 2001.
.. [2] P. Kabal, "An examination and interpretation of ITU-R BS.1387: Perceptual evaluation of audio quality",
   TSP Lab Technical Report, McGill University, 2002, with the program PQevalAudio (MATLAB, v1r0, 2004). Where the
   recommendation is ambiguous, this module does what that program does; section numbers below are the report's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import overload

import numpy as np
import scipy.fft
import scipy.signal
import scipy.special
from joblib import Parallel, delayed
from numba import njit
from numpy.typing import ArrayLike, NDArray

__all__ = ["MOVS", "OdgResult", "Reference", "odg", "odg_many"]

Array = NDArray[np.float64]

MOVS = (
    "BandwidthRefB", "BandwidthTestB", "TotalNMRB", "WinModDiff1B", "ADBB", "EHSB",
    "AvgModDiff1B", "AvgModDiff2B", "RmsNoiseLoudB", "MFPDB", "RelDistFramesB",
)  # fmt: skip
"""Names of the model output variables, in the order of the network's inputs."""

RATE = 48_000
FRAME = 2048
HOP = FRAME // 2
FRAMES_PER_SECOND = RATE / HOP
FULL_SCALE = 32_768.0
_WINDOWED = int(0.1 * FRAMES_PER_SECOND)  # frames in the sliding window of WinModDiff1B

# -- tables of the ear model -------------------------------------------------------------------------------------

# Band edges and centres in Hz, from the recommendation's table, including its slips (report, section 2.5): three edges
# differ between the band that they close and the band that they open, and the centre 13294.85 lies 2 Hz off.
_EDGES = np.array([
    80.0, 103.445, 127.023, 150.762, 174.694, 198.849, 223.257, 247.950, 272.959, 298.317, 324.055, 350.207, 376.805,
    403.884, 431.478, 459.622, 488.353, 517.707, 547.721, 578.434, 609.885, 642.114, 675.161, 709.071, 743.884, 779.647,
    816.404, 854.203, 893.091, 933.119, 974.336, 1016.797, 1060.555, 1105.666, 1152.187, 1200.178, 1249.700, 1300.816,
    1353.592, 1408.094, 1464.392, 1522.559, 1582.668, 1644.795, 1709.021, 1775.427, 1844.098, 1915.121, 1988.587,
    2064.590, 2143.227, 2224.597, 2308.806, 2395.959, 2486.169, 2579.551, 2676.223, 2776.309, 2879.937, 2987.238,
    3098.350, 3213.415, 3332.579, 3455.993, 3583.817, 3716.212, 3853.348, 3995.399, 4142.547, 4294.979, 4452.890,
    4616.482, 4785.962, 4961.548, 5143.463, 5331.939, 5527.217, 5729.545, 5939.183, 6156.396, 6381.463, 6614.671,
    6856.316, 7106.708, 7366.166, 7635.020, 7913.614, 8202.302, 8501.454, 8811.450, 9132.688, 9465.574, 9810.536,
    10168.013, 10538.460, 10922.351, 11320.175, 11732.438, 12159.670, 12602.412, 13061.229, 13536.710, 14029.458,
    14540.103, 15069.295, 15617.710, 16186.049, 16775.035, 17385.420, 18000.0,
])  # fmt: skip
_CENTRE = np.array([
    91.708, 115.216, 138.870, 162.702, 186.742, 211.019, 235.566, 260.413, 285.593, 311.136, 337.077, 363.448, 390.282,
    417.614, 445.479, 473.912, 502.950, 532.629, 562.988, 594.065, 625.899, 658.533, 692.006, 726.362, 761.644, 797.898,
    835.170, 873.508, 912.959, 953.576, 995.408, 1038.511, 1082.938, 1128.746, 1175.995, 1224.744, 1275.055, 1326.992,
    1380.623, 1436.014, 1493.237, 1552.366, 1613.474, 1676.641, 1741.946, 1809.474, 1879.310, 1951.543, 2026.266,
    2103.573, 2183.564, 2266.340, 2352.008, 2440.675, 2532.456, 2627.468, 2725.832, 2827.672, 2933.120, 3042.309,
    3155.379, 3272.475, 3393.745, 3519.344, 3649.432, 3784.176, 3923.748, 4068.324, 4218.090, 4373.237, 4533.963,
    4700.473, 4872.978, 5051.700, 5236.866, 5428.712, 5627.484, 5833.434, 6046.825, 6267.931, 6497.031, 6734.420,
    6980.399, 7235.284, 7499.397, 7773.077, 8056.673, 8350.547, 8655.072, 8970.639, 9297.648, 9636.520, 9987.683,
    10351.586, 10728.695, 11119.490, 11524.470, 11944.149, 12379.066, 12829.775, 13294.850, 13780.887, 14282.503,
    14802.338, 15341.057, 15899.345, 16477.914, 17077.504, 17690.045,
])  # fmt: skip
_LOWER, _UPPER = _EDGES[:-1].copy(), _EDGES[1:].copy()
_UPPER[28], _LOWER[66], _UPPER[70] = 933.113, 3853.817, 4643.482
_BANDS = _CENTRE.size
_DZ = 0.25  # Bark per band


def _ear_weights() -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """First bin and end of each band, and its weights, band after band: outer and middle ear, share in the band."""
    step = RATE / FRAME
    bins = np.arange(FRAME // 2 + 1)
    overlap = np.minimum(_UPPER[:, None], (bins + 0.5) * step) - np.maximum(_LOWER[:, None], (bins - 0.5) * step)
    khz = np.maximum(bins, 1) * step / 1000  # bin 0 lies outside of every band
    decibels = -2.184 * khz**-0.8 + 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) - 0.001 * khz**3.6
    weights = overlap / step * 10 ** (decibels / 10)
    inside = overlap > 0
    return inside.argmax(axis=1), bins.size - inside[:, ::-1].argmax(axis=1), weights[inside]


def _decay(seconds_at_100: float) -> Array:
    """Decay per frame [bands] of a smoother: 8 ms, and more below, up to ``seconds_at_100`` at 100 Hz."""
    return np.exp(-1 / (FRAMES_PER_SECOND * (0.008 + 100 / _CENTRE * (seconds_at_100 - 0.008))))


def _window() -> Array:
    """Symmetric Hann window [FRAME], scaled so that the peak bin of a full-scale sine at 1019.5 Hz has 92 dB."""
    position = 1019.5 * FRAME / RATE % 1
    offset = min(position, 1 - position) / FRAME * (FRAME - 1)
    peak = math.sin(math.pi * offset) / (math.pi * offset * (1 - offset**2))
    gain = 10 ** (92 / 20) / (peak * FULL_SCALE / 4 * (FRAME - 1))
    return gain * scipy.signal.windows.hann(FRAME, sym=True)


_WINDOW = _window()
_FIRST, _STOP, _WEIGHTS = _ear_weights()
_OFFSET = np.concatenate([[0], np.cumsum(_STOP - _FIRST)[:-1]]) - _FIRST  # bin k of band b: _WEIGHTS[_OFFSET[b] + k]
_NOISE = 10 ** (0.1456 * (_CENTRE / 1000) ** -0.8)  # internal noise
_SMEAR = _decay(0.030)
_ADAPT = _decay(0.050)
_MASK = 10 ** (np.maximum(3, 0.25 * _DZ * np.arange(_BANDS)) / 10)  # how far the masking threshold lies below

# spreading: fall of a band's contribution per band, downwards and (at unit energy) upwards, as natural logarithms
_FALL_DOWN = math.exp(-2.7 * _DZ * math.log(10))
_FALL_UP = (-2.4 - 23 / _CENTRE) * _DZ * math.log(10)
_SUM_DOWN = (1 - _FALL_DOWN ** np.arange(1, _BANDS + 1)) / (1 - _FALL_DOWN)

# loudness: threshold, its index, and the scale of a band's specific loudness
_THRESHOLD = 10 ** (0.364 * (_CENTRE / 1000) ** -0.8)
_INDEX = 10 ** (-0.2 - 0.205 * np.arctan(_CENTRE / 4000) - 0.075 * np.arctan((_CENTRE / 1600) ** 2))
_LOUDNESS = 1.07664 * (_THRESHOLD / (_INDEX * 1e4)) ** 0.23

# error harmonic structure: lags, and the window of the correlation
_LAGS = 256
_EHS_WINDOW = math.sqrt(8 / 3) / _LAGS * scipy.signal.windows.hann(_LAGS, sym=True)

# -- kernels -------------------------------------------------------------------------------------------------------
# The order of a sum is free ("reassoc"), so that it can be vectorised; nothing else may be rounded differently.


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _group(power: Array) -> Array:
    """Sum a power spectrum [frames, bins] into bands [frames, bands] (Annex 2, 2.1)."""
    bands = np.empty((power.shape[0], _BANDS))
    for frame in range(power.shape[0]):
        for band in range(_BANDS):
            total = 0.0
            for k in range(_FIRST[band], _STOP[band]):
                total += _WEIGHTS[_OFFSET[band] + k] * power[frame, k]
            bands[frame, band] = max(total, 1e-12)
    return bands


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _add_spread(share: Array, fall_up: Array, fall_down: float) -> Array:
    """Add to each band what the others spread into it; all arrays [frames, bands], compressed by the power 0.4."""
    frames, bands = share.shape
    total = np.empty((frames, bands))
    upward = np.empty(bands)
    for frame in range(frames):
        fall = fall_up[frame]
        downward = 0.0
        for band in range(bands - 1, -1, -1):
            downward = fall_down * downward + share[frame, band]
            total[frame, band] = downward
        for band in range(bands):
            from_below = 0.0
            for source in range(band):
                upward[source] *= fall[source]
                from_below += upward[source]
            total[frame, band] += from_below
            upward[band] = share[frame, band]
    return total


@njit(cache=True, nogil=True)
def _smooth(x: Array, decay: Array, gain: Array) -> Array:
    """First-order recursion y[t] = decay y[t - 1] + gain x[t] along the frames of [frames, bands], from rest."""
    y = np.empty_like(x)
    state = np.zeros(x.shape[1])
    for frame in range(x.shape[0]):
        for band in range(x.shape[1]):
            state[band] = decay[band] * state[band] + gain[band] * x[frame, band]
            y[frame, band] = state[band]
    return y


@njit(cache=True, nogil=True)
def _bandwidths(reference: Array, degraded: Array) -> Array:
    """Bandwidths [2, frames] of reference and degraded in bins, -1 where the frame does not count (Annex 2, 4.4)."""
    widths = np.full((2, reference.shape[0]), -1.0)
    for frame in range(reference.shape[0]):
        floor = degraded[frame, 921:1024].max()
        top = 921
        while top > 348 and reference[frame, top - 1] < 10.0 * floor:
            top -= 1
        if reference[frame, top - 1] < 10.0 * floor:
            continue
        widths[0, frame] = top
        while top > 0 and degraded[frame, top - 1] < 10**0.5 * floor:
            top -= 1
        widths[1, frame] = top if top > 0 else -1
    return widths


@njit(cache=True, nogil=True)
def _noise_power(reference: Array, degraded: Array) -> Array:
    """Power of the difference of two magnitude spectra, [frames, bins] (Annex 2, 3.4)."""
    difference = np.empty_like(reference)
    for frame in range(reference.shape[0]):
        for k in range(reference.shape[1]):
            r, d = reference[frame, k], degraded[frame, k]
            difference[frame, k] = (r - 2.0 * math.sqrt(r * d)) + d
    return difference


@njit(cache=True, nogil=True)
def _first_sound(x: Array) -> int:
    """Index of the first five neighbouring samples whose magnitudes sum up to more than 200; -1 if there are none."""
    for start in range(x.size - 4):
        if abs(x[start]) + abs(x[start + 1]) + abs(x[start + 2]) + abs(x[start + 3]) + abs(x[start + 4]) > 200.0:
            return start
    return -1


# -- the ear ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ear:
    """Inner representation of one channel, from the first sample to the last frame of sound."""

    energy: Array  # [frames] of the frame's second half, for the error harmonic structure
    power: Array  # [frames, bins]
    excitation: Array  # [frames, bands], smeared in time
    level: Array  # the same in decibels
    adapted: Array  # smoothed excitation, for the level adaptation
    envelope: Array  # smoothed compressed excitation
    modulation: Array
    loudness: Array  # [frames], sone


def _spread(bands: Array) -> Array:
    """Spread band energies [frames, bands] over the neighbouring bands, not normalised (Annex 2, 2.1)."""
    log_fall = _FALL_UP + 0.2 * _DZ * np.log(bands)
    fall = np.exp(log_fall)
    sum_up = (1 - np.exp(np.arange(_BANDS, 0, -1) * log_fall)) / (1 - fall)
    share = (bands / (_SUM_DOWN + sum_up - 1)) ** 0.4
    return _add_spread(share, fall**0.4, _FALL_DOWN**0.4) ** 2.5


@cache
def _spread_of_ones() -> Array:
    return _spread(np.ones((1, _BANDS)))


def _listen(samples: Array, frames: int) -> _Ear:
    """Ear model of one channel: ``samples`` in units of int16, at 48 kHz."""
    padded = np.zeros((frames + 1) * HOP)
    length = min(samples.size, padded.size)
    padded[:length] = samples[:length]
    windowed = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * _WINDOW
    spectrum = scipy.fft.rfft(windowed, overwrite_x=True)
    power = spectrum.real**2 + spectrum.imag**2

    unsmeared = _spread(_group(power) + _NOISE) / _spread_of_ones()
    excitation = np.maximum(_smooth(unsmeared, _SMEAR, 1 - _SMEAR), unsmeared)

    compressed = unsmeared**0.3
    change = FRAMES_PER_SECOND * np.abs(np.diff(compressed, axis=0, prepend=0))
    envelope = _smooth(compressed, _ADAPT, 1 - _ADAPT)
    specific = _LOUDNESS * ((1 - _INDEX + _INDEX / _THRESHOLD * excitation) ** 0.23 - 1)
    return _Ear(
        energy=np.sum(padded.reshape(-1, HOP)[1:] ** 2, axis=1),
        power=power,
        excitation=excitation,
        level=10 * np.log10(excitation),
        adapted=_smooth(excitation, _ADAPT, 1 - _ADAPT),
        envelope=envelope,
        modulation=_smooth(change, _ADAPT, 1 - _ADAPT) / (1 + envelope / 0.3),
        loudness=24 / _BANDS * np.maximum(specific, 0).sum(axis=1),
    )


# -- comparison of two ears, frame by frame --------------------------------------------------------------------------


def _adapt(reference: _Ear, degraded: _Ear) -> tuple[Array, Array]:
    """Level and pattern adaptation: excitations whose levels and linear distortions match (Annex 2, 3.1)."""
    correlation = np.sqrt(degraded.adapted * reference.adapted).sum(axis=1) / degraded.adapted.sum(axis=1)
    ratio = correlation[:, None] ** 2
    r = reference.excitation / np.maximum(ratio, 1)
    d = degraded.excitation * np.minimum(ratio, 1)
    one = np.ones(_BANDS)
    cross = _smooth(d * r, _ADAPT, one)
    own = _smooth(r * r, _ADAPT, one)
    both = []
    for pattern, gain in ((r, np.minimum(cross / own, 1)), (d, np.minimum(own / cross, 1))):
        correction = _smooth(_average_bands(gain), _ADAPT, 1 - _ADAPT)
        both.append(pattern * correction)
    return both[0], both[1]


def _average_bands(x: Array) -> Array:
    """Mean over the bands from 3 below to 4 above, as far as they exist."""
    total = np.cumsum(np.pad(x, ((0, 0), (1, 0))), axis=1)
    start, stop = np.maximum(np.arange(_BANDS) - 3, 0), np.minimum(np.arange(_BANDS) + 5, _BANDS)
    return (total[:, stop] - total[:, start]) / (stop - start)


def _noise_loudness(reference: _Ear, degraded: _Ear) -> Array:
    """Partial loudness [frames] of the additive distortion (Annex 2, 4.3)."""
    r, d = _adapt(reference, degraded)
    slope_r, slope_d = 0.15 * reference.modulation + 0.5, 0.15 * degraded.modulation + 0.5
    masked = _NOISE + slope_r * r * np.exp(-1.5 * (d - r) / r)
    excess = np.maximum(slope_d * d - slope_r * r, 0)
    loudness = (_NOISE / slope_d) ** 0.23 * ((1 + excess / masked) ** 0.23 - 1)
    return 24 / _BANDS * loudness.sum(axis=1)


def _harmonic_structure(reference: _Ear, degraded: _Ear) -> Array:
    """Error harmonic structure [frames], -1 where both signals are faint (Annex 2, 4.8).

    As PQevalAudio v1r0 has it: the peak is the largest value above that at zero, and a bin without power in either
    signal makes the frame 0.
    """
    loud = np.flatnonzero((reference.energy >= 8000) | (degraded.energy >= 8000))
    structure = np.full(reference.energy.size, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(degraded.power[loud, : 2 * _LAGS - 1] / reference.power[loud, : 2 * _LAGS - 1])
        head = scipy.fft.rfft(log_ratio[:, :_LAGS], 2 * _LAGS)
        correlation = scipy.fft.irfft(head.conj() * scipy.fft.rfft(log_ratio, 2 * _LAGS))[:, :_LAGS]
        square = log_ratio**2
        change = square[:, _LAGS:] - square[:, : _LAGS - 1]
        norm = correlation[:, :1] * np.cumsum(np.hstack([correlation[:, :1], change]), axis=1)
        normal = np.where(norm <= 0, 1.0, correlation / np.sqrt(norm))
        normal[:, 0] = 1
        cepstrum = scipy.fft.rfft(_EHS_WINDOW * (normal - normal.mean(axis=1, keepdims=True)))
        cepstrum = cepstrum.real**2 + cepstrum.imag**2
        peak = cepstrum[:, 1:].max(axis=1)
        structure[loud] = np.where(peak > cepstrum[:, 0], peak, 0.0)
    return structure


def _detection(reference: _Ear, degraded: _Ear) -> tuple[Array, Array]:
    """Probability that a listener hears a difference, and its size in just noticeable steps, both [frames, bands].

    Annex 2, 4.7.
    """
    difference = reference.level - degraded.level
    level = 0.3 * np.maximum(reference.level, degraded.level) + 0.7 * degraded.level
    audible = np.maximum(level, 1e-300)
    step = 5.95072 * (6.39468 / audible) ** 1.71332 + np.polynomial.polynomial.polyval(
        audible, [-0.198719, 0.0550197, -0.00102438, 5.05622e-6, 9.01033e-11]
    )
    step = np.where(level > 0, step, 1e30)
    square = (difference / step) ** 2
    probability = 1 - 0.5 ** np.where(difference > 0, square**2, square**3)
    return probability, np.abs(np.trunc(difference)) / step


def _compare(reference: _Ear, degraded: _Ear) -> dict[str, Array]:
    """Precursors of the MOVs of one channel: [frames] each, ``p`` and ``q`` [frames, bands]."""
    change = degraded.modulation - reference.modulation
    size = np.abs(change)
    noise_to_mask = _group(_noise_power(reference.power, degraded.power)) * _MASK / reference.excitation
    width_reference, width_degraded = _bandwidths(reference.power, degraded.power)
    probability, steps = _detection(reference, degraded)
    return {
        "Mt1B": 100 / _BANDS * np.sum(size / (1 + reference.modulation), axis=1),
        "Mt2B": 100 / _BANDS * np.sum(np.where(change < 0, 0.1, 1) * size / (0.01 + reference.modulation), axis=1),
        "Wt": np.sum(reference.envelope / (reference.envelope + 100 * _NOISE**0.3), axis=1),
        "NL": _noise_loudness(reference, degraded),
        "NRef": reference.loudness,
        "NTest": degraded.loudness,
        "BWRef": width_reference,
        "BWTest": width_degraded,
        "NMRavg": noise_to_mask.mean(axis=1),
        "NMRmax": noise_to_mask.max(axis=1),
        "EHS": _harmonic_structure(reference, degraded),
        "p": probability,
        "q": steps,
    }


# -- averages over time, and the network ---------------------------------------------------------------------------


def _mean_of_counted(x: Array) -> float:
    """Mean of the values that are not negative, 0 if there are none."""
    counted = x[x >= 0]
    return float(counted.mean()) if counted.size else 0.0


def _average(frames: dict[str, Array], delay: int) -> dict[str, float]:
    """MOVs from their precursors [channels, frames]; ``delay`` frames are left out of some of them."""
    late = {name: frames[name][:, delay:] for name in ("Mt1B", "Mt2B", "Wt")}
    windowed = np.lib.stride_tricks.sliding_window_view(np.sqrt(late["Mt1B"]), _WINDOWED, axis=1).mean(axis=-1)

    heard = (frames["NRef"] > 0.1) & (frames["NTest"] > 0.1)
    onset = int(heard.any(axis=0).argmax()) if heard.any() else heard.shape[1]
    noise = frames["NL"][:, max(onset + math.ceil(0.05 * FRAMES_PER_SECOND), delay) :]

    probability, steps = frames["Pc"][0], frames["Qc"][0]
    detected = steps[probability > 0.5]
    distance = 0.0
    if detected.size:
        distance = math.log10(detected.mean()) if detected.sum() > 0 else -0.5

    return {
        "BandwidthRefB": float(np.mean([_mean_of_counted(x) for x in frames["BWRef"]])),
        "BandwidthTestB": float(np.mean([_mean_of_counted(x) for x in frames["BWTest"]])),
        "TotalNMRB": float(np.mean(10 * np.log10(frames["NMRavg"].mean(axis=1)))),
        "WinModDiff1B": float(np.mean(np.sqrt((windowed**4).mean(axis=1)))),
        "ADBB": distance,
        "EHSB": 1000 * float(np.mean([_mean_of_counted(x) for x in frames["EHS"]])),
        "AvgModDiff1B": float(np.mean((late["Wt"] * late["Mt1B"]).sum(axis=1) / late["Wt"].sum(axis=1))),
        "AvgModDiff2B": float(np.mean((late["Wt"] * late["Mt2B"]).sum(axis=1) / late["Wt"].sum(axis=1))),
        "RmsNoiseLoudB": float(np.mean(np.sqrt((noise**2).mean(axis=1)))) if noise.size else 0.0,
        "MFPDB": float(scipy.signal.lfilter([0.1], [1, -0.9], probability).max()),
        "RelDistFramesB": float(np.mean(frames["NMRmax"] > 10**0.15)),
    }


# The network of the basic version: ranges of its inputs, weights of the hidden layer (one row per MOV) and the output.
_INPUT_MIN = np.array([
    393.916656, 361.965332, -24.045116, 1.110661, -0.206623, 0.074318, 1.113683, 0.950345, 0.029985, 0.000101, 0.0,
])  # fmt: skip
_INPUT_MAX = np.array([
    921.0, 881.131226, 16.212030, 107.137772, 2.886017, 13.933351, 63.257874, 1145.018555, 14.819740, 1.0, 1.0,
])  # fmt: skip
_HIDDEN = np.array(
    [
        [-0.502657, 0.436333, 1.219602],
        [4.307481, 3.246017, 1.123743],
        [4.984241, -2.211189, -0.192096],
        [0.051056, -1.762424, 4.331315],
        [2.321580, 1.789971, -0.754560],
        [-5.303901, -3.452257, -10.814982],
        [2.730991, -6.111805, 1.519223],
        [0.624950, -1.331523, -5.955151],
        [3.102889, 0.871260, -5.922878],
        [-1.051468, -0.939882, -0.142913],
        [-1.804679, -0.503610, -0.620456],
    ]
)
_HIDDEN_BIAS = np.array([-2.518254, 0.654841, -2.207228])
_OUTPUT = np.array([-3.817048, 4.107138, 4.629582])
_OUTPUT_BIAS = -0.307594
_ODG_MIN, _ODG_MAX = -3.98, 0.22


def _grade(movs: dict[str, float]) -> tuple[float, float]:
    """ODG and DI from the MOVs (Annex 2, 6)."""
    scaled = (np.array([movs[name] for name in MOVS]) - _INPUT_MIN) / (_INPUT_MAX - _INPUT_MIN)
    di = float(_OUTPUT @ scipy.special.expit(scaled @ _HIDDEN + _HIDDEN_BIAS) + _OUTPUT_BIAS)
    return float(_ODG_MIN + (_ODG_MAX - _ODG_MIN) * scipy.special.expit(di)), di


# -- what to call --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OdgResult:
    """Objective difference grade of a degraded signal.

    Attributes
    ----------
    odg : float
        Objective difference grade: 0.22 (ceiling) to -3.98.
    di : float
        Distortion index, the network's output before it is mapped to the grade's range.
    movs : dict of str to float
        The eleven model output variables, in the order of ``MOVS``.
    """

    odg: float
    di: float
    movs: dict[str, float]


def _samples(signal: ArrayLike, sample_rate: int, name: str) -> Array:
    """Signal as [channels, samples] at 48 kHz in units of int16, or an error that says what is wanted."""
    x = np.asarray(signal)
    if x.dtype != np.int16 and not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name} has dtype {x.dtype}: floats in [-1, 1] or int16 are wanted")
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[1] != 2):
        raise ValueError(f"{name} has shape {x.shape}: [samples] or [samples, 2] is wanted")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} has {np.count_nonzero(~np.isfinite(x))} values that are NaN or infinite")
    y = x.T.reshape(-1, len(x)) * (1.0 if x.dtype == np.int16 else FULL_SCALE)
    if np.abs(y).max(initial=0) > 8 * FULL_SCALE:
        raise ValueError(f"{name} has a peak of {np.abs(x).max():g}: floats in [-1, 1] or int16 are wanted")
    if sample_rate == RATE:
        return y
    common = math.gcd(sample_rate, RATE)
    resampled = scipy.signal.resample_poly(y, RATE // common, sample_rate // common, axis=-1)
    return np.clip(np.round(resampled), -FULL_SCALE, FULL_SCALE - 1)


def _sound(samples: Array) -> tuple[int, int] | None:
    """First and last sample of sound in [channels, samples], None if there is none.

    With two channels PQevalAudio takes the later of the two beginnings, if both lie in one of the blocks of 2048
    samples (2044 beginnings) that it reads, and the later end.
    """
    starts = [start for x in samples if (start := _first_sound(x)) >= 0]
    if not starts:
        return None
    block = min(starts) // 2044
    last = max(x.size - 1 - _first_sound(x[::-1]) for x in samples if _first_sound(x) >= 0)
    return max(start for start in starts if start // 2044 == block), last


class Reference:
    """A reference signal, heard once, to grade any number of degraded versions of it.

    Parameters
    ----------
    signal : array_like, shape [samples] or [samples, 2]
        Float in [-1, 1] or int16.
    sample_rate : int
        In Hz; rates other than 48000 are resampled, see the module's conventions.

    Raises
    ------
    TypeError
        If ``signal`` is neither float nor int16.
    ValueError
        If it is no audio (shape, NaN, peak), is silent (no five neighbouring samples whose magnitudes sum up to more
        than 200 / 32768), is too short (0.6 s of sound, less what begins later), or ``sample_rate`` has no simple
        ratio to 48000.
    """

    def __init__(self, signal: ArrayLike, sample_rate: int) -> None:
        if not isinstance(sample_rate, int | np.integer) or sample_rate <= 0:
            raise ValueError(f"sample_rate={sample_rate!r} must be an integer > 0, in Hz")
        self.sample_rate = int(sample_rate)
        if RATE // math.gcd(self.sample_rate, RATE) > 640:
            raise ValueError(f"sample_rate={sample_rate} has no simple ratio to {RATE}: resample to 48000 or 16000 Hz")
        self.shape = np.shape(signal)
        samples = _samples(signal, self.sample_rate, "reference")
        bounds = _sound(samples)
        if bounds is None:
            raise ValueError(
                "reference is silent: five neighbouring samples whose magnitudes sum up to more than 200 / 32768 are "
                "wanted"
            )
        self._start, self._stop = bounds[0] // HOP, (bounds[1] + 1) // HOP
        self._delay = max(0, math.ceil(0.5 * FRAMES_PER_SECOND) - self._start)
        frames, wanted = self._stop - self._start, self._delay + _WINDOWED
        if frames < wanted:
            raise ValueError(
                f"reference is too short: {max(frames, 0)} frames from {bounds[0] / RATE:.3f} s to {bounds[1] / RATE:.3f} s "
                f"have sound, at least {wanted} ({wanted * HOP / RATE:.2f} s) are wanted"
            )
        self._ears = [_listen(x, self._stop) for x in samples]

    def frames(self, degraded: ArrayLike) -> dict[str, Array]:
        """Quantities per frame (1024 samples at 48 kHz), from the first frame with sound on, before any averaging.

        Parameters
        ----------
        degraded : array_like, same shape as the reference
            Float in [-1, 1] or int16, at the reference's sample rate.

        Returns
        -------
        dict of str to ndarray, shape [channels, frames]
            Modulation differences ``Mt1B`` and ``Mt2B`` and their weight ``Wt``, noise loudness ``NL``, loudness
            ``NRef`` and ``NTest``, bandwidths ``BWRef`` and ``BWTest`` in bins (-1: none), noise-to-mask ratios
            ``NMRavg`` and ``NMRmax``, error harmonic structure ``EHS`` (-1: none), and over both channels, shape
            [1, frames], the probability of detection ``Pc`` and the steps above threshold ``Qc``.

        Raises
        ------
        TypeError, ValueError
            If ``degraded`` is no audio, is silent, or differs in shape from the reference.
        """
        if np.shape(degraded) != self.shape:
            raise ValueError(f"degraded has shape {np.shape(degraded)}: that of the reference, {self.shape}, is wanted")
        samples = _samples(degraded, self.sample_rate, "degraded")
        if not samples.any():
            raise ValueError("degraded is silent: PEAQ grades audible signals, report a silent one as such")
        channels = [_compare(ear, _listen(x, self._stop)) for ear, x in zip(self._ears, samples, strict=True)]
        frames = {name: np.stack([c[name] for c in channels])[:, self._start :] for name in channels[0]}
        frames["Pc"] = 1 - np.prod(1 - frames.pop("p").max(axis=0), axis=1)[None]
        frames["Qc"] = frames.pop("q").max(axis=0).sum(axis=1)[None]
        return frames

    def odg(self, degraded: ArrayLike) -> OdgResult:
        """Grade one degraded version; parameters and errors as in :meth:`frames`."""
        movs = _average(self.frames(degraded), self._delay)
        grade, di = _grade(movs)
        return OdgResult(odg=grade, di=di, movs=movs)


def odg(reference: ArrayLike, degraded: ArrayLike, sample_rate: int) -> OdgResult:
    """Objective difference grade of a degraded signal against its reference, as PQevalAudio v1r0 computes it.

    Parameters
    ----------
    reference, degraded : array_like, shape [samples] or [samples, 2]
        Aligned signals of equal shape, float in [-1, 1] or int16.
    sample_rate : int
        In Hz; rates other than 48000 are resampled, see the module's conventions.

    Returns
    -------
    OdgResult
        ODG, DI and the eleven MOVs. Identical signals give the ceiling, about 0.2.

    Raises
    ------
    TypeError, ValueError
        If a signal is no audio, is silent or too short, or the shapes differ; see :class:`Reference`.

    Notes
    -----
    What this grade cannot tell is listed in the module's docstring: it depends on where a gap lies (the first 0.5 s
    are left out of some MOVs) and on the resampler, and it can prefer zeros to a linear prediction. Show it beside
    signal-to-noise ratios, never alone.
    """
    return Reference(reference, sample_rate).odg(degraded)


def _grade_versions(index: int, reference: ArrayLike, versions: list[ArrayLike], sample_rate: int) -> list[OdgResult]:
    try:
        heard = Reference(reference, sample_rate)
        return [heard.odg(degraded) for degraded in versions]
    except (TypeError, ValueError) as error:
        raise type(error)(f"pair {index}: {error}") from error


@overload
def odg_many(
    references: Sequence[ArrayLike], degraded: Mapping[str, Sequence[ArrayLike]], sample_rate: int, *, n_jobs: int = 1
) -> dict[str, list[OdgResult]]: ...


@overload
def odg_many(
    references: Sequence[ArrayLike], degraded: Sequence[ArrayLike], sample_rate: int, *, n_jobs: int = 1
) -> list[OdgResult]: ...


def odg_many(
    references: Sequence[ArrayLike],
    degraded: Sequence[ArrayLike] | Mapping[str, Sequence[ArrayLike]],
    sample_rate: int,
    *,
    n_jobs: int = 1,
) -> list[OdgResult] | dict[str, list[OdgResult]]:
    """Grade many pairs; the result does not depend on how they are batched.

    Parameters
    ----------
    references : sequence of n array_like, or ndarray [n, samples] or [n, samples, 2]
        Reference signals, see :func:`odg`.
    degraded : the same, or a mapping from names (of inpainting methods, say) to the same
        Degraded signals. Several versions of one reference are cheaper in one call: it is heard once.
    sample_rate : int
        In Hz.
    n_jobs : int
        Workers of :class:`joblib.Parallel`; threads, unless ``joblib.parallel_config`` chooses another backend.

    Returns
    -------
    list of n OdgResult, or dict of such lists under the names of ``degraded``

    Raises
    ------
    TypeError, ValueError
        As :func:`odg`, with the index of the pair; ValueError if the numbers of signals differ.
    """
    versions = degraded if isinstance(degraded, Mapping) else {"degraded": degraded}
    for name, signals in versions.items():
        if len(signals) != len(references):
            raise ValueError(
                f"{name} holds {len(signals)} signals: one for each of {len(references)} references is wanted"
            )
    results = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_grade_versions)(index, reference, [signals[index] for signals in versions.values()], sample_rate)
        for index, reference in enumerate(references)
    )
    graded = {name: [row[column] for row in results] for column, name in enumerate(versions)}
    return graded if isinstance(degraded, Mapping) else graded["degraded"]
