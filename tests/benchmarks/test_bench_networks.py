"""Fast layers against plain Keras layers, paired: each round runs both, so that other load falls on both alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib import tf_stft
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import weighted_nmse
from ctxe_lib.networks import build_network

BATCH, ROUNDS = 32, 5


def work(layers: str, task: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """A whole training step or prediction from samples, with its STFT, loss and optimizer."""
    geometry = Geometry()
    model = build_network("magnitude", geometry, layers=layers, equalised=True, seed=0)
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    def predict(segments: tf.Tensor) -> tf.Tensor:
        return model(tf_stft.network_input(segments, geometry), training=False)

    def train(segments: tf.Tensor) -> tf.Tensor:
        target = tf.abs(tf_stft.gap_coefficients(segments, geometry))[..., None]
        with tf.GradientTape() as tape:
            output = model(tf_stft.network_input(segments, geometry), training=True)
            loss = tf.reduce_mean(weighted_nmse(target, output))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return tf.function({"training": train, "inference": predict}[task])


@pytest.mark.parametrize(("task", "least"), [("training", 2.0), ("inference", 2.5)])
def test_fast_against_plain(task: str, least: float, record_property: Callable[[str, object], None]) -> None:
    segments = tf.random.stateless_normal((BATCH, Geometry().length), (0, 0)) * 0.1
    steps = {layers: work(layers, task) for layers in ("plain", "fast")}
    seconds: dict[str, list[float]] = {layers: [] for layers in steps}
    for round_ in range(ROUNDS + 1):
        for layers, step in steps.items():
            start = time.perf_counter()
            step(segments).numpy()
            if round_:  # the first one traces and compiles
                seconds[layers].append(time.perf_counter() - start)
    rates = {layers: BATCH / float(np.median(values)) for layers, values in seconds.items()}
    ratio = float(np.median(np.divide(seconds["plain"], seconds["fast"])))
    for name, value in {**rates, "ratio": ratio}.items():
        record_property(f"{task}_{name}", round(value, 2))
    print(f"{task}: {rates['plain']:.1f} examples/s plain, {rates['fast']:.1f} fast, ratio {ratio:.2f}")
    assert ratio > least
