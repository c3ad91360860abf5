"""Linear prediction: extrapolate both contexts into the gap and cross-fade, the paper's reference (section 3.5).

Each context is modelled as an all-pole process whose coefficients Burg's method [1]_ estimates, and continued by
that model without excitation: the context after the gap backwards in time. The two extrapolations meet under a
squared-cosine fade, as in section 5.3 of [2]_ and in the program published with the paper.

Everything is float64 and the direct recursion: updating Burg's denominator from order to order instead of summing
it anew errs by 1e-3 on sweeps, and single precision costs up to 10 dB on tones.

What happens at the edges
-------------------------
- The recursion ends early where the residual's energy is no more than ``eps**2`` of what it was at order 0: what is
  left then is the rounding of the samples. The coefficients of the higher orders stay zero. Only signals that repeat
  exactly, such as a constant or a square wave, get there.
- An extrapolation may not exceed ``BOUND`` times the peak of its context. One that does comes from a model that has
  fitted rounding errors and diverges; it is made anew with a recursion that ends 1e4 times earlier, as often as it
  takes. Music stays well below: the largest of 24,000 extrapolations of tracks and single notes reached 2.2 times.
- A side that is silent (all zeros), or too short for the order, is not used: the gap is the other side's
  extrapolation alone, without a fade, and silence if neither side can be used. `Sides.used` says which were.
- The output is thus finite and never louder than ``BOUND`` times the louder context's peak.

References
----------
.. [1] J. P. Burg, "Maximum entropy spectral analysis", 37th Meeting of the Society of Exploration Geophysicists,
   1967.
.. [2] I. Kauppinen and K. Roth, "Audio signal extrapolation: theory and applications", DAFx, 2002.
"""

from __future__ import annotations

import math
import operator
from typing import Literal, NamedTuple, overload

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctxe_lib.geometry import Geometry

__all__ = ["BOUND", "Sides", "bridge", "burg", "checked_count", "checked_order", "contexts", "inpaint", "jit", "levels"]

BOUND = 4.0
"""No extrapolation exceeds this multiple of the peak of its context."""

# Sums may be reordered so that they vectorise, and multiply-adds fuse; NaN and infinity keep their meaning. Functions
# are always inlined: else a caller just compiled may call another copy of its callee than the same caller loaded from
# the cache, and the two may round differently.
jit = numba.njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    forceinline=True,
    fastmath={"reassoc", "contract", "nsz"},
)
_BLOCK = 16  # float64 values: four AVX2 registers
_ROUNDING = np.finfo(np.float64).eps ** 2
_COARSER = 1e4
_LARGEST = np.finfo(np.float64).max / (4 * BOUND)  # no sample of an extrapolation overflows


