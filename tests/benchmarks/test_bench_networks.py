"""Fast layers against plain Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import pytest
import tensorflow as tf

from ctxe_lib import tf_stft
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import weighted_nmse
from ctxe_lib.networks import build_network

BATCH = 32


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
def test_fast_against_plain(task: str, least: float, compare: Callable[..., dict[str, Any]]) -> None:
    segments = tf.random.stateless_normal((BATCH, Geometry().length), (0, 0)) * 0.1
    fast, plain = (work(layers, task) for layers in ("fast", "plain"))

    def run(step: Callable[[tf.Tensor], tf.Tensor]) -> None:
        step(segments).numpy()

    run(plain)  # traces before it is timed
    others = {"plain Keras layers": partial(run, plain)}
    options = {"items": BATCH, "unit": "example", "rounds": 5}
    row = compare(f"Magnitude network, {task}, all cores", partial(run, fast), others, **options)
    assert row["alternatives"]["plain Keras layers"]["ratio"] > least
