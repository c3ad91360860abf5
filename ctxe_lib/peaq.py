"""Objective difference grades: PEAQ Basic (ITU-R BS.1387) as PQevalAudio v1r0 computes it.

A reference and a degraded signal pass through a model of the ear; eleven model output variables (MOVs) describe how
their inner representations differ; a small neural network maps these to a distortion index (DI) and to the objective
difference grade (ODG), from 0 (imperceptible) to -4 (very annoying).

Conventions
-----------
- Signals: float in [-1, 1] or int16, mono [shape=(samples,)] or stereo [shape=(samples, 2)], reference and degraded
  aligned.
- 48 kHz signals are taken as they are. Other rates are resampled by ``scipy.signal.resample_poly(x, up, down)`` with
  its default filter (16 kHz: up = 3, down = 1), then rounded to int16.
- A full-scale sine has 92 dB SPL. Frames of 2048 samples every 1024; 109 bands of a quarter Bark.
- Inner arrays: shape [frames, bins] or [frames, bands], time first.

What this ODG cannot tell
-------------------------
- Where the damage lies matters as much as what it is: the first 0.5 s of sound are left out of the modulation
  differences and of the noise loudness, and short events drown in averages over long signals. 50 ms of zeros in the
  notes of the tests have -1.2 at 0.2 s and -3.9 at 0.6 s. Compare ODGs of signals of one length with the gap at one
  place (the paper: 2 s with the gap at 0.5 s).
- It does not rank fills of a gap sensibly. PEAQ was made for the small impairments of audio codecs; its network has
  not seen missing sound. In the speech of the tests a gap left at zero has -1.05, its linear prediction -1.55.
- The resampler alone is worth more than a grade (16 kHz material has nothing above 8 kHz, and what a resampler leaves
  there decides the bandwidths): in the notes of the tests, a gap of zeros has -1.6 to -3.7. Compare only ODGs that
  come from one resampler.
- The mapping is extrapolated outside the range of its training data. Identical signals have no 0 but 0.19 to 0.21,
  depending on their bandwidth (white noise 0.14).

References
----------
.. [1] ITU-R Recommendation BS.1387-1, "Method for objective measurements of perceived audio quality", 2001.
.. [2] P. Kabal, "An examination and interpretation of ITU-R BS.1387: Perceptual evaluation of audio quality",
   TSP Lab Technical Report, McGill University, 2002, with the program PQevalAudio (MATLAB, v1r0, 2004). Where the
   recommendation is ambiguous, this module does what that program does. "Annex 2" below is the recommendation's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, overload

import numpy as np
import scipy.fft
import scipy.signal
import scipy.special
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ctxe_lib.parallel import map_batches

__all__ = ["MOVS", "NoGrade", "OdgResult", "Reference", "odg", "odg_many"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

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

# what is known of a frame before the averaging, PQevalAudio's names; Pc and Qc, of both channels, come on top
_FRAMES = ("Mt1B", "Mt2B", "Wt", "NMRavg", "NMRmax", "NL", "NRef", "NTest", "BWRef", "BWTest", "EHS")
_MT1, _MT2, _WT, _NMR_AVG, _NMR_MAX, _NL, _N_REF, _N_TEST, _BW_REF, _BW_TEST, _EHS = range(len(_FRAMES))

# -- tables of the ear model -------------------------------------------------------------------------------------

# Band edges and centres in Hz, from the recommendation's table with its slips, as PQevalAudio has them: three edges
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
_DECIBELS = 10 / math.log(10)
_FAINTEST = 1e-12  # least energy of a band
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
_WEAK = 100 * _NOISE**0.3  # compressed energy at which a band counts half for the modulation differences
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

# -- the ear, frame by frame -----------------------------------------------------------------------------------------
# Everything but the FFT is compiled and runs without the interpreter's lock, so that threads run side by side. The
# order of a sum is left to the compiler ("reassoc") where that lets it use vectors; nothing else may round differently.
_COMPILED: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_COMPILED)
def _windowed(samples: Array, frames: Indices) -> Array:
    """Windowed frames [len(frames), FRAME]."""
    windowed = np.empty((frames.size, FRAME))
    for row in range(frames.size):
        for k in range(FRAME):
            windowed[row, k] = samples[frames[row] * HOP + k] * _WINDOW[k]
    return windowed


def _spectra(samples: Array, frames: Indices) -> Iterator[tuple[Indices, NDArray[np.complex128]]]:
    """Spectra [frames, bins] of portions of the frames that stay in the cache."""
    for start in range(0, frames.size, 32):
        part = frames[start : start + 32]
        yield part, scipy.fft.rfft(_windowed(samples, part), overwrite_x=True)


@njit(**_COMPILED)
def _square(spectrum: NDArray[np.complex128], power: Array) -> None:
    for k in range(power.size):
        power[k] = spectrum[k].real ** 2 + spectrum[k].imag ** 2


@njit(**_COMPILED, fastmath={"reassoc"})
def _group(power: Array, bands: Array) -> None:
    """Sum a power spectrum [bins] into bands (Annex 2, 2.1)."""
    for band in range(_BANDS):
        total = 0.0
        for k in range(_FIRST[band], _STOP[band]):
            total += _WEIGHTS[_OFFSET[band] + k] * power[k]
        bands[band] = max(total, _FAINTEST)


@njit(**_COMPILED, fastmath={"reassoc"})
def _spread(energy: Array, total: Array) -> None:
    """Spread the energy [bands] over the neighbouring bands into ``total``, not normalised (Annex 2, 2.1).

    What arrives in a band from elsewhere adds up compressed by the power 0.4.
    """
    share, fall = np.empty(_BANDS), np.empty(_BANDS)
    for band in range(_BANDS):
        log_fall = _FALL_UP[band] + 0.2 * _DZ * math.log(energy[band])
        sum_up = (1 - math.exp((_BANDS - band) * log_fall)) / (1 - math.exp(log_fall))
        share[band] = (energy[band] / (_SUM_DOWN[band] + sum_up - 1)) ** 0.4
        fall[band] = math.exp(0.4 * log_fall)
    downward = 0.0
    for band in range(_BANDS - 1, -1, -1):
        downward = _FALL_DOWN**0.4 * downward + share[band]
        total[band] = downward
    for band in range(1, _BANDS):
        from_below = 0.0
        for source in range(band):
            share[source] *= fall[source]
            from_below += share[source]
        total[band] += from_below
    for band in range(_BANDS):
        total[band] *= total[band] * math.sqrt(total[band])


class _Ear(NamedTuple):
    """Inner representation of a signal."""

    excitation: Array  # [frames, bands], internal noise added, spread over bands and time
    modulation: Array  # [frames, bands]
    envelope: Array  # [frames, bands], average of the compressed excitation
    loudness: Array  # [frames], sone


@njit(**_COMPILED)
def _excite(bands: Array) -> _Ear:
    """Inner representation of a signal, given its energy in bands [frames, bands] (Annex 2, 2.1, 3.2 and 3.3)."""
    excitation, modulation, envelope = np.empty_like(bands), np.empty_like(bands), np.empty_like(bands)
    loudness = np.zeros(bands.shape[0])
    norm, unsmeared = np.empty(_BANDS), np.empty(_BANDS)
    _spread(np.ones(_BANDS), norm)
    smeared, previous, change, average = np.zeros(_BANDS), np.zeros(_BANDS), np.zeros(_BANDS), np.zeros(_BANDS)
    for frame in range(bands.shape[0]):
        _spread(bands[frame] + _NOISE, unsmeared)
        for k in range(_BANDS):
            energy = unsmeared[k] / norm[k]
            smeared[k] = _SMEAR[k] * smeared[k] + (1 - _SMEAR[k]) * energy
            excitation[frame, k] = max(smeared[k], energy)

            compressed = energy**0.3
            slope = FRAMES_PER_SECOND * abs(compressed - previous[k])
            change[k] = _ADAPT[k] * change[k] + (1 - _ADAPT[k]) * slope
            average[k] = _ADAPT[k] * average[k] + (1 - _ADAPT[k]) * compressed
            previous[k] = compressed
            envelope[frame, k] = average[k]
            modulation[frame, k] = change[k] / (1 + average[k] / 0.3)

            specific = (1 - _INDEX[k] + _INDEX[k] / _THRESHOLD[k] * excitation[frame, k]) ** 0.23 - 1
            loudness[frame] += 24 / _BANDS * max(_LOUDNESS[k] * specific, 0.0)
    return _Ear(excitation, modulation, envelope, loudness)


# -- comparison, frame by frame --------------------------------------------------------------------------------------


@njit(**_COMPILED)
def _bandwidths(reference: Array, degraded: Array) -> tuple[int, int]:
    """Bandwidths in bins of two power spectra [bins], -1 where the frame does not count (Annex 2, 4.4)."""
    floor = 0.0
    for k in range(921, 1024):
        floor = max(floor, degraded[k])
    width_r = 921
    while width_r > 347 and reference[width_r - 1] < 10.0 * floor:
        width_r -= 1
    if width_r == 347:
        return -1, -1
    width_d = width_r
    while width_d > 0 and degraded[width_d - 1] < 10**0.5 * floor:
        width_d -= 1
    return width_r, width_d if width_d > 0 else -1


@njit(**_COMPILED)
def _analyse(spectra: NDArray[np.complex128], frames: Indices, power: Array, bands: Array, widths: Array) -> None:
    """Fill in rows of power spectra [frames, bins], energies [frames, bands] and bandwidths [frames, 2]."""
    for row in range(frames.size):
        frame = frames[row]
        _square(spectra[row], power[frame])
        _group(power[frame], bands[frame])
        widths[frame] = _bandwidths(power[frame], power[frame])


@njit(**_COMPILED, fastmath={"reassoc"})
def _correlate(reference: Array, degraded: Array, row: Array) -> None:
    """Normalised correlation [_LAGS] of the log ratio of two power spectra, without mean, windowed (Annex 2, 4.8).

    0 if a bin of either spectrum is 0: PQevalAudio's value is then no number, and its search for a peak ends at 0.
    """
    ratio = np.empty(2 * _LAGS - 1)
    for k in range(ratio.size):
        if reference[k] == 0 or degraded[k] == 0:
            row[:] = 0
            return
        ratio[k] = math.log(degraded[k] / reference[k])
    for lag in range(_LAGS):
        total = 0.0
        for k in range(_LAGS):
            total += ratio[k] * ratio[lag + k]
        row[lag] = total
    first = energy = row[0]
    row[0] = mean = 1.0
    for lag in range(1, _LAGS):
        energy += ratio[lag + _LAGS - 1] ** 2 - ratio[lag - 1] ** 2
        row[lag] = row[lag] / math.sqrt(first * energy) if first * energy > 0 else 1.0
        mean += row[lag]
    for lag in range(_LAGS):
        row[lag] = _EHS_WINDOW[lag] * (row[lag] - mean / _LAGS)


@njit(**_COMPILED)
def _compare_spectra(
    spectra: NDArray[np.complex128],
    frames: Indices,
    reference: Array,
    bands: Array,
    noise: Array,
    widths: Array,
    correlation: Array,
) -> None:
    """Fill in the rows of frames that differ from the reference, whose power [frames, bins] is given.

    Energies and energies of the error [frames, bands], bandwidths [frames, 2], and the correlations behind the error
    harmonic structure [frames, _LAGS].
    """
    power, difference = np.empty(reference.shape[1]), np.empty(reference.shape[1])
    for row in range(frames.size):
        frame = frames[row]
        _square(spectra[row], power)
        _group(power, bands[frame])
        for k in range(_STOP[-1]):
            r, d = reference[frame, k], power[k]
            difference[k] = (r - 2.0 * math.sqrt(r * d)) + d  # of the magnitudes, squared (Annex 2, 3.4)
        _group(difference, noise[frame])
        widths[frame] = _bandwidths(reference[frame], power)
        _correlate(reference[frame], power, correlation[frame])


@njit(**_COMPILED)
def _compare_bands(reference: _Ear, degraded: Array, noise: Array, frames: Array) -> None:
    """Fill in five rows of the precursors, from patterns and energies of the error [frames, bands].

    Two differences of modulations and the weight of the frame, mean and maximum of the noise-to-mask ratio (Annex 2,
    4.2 and 4.5).
    """
    for frame in range(len(noise)):
        for k in range(_BANDS):
            r, d, envelope = reference.modulation[frame, k], degraded[frame, k], reference.envelope[frame, k]
            ratio = noise[frame, k] * _MASK[k] / reference.excitation[frame, k]
            frames[_MT1, frame] += 100 / _BANDS * abs(r - d) / (1 + r)
            frames[_MT2, frame] += 100 / _BANDS * (0.1 * (r - d) if r > d else d - r) / (0.01 + r)
            frames[_WT, frame] += envelope / (envelope + _WEAK[k])
            frames[_NMR_AVG, frame] += ratio / _BANDS
            frames[_NMR_MAX, frame] = max(frames[_NMR_MAX, frame], ratio)


@njit(**_COMPILED, fastmath={"reassoc"})
def _harmonic_structure(cepstra: NDArray[np.complex128], reference: Array, degraded: Array) -> Array:
    """Error harmonic structure [frames], given the transformed correlations and both signals (Annex 2, 4.8).

    -1 where both are faint in the second half of the frame. As PQevalAudio v1r0 has it: the largest value that exceeds
    the one at zero, not the first peak after a valley.
    """
    structure = np.zeros(len(cepstra))
    values = np.empty(cepstra.shape[1])
    for frame in range(len(cepstra)):
        energy_r = energy_d = 0.0
        for k in range((frame + 1) * HOP, (frame + 2) * HOP):
            energy_r += reference[k] * reference[k]
            energy_d += degraded[k] * degraded[k]
        _square(cepstra[frame], values)
        peak = values.max()
        if energy_r < 8000 and energy_d < 8000:
            structure[frame] = -1
        elif peak > values[0]:
            structure[frame] = peak
    return structure


@njit(**_COMPILED)
def _noise_loudness(reference: _Ear, degraded: _Ear) -> Array:
    """Partial loudness [frames] of the additive distortion (Annex 2, 3.1 and 4.3).

    Differences in level and linear distortions are taken out first: both signals are adapted to each other.
    """
    loudness = np.zeros(len(reference.loudness))
    smooth_r, smooth_d, cross, own = np.zeros(_BANDS), np.zeros(_BANDS), np.zeros(_BANDS), np.zeros(_BANDS)
    gain_r, gain_d, correction_r, correction_d = np.ones(_BANDS), np.ones(_BANDS), np.zeros(_BANDS), np.zeros(_BANDS)
    for frame in range(len(loudness)):
        both = total = 0.0
        for k in range(_BANDS):
            smooth_r[k] = _ADAPT[k] * smooth_r[k] + (1 - _ADAPT[k]) * reference.excitation[frame, k]
            smooth_d[k] = _ADAPT[k] * smooth_d[k] + (1 - _ADAPT[k]) * degraded.excitation[frame, k]
            both += math.sqrt(smooth_d[k] * smooth_r[k])
            total += smooth_d[k]
        level = (both / total) ** 2
        level_r, level_d = 1 / max(level, 1.0), min(level, 1.0)
        for k in range(_BANDS):
            r, d = reference.excitation[frame, k] * level_r, degraded.excitation[frame, k] * level_d
            cross[k] = _ADAPT[k] * cross[k] + d * r
            own[k] = _ADAPT[k] * own[k] + r * r
            gain_r[k], gain_d[k] = min(cross[k] / own[k], 1.0), min(own[k] / cross[k], 1.0)
        for k in range(_BANDS):
            start, stop = max(k - 3, 0), min(k + 5, _BANDS)
            mean_r = mean_d = 0.0
            for neighbour in range(start, stop):
                mean_r += gain_r[neighbour] / (stop - start)
                mean_d += gain_d[neighbour] / (stop - start)
            correction_r[k] = _ADAPT[k] * correction_r[k] + (1 - _ADAPT[k]) * mean_r
            correction_d[k] = _ADAPT[k] * correction_d[k] + (1 - _ADAPT[k]) * mean_d
            r = reference.excitation[frame, k] * level_r * correction_r[k]
            d = degraded.excitation[frame, k] * level_d * correction_d[k]

            slope_r, slope_d = 0.15 * reference.modulation[frame, k] + 0.5, 0.15 * degraded.modulation[frame, k] + 0.5
            excess = slope_d * d - slope_r * r
            if excess > 0:
                masked = _NOISE[k] + slope_r * r * math.exp(-1.5 * (d - r) / r)
                partial = (_NOISE[k] / slope_d) ** 0.23 * ((1 + excess / masked) ** 0.23 - 1)
                loudness[frame] += 24 / _BANDS * partial
    return loudness


@njit(**_COMPILED)
def _compare(reference: _Ear, bands: Array, noise: Array, widths: Array, structure: Array) -> tuple[Array, Array]:
    """Precursors of the MOVs [len(_FRAMES), frames] of one channel, and its excitation [frames, bands]."""
    degraded = _excite(bands)
    frames = np.zeros((len(_FRAMES), len(bands)))
    _compare_bands(reference, degraded.modulation, noise, frames)
    frames[_NL] = _noise_loudness(reference, degraded)
    frames[_N_REF], frames[_N_TEST] = reference.loudness, degraded.loudness
    frames[_BW_REF], frames[_BW_TEST] = widths[:, 0], widths[:, 1]
    frames[_EHS] = structure
    return frames, degraded.excitation


@njit(**_COMPILED)
def _detect(reference: Array, degraded: Array) -> tuple[Array, Array]:
    """Probability that a difference of excitations is heard, and its size in audible steps (Annex 2, 4.7).

    Excitations [channels, frames, bands]; in every band the channel counts where more is heard. Both [frames].
    """
    channels, frames, _ = reference.shape
    probability, steps = np.zeros(frames), np.zeros(frames)
    for frame in range(frames):
        unheard = 1.0
        for k in range(_BANDS):
            p = q = 0.0
            for channel in range(channels):
                r, d = reference[channel, frame, k], degraded[channel, frame, k]
                if r == d:
                    continue
                r, d = _DECIBELS * math.log(r), _DECIBELS * math.log(d)
                level = 0.3 * max(r, d) + 0.7 * d
                step = 1e30
                if level > 0:
                    cubic = -0.00102438 + level * (5.05622e-6 + level * 9.01033e-11)
                    step = 5.95072 * (6.39468 / level) ** 1.71332 - 0.198719 + level * (0.0550197 + level * cubic)
                square = ((r - d) / step) ** 2
                p = max(p, 1 - math.exp(-math.log(2) * square * square * (1.0 if r > d else square)))
                q = max(q, abs(math.trunc(r - d)) / step)
            unheard *= 1 - p
            steps[frame] += q
        probability[frame] = 1 - unheard
    return probability, steps


class _Channel:
    """One channel of the reference: ``samples`` [(frames + 1) * HOP] at 48 kHz, in units of int16."""

    def __init__(self, samples: Array) -> None:
        frames = samples.size // HOP - 1
        self.samples = samples
        self.power, self.bands = np.empty((frames, FRAME // 2 + 1)), np.empty((frames, _BANDS))
        self.widths = np.empty((frames, 2))
        for part, spectra in _spectra(samples, np.arange(frames)):
            _analyse(spectra, part, self.power, self.bands, self.widths)
        self.ear = _excite(self.bands)

    def compare(self, samples: Array) -> tuple[Array, Array]:
        """Precursors of the MOVs [len(_FRAMES), frames], and the degraded channel's excitation [frames, bands].

        Spectra are computed and compared where the signals differ (the window is zero at both ends of a frame): a gap
        touches few frames.
        """
        differs = (samples != self.samples).reshape(-1, HOP)
        changed = np.flatnonzero(differs[:-1, 1:].any(axis=1) | differs[1:, :-1].any(axis=1))
        bands, widths = self.bands.copy(), self.widths.copy()
        noise, correlation = np.full(bands.shape, _FAINTEST), np.zeros((len(bands), _LAGS))
        for part, spectra in _spectra(samples, changed):
            _compare_spectra(spectra, part, self.power, bands, noise, widths, correlation)
        structure = _harmonic_structure(scipy.fft.rfft(correlation), self.samples, samples)
        return _compare(self.ear, bands, noise, widths, structure)


# -- averages over time, and the network -----------------------------------------------------------------------------


@njit(**_COMPILED)
def _mean_of_counted(x: Array) -> float:
    """Mean of the values that are not negative, 0 if there are none."""
    total, count = 0.0, 0
    for value in x:
        if value >= 0:
            total += value
            count += 1
    return total / max(count, 1)


@njit(**_COMPILED)
def _average(frames: Array, probability: Array, steps: Array, delay: int) -> Array:
    """MOVs [len(MOVS)] from their precursors [len(_FRAMES), channels, frames] (Annex 2, 5).

    ``delay`` frames are left out of the modulation differences, and of the noise loudness, which begins 50 ms after
    both signals have been louder than 0.1 sone for the first time in one of the channels.
    """
    _, channels, count = frames.shape
    onset = count
    for channel in range(channels):
        for frame in range(onset):
            if frames[_N_REF, channel, frame] > 0.1 and frames[_N_TEST, channel, frame] > 0.1:
                onset = frame
                break
    onset = max(onset + math.ceil(0.05 * FRAMES_PER_SECOND), delay)

    detected = probability > 0.5
    distance = steps[detected].sum()
    if distance > 0:
        distance = math.log10(distance / detected.sum())
    elif detected.any():
        distance = -0.5
    smoothed = largest = 0.0
    for value in probability:
        smoothed = 0.9 * smoothed + (1 - 0.9) * value
        largest = max(largest, smoothed)

    movs = np.empty((channels, len(MOVS)))
    for channel in range(channels):
        change_1, change_2 = frames[_MT1, channel, delay:], frames[_MT2, channel, delay:]
        weight, noise = frames[_WT, channel, delay:], frames[_NL, channel, onset:]
        windowed = 0.0
        for stop in range(_WINDOWED, change_1.size + 1):
            windowed += np.sqrt(change_1[stop - _WINDOWED : stop]).mean() ** 4
        movs[channel] = (
            _mean_of_counted(frames[_BW_REF, channel]),
            _mean_of_counted(frames[_BW_TEST, channel]),
            10 * math.log10(frames[_NMR_AVG, channel].mean()),
            math.sqrt(windowed / (change_1.size + 1 - _WINDOWED)),
            distance,
            1000 * _mean_of_counted(frames[_EHS, channel]),
            (weight * change_1).sum() / weight.sum(),
            (weight * change_2).sum() / weight.sum(),
            math.sqrt((noise * noise).sum() / max(noise.size, 1)),
            largest,
            (frames[_NMR_MAX, channel] > 10**0.15).mean(),
        )
    return movs.sum(axis=0) / channels


# The network of the basic version: ranges of its inputs, weights of the hidden layer (one row per MOV) and the output.
_INPUT_MIN = np.array([
    393.916656, 361.965332, -24.045116, 1.110661, -0.206623, 0.074318, 1.113683, 0.950345, 0.029985, 0.000101, 0.0,
])  # fmt: skip
_INPUT_MAX = np.array([
    921.0, 881.131226, 16.212030, 107.137772, 2.886017, 13.933351, 63.257874, 1145.018555, 14.819740, 1.0, 1.0,
])  # fmt: skip
_HIDDEN = np.array([
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
])  # fmt: skip
_HIDDEN_BIAS = np.array([-2.518254, 0.654841, -2.207228])
_OUTPUT = np.array([-3.817048, 4.107138, 4.629582])
_OUTPUT_BIAS = -0.307594
_ODG_MIN, _ODG_MAX = -3.98, 0.22


def _grade(movs: Array) -> tuple[float, float]:
    """ODG and DI from the MOVs (Annex 2, 6)."""
    hidden = scipy.special.expit((movs - _INPUT_MIN) / (_INPUT_MAX - _INPUT_MIN) @ _HIDDEN + _HIDDEN_BIAS)
    di = float(hidden @ _OUTPUT) + _OUTPUT_BIAS
    return _ODG_MIN + (_ODG_MAX - _ODG_MIN) * float(scipy.special.expit(di)), di


# -- what to call --------------------------------------------------------------------------------------------------


class NoGrade(ValueError):
    """PEAQ has no grade for this audio: it is silent or too short."""


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
    """Signal at 48 kHz in units of int16, [channels, samples + HOP] with zeros at the end, or what is wrong with it."""
    x = np.asarray(signal)
    if x.dtype != np.int16 and not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name} has dtype {x.dtype}: floats in [-1, 1] or int16 are wanted")
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[1] != 2):
        raise ValueError(f"{name} has shape {x.shape}: [samples] or [samples, 2] is wanted")
    scale = 1.0 if x.dtype == np.int16 else FULL_SCALE
    peak = max(float(x.max(initial=0)), -float(x.min(initial=0))) * scale / FULL_SCALE
    if not math.isfinite(peak):
        raise ValueError(f"{name} has {np.count_nonzero(~np.isfinite(x))} values that are NaN or infinite")
    if peak > 8:
        raise ValueError(f"{name} has a peak of {peak:g}: floats in [-1, 1] or int16 are wanted")
    channels = x[None] if x.ndim == 1 else x.T
    if sample_rate != RATE and peak > 0:
        common = math.gcd(sample_rate, RATE)
        scaled = np.multiply(channels, scale, dtype=np.float64)
        resampled = scipy.signal.resample_poly(scaled, RATE // common, sample_rate // common, axis=-1)
        channels, scale = np.clip(np.round(resampled), -FULL_SCALE, FULL_SCALE - 1), 1.0
    if not channels.any():
        raise NoGrade(f"{name} is silent: a signal with sound is wanted")
    y = np.zeros((len(channels), channels.shape[1] + HOP))
    np.multiply(channels, scale, out=y[:, :-HOP], dtype=np.float64)
    return y


@njit(**_COMPILED)
def _first_sound(x: Array) -> int:
    """Index of the first five neighbouring samples whose magnitudes sum up to more than 200; -1 if there are none."""
    for start in range(x.size - 4):
        if abs(x[start]) + abs(x[start + 1]) + abs(x[start + 2]) + abs(x[start + 3]) + abs(x[start + 4]) > 200.0:
            return start
    return -1


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
    signal : array_like [shape=(samples,) or (samples, 2)]
        Float in [-1, 1] or int16.
    sample_rate : int
        In Hz; rates other than 48000 are resampled, see the module's conventions.

    Raises
    ------
    TypeError
        If `signal` is neither float nor int16.
    ValueError
        If it is no audio (shape, NaN, peak above 8), or `sample_rate` has no simple ratio to 48000.
    NoGrade
        A ValueError: if it is silent (no five neighbouring samples whose magnitudes sum up to more than 200 / 32768),
        or too short (0.6 s of sound, less if it begins late).
    """

    def __init__(self, signal: ArrayLike, sample_rate: int) -> None:
        if not isinstance(sample_rate, int | np.integer) or sample_rate <= 0:
            raise ValueError(f"sample_rate={sample_rate!r} must be an integer > 0, in Hz")
        self.sample_rate = int(sample_rate)
        if RATE // math.gcd(self.sample_rate, RATE) > 640:
            raise ValueError(f"sample_rate={sample_rate} has no simple ratio to {RATE}: resample to 48000 or 16000 Hz")
        self.shape = np.shape(signal)
        samples = _samples(signal, self.sample_rate, "reference")
        bounds = _sound(samples[:, :-HOP])
        if bounds is None:
            raise NoGrade(
                "reference is silent: its level must exceed 200 / 32768, summed over five neighbouring magnitudes"
            )
        self._start, self._stop = bounds[0] // HOP, (bounds[1] + 1) // HOP
        self._delay = max(0, math.ceil(0.5 * FRAMES_PER_SECOND) - self._start)
        frames, wanted = self._stop - self._start, self._delay + _WINDOWED
        if frames < wanted:
            raise NoGrade(
                f"reference is too short: from {bounds[0] / RATE:.3f} s to {bounds[1] / RATE:.3f} s there are "
                f"{max(frames, 0)} frames of sound, at least {wanted} ({wanted * HOP / RATE:.2f} s) are wanted"
            )
        self._channels = [_Channel(x[: (self._stop + 1) * HOP]) for x in samples]

    def frames(self, degraded: ArrayLike) -> dict[str, Array]:
        """Quantities per frame (1024 samples at 48 kHz), from the first frame with sound on, before any averaging.

        Parameters
        ----------
        degraded : array_like [shape of the reference]
            Float in [-1, 1] or int16, at the reference's sample rate.

        Returns
        -------
        dict of str to np.ndarray [shape=(channels, frames)]
            Modulation differences ``Mt1B`` and ``Mt2B`` and their weight ``Wt``, noise loudness ``NL``, loudness
            ``NRef`` and ``NTest``, bandwidths ``BWRef`` and ``BWTest`` in bins (-1: none), noise-to-mask ratios
            ``NMRavg`` and ``NMRmax``, error harmonic structure ``EHS`` (-1: none); and of both channels together
            [shape=(1, frames)], the probability of detection ``Pc`` and the steps above threshold ``Qc``.

        Raises
        ------
        TypeError, ValueError
            If `degraded` is no audio, is silent, or differs in shape from the reference.
        """
        precursors, probability, steps = self._compare(degraded)
        return dict(zip(_FRAMES, precursors, strict=True)) | {"Pc": probability[None], "Qc": steps[None]}

    def odg(self, degraded: ArrayLike) -> OdgResult:
        """Grade one degraded version; parameters and errors as in :meth:`frames`."""
        movs = _average(*self._compare(degraded), self._delay)
        grade, di = _grade(movs)
        return OdgResult(odg=grade, di=di, movs=dict(zip(MOVS, movs.tolist(), strict=True)))

    def _compare(self, degraded: ArrayLike) -> tuple[Array, Array, Array]:
        """Precursors [len(_FRAMES), channels, frames], probability of detection and audible steps [frames]."""
        if np.shape(degraded) != self.shape:
            raise ValueError(f"degraded has shape {np.shape(degraded)}: that of the reference, {self.shape}, is wanted")
        samples = _samples(degraded, self.sample_rate, "degraded")[:, : (self._stop + 1) * HOP]
        channels = [channel.compare(x) for channel, x in zip(self._channels, samples, strict=True)]
        probability, steps = _detect(
            np.stack([channel.ear.excitation for channel in self._channels]), np.stack([x for _, x in channels])
        )
        precursors = np.stack([x for x, _ in channels], axis=1)
        return precursors[:, :, self._start :], probability[self._start :], steps[self._start :]


