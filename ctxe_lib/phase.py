"""Phase recovery from magnitudes: PGHI and the fast Griffin-Lim algorithm (section 2.4 of the paper).

A magnitude network leaves the phase of the gap's frames open. As in the paper, it is first integrated from the
gradients of the log magnitude (phase gradient heap integration [1]_ [2]_), starting from the known phase of the
context, then refined by the fast Griffin-Lim algorithm [3]_, which gets the context's coefficients back after every
iteration. Both give what the programs used for the paper give (``pghi`` and ``gla`` of PHASERET 0.2 on LTFAT 2.6);
only what those fill with random numbers, the phase of coefficients below the tolerance, is zero here.

Conventions: magnitudes and coefficients [..., frames, bins], circular in time; phase in radians, relative to the
frame's centre. Phase is ``known`` for whole frames, those of the context; the others are called open.

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

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import dual_window, gap_audio, istft, merge, stft, window

__all__ = ["HANN_GAMMA", "fast_griffin_lim", "pghi", "reconstruct", "recover"]

HANN_GAMMA = 0.25645
"""The Gaussian nearest to a Hann window of ``M`` samples: ``exp(-pi t^2 / gamma)``, ``gamma = HANN_GAMMA M^2`` [1]_."""

_LOG_FLOOR = -11.0  # natural logarithm, about -96 dB
_LOW, _OPEN, _DONE = -1, 0, 1  # a coefficient during the integration: below the tolerance, to come, has its phase
# Segments that go through Griffin-Lim together: fewer would be up to 5 % faster on one core, and on two cores slower by
# as much, because threads would more often wait for each other between the compiled parts.
_CHUNK = 32


# -- phase gradient heap integration ------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _push(keys: np.ndarray, heap: np.ndarray, size: int, key: float, index: int) -> int:
    """Insert into a binary heap with the largest key on top; returns the new size."""
    position = size
    while position > 0:
        parent = (position - 1) >> 1
        if keys[parent] >= key:
            break
        keys[position], heap[position] = keys[parent], heap[parent]
        position = parent
    keys[position], heap[position] = key, index
    return size + 1


@numba.njit(cache=True, nogil=True)
def _pop(keys: np.ndarray, heap: np.ndarray, size: int) -> int:
    """Remove the top entry, which the caller has read; returns the new size."""
    size -= 1
    key, index = keys[size], heap[size]
    position, child = 0, 1
    while child < size:
        if child + 1 < size and keys[child] < keys[child + 1]:
            child += 1
        if keys[child] <= key:
            break
        keys[position], heap[position] = keys[child], heap[child]
        position, child = child, 2 * child + 1
    keys[position], heap[position] = key, index
    return size


@numba.njit(cache=True, nogil=True)
def _integrate(
    magnitude: np.ndarray,
    time_step: np.ndarray,
    bin_step: np.ndarray,
    state: np.ndarray,
    phase: np.ndarray,
    keys: np.ndarray,
    heap: np.ndarray,
    first: int,
    stop: int,
) -> None:
    """Spread phase to the open coefficients of frames ``first`` to ``stop`` (exclusive), the strongest first.

    Done coefficients beside an open one start it. Where that ends, the strongest coefficient still open starts an
    island of its own with phase zero. Neither goes round the ends of the plane. ``keys`` and ``heap`` are work space.
    """
    frames, bins = magnitude.shape
    neighbours = ((0, 1), (0, -1), (1, 0), (-1, 0))
    size = 0
    for n in range(max(first - 1, 0), min(stop + 1, frames)):
        for m in range(bins):
            if state[n, m] == _DONE:
                for dn, dm in neighbours:
                    if 0 <= n + dn < frames and 0 <= m + dm < bins and state[n + dn, m + dm] == _OPEN:
                        size = _push(keys, heap, size, magnitude[n, m], n * bins + m)
                        break
    while True:
        while size > 0:
            n, m = divmod(heap[0], bins)
            size = _pop(keys, heap, size)
            for dn, dm in neighbours:
                to_n, to_m = n + dn, m + dm
                if 0 <= to_n < frames and 0 <= to_m < bins and state[to_n, to_m] == _OPEN:
                    step = time_step if dm == 0 else bin_step
                    phase[to_n, to_m] = phase[n, m] + (dn + dm) * (step[n, m] + step[to_n, to_m]) / 2
                    state[to_n, to_m] = _DONE
                    size = _push(keys, heap, size, magnitude[to_n, to_m], to_n * bins + to_m)
        largest, at_n, at_m = -1.0, -1, -1
        for n in range(first, stop):
            for m in range(bins):
                if state[n, m] == _OPEN and magnitude[n, m] > largest:
                    largest, at_n, at_m = magnitude[n, m], n, m
        if at_n < 0:
            return
        phase[at_n, at_m] = 0.0
        state[at_n, at_m] = _DONE
        size = _push(keys, heap, size, largest, at_n * bins + at_m)


@numba.njit(cache=True, nogil=True)
def _pghi(
    magnitudes: np.ndarray,
    known: np.ndarray,
    phases: np.ndarray,
    gamma: float,
    hop: int,
    channels: int,
    tolerances: np.ndarray,
) -> None:
    """PGHI of a batch [n, frames, bins]; ``phases`` holds those of the known frames and receives the others."""
    frames, bins = known.size, magnitudes.shape[2]
    unknown = np.flatnonzero(~known)
    if unknown.size == 0:
        return
    first, stop = unknown[0], unknown[-1] + 1
    logs = np.empty((frames, bins))
    time_step, bin_step = np.zeros((frames, bins)), np.zeros((frames, bins))
    state = np.empty((frames, bins), np.int8)
    keys, heap = np.empty(frames * bins), np.empty(frames * bins, np.int64)
    tiny = np.finfo(np.float64).tiny
    for i in range(len(magnitudes)):
        magnitude, phase = magnitudes[i], phases[i]
        maximum = magnitude.max()
        # The floor lies 11 below the maximum, yet what lies under it becomes -11: so the original program has it,
        # which makes the result depend on the gain where coefficients are this weak.
        threshold = np.log(maximum + tiny) + _LOG_FLOOR
        for near in range(first - 2, stop + 2):
            n = near % frames
            for m in range(bins):
                value = np.log(magnitude[n, m] + tiny)
                logs[n, m] = _LOG_FLOOR if value < threshold else value
        for near in range(first - 1, stop + 1):
            n, before, after = near % frames, (near - 1) % frames, (near + 1) % frames
            for m in range(bins):
                bin_step[n, m] = -gamma / (2 * hop * channels) * (logs[after, m] - logs[before, m])
            for m in range(1, bins - 1):
                slope = logs[n, m + 1] - logs[n, m - 1]
                time_step[n, m] = hop * channels / (2 * gamma) * slope + 2 * np.pi * hop * m / channels
        for n in range(frames):
            state[n] = _DONE if known[n] else _OPEN
        for tolerance in tolerances:
            for n in range(frames):
                for m in range(bins):
                    if magnitude[n, m] <= tolerance * maximum:
                        state[n, m] = _LOW
                    elif state[n, m] == _LOW:  # in the pass before
                        state[n, m] = _DONE if known[n] else _OPEN
            _integrate(magnitude, time_step, bin_step, state, phase, keys, heap, first, stop)


def pghi(
    magnitude: np.ndarray,
    geometry: Geometry,
    *,
    known_phase: np.ndarray | None = None,
    known: np.ndarray | None = None,
    tol: tuple[float, ...] = (1e-1, 1e-10),
    gamma: float | None = None,
) -> np.ndarray:
    """Phase gradient heap integration: a phase for a magnitude, without iterations.

    For a Gaussian window the phase's gradient follows from that of the log magnitude. Both partial derivatives are
    taken by central differences and integrated by the trapezoidal rule along the ridges: a heap yields the strongest
    coefficient that has its phase, and its open neighbours get theirs from it.

    Parameters
    ----------
    magnitude : np.ndarray [shape=(..., frames, bins)]
        Magnitude of a circular STFT of any number of frames.
    geometry : Geometry
        Gives window and hop.
    known_phase : np.ndarray [shape=(..., frames, bins)], optional
        Phase in radians; only that of the known frames is read.
    known : np.ndarray [shape=(frames,), bool], optional
        Which frames have a known phase; none if left out.
    tol : tuple of float, optional
        One pass of integration for each value, descending, over the coefficients that exceed this part of the
        magnitude's maximum. A later pass starts from what the earlier ones found.
    gamma : float, optional
        Width of the window in samples squared: that of the nearest Gaussian ``exp(-pi t^2 / gamma)``.
        If left out, a Hann window's, ``HANN_GAMMA * window**2``.

    Returns
    -------
    np.ndarray [shape=(..., frames, bins)]
        Phase in radians, not wrapped. Known frames keep theirs; coefficients below the last tolerance get zero.

    Raises
    ------
    ValueError
        If a magnitude is negative or not finite, or if shapes or parameters do not fit.

    Notes
    -----
    Algorithm 1 of [1]_ in the two passes of its published program: ``constructphasereal`` of LTFAT 2.6. An island
    that no known coefficient reaches has an arbitrary phase; its strongest coefficient gets zero.
    """
    magnitude = _checked_magnitude(magnitude, geometry, "magnitude")
    frames, bins = magnitude.shape[-2:]
    mask = _checked_known(known, frames)
    if (known is None) != (known_phase is None):
        raise ValueError("known and known_phase must be given together: which frames are known, and their phase")
    tolerances = np.atleast_1d(np.asarray(tol, dtype=np.float64))
    if not (tolerances.size and np.all((tolerances > 0) & (tolerances < 1)) and np.all(np.diff(tolerances) <= 0)):
        raise ValueError(f"tol={tol} must be one or more values in (0, 1), in descending order")
    width = HANN_GAMMA * geometry.window**2 if gamma is None else float(gamma)
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"gamma={gamma} must be finite and > 0 (samples squared)")
    phase = np.zeros(magnitude.shape)
    if known_phase is not None:
        if np.shape(known_phase) != magnitude.shape:
            raise ValueError(f"known_phase of shape {np.shape(known_phase)} does not fit {magnitude.shape}")
        phase[..., mask, :] = _checked_phase(
            np.asarray(known_phase)[..., mask, :], phase[..., mask, :].shape, "known_phase"
        )
    planes, phases = magnitude.reshape(-1, frames, bins), phase.reshape(-1, frames, bins)
    _pghi(planes, mask, phases, width, geometry.hop, geometry.window, tolerances)
    return phase


# -- fast Griffin-Lim ---------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _overlap(
    pieces: np.ndarray,
    constant: np.ndarray,
    signal: np.ndarray,
    position: np.ndarray,
    analysis: np.ndarray,
    synthesis: np.ndarray,
) -> None:
    """Add the open frames' pieces to the known frames' part of the signal, then cut and window them anew (in place).

    Signals [n, blocks, hop] are seen in blocks of one hop. ``position[frame]`` tells which of the pieces
    [n, open, window / hop, hop] belongs to a frame, -1 for a known frame. Pieces and windows begin at the frame's
    centre and go round, which is what makes the phase relative to it.
    """
    blocks, hop = constant.shape[1:]
    parts = len(analysis)
    for i in range(len(pieces)):
        for b in range(blocks):
            covered = False
            for part in range(parts):
                k = position[(b - (part + parts // 2) % parts + parts // 2) % blocks]
                if k >= 0:
                    if not covered:
                        signal[i, b] = constant[i, b]
                        covered = True
                    for t in range(hop):
                        signal[i, b, t] += pieces[i, k, part, t] * synthesis[part, t]
            for part in range(parts):
                k = position[(b - (part + parts // 2) % parts + parts // 2) % blocks]
                if k >= 0:
                    for t in range(hop):
                        pieces[i, k, part, t] = signal[i, b, t] * analysis[part, t]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _accelerate(
    coefficients: np.ndarray, previous: np.ndarray, magnitude: np.ndarray, alpha: float, residual: np.ndarray
) -> None:
    """Impose the magnitude and step beyond it (in place); complex arrays as [n, 2 * values], real and imaginary.

    ``residual`` [n] receives the squared distance of the magnitudes before that.
    """
    for i in range(len(coefficients)):
        now, before, wanted = coefficients[i], previous[i], magnitude[i]  # one index each, for the vectoriser
        distance = 0.0
        for j in range(wanted.size):
            real, imaginary = now[2 * j], now[2 * j + 1]
            found = np.sqrt(real * real + imaginary * imaginary)
            distance += (found - wanted[j]) * (found - wanted[j])
            scale = wanted[j] / found if found > 0 else 0.0
            real = real * scale if found > 0 else wanted[j]
            imaginary = imaginary * scale
            now[2 * j] = real + alpha * (real - before[2 * j])
            now[2 * j + 1] = imaginary + alpha * (imaginary - before[2 * j + 1])
            before[2 * j] = real
            before[2 * j + 1] = imaginary
        residual[i] = distance


def _unit(phase: np.ndarray) -> np.ndarray:
    """exp(i phase), by the real functions, which are quicker."""
    unit = np.empty(phase.shape, dtype=np.complex128)
    unit.real, unit.imag = np.cos(phase), np.sin(phase)
    return unit


def _as_real(coefficients: np.ndarray) -> np.ndarray:
    """View [n, frames, bins] complex as [n, 2 * frames * bins] real."""
    return coefficients.reshape(len(coefficients), -1).view(np.float64)


def _refine(
    start: np.ndarray,
    magnitude: np.ndarray,
    known: np.ndarray,
    geometry: Geometry,
    iterations: int,
    alpha: float,
    tol: float,
) -> np.ndarray:
    """Fast Griffin-Lim on a batch of coefficients [n, frames, bins], which is changed in place and returned.

    Only the open frames change, so only their pieces of the signal are synthesised and analysed; what the known
    frames contribute is computed once.
    """
    frames = known.size
    open_frames = np.flatnonzero(~known)
    if open_frames.size == 0 or iterations == 0:
        return start
    position = np.full(frames, -1)
    position[open_frames] = np.arange(open_frames.size)
    parts = (geometry.window // geometry.hop, geometry.hop)
    analysis = np.roll(window(geometry), geometry.window // 2).reshape(parts)
    synthesis = np.roll(dual_window(geometry), geometry.window // 2).reshape(parts)

    for first in range(0, len(start), _CHUNK):
        batch, target = start[first : first + _CHUNK], magnitude[first : first + _CHUNK]
        n = len(batch)
        wanted = target.take(open_frames, axis=1).reshape(n, -1)
        limit = tol**2 * (target**2).sum(axis=(1, 2))
        coefficients = batch.take(open_frames, axis=1)
        previous = coefficients.copy()
        constant = istft(np.where(known[:, None], batch, 0), geometry).reshape(n, frames, geometry.hop)
        signal = constant.copy()
        pieces = np.empty((n, open_frames.size, geometry.window))
        in_parts = pieces.reshape(n, -1, *parts)
        now, before = _as_real(coefficients), _as_real(previous)  # views, changed by every iteration
        residual = np.empty(n)
        running = np.ones(n, dtype=np.bool_)
        for _ in range(iterations):
            np.fft.irfft(coefficients, geometry.window, out=pieces)
            _overlap(in_parts, constant, signal, position, analysis, synthesis)
            np.fft.rfft(pieces, out=coefficients)
            _accelerate(now, before, wanted, alpha, residual)
            near = running & (residual < limit)
            if near.any():
                for i in np.flatnonzero(near):
                    # The open frames are near their goal; the known frames beside them count, too.
                    distance = np.abs(stft(signal[i].ravel(), geometry)) - target[i]
                    if (distance**2).sum() < limit[i]:
                        batch[i, open_frames] = coefficients[i]
                        running[i] = False
                if not running.any():
                    break
        batch[np.ix_(running, open_frames)] = coefficients[running]
    return start


def fast_griffin_lim(
    magnitude: np.ndarray,
    phase: np.ndarray,
    geometry: Geometry,
    *,
    known: np.ndarray | None = None,
    iterations: int = 100,
    alpha: float = 0.99,
    tol: float = 1e-6,
) -> np.ndarray:
    """Fast Griffin-Lim algorithm: bring a phase and a magnitude closer to the STFT of a signal.

    An iteration synthesises the signal, analyses it, imposes the magnitude and steps on by ``alpha`` times the
    change since the last iteration ([3]_, algorithm 2); then the known frames get their coefficients back (section
    2.4 of the paper).

    Parameters
    ----------
    magnitude : np.ndarray [shape=(..., frames, bins)]
        Magnitude to reach; at least one window long.
    phase : np.ndarray [shape=(..., frames, bins)]
        Phase to start from, in radians.
    geometry : Geometry
        Gives window and hop.
    known : np.ndarray [shape=(frames,), bool], optional
        Frames that keep the given magnitude and phase; none if left out.
    iterations : int, optional
        The most iterations to do; 0 returns the input as coefficients.
    alpha : float, optional
        Acceleration; 0 is the original Griffin-Lim algorithm.
    tol : float, optional
        A segment is done early when the magnitudes of its signal are off by less than this part (Frobenius norm over
        all frames), as in the original program; 0 never stops.

    Returns
    -------
    np.ndarray [shape=(..., frames, bins), complex128]
        Coefficients after the last acceleration. Their magnitude is not exactly the wanted one.

    Raises
    ------
    ValueError
        If a magnitude is negative or not finite, or if shapes or parameters do not fit.
    """
    magnitude = _checked_magnitude(magnitude, geometry, "magnitude")
    mask = _checked_known(known, magnitude.shape[-2])
    _check_iteration(iterations, alpha, tol)
    start = magnitude * _unit(_checked_phase(phase, magnitude.shape, "phase"))
    planes = (-1, *magnitude.shape[-2:])
    _refine(start.reshape(planes), magnitude.reshape(planes), mask, geometry, iterations, alpha, tol)
    return start


# -- both, from a segment with a gap ------------------------------------------------------------------------------


def recover(
    segments: np.ndarray,
    gap_magnitude: np.ndarray,
    geometry: Geometry,
    *,
    iterations: int = 100,
    alpha: float = 0.99,
    tol: float = 1e-6,
    initial_phase: np.ndarray | None = None,
) -> np.ndarray:
    """Give the magnitude of a gap a phase that goes with its context: PGHI, then fast Griffin-Lim (section 2.4).

    Parameters
    ----------
    segments : np.ndarray [shape=(..., length)]
        Supply the contexts; the content of the gap is not read.
    gap_magnitude : np.ndarray [shape=(..., gap_frames, bins)]
        Magnitude of the frames that touch the gap.
    geometry : Geometry
    iterations, alpha, tol
        Of :func:`fast_griffin_lim`; without iterations the phase is PGHI's.
    initial_phase : np.ndarray [shape=(..., gap_frames, bins)], optional
        Phase in radians for the iterations to start from in place of PGHI's, say that of an extrapolation.

    Returns
    -------
    np.ndarray [shape=(..., frames, bins), complex128]
        Coefficients of the whole segment; those of the context are its own.

    Raises
    ------
    ValueError
        If a magnitude is negative or not finite, if a context is not finite, or if shapes or parameters do not fit.
    """
    _check_iteration(iterations, alpha, tol)
    gap_magnitude = _checked_magnitude(gap_magnitude, geometry, "gap_magnitude")
    if np.iscomplexobj(segments) or np.shape(segments)[-1:] != (geometry.length,):
        raise ValueError(
            f"segments of shape {np.shape(segments)} must be real and [..., {geometry.length}]: {geometry.context} "
            f"samples, a gap of {geometry.gap}, and {geometry.context} samples"
        )
    segments = np.asarray(segments, dtype=np.float64)
    if gap_magnitude.shape != (*segments.shape[:-1], geometry.gap_frames, geometry.bins):
        raise ValueError(
            f"gap_magnitude of shape {gap_magnitude.shape} does not fit segments of shape {segments.shape}: expected "
            f"{(*segments.shape[:-1], geometry.gap_frames, geometry.bins)}"
        )
    merged = merge(segments, gap_magnitude, geometry)
    magnitude = np.abs(merged)
    if not np.isfinite(magnitude).all():
        raise ValueError("segments must be finite outside the gap")
    touched = geometry.touched_frames
    known = np.ones(geometry.frames, dtype=np.bool_)
    known[touched] = False
    if initial_phase is None:
        phase = np.zeros(merged.shape)
        beside = [touched.start - 1, touched.stop]  # PGHI reads the phase of no other frame
        phase[..., beside, :] = np.angle(merged[..., beside, :])
        initial_phase = pghi(magnitude, geometry, known_phase=phase, known=known)[..., touched, :]
    merged[..., touched, :] *= _unit(_checked_phase(initial_phase, gap_magnitude.shape, "initial_phase"))
    planes = (-1, geometry.frames, geometry.bins)
    _refine(merged.reshape(planes), magnitude.reshape(planes), known, geometry, iterations, alpha, tol)
    return merged


def reconstruct(
    segments: np.ndarray,
    gap_magnitude: np.ndarray,
    geometry: Geometry,
    *,
    iterations: int = 100,
    alpha: float = 0.99,
    tol: float = 1e-6,
    initial_phase: np.ndarray | None = None,
) -> np.ndarray:
    """Audio of gaps whose magnitude is given: :func:`recover`, then synthesis.

    Parameters
    ----------
    segments, gap_magnitude, geometry, iterations, alpha, tol, initial_phase
        As for :func:`recover`.

    Returns
    -------
    np.ndarray [shape=(..., gap), float64]

    Raises
    ------
    ValueError
        As :func:`recover` does.
    """
    coefficients = recover(
        segments, gap_magnitude, geometry, iterations=iterations, alpha=alpha, tol=tol, initial_phase=initial_phase
    )
    return gap_audio(coefficients, geometry)


# -- checks -------------------------------------------------------------------------------------------------------


def _checked_magnitude(magnitude: np.ndarray, geometry: Geometry, name: str) -> np.ndarray:
    if np.iscomplexobj(magnitude):
        raise ValueError(f"{name} is complex: magnitudes are wanted, take np.abs of coefficients first")
    magnitude = np.ascontiguousarray(magnitude, dtype=np.float64)
    if magnitude.ndim < 2 or magnitude.shape[-1] != geometry.bins or magnitude.shape[-2] == 0:
        raise ValueError(f"{name} of shape {magnitude.shape} must be [..., frames, bins] with {geometry.bins} bins")
    if not (magnitude.min(initial=0) >= 0 and magnitude.max(initial=0) < np.inf):
        place = tuple(np.argwhere(~((magnitude >= 0) & (magnitude < np.inf)))[0].tolist())
        raise ValueError(f"{name}{list(place)}={magnitude[place]} must be finite and >= 0")
    return magnitude


def _checked_phase(phase: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if np.iscomplexobj(phase):
        raise ValueError(f"{name} is complex: radians are wanted, take np.angle of coefficients first")
    phase = np.asarray(phase, dtype=np.float64)
    if phase.shape != shape:
        raise ValueError(f"{name} of shape {phase.shape} does not fit the magnitude of shape {shape}")
    if not np.isfinite(phase).all():
        place = tuple(np.argwhere(~np.isfinite(phase))[0].tolist())
        raise ValueError(f"{name}{list(place)}={phase[place]} must be finite")
    return phase


def _checked_known(known: np.ndarray | None, frames: int) -> np.ndarray:
    if known is None:
        return np.zeros(frames, dtype=np.bool_)
    known = np.asarray(known)
    if known.shape != (frames,) or known.dtype != np.bool_:
        raise ValueError(
            f"known of shape {known.shape} and type {known.dtype} must be one bool for each of {frames} frames"
        )
    return known


def _check_iteration(iterations: int, alpha: float, tol: float) -> None:
    if isinstance(iterations, bool) or not hasattr(iterations, "__index__") or iterations < 0:
        raise ValueError(f"iterations={iterations!r} must be an integer >= 0")
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha={alpha} must be finite and >= 0")
    if not 0 <= tol < 1:
        raise ValueError(f"tol={tol} must be in [0, 1); 0 never stops early")
