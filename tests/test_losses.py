from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib.losses import FLOOR, LOSSES, regularisation, released_loss, weighted_nmse


@pytest.fixture
def pair():
    rng = np.random.default_rng(4)
    target = rng.random((3, 11, 257, 1)).astype(np.float32)
    return target, (target + 0.1 * rng.standard_normal(target.shape)).astype(np.float32)


def test_equation_1(pair):
    target, output = pair
    error = ((target - output).astype(np.float64) ** 2).sum((1, 2, 3))
    energy = (target.astype(np.float64) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(weighted_nmse(*pair).numpy(), error / (0.2 + energy), rtol=1e-5)
    np.testing.assert_allclose(weighted_nmse(*pair, c=2.0).numpy(), error / (0.5 + energy), rtol=1e-5)
    np.testing.assert_allclose(released_loss(*pair).numpy(), 0.5 * error * (1 + 5 / (energy + 1e-4)), rtol=1e-5)


def test_the_logarithm_counts_decibels(pair):
    target, output = pair
    halved = target + (output - target) / 2
    steps = LOSSES["log"](target, output) - LOSSES["log"](target, halved)
    np.testing.assert_allclose(steps.numpy(), math.log(4), rtol=1e-3)


def test_limits_of_equation_1(pair):
    target, output = pair
    loud, quiet = 1e3, 1e-3
    error, energy = ((target - output) ** 2).sum((1, 2, 3)), (target**2).sum((1, 2, 3))
    np.testing.assert_allclose(weighted_nmse(loud * target, loud * output).numpy(), error / energy, rtol=1e-3)
    np.testing.assert_allclose(weighted_nmse(quiet * target, quiet * output).numpy(), 5 * quiet**2 * error, rtol=1e-2)


def test_the_released_loss_grows_with_level_where_the_papers_does_not(pair):
    target, output = pair
    ratios = {name: (loss(10 * target, 10 * output) / loss(target, output)).numpy() for name, loss in LOSSES.items()}
    assert (ratios["released"] > 50).all() and (ratios["paper"] < 1.01).all()


def test_silence_gives_no_loss_and_finite_gradients():
    silent = tf.zeros((2, 11, 257, 2))
    for name, loss in LOSSES.items():
        with tf.GradientTape() as tape:
            tape.watch(silent)
            value = loss(tf.zeros_like(silent), silent)
        assert value.numpy() == pytest.approx(math.log(FLOOR) if name == "log" else 0.0)
        assert np.isfinite(tape.gradient(value, silent).numpy()).all()


def test_regularisation_counts_every_trainable_weight_once():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable) * 2)
    count = 3 * 2 + 2 + 2 + 2  # kernel, bias, gamma, beta
    assert float(regularisation(model.layers, 0.01)) == pytest.approx(0.005 * 4 * count)
