"""Phase recovery from magnitudes: PGHI and the fast Griffin-Lim algorithm (section 2.4 of the paper).

A magnitude network leaves the phase of the gap's frames open. As in the paper, it is first integrated from the
magnitude's gradients (phase gradient heap integration [1]_ [2]_), starting at the known phase of the context, then
refined by iterations of the fast Griffin-Lim algorithm [3]_ in which the context's coefficients are restored every
time. Both follow the programs that the paper used (LTFAT's ``constructphasereal``, PHASERET's ``gla``) to rounding;
what those fill with random numbers, the phase of coefficients below the tolerance, is zero here.

Conventions: coefficients [..., frames, bins], circular in time, phase in radians relative to the frame's centre.

References
----------
.. [1] Z. Průša, P. Balazs, P. L. Søndergaard, "A noniterative method for reconstruction of phase from STFT
       magnitude", IEEE/ACM Trans. Audio, Speech, Lang. Process. 25(5), 2017.
.. [2] Z. Průša, P. L. Søndergaard, "Real-time spectrogram inversion using phase gradient heap integration",
       DAFx-16, 2016.
.. [3] N. Perraudin, P. Balazs, P. L. Søndergaard, "A fast Griffin-Lim algorithm", WASPAA, 2013.
"""

from __future__ import annotations

import numba
import numpy as np
import scipy.fft

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import dual_window, istft, merge, stft, window

__all__ = ["HANN_GAMMA", "fast_griffin_lim", "pghi", "reconstruct", "recover"]

HANN_GAMMA = 0.25645
"""Width of the Gaussian nearest to a Hann window of unit length: ``gamma = HANN_GAMMA * window**2`` ([1]_, table I)."""

_LOG_RANGE = 11.0  # log magnitudes are floored this far below their maximum, about 96 dB

# States of a coefficient during the integration
_LOW, _OPEN, _DONE = -1, 0, 1


# -- phase gradient heap integration ------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _push(heap: np.ndarray, size: int, key: int, magnitude: np.ndarray) -> int:
    """Insert into a binary heap of indices, largest magnitude first; equal ones stay in order of arrival."""
    position = size
    while position > 0:
        parent = (position - 1) >> 1
        if magnitude[heap[parent]] >= magnitude[key]:
            break
        heap[position] = heap[parent]
        position = parent
    heap[position] = key
    return size + 1


@numba.njit(cache=True, nogil=True)
def _pop(heap: np.ndarray, size: int, magnitude: np.ndarray) -> int:
    """Remove the largest entry, which the caller has read from ``heap[0]``."""
    size -= 1
    key = heap[size]
    position, child = 0, 1
    while child < size:
        if child + 1 < size and magnitude[heap[child]] < magnitude[heap[child + 1]]:
            child += 1
        if magnitude[heap[child]] <= magnitude[key]:
            break
        heap[position] = heap[child]
        position, child = child, 2 * child + 1
    heap[position] = key
    return size


@numba.njit(cache=True, nogil=True)
def _integrate(magnitude, time_gradient, frequency_gradient, state, phase, frames, bins):  # type: ignore[no-untyped-def]
    """Spread the phase from the coefficients that are done to all open ones, strongest first (flat arrays, in place).

    The heap starts with the done coefficients that have an open neighbour; when it runs empty, the strongest open
    coefficient starts an island of its own at phase zero.
    """
    heap = np.empty(frames * bins, np.int64)
    size = 0
    for w in range(frames * bins):
        if state[w] == _DONE:
            n, m = divmod(w, bins)
            if (
                (m + 1 < bins and state[w + 1] == _OPEN)
                or (n + 1 < frames and state[w + bins] == _OPEN)
                or (m > 0 and state[w - 1] == _OPEN)
                or (n > 0 and state[w - bins] == _OPEN)
            ):
                size = _push(heap, size, w, magnitude)
    while True:
        while size > 0:
            w = heap[0]
            size = _pop(heap, size, magnitude)
            n, m = divmod(w, bins)
            if m + 1 < bins and state[w + 1] == _OPEN:
                phase[w + 1] = phase[w] + (frequency_gradient[w] + frequency_gradient[w + 1]) / 2
                state[w + 1] = _DONE
                size = _push(heap, size, w + 1, magnitude)
            if m > 0 and state[w - 1] == _OPEN:
                phase[w - 1] = phase[w] - (frequency_gradient[w] + frequency_gradient[w - 1]) / 2
                state[w - 1] = _DONE
                size = _push(heap, size, w - 1, magnitude)
            if n + 1 < frames and state[w + bins] == _OPEN:
                phase[w + bins] = phase[w] + (time_gradient[w] + time_gradient[w + bins]) / 2
                state[w + bins] = _DONE
                size = _push(heap, size, w + bins, magnitude)
            if n > 0 and state[w - bins] == _OPEN:
                phase[w - bins] = phase[w] - (time_gradient[w] + time_gradient[w - bins]) / 2
                state[w - bins] = _DONE
                size = _push(heap, size, w - bins, magnitude)
        strongest, largest = -1, -1.0
        for w in range(frames * bins):
            if state[w] == _OPEN and magnitude[w] > largest:
                strongest, largest = w, magnitude[w]
        if strongest < 0:
            return
        phase[strongest] = 0.0
        state[strongest] = _DONE
        size = _push(heap, size, strongest, magnitude)


