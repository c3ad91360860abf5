"""Muon for convolutions: the optimizer that networks are trained with where they are not trained as in the paper.

Adam scales each weight by itself. Muon moves a kernel, seen as the matrix from its inputs to its outputs, by the
orthogonal matrix nearest to its momentum, so that all directions are learnt at the same pace, rare ones too (K. Jordan
et al., "Muon: an optimizer for hidden layers in neural networks", 2024). Steps are scaled to the size of Adam's (J. Liu
et al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025), so that one learning rate serves both.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Muon", "orthogonalise"]

WIDEST = 512
"""Outputs of a kernel that are orthogonalised together, at most: the price grows with the cube of their number."""


class Muon(keras.optimizers.Muon):
    """Keras' Muon for kernels of any rank, which Keras would leave to Adam; biases and scales stay with Adam.

    Parameters
    ----------
    rate : float
        Learning rate, of kernels and of what Adam updates.
    dtype : str
        What the orthogonalisation computes in; ``bfloat16`` is enough where it is fast.
    **kwargs
        Of ``keras.optimizers.Muon``, such as ``global_clipnorm``.
    """

    def __init__(self, rate: float, *, dtype: str = "float32", **kwargs: Any) -> None:
        super().__init__(rate, weight_decay=None, adam_weight_decay=None, **kwargs)
        self.computing_dtype = dtype

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) < 2

    def _muon_update_step(self, gradient: tf.Tensor, variable: Any, lr: tf.Tensor, m: Any) -> None:
        self.assign_add(m, gradient + m * (self.momentum - 1))
        ahead = gradient + self.momentum * m
        outputs = variable.shape[-1]  # of a transposed convolution its inputs, whose number is the smaller one
        rows, blocks = math.prod(variable.shape[:-1]), math.ceil(outputs / WIDEST)
        while outputs % blocks:
            blocks += 1
        matrices = tf.transpose(tf.reshape(ahead, [rows, blocks, outputs // blocks]), [1, 2, 0])
        coefficients = self.muon_a, self.muon_b, self.muon_c
        update = orthogonalise(matrices, coefficients, self.ns_steps, self.computing_dtype)
        update = tf.reshape(tf.transpose(update, [2, 0, 1]), variable.shape)
        self.assign_sub(variable, lr * self.rms_rate * max(rows, outputs // blocks) ** 0.5 * update)


def orthogonalise(
    matrices: tf.Tensor,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    iterations: int = 5,
    dtype: str = "float32",
) -> tf.Tensor:
    """Matrices with the singular vectors of the given ones, and singular values near 1.

    A Newton-Schulz iteration whose polynomial lifts small singular values fast and leaves all between about 0.7 and
    1.2 (Jordan et al. 2024). In single precision it runs on the products of rows, which are smaller than the matrices:
    what the polynomials make of them is a factor of the matrix itself. In bfloat16, such products are too coarse.

    Parameters
    ----------
    matrices : tf.Tensor [shape=(n, rows, columns)]
    coefficients : tuple of float
        Of the polynomial ``a x + b x^3 + c x^5``.
    iterations : int
    dtype : str
        What to compute in.

    Returns
    -------
    tf.Tensor [shape=(n, rows, columns)]
        In the precision of the input.
    """
    a, b, c = coefficients
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices / (tf.norm(matrices, axis=(1, 2), keepdims=True) + 1e-7)  # no singular value is above 1
    x = tf.cast(x if wide else tf.transpose(x, [0, 2, 1]), dtype)
    if dtype == "bfloat16":
        for _ in range(iterations):
            square = tf.matmul(x, x, transpose_b=True)
            x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    else:
        square = tf.matmul(x, x, transpose_b=True)
        factor, unit = None, tf.eye(x.shape[1], dtype=dtype)
        for _ in range(iterations):
            step = a * unit + b * square + c * tf.matmul(square, square)
            factor = step if factor is None else tf.matmul(step, factor)
            square = tf.matmul(tf.matmul(step, square), step)
        x = tf.matmul(factor, x)
    x = tf.cast(x, matrices.dtype)
    return x if wide else tf.transpose(x, [0, 2, 1])
