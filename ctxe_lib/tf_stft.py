"""TensorFlow's side of :mod:`ctxe_lib.stft`: the networks' inputs and targets on the training device.

Same numbers as the NumPy functions of the same names, in single precision.
"""

from __future__ import annotations

import tensorflow as tf

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import window

__all__ = ["gap_coefficients", "network_input"]


def _coefficients(signal: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Transform the frames of [..., samples]; the first begins at the first sample: complex64 [..., frames, bins]."""
    frames = tf.signal.frame(signal, geometry.window, geometry.hop)
    spectra = tf.signal.rfft(frames * tf.constant(window(geometry), tf.float32))
    signs = 1 - 2 * (tf.range(geometry.bins) % 2)
    return spectra * tf.cast(signs, tf.complex64)


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
    before, after = _coefficients(before, geometry), _coefficients(after, geometry)
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
    return _coefficients(segments[:, start : geometry.length - start], geometry)
