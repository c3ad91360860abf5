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
    restored, weight = np.zeros_like(signals), np.zeros(geometry.length)
    for start in starts:
        frame = slice(start, start + size)
        known = np.ones(geometry.length, dtype=bool)
        known[geometry.gap_samples] = False
        weight[frame] += window**2
        for row, signal in zip(restored, signals, strict=True):
            row[frame] += window * _restore(window * signal[frame], known[frame], step, sparsity, tolerance)
    gap = np.ldexp((restored / weight)[:, geometry.gap_samples], -shifts[:, None])
    bound = lpc.BOUND * peaks[:, None]
    return np.clip(gap, -bound, bound)


def _restore(
    frame: NDArray[np.float64], known: NDArray[np.bool_], step: int, sparsity: int, tolerance: float
) -> NDArray[np.float64]:
    """A-SPAIN on one windowed frame, whose unknown samples are zero."""
    size = _REDUNDANCY * frame.size
    samples = frame[known]
    enough = tolerance * np.linalg.norm(samples)
    spectrum = fft.rfft(frame, size, norm="ortho")
    dual = np.zeros_like(spectrum)
    for count in range(step, min(sparsity, spectrum.size) + 1, step):
        summed = spectrum + dual
        power = summed.real**2 + summed.imag**2
        sparse = np.where(power >= np.partition(power, -count)[-count], summed, 0.0)
        frame = fft.irfft(sparse - dual, size, norm="ortho")[: frame.size]
        frame[known] = samples
        spectrum = fft.rfft(frame, size, norm="ortho")
        difference = spectrum - sparse
        # Each coefficient between 0 Hz and half the sample rate stands for its mirror image as well.
        if math.sqrt(2.0) * np.linalg.norm(difference) <= enough:
            break
        dual += difference
    return frame