class Sides(NamedTuple):
    """The two one-sided extrapolations behind a cross-fade.

    Attributes
    ----------
    forward : np.ndarray [shape=(n, gap)]
        Extrapolation of the context before the gap; zeros where that side is not used.
    backward : np.ndarray [shape=(n, gap)]
        Extrapolation of the context after the gap, in time order; zeros where that side is not used.
    used : np.ndarray of bool [shape=(n, 2)]
        Whether the side before and the side after the gap are used.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    used: NDArray[np.bool_]


@jit
def _lattice(forward, backward, first, reflection):  # type: ignore[no-untyped-def]
    """One stage of the lattice, in place; returns the sums over the new errors that the next reflection needs.

    ``forward[n]`` is the forward error at sample n and ``backward[n]`` the backward error at sample n - 1, for n from
    `first` on; before that both are zero. So stored, each pair is updated where it is, and each new forward error
    meets the backward error that the turn of the loop before has computed: one pass updates and sums.
    """
    # The first pair drops out: its backward error goes to the next sample, its forward error nowhere.
    carried = backward[first] + reflection * forward[first]
    forward[first] = backward[first] = 0.0
    start = first // _BLOCK
    ahead, behind = forward[start * _BLOCK :], backward[start * _BLOCK :]
    delayed = product = energy = 0.0
    for n in range((forward.size // _BLOCK - start) * _BLOCK):
        left, right = ahead[n], behind[n]
        new = left + reflection * right
        next_delayed = right + reflection * left
        product += new * delayed
        energy += new * new + delayed * delayed
        ahead[n] = new
        behind[n] = delayed
        delayed = next_delayed
    backward[first + 1] = carried
    return product + forward[first + 1] * carried, energy + carried * carried


@jit
def _burg(x, order, floor):  # type: ignore[no-untyped-def]
    """Burg's recursion on `x` [samples], until the residual's energy is `floor` of the first; returns [order + 1]."""
    # Zeros in front make the errors a whole number of blocks, so that nothing is left to a scalar loop.
    size = -(-x.size // _BLOCK) * _BLOCK
    start = size - x.size
    forward, backward = np.zeros(size), np.zeros(size)
    forward[start + 1 :] = x[1:]
    backward[start + 1 :] = x[:-1]
    product, energy = x[1:] @ x[:-1], x[1:] @ x[1:] + x[:-1] @ x[:-1]
    enough = energy * floor
    a, mirrored = np.zeros(order + 1), np.zeros(order + 1)
    a[0] = mirrored[order] = 1.0
    for stage in range(1, order + 1):
        if energy <= enough:
            break
        reflection = -2.0 * product / energy
        if stage < order:
            product, energy = _lattice(forward, backward, start + stage, reflection)
        # Levinson's update is needed only at the end. Here, it fills the time in which the sums come together.
        # mirrored[order - stage + n] is a[stage - n]: it moves by one place a stage, so it is updated where it is.
        reverse = mirrored[order - stage :]
        for n in range(stage + 1):
            left, right = a[n], reverse[n]
            a[n] = left + reflection * right
            reverse[n] = right + reflection * left
    return a


@jit
def _burg_rows(x, order):  # type: ignore[no-untyped-def]
    """Burg coefficients of every row of `x` [n, samples]."""
    a = np.empty((len(x), order + 1))
    for row in range(len(x)):
        a[row] = _burg(x[row] * _scale(x[row]), order, _ROUNDING)
    return a


@jit
def _scale(x):  # type: ignore[no-untyped-def]
    """The power of two that brings the peak of `x` to about 1, so that squares neither overflow nor vanish."""
    exponent = math.frexp(np.abs(x).max())[1]
    return math.ldexp(1.0, min(-exponent, 1022))


@jit
def _predict(line, a, bound):  # type: ignore[no-untyped-def]
    """Continue the first ``a.size - 1`` samples of `line` to its end; returns whether `bound` was kept."""
    order = a.size - 1
    reversed_a = a[::-1].copy()
    for n in range(line.size - order):
        past = line[n:]
        total = 0.0
        for i in range(order):
            total -= reversed_a[i] * past[i]
        if not abs(total) <= bound:
            return False
        line[n + order] = total
    return True


@jit
def _extrapolate(context, order, out):  # type: ignore[no-untyped-def]
    """Continue `context` by `out.size` samples, or leave `out` zero and return False if that can't be done."""
    peak = np.abs(context).max() if context.size > order else 0.0
    out[:] = 0.0
    if peak == 0.0:
        return False
    scale = _scale(context)
    line = np.empty(order + out.size)
    line[:order] = context[context.size - order :] * scale
    floor = _ROUNDING
    while floor < 1.0:
        if _predict(line, _burg(context * scale, order, floor), BOUND * scale * peak):
            out[:] = line[order:] / scale
            return True
        floor *= _COARSER
    return False


@jit
def _bridge(before, after, fade, order, forward, backward, used):  # type: ignore[no-untyped-def]
    """Extrapolate and cross-fade every row; the last three arguments receive what `Sides` holds."""
    filled = np.empty_like(forward)
    for row in range(len(before)):
        used[row, 0] = _extrapolate(before[row], order, forward[row])
        used[row, 1] = _extrapolate(after[row][::-1].copy(), order, backward[row])
        backward[row] = backward[row][::-1].copy()
        if used[row, 0] and used[row, 1]:
            filled[row] = forward[row] * fade + backward[row] * (1.0 - fade)
        else:
            filled[row] = forward[row] + backward[row]
    return filled


def burg(x: ArrayLike, order: int) -> NDArray[np.float64]:
    """Coefficients of the all-pole model that Burg's method fits.

    Parameters
    ----------
    x : array_like [shape=(..., samples)]
        Real signals; no window is applied and no mean removed.
    order : int
        Number of coefficients after the leading 1; less than the number of samples.

    Returns
    -------
    np.ndarray [shape=(..., order + 1)]
        ``a`` with ``a[0] = 1``, such that ``x[n] + a[1] x[n - 1] + ... + a[order] x[n - order]`` is the prediction
        error. A silent signal gives ``1, 0, 0, ...``.

    Raises
    ------
    ValueError
        If `order` is no integer between 1 and the number of samples less 1, or `x` is not real and finite.
    """
    shape = np.shape(x)
    rows = checked_rows(x, "x")
    order = checked_order(order, rows.shape[1], "samples")
    return _burg_rows(rows, order).reshape(*shape[:-1], order + 1)


@overload
def inpaint(
    segments: ArrayLike, geometry: Geometry, *, order: int = ..., return_info: Literal[False] = ...
) -> NDArray[np.float64]: ...
@overload
def inpaint(
    segments: ArrayLike, geometry: Geometry, *, order: int = ..., return_info: Literal[True]
) -> tuple[NDArray[np.float64], Sides]: ...
def inpaint(
    segments: ArrayLike, geometry: Geometry, *, order: int = 1000, return_info: bool = False
) -> NDArray[np.float64] | tuple[NDArray[np.float64], Sides]:
    """Fill the gap of each segment from both of its contexts.

    Parameters
    ----------
    segments : array_like [shape=(n, geometry.length)]
        Audio of any real type in any unit; the result has the same unit (int16 is not scaled). What the gap holds
        is never read.
    geometry : Geometry
        Where the gap is.
    order : int
        Coefficients of the linear predictors; less than ``geometry.context``.
    return_info : bool
        Whether to return the one-sided extrapolations as well.

    Returns
    -------
    gap : np.ndarray [shape=(n, geometry.gap)]
        The audio of the gaps.
    sides : Sides
        Only with `return_info`: both extrapolations, and which of them were used.

    Raises
    ------
    ValueError
        If the segments do not fit the geometry, a context holds a NaN or an infinity, or `order` is no integer
        between 1 and ``geometry.context - 1``.
    """
    before, after = contexts(segments, geometry)
    filled, sides = _fill(before, after, geometry.gap, checked_order(order, geometry.context, "samples of context"))
    return (filled, sides) if return_info else filled