@numba.njit(cache=True, nogil=True)
def _pghi(magnitude, known, phase, gamma, hop, channels, tolerances):  # type: ignore[no-untyped-def]
    """PGHI of one magnitude [frames, bins]; ``phase`` holds the known frames' and receives the others'."""
    frames, bins = magnitude.shape
    flat, result = magnitude.ravel(), phase.ravel()
    maximum = flat.max()
    tiny = np.finfo(np.float64).tiny
    logs = np.log(magnitude + tiny)
    logs = np.where(logs < logs.max() - _LOG_RANGE, -_LOG_RANGE, logs)
    time_gradient, frequency_gradient = np.zeros((frames, bins)), np.empty((frames, bins))
    for n in range(frames):
        for m in range(1, bins - 1):
            slope = logs[n, m + 1] - logs[n, m - 1]
            time_gradient[n, m] = hop * channels / (2 * gamma) * slope + 2 * np.pi * hop * m / channels
        for m in range(bins):
            slope = logs[(n + 1) % frames, m] - logs[n - 1, m]
            frequency_gradient[n, m] = -gamma / (2 * hop * channels) * slope
    done = np.zeros(frames * bins, np.bool_)
    for n in range(frames):
        done[n * bins : (n + 1) * bins] = known[n]
        if not known[n]:
            result[n * bins : (n + 1) * bins] = 0.0
    for tolerance in tolerances:
        state = np.where(flat <= tolerance * maximum, _LOW, np.where(done, _DONE, _OPEN))
        _integrate(flat, time_gradient.ravel(), frequency_gradient.ravel(), state, result, frames, bins)
        done |= flat > tolerance * maximum


def _check_magnitude(magnitude: np.ndarray, name: str) -> np.ndarray:
    magnitude = np.ascontiguousarray(magnitude, dtype=np.float64)
    bad = ~(np.isfinite(magnitude) & (magnitude >= 0))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}{list(place)}={magnitude[place]} must be finite and >= 0")
    return magnitude


def _check_known(known: np.ndarray | None, frames: int) -> np.ndarray:
    if known is None:
        return np.zeros(frames, dtype=np.bool_)
    known = np.asarray(known)
    if known.shape != (frames,) or known.dtype != np.bool_:
        raise ValueError(
            f"known of shape {known.shape} and type {known.dtype} must be a bool for each of {frames} frames"
        )
    return known


def pghi(
    magnitude: np.ndarray,
    geometry: Geometry,
    *,
    known_phase: np.ndarray | None = None,
    known: np.ndarray | None = None,
    tolerances: tuple[float, ...] = (1e-1, 1e-10),
    gamma: float | None = None,
) -> np.ndarray:
    magnitude = _check_magnitude(magnitude, "magnitude")
    frames, bins = magnitude.shape[-2:]
    mask = _check_known(known, frames)
    if gamma is None:
        gamma = HANN_GAMMA * geometry.window**2
    phase = np.zeros(magnitude.shape)
    if known_phase is not None:
        phase[..., mask, :] = np.asarray(known_phase)[..., mask, :]
    for s, p in zip(magnitude.reshape(-1, frames, bins), phase.reshape(-1, frames, bins), strict=True):
        _pghi(s, mask, p, gamma, geometry.hop, geometry.window, np.asarray(tolerances, dtype=np.float64))
    return phase


def fast_griffin_lim(
    magnitude: np.ndarray,
    phase: np.ndarray,
    geometry: Geometry,
    *,
    known: np.ndarray | None = None,
    iterations: int = 100,
    alpha: float = 0.99,
) -> np.ndarray:
    magnitude = _check_magnitude(magnitude, "magnitude")
    mask = _check_known(known, magnitude.shape[-2])
    start = magnitude * np.exp(1j * phase)
    c, old = start.copy(), start
    for _ in range(iterations):
        new = stft(istft(c, geometry), geometry)
        new = magnitude * np.exp(1j * np.angle(new))
        c = np.where(mask[:, None], start, new + alpha * (new - old))
        old = new
    return c


def recover(
    segments: np.ndarray,
    gap_magnitude: np.ndarray,
    geometry: Geometry,
    *,
    iterations: int = 100,
    alpha: float = 0.99,
    initial_phase: np.ndarray | None = None,
) -> np.ndarray:
    gap_magnitude = _check_magnitude(gap_magnitude, "gap_magnitude")
    merged = merge(segments, gap_magnitude, geometry)
    magnitude, phase = np.abs(merged), np.angle(merged)
    known = np.ones(geometry.frames, dtype=np.bool_)
    known[geometry.touched_frames] = False
    if initial_phase is None:
        phase = pghi(magnitude, geometry, known_phase=phase, known=known)
    else:
        phase[..., geometry.touched_frames, :] = initial_phase
    return fast_griffin_lim(magnitude, phase, geometry, known=known, iterations=iterations, alpha=alpha)


def reconstruct(segments: np.ndarray, gap_magnitude: np.ndarray, geometry: Geometry, **options: object) -> np.ndarray:
    return istft(recover(segments, gap_magnitude, geometry, **options), geometry)[..., geometry.gap_samples]  # type: ignore[arg-type]
