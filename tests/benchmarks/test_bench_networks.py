"""Fast layers against plain Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from ctxe_lib import tf_stft
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import weighted_nmse
from ctxe_lib.networks import Precision, build_network, in_precision

BATCH = 32
CPU = Path("/proc/cpuinfo")


def work(layers: str, task: str, precision: Precision = "single") -> Callable[[tf.Tensor], tf.Tensor]:
    """A whole training step or prediction from samples, with its STFT, loss and optimizer."""
    geometry = Geometry()
    build = partial(build_network, "magnitude", geometry, layers=layers, equalised=True, seed=0)
    model = in_precision(precision, build)
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


def run(step: Callable[[tf.Tensor], tf.Tensor], segments: tf.Tensor) -> None:
    step(segments).numpy()


@pytest.mark.parametrize(("task", "least"), [("training", 2.0), ("inference", 2.5)])
def test_fast_against_plain(task: str, least: float, compare: Callable[..., dict[str, Any]]) -> None:
    segments = tf.random.stateless_normal((BATCH, Geometry().length), (0, 0)) * 0.1
    fast, plain = (work(layers, task) for layers in ("fast", "plain"))

    run(plain, segments)  # traces before it is timed
    others = {"plain Keras layers": partial(run, plain, segments)}
    options = {"items": BATCH, "unit": "example", "rounds": 5}
    row = compare(f"Magnitude network, {task}, all cores", partial(run, fast, segments), others, **options)
    assert row["alternatives"]["plain Keras layers"]["ratio"] > least


@pytest.mark.skipif(
    not CPU.exists() or "amx_bf16" not in CPU.read_text(), reason="this processor multiplies no matrices of bfloat16"
)
@pytest.mark.parametrize(("task", "least"), [("training", 1.3), ("inference", 1.1)])
def test_bfloat16_against_single_precision(task: str, least: float, compare: Callable[..., dict[str, Any]]) -> None:
    segments = tf.random.stateless_normal((BATCH, Geometry().length), (0, 0)) * 0.1
    mixed = work("fast", task, "mixed")
    single = {"single precision": work("fast", task), "plain Keras layers": work("plain", task)}
    for other in single.values():
        run(other, segments)
    others = {name: partial(run, other, segments) for name, other in single.items()}
    options = {"items": BATCH, "unit": "example", "rounds": 5}
    title = f"Magnitude network in bfloat16, {task}, all cores"
    row = compare(title, partial(run, mixed, segments), others, **options)
    assert row["alternatives"]["single precision"]["ratio"] > least