def bridge(before: ArrayLike, after: ArrayLike, gap: int, *, order: int = 1000) -> tuple[NDArray[np.float64], Sides]:
    """Fill gaps between contexts that may differ in length, as they do near the ends of a recording.

    A side of `order` samples or fewer is too short to be modelled; it is not used, as if it were silent.

    Parameters
    ----------
    before : array_like [shape=(n, samples)]
        Audio up to the gap; may have no samples.
    after : array_like [shape=(n, other_samples)]
        Audio from the end of the gap on; may have no samples.
    gap : int
        Samples to fill.
    order : int
        Coefficients of the linear predictors; less than the longer side.

    Returns
    -------
    gap : np.ndarray [shape=(n, gap)]
        The audio of the gaps.
    sides : Sides
        Both extrapolations, and which of them were used.

    Raises
    ------
    ValueError
        If the two sides are not as many, real and finite, `gap` is no integer > 0, or `order` is no integer between
        1 and the longer side's length less 1.
    """
    rows = checked_rows(before, "before"), checked_rows(after, "after")
    if len(rows[0]) != len(rows[1]):
        raise ValueError(f"{len(rows[0])} contexts before a gap and {len(rows[1])} after one: they must be pairs")
    order = checked_order(order, max(rows[0].shape[1], rows[1].shape[1]), "samples of the longer context")
    return _fill(*rows, checked_count(gap, "gap"), order)


def contexts(segments: ArrayLike, geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two contexts of each segment in float64 [n, geometry.context], checked; the gap is not read.

    Raises
    ------
    ValueError
        If `segments` is not [n, geometry.length] and real, or a context holds a NaN or an infinity; the message
        names the segment.
    """
    audio = np.asarray(segments)
    if audio.ndim != 2 or audio.shape[1] != geometry.length:
        raise ValueError(
            f"segments of shape {audio.shape} do not fit the geometry: they must be [n, {geometry.length}], "
            f"{geometry.context} samples, a gap of {geometry.gap}, and {geometry.context} samples"
        )
    return (
        checked_rows(audio[:, : geometry.context], "the context before the gap of segments"),
        checked_rows(audio[:, geometry.context + geometry.gap :], "the context after the gap of segments"),
    )


def levels(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Peak of the louder context [n], and the exponent [n] of the power of two that brings it to about 1.

    Scaled so (`numpy.ldexp`), squares neither overflow nor vanish, and no bit of a sample is lost.
    """
    peaks = np.maximum(np.abs(before).max(axis=1), np.abs(after).max(axis=1))
    return peaks, np.minimum(-np.frexp(peaks)[1].astype(np.int64), 1022)


def checked_rows(x: ArrayLike, name: str) -> NDArray[np.float64]:
    """`x` as contiguous float64 [n, samples]; a ValueError says if it is not real and finite."""
    array = np.asarray(x)
    if array.dtype.kind not in "iuf" or array.ndim == 0:
        raise ValueError(f"{name}: shape {array.shape} of {array.dtype} must be an array of real numbers")
    rows = np.ascontiguousarray(array, dtype=np.float64).reshape(math.prod(array.shape[:-1]), array.shape[-1])
    bad = np.argwhere(~(np.abs(rows) <= _LARGEST))
    if bad.size:
        row, sample = bad[0]
        raise ValueError(
            f"{name}[{row}] has {rows[row, sample]} at sample {sample}: samples must be finite, and no "
            f"larger than {_LARGEST:.0e}; repair the recording there or leave it out"
        )
    return rows


def checked_count(value: int, name: str) -> int:
    """`value` as an int; a ValueError says if it is no integer > 0."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) <= 0:
        raise ValueError(f"{name}={value!r} must be an integer > 0")
    return operator.index(value)


def checked_order(order: int, samples: int, meaning: str) -> int:
    """`order` as an int; a ValueError says if it is no integer > 0 or not less than the number of samples."""
    order = checked_count(order, "order")
    if order >= samples:
        raise ValueError(f"order={order} must be less than the {samples} {meaning}: lower it or take more context")
    return order


def _fill(
    before: NDArray[np.float64], after: NDArray[np.float64], gap: int, order: int
) -> tuple[NDArray[np.float64], Sides]:
    forward, backward = np.empty((2, len(before), gap))
    used = np.empty((len(before), 2), dtype=bool)
    fade = np.cos(np.linspace(0.0, np.pi / 2, gap)) ** 2
    return _bridge(before, after, fade, order, forward, backward, used), Sides(forward, backward, used)
