"""The short-time Fourier transform and the merging of gap and context (sections 2.1 and 2.4 of the paper).

The transform is circular in time: frame ``n`` is centred at sample ``n * hop`` and the phase is relative to that
centre. A transform whose phase is relative to the frame's first sample differs by a factor of (-1)^bin. The
analysis window is a periodic Hann window of peak 1, synthesis uses its canonical dual, so that :func:`istft`
inverts :func:`stft` to rounding. ``ctxe_lib.tf_stft`` holds the same functions for TensorFlow.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from ctxe_lib.geometry import Geometry

__all__ = [
    "dual_window",
    "gap_audio",
    "gap_coefficients",
    "istft",
    "merge",
    "network_input",
    "padded_contexts",
    "stft",
    "window",
]


@lru_cache
def window(geometry: Geometry) -> np.ndarray:
    """Analysis window: periodic Hann, peak 1.

    Parameters
    ----------
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(window,), float64], read-only
    """
    samples = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(geometry.window) / geometry.window)
    samples.setflags(write=False)
    return samples


@lru_cache
def dual_window(geometry: Geometry) -> np.ndarray:
    """Synthesis window: the canonical dual of :func:`window`.

    Returns
    -------
    np.ndarray [shape=(window,), float64], read-only

    Notes
    -----
    No frame is longer than the number of frequency channels, so the frame operator is diagonal: the dual is the
    window divided by the sum of its squared shifts (Gröchenig 2001, chapter 5).
    """
    analysis = window(geometry)
    power = (analysis**2).reshape(-1, geometry.hop).sum(axis=0)
    dual = analysis / np.tile(power, geometry.window // geometry.hop)
    dual.setflags(write=False)
    return dual


def _check_length(samples: int, geometry: Geometry) -> None:
    if samples % geometry.hop or samples < geometry.window:
        raise ValueError(
            f"a signal of {samples} samples has no circular STFT with hop={geometry.hop} and window={geometry.window}: "
            "its length must be a multiple of the hop and at least one window"
        )


def stft(signal: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Circular short-time Fourier transform, phase relative to the frame centres.

    Parameters
    ----------
    signal : np.ndarray [shape=(..., samples)], real
        Length a multiple of the hop; a whole segment or any other signal.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., samples / hop, bins), complex128]

    Raises
    ------
    ValueError
        If the length is no multiple of the hop or shorter than a window.
    """
    signal = np.asarray(signal, dtype=np.float64)
    samples = signal.shape[-1]
    _check_length(samples, geometry)
    half = geometry.window // 2
    extended = np.concatenate([signal[..., samples - half :], signal, signal[..., :half]], axis=-1)
    return _frames_to_coefficients(extended, samples // geometry.hop, geometry)


def _frames_to_coefficients(signal: np.ndarray, frames: int, geometry: Geometry) -> np.ndarray:
    """Transform ``frames`` consecutive frames, the first of which begins at the signal's first sample."""
    views = np.lib.stride_tricks.sliding_window_view(signal, geometry.window, axis=-1)
    views = views[..., : frames * geometry.hop : geometry.hop, :]
    coefficients = scipy.fft.rfft(views * window(geometry), axis=-1)
    coefficients[..., 1::2] *= -1  # from the frame's first sample to its centre
    return coefficients


def istft(coefficients: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Invert :func:`stft`; for coefficients that are no STFT, the least-squares signal.

    Parameters
    ----------
    coefficients : np.ndarray [shape=(..., frames, bins)], complex
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., frames * hop), float64]
    """
    coefficients = np.asarray(coefficients, dtype=np.complex128)
    if coefficients.shape[-1] != geometry.bins:
        raise ValueError(
            f"coefficients have {coefficients.shape[-1]} bins, window={geometry.window} has {geometry.bins}"
        )
    frames, hop = coefficients.shape[-2], geometry.hop
    _check_length(frames * hop, geometry)
    signs = np.where(np.arange(geometry.bins) % 2, -1.0, 1.0)
    pieces = scipy.fft.irfft(coefficients * signs, n=geometry.window, axis=-1) * dual_window(geometry)
    ratio = geometry.window // hop
    pieces = pieces.reshape(*pieces.shape[:-1], ratio, hop)
    signal = np.zeros((*coefficients.shape[:-2], frames, hop))
    for shift in range(ratio):
        signal += np.roll(pieces[..., shift, :], shift - ratio // 2, axis=-2)
    return signal.reshape(*coefficients.shape[:-2], frames * hop)


def padded_contexts(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The two contexts, padded with zeros on the gap's side to ``context + window - hop`` samples.

    Parameters
    ----------
    segments : np.ndarray [shape=(..., length)]
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., 2, context + window - hop)]
        Before the gap (zeros behind), after the gap (zeros in front).

    Raises
    ------
    ValueError
        If the segments are not ``geometry.length`` samples long.
    """
    segments = np.asarray(segments)
    if segments.shape[-1] != geometry.length:
        raise ValueError(
            f"segments of {segments.shape[-1]} samples do not fit context={geometry.context} and gap={geometry.gap}: "
            f"expected {geometry.length} samples"
        )
    contexts = np.zeros((*segments.shape[:-1], 2, geometry.context + geometry.padding), dtype=segments.dtype)
    contexts[..., 0, : geometry.context] = segments[..., : geometry.context]
    contexts[..., 1, geometry.padding :] = segments[..., geometry.context + geometry.gap :]
    return contexts


def network_input(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The networks' input: real and imaginary parts of ``S_b`` and ``S_a`` as four channels (section 2.1).

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        The content of the gap is not read.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n, context_frames, bins, 4), float32]
        Channels Re S_b, Im S_b, Re S_a, Im S_a.
    """
    contexts = padded_contexts(np.asarray(segments, dtype=np.float64), geometry)
    sides = _frames_to_coefficients(contexts, geometry.context_frames, geometry)
    before, after = sides[..., 0, :, :], sides[..., 1, :, :]
    return np.stack([before.real, before.imag, after.real, after.imag], axis=-1).astype(np.float32)


def gap_coefficients(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The networks' target ``S_g``: the frames of whole segments that touch the gap.

    Parameters
    ----------
    segments : np.ndarray [shape=(..., length)]
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., gap_frames, bins), complex128]
    """
    segments = np.asarray(segments, dtype=np.float64)
    padded_gap = segments[..., geometry.context - geometry.padding : geometry.context + geometry.gap + geometry.padding]
    return _frames_to_coefficients(padded_gap, geometry.gap_frames, geometry)


def merge(segments: np.ndarray, coefficients: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Insert gap coefficients between the stripped contexts: ``S' = (S_b', S_g', S_a')`` (section 2.4).

    Parameters
    ----------
    segments : np.ndarray [shape=(..., length)]
        Supply the contexts; the content of the gap is not read.
    coefficients : np.ndarray [shape=(..., gap_frames, bins)], complex or real
        ``S_g'``.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., frames, bins), complex128]
        Coefficients of the whole segment, circular in time.
    """
    blanked = np.array(segments, dtype=np.float64)
    blanked[..., geometry.gap_samples] = 0
    merged = stft(blanked, geometry)
    merged[..., geometry.touched_frames, :] = coefficients
    return merged


def gap_audio(coefficients: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Synthesise merged coefficients and return the samples of the gap.

    Parameters
    ----------
    coefficients : np.ndarray [shape=(..., frames, bins)], complex
        As :func:`merge` gives them.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(..., gap), float64]
    """
    return istft(coefficients, geometry)[..., geometry.gap_samples]