def odg(reference: ArrayLike, degraded: ArrayLike, sample_rate: int) -> OdgResult:
    """Objective difference grade of a degraded signal against its reference, as PQevalAudio v1r0 computes it.

    Parameters
    ----------
    reference, degraded : array_like [shape=(samples,) or (samples, 2)]
        Aligned signals of equal shape, float in [-1, 1] or int16.
    sample_rate : int
        In Hz; rates other than 48000 are resampled, see the module's conventions.

    Returns
    -------
    OdgResult
        ODG, DI and the eleven MOVs. Identical signals give the ceiling, about 0.2 depending on their bandwidth.

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


def _grade_batch(items: Sequence[tuple[int, ArrayLike, Sequence[ArrayLike]]], versions: int, sample_rate: int) -> Array:
    """ODG, DI and MOVs [items, versions, 13] of items: index, reference, degraded versions."""
    grades = np.empty((len(items), versions, 2 + len(MOVS)))
    for row, (index, reference, signals) in zip(grades, items, strict=True):
        try:
            heard = Reference(reference, sample_rate)
            for column, degraded in enumerate(signals):
                result = heard.odg(degraded)
                row[column] = result.odg, result.di, *result.movs.values()
        except (TypeError, ValueError) as error:
            raise type(error)(f"pair {index}: {error}") from error
    return grades


@overload
def odg_many(
    references: Sequence[ArrayLike],
    degraded: Mapping[str, Sequence[ArrayLike]],
    sample_rate: int,
    *,
    n_jobs: int = 1,
    dask: str | None = None,
) -> dict[str, list[OdgResult]]: ...


@overload
def odg_many(
    references: Sequence[ArrayLike],
    degraded: Sequence[ArrayLike],
    sample_rate: int,
    *,
    n_jobs: int = 1,
    dask: str | None = None,
) -> list[OdgResult]: ...


def odg_many(
    references: Sequence[ArrayLike],
    degraded: Sequence[ArrayLike] | Mapping[str, Sequence[ArrayLike]],
    sample_rate: int,
    *,
    n_jobs: int = 1,
    dask: str | None = None,
) -> list[OdgResult] | dict[str, list[OdgResult]]:
    """Grade many pairs; the result does not depend on who works on them.

    Parameters
    ----------
    references : sequence of n array_like, or np.ndarray [shape=(n, samples) or (n, samples, 2)]
        Reference signals, see :func:`odg`.
    degraded : the same, or a mapping from names (of inpainting methods, say) to the same
        Degraded signals. Several versions of a reference cost less in one call: it is analysed once.
    sample_rate : int
        In Hz.
    n_jobs : int
        Threads; -1 for as many as there are cores.
    dask : str, optional
        Address of a Dask scheduler whose workers take part instead.

    Returns
    -------
    list of n OdgResult, or dict of such lists under the names of `degraded`

    Raises
    ------
    TypeError, ValueError
        As :func:`odg`, with the index of the pair; ValueError if the numbers of signals differ.
    """
    versions = degraded if isinstance(degraded, Mapping) else {"degraded": degraded}
    for name, signals in versions.items():
        if len(signals) != len(references):
            raise ValueError(
                f"{name} has {len(signals)} signals: one for each of {len(references)} references is wanted"
            )
    items: Any = list(zip(range(len(references)), references, zip(*versions.values(), strict=True), strict=True))
    grade = partial(_grade_batch, versions=len(versions), sample_rate=sample_rate)
    grades = map_batches(grade, items, n_jobs=n_jobs, batch=8, dask=dask)
    results = {
        name: [OdgResult(odg, di, dict(zip(MOVS, movs, strict=True))) for odg, di, *movs in grades[:, column].tolist()]
        for column, name in enumerate(versions)
    }
    return results if isinstance(degraded, Mapping) else results["degraded"]
