"""The loss of the paper, equations (1) and (2), and the one the released code has instead.

All of them take batches and give one value per example, so that the sum or mean over the batch is the caller's
explicit choice: the paper's regulariser is stated for the sum over a batch of 256 examples.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

__all__ = ["LOSSES", "energy", "log_nmse", "regularisation", "released_loss", "weighted_nmse"]


FLOOR = 1e-6
"""Added to equation (1) before its logarithm is taken: beyond 60 dB nothing more is gained."""


def energy(values: tf.Tensor) -> tf.Tensor:
    """Sum of squares of each example, [n, ...] to [n]."""
    return tf.reduce_sum(tf.square(values), axis=list(range(1, len(values.shape))))


def weighted_nmse(target: tf.Tensor, output: tf.Tensor, c: float = 5.0) -> tf.Tensor:
    """Weighted mix of MSE and NMSE, equation (1): ``||S - S'||^2 / (1/c + ||S||^2)``.

    Parameters
    ----------
    target, output : tf.Tensor [shape=(n, gap_frames, bins, channels), float32]
        Magnitudes (one channel) or real and imaginary parts (two).
    c : float
        Compensation for small amplitudes; 5 in the paper.

    Returns
    -------
    tf.Tensor [shape=(n,)]
    """
    return energy(target - output) / (1 / c + energy(target))


def released_loss(target: tf.Tensor, output: tf.Tensor, c: float = 5.0) -> tf.Tensor:
    """The loss in the authors' released code: ``1/2 ||S - S'||^2 (1 + c / (||S||^2 + 1e-4))``.

    It differs from equation (1): for loud signals it is the plain squared error, which equation (1) normalises.

    Parameters
    ----------
    target, output : tf.Tensor [shape=(n, gap_frames, bins, channels), float32]
    c : float

    Returns
    -------
    tf.Tensor [shape=(n,)]
    """
    return 0.5 * energy(target - output) * (1 + c / (energy(target) + 1e-4))


def log_nmse(target: tf.Tensor, output: tf.Tensor, c: float = 5.0) -> tf.Tensor:
    """Logarithm of equation (1), to which the mean SNR is proportional where 1/c is small.

    A segment that nobody can predict has the largest share in the mean of equation (1), and steers a training on few
    examples; here a decibel counts the same on each.

    Parameters
    ----------
    target, output : tf.Tensor [shape=(n, gap_frames, bins, channels), float32]
    c : float

    Returns
    -------
    tf.Tensor [shape=(n,)]
    """
    return tf.math.log(weighted_nmse(target, output, c) + FLOOR)


LOSSES = {"paper": weighted_nmse, "released": released_loss, "log": log_nmse}
"""Losses by the name that a training recipe uses."""


def regularisation(layers: Iterable[keras.layers.Layer], strength: float) -> tf.Tensor:
    """Second term of equation (2): ``strength / 2`` times the sum of the squared trainable weights.

    Parameters
    ----------
    layers : iterable of keras.layers.Layer
        A model's layers. An equalised kernel counts as it acts, not as it is stored.
    strength : float
        ``lambda``; 0.01 in the paper, beside the loss summed over a batch of 256.

    Returns
    -------
    tf.Tensor, scalar
    """
    total = tf.constant(0.0)
    for layer in layers:
        gain = getattr(layer, "gain", 1.0)
        for variable in layer.trainable_variables:
            factor = gain**2 if variable is getattr(layer, "kernel", None) else 1.0
            total += factor * tf.reduce_sum(tf.square(variable))
    return strength / 2 * total
