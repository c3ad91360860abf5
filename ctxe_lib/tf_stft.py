"""TensorFlow's side of :mod:`ctxe_lib.stft`: the networks' inputs and targets on the training device.

Same numbers as the NumPy functions of the same names, in single precision.
"""

from __future__ import annotations

import tensorflow as tf

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import dual_window, window

__all__ = ["coefficients", "gap_coefficients", "gap_signal", "interpolated", "network_input"]


def coefficients(signal: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Transform the frames that lie within a signal; the first begins at its first sample.

    Parameters
    ----------
    signal : tf.Tensor [shape=(..., samples), float32]
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(..., frames, bins), complex64]
    """
    frames = tf.signal.frame(signal, geometry.window, geometry.hop)
    spectra = tf.signal.rfft(frames * tf.constant(window(geometry), tf.float32))
    return spectra * _centre(geometry)


def gap_signal(spectra: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Synthesise the samples of the gap from the frames that touch it, all others being zero.

    Parameters
    ----------
    spectra : tf.Tensor [shape=(n, gap_frames, bins), complex64]
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, gap), float32]
    """
    frames = tf.signal.irfft(spectra * _centre(geometry), [geometry.window])
    signal = tf.signal.overlap_and_add(frames * tf.constant(dual_window(geometry), tf.float32), geometry.hop)
    return signal[..., geometry.padding : geometry.padding + geometry.gap]


def interpolated(before: tf.Tensor, after: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Frames that touch the gap, linear in time between those on either side of them.

    Parameters
    ----------
    before, after : tf.Tensor [shape=(n, bins), float32]
        The last frame that is free of the gap, and the first one after it.
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, gap_frames, bins), float32]
    """
    fade = tf.range(1, geometry.gap_frames + 1, dtype=tf.float32)[:, None] / (geometry.gap_frames + 1)
    return (1 - fade) * before[:, None] + fade * after[:, None]


def _centre(geometry: Geometry) -> tf.Tensor:
    """Signs that take the phase from a frame's start to its centre, and back: [bins]."""
    return tf.cast(1 - 2 * (tf.range(geometry.bins) % 2), tf.complex64)


def network_input(segments: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The networks' input, as :func:`ctxe_lib.stft.network_input`.

    Parameters
    ----------
    segments : tf.Tensor [shape=(n, length), float32]
        The content of the gap is not read.
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, context_frames, bins, 4), float32]
    """
    before = tf.pad(segments[:, : geometry.context], [[0, 0], [0, geometry.padding]])
    after = tf.pad(segments[:, geometry.context + geometry.gap :], [[0, 0], [geometry.padding, 0]])
    before, after = coefficients(before, geometry), coefficients(after, geometry)
    return tf.stack([tf.math.real(before), tf.math.imag(before), tf.math.real(after), tf.math.imag(after)], axis=-1)


def gap_coefficients(segments: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The coefficients of the frames that touch the gap, as :func:`ctxe_lib.stft.gap_coefficients`.

    Parameters
    ----------
    segments : tf.Tensor [shape=(n, length), float32]
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, gap_frames, bins), complex64]
    """
    start = geometry.context - geometry.padding
    return coefficients(segments[:, start : geometry.length - start], geometry)
