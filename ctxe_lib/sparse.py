"""Sparsity in time and frequency: A-SPAIN, the analysis form of the SParse Audio INpainter [1]_.

The signal is cut into long windowed frames, and each frame that the gap touches is restored by itself: among all
frames with the known samples, find one whose spectrum has few coefficients that matter. The search alternates, as
ADMM does, between keeping the ``k`` largest coefficients and putting the known samples back, while ``k`` grows. The
restored frames overlap and add up to the gap.

Parameters
----------
As in [1]_: Hann windows, a Fourier transform of redundancy 2 (frames padded to twice their length), one iteration
for each ``k``. Different from [1]_, because a gap here is as long as a whole frame there (64 ms): frames of twice the
context (256 ms), ``k`` grows by 2, the search ends at ``k = 400`` at the latest, and the tolerance is relative. Those
values were chosen on training and validation tracks; growing by 4 is 0.4 dB (SNR_TD) better on music and 2 dB worse
on instruments.

Edges
-----
A silent segment stays silent, and no sample exceeds `ctxe_lib.lpc.BOUND` times the peak of the louder context: it is
clipped there.

References
----------
.. [1] O. Mokrý, P. Záviška, P. Rajmic and V. Veselý, "Introducing SPAIN (SParse Audio INpainter)", EUSIPCO, 2019.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from ctxe_lib import lpc
from ctxe_lib.geometry import Geometry

__all__ = ["inpaint"]

_REDUNDANCY = 2
_CHUNK = 4  # segments that go through the search together: few calls from Python, and yet a small memory


def inpaint(
    segments: ArrayLike, geometry: Geometry, *, step: int = 2, sparsity: int = 400, tolerance: float = 0.03
) -> NDArray[np.float64]:
    """Fill the gap of each segment with the sparsest spectra that agree with its contexts.

    Parameters
    ----------
    segments : array_like [shape=(n, geometry.length)]
        Audio of any real type in any unit; the result has the same unit. What the gap holds is never read.
    geometry : Geometry
        Where the gap is.
    step : int
        By how many coefficients the spectra may grow from iteration to iteration (``s`` in the paper, with its
        ``r = 1``).
    sparsity : int
        Most coefficients of a frame's one-sided spectrum.
    tolerance : float
        A frame is done when its spectrum and the nearest sparse one differ by no more than this part of the known
        samples' norm.

    Returns
    -------
    np.ndarray [shape=(n, geometry.gap)]
        The audio of the gaps.

    Raises
    ------
    ValueError
        If the segments do not fit the geometry, a context holds a NaN or an infinity, `step` or `sparsity` is no
        integer > 0 or `step` is the larger, or `tolerance` is no number > 0.
    """
    before, after = lpc.contexts(segments, geometry)
    step, sparsity = lpc.checked_count(step, "step"), lpc.checked_count(sparsity, "sparsity")
    if step > sparsity:
        raise ValueError(f"step={step} must not exceed sparsity={sparsity}: the first spectrum has step coefficients")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance!r} must be a number > 0")
    peaks, shifts = lpc.levels(before, after)
    blank = np.zeros((len(before), geometry.gap))
    signals = np.ldexp(np.concatenate([before, blank, after], axis=1), shifts[:, None])

    size = 2 * geometry.context
    window = np.hanning(size + 2)[1:-1]
    # Frames overlap by 7/8 or more, and lie symmetrically about the gap.
    starts = np.linspace(0, geometry.gap, 1 + math.ceil(8 * geometry.gap / size)).astype(int)
    missing = np.zeros(geometry.length, dtype=bool)
    missing[geometry.gap_samples] = True
    pieces = [slice(start, start + size) for start in starts]
    unknown = np.stack([missing[piece] for piece in pieces])
    weight = np.zeros(geometry.length)
    for piece in pieces:
        weight[piece] += window**2
    restored = np.zeros_like(signals)
    for first in range(0, len(signals), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        frames = np.stack([window * signals[chunk, piece] for piece in pieces], axis=1)
        masks = np.broadcast_to(unknown, frames.shape).reshape(-1, size)
        done = _restore(frames.reshape(-1, size), masks, step, sparsity, tolerance).reshape(frames.shape)
        for i, piece in enumerate(pieces):
            restored[chunk, piece] += window * done[:, i]
    gap = np.ldexp((restored / weight)[:, geometry.gap_samples], -shifts[:, None])
    bound = lpc.BOUND * peaks[:, None]
    return np.clip(gap, -bound, bound)


@lpc.jit
def _power(spectrum, dual, summed, power):  # type: ignore[no-untyped-def]
    """Sum of spectrum and dual variable, and its power (all [rows, bins])."""
    for row in range(len(power)):
        for k in range(power.shape[1]):
            value = spectrum[row, k] + dual[row, k]
            summed[row, k] = value
            power[row, k] = value.real * value.real + value.imag * value.imag


@lpc.jit
def _keep_largest(summed, power, threshold, dual, shifted):  # type: ignore[no-untyped-def]
    """Set what lies below each row's threshold to zero, in place; `shifted` receives the rest less the dual."""
    for row in range(len(power)):
        least = threshold[row]
        for k in range(power.shape[1]):
            value = summed[row, k] if power[row, k] >= least else 0j
            summed[row, k] = value
            shifted[row, k] = value - dual[row, k]


@lpc.jit
def _update(spectrum, sparse, dual, norm):  # type: ignore[no-untyped-def]
    """Add the difference of spectrum and sparse spectrum to the dual variable; `norm` [rows] receives its norm."""
    for row in range(len(norm)):
        energy = 0.0
        for k in range(spectrum.shape[1]):
            difference = spectrum[row, k] - sparse[row, k]
            energy += difference.real * difference.real + difference.imag * difference.imag
            dual[row, k] += difference
        norm[row] = math.sqrt(energy)


def _restore(
    frames: NDArray[np.float64], unknown: NDArray[np.bool_], step: int, sparsity: int, tolerance: float
) -> NDArray[np.float64]:
    """A-SPAIN on windowed frames [rows, samples], whose unknown samples are zero; each row ends when it is done."""
    size = _REDUNDANCY * frames.shape[1]
    restored, estimate, rows = frames.copy(), frames, np.arange(len(frames))
    enough = tolerance * np.linalg.norm(frames, axis=1)
    spectrum = fft.rfft(frames, size, norm="ortho")
    dual = np.zeros_like(spectrum)
    for count in range(step, min(sparsity, spectrum.shape[1]) + 1, step):
        sparse, shifted = np.empty_like(spectrum), np.empty_like(spectrum)
        power, norm = np.empty(spectrum.shape), np.empty(len(rows))
        _power(spectrum, dual, sparse, power)
        _keep_largest(sparse, power, np.partition(power, -count, axis=1)[:, -count], dual, shifted)
        found = fft.irfft(shifted, size, norm="ortho", overwrite_x=True)[:, : frames.shape[1]]
        estimate = np.where(unknown, found, frames)
        spectrum = fft.rfft(estimate, size, norm="ortho", overwrite_x=True)
        _update(spectrum, sparse, dual, norm)
        # Each coefficient between 0 Hz and half the sample rate stands for its mirror image as well.
        going = math.sqrt(2.0) * norm > enough
        if not going.all():
            restored[rows[~going]] = estimate[~going]
            rows, estimate = rows[going], estimate[going]
            frames, unknown, enough = frames[going], unknown[going], enough[going]
            spectrum, dual = spectrum[going], dual[going]
            if not rows.size:
                break
    restored[rows] = estimate
    return restored
