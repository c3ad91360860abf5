from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib.optimizer import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(1, 20, 50), (3, 50, 20), (2, 16, 16)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape, dtype):
    rng = np.random.default_rng(0)
    rank = min(shape[1:])
    left, _, right = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    given = np.linspace(1, 20, rank)  # far apart, and of any size
    for size in (1e-3, 1e3):
        matrices = tf.constant(size * left * given @ right, tf.float32)
        found = orthogonalise(matrices, dtype=dtype).numpy()
        inner = np.swapaxes(left, 1, 2) @ found @ np.swapaxes(right, 1, 2)
        diagonal = np.diagonal(inner, axis1=1, axis2=2)
        assert diagonal.min() > 0.6 and diagonal.max() < 1.3
        assert np.abs(inner - diagonal[:, None] * np.eye(rank)).max() < (1e-3 if dtype == "float32" else 0.1)


@pytest.mark.parametrize("shape", [(2, 96, 400), (1, 400, 96)])
def test_products_of_rows_give_what_the_matrices_themselves_do(shape):
    """Singular values over six decades: the smallest are lost in the products, and stay small."""
    left, _, right = np.linalg.svd(np.random.default_rng(4).standard_normal(shape), full_matrices=False)
    matrices = left * np.logspace(0, -6, min(shape[1:])) @ right
    x = matrices / np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    for _ in range(5):
        square = x @ np.swapaxes(x, 1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    found = orthogonalise(tf.constant(matrices, tf.float32)).numpy()
    assert np.linalg.norm(found - x) < 1e-3 * np.linalg.norm(x)


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonalise(tf.zeros((1, 4, 8))).numpy().any()


def stepped(optimizer, shape, gradients):
    """What steps with these gradients add to a variable of zeros."""
    variable = keras.Variable(np.zeros(shape, np.float32))
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    return np.asarray(variable)


def test_a_kernel_moves_along_an_orthogonal_matrix_by_about_what_adam_moves_it():
    gradient = np.random.default_rng(1).standard_normal((3, 5, 8, 16))
    moved = stepped(Muon(0.01), gradient.shape, [gradient])
    values = np.linalg.svd(moved.reshape(-1, 16), compute_uv=False) / (0.01 * Muon(1.0).rms_rate * 120**0.5)
    assert values.min() > 0.6 and values.max() < 1.3
    assert np.sum(moved * gradient) < 0  # downhill
    adam = stepped(keras.optimizers.Adam(0.01), gradient.shape, [gradient])
    assert 0.1 < np.std(moved) / np.std(adam) < 1.1


def test_wide_kernels_are_taken_in_blocks_of_their_outputs():
    gradient = np.random.default_rng(2).standard_normal((8, 1024))
    whole = stepped(Muon(0.01), gradient.shape, [gradient])
    for part in np.split(np.arange(1024), 2):
        alone = stepped(Muon(0.01), (8, 512), [gradient[:, part]])
        np.testing.assert_allclose(whole[:, part], alone, rtol=1e-4, atol=1e-7)


def test_biases_are_left_to_adam():
    gradients = np.random.default_rng(3).standard_normal((3, 7))
    np.testing.assert_allclose(
        stepped(Muon(0.01), (7,), gradients), stepped(keras.optimizers.Adam(0.01), (7,), gradients), rtol=1e-4
    )
