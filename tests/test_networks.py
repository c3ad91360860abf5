from __future__ import annotations

import functools
import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib import networks, tf_stft
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import weighted_nmse
from ctxe_lib.networks import build_network

GEOMETRIES = {
    "paper": Geometry(),
    "gap of 48 ms": Geometry(gap=768),
    "short window": Geometry(window=256, hop=64),
}


def relative(got, wanted) -> float:
    got, wanted = (np.concatenate([np.ravel(x) for x in tf.nest.flatten(y)]).astype(np.float64) for y in (got, wanted))
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def output_and_gradients(function, x, variables):
    """Output, and gradients of a smooth function of it, by input and variables."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = function(x)
        total = tf.reduce_sum(
            output * tf.cos(tf.range(tf.size(output), dtype=tf.float32)).numpy().reshape(output.shape)
        )
    return output, tape.gradient(total, [x, *variables])


def inputs(geometry: Geometry, n: int, seed: int = 0) -> tf.Tensor:
    segments = np.random.default_rng(seed).standard_normal((n, geometry.length)).astype(np.float32)
    return tf_stft.network_input(tf.constant(segments), geometry)


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[keras.Model, keras.Model]]:
    return {kind: tuple(build_network(kind, Geometry(), layers=x, seed=1) for x in ("plain", "fast"))
            for kind in ("magnitude", "complex")}  # fmt: skip


@pytest.mark.parametrize(("kind", "parameters"), [("magnitude", 11_173_445), ("complex", 11_263_910)])
def test_parameters_and_table(pairs, kind, parameters):
    for model in pairs[kind]:
        assert networks.trainable_parameters(model) == parameters
        table = networks.layer_table(model).set_index("layer")
        assert table["parameters"].sum() == parameters
        assert table["share (%)"].sum() == pytest.approx(100)
        assert list(table.index) == [*(f"conv{i}" for i in range(1, 7)), "dense", *(f"deconv{i}" for i in range(1, 6))]
        assert table.loc["conv6", "output"] == "2 x 8 x 128"
        assert table.loc["deconv4", ["kernel", "stride", "output"]].tolist() == ["5 x 67", "2 x 2", "16 x 514 x 11"]
    assert round(networks.layer_table(pairs["magnitude"][0]).set_index("layer")["share (%)"]["dense"], 1) == 37.6


@pytest.mark.parametrize(
    ("plain", "fast", "shape", "filters", "kernel", "strides"),
    [
        (networks.EqualisedDeconv2D, networks.SpectralDeconv2D, (2, 8, 37, 6), 3, (5, 67), (2, 2)),
        (networks.EqualisedDeconv2D, networks.SpectralDeconv2D, (2, 11, 41, 3), 2, (11, 41), (1, 1)),
        (networks.EqualisedDeconv2D, networks.SpectralDeconv2D, (3, 5, 20, 2), 1, (4, 16), (2, 2)),
        (networks.EqualisedDeconv2D, networks.SpectralDeconv2D, (1, 4, 21, 3), 2, (3, 12), (1, 3)),
        (networks.EqualisedDeconv2D, networks.WinogradDeconv2D, (2, 8, 12, 5), 7, (3, 3), (1, 1)),
        (networks.EqualisedDeconv2D, networks.WinogradDeconv2D, (3, 4, 16, 5), 3, (5, 5), (2, 2)),
        (networks.EqualisedDeconv2D, networks.WinogradDeconv2D, (1, 8, 8, 2), 3, (5, 3), (2, 1)),
        (networks.EqualisedDeconv2D, networks.WinogradDeconv2D, (1, 8, 8, 2), 3, (4, 4), (2, 2)),
        (keras.layers.Conv2D, networks.SpectralConv2D, (2, 16, 257, 4), 5, (7, 89), (2, 2)),
        (keras.layers.Conv2D, networks.SpectralConv2D, (2, 9, 64, 3), 4, (4, 16), (1, 1)),
        (keras.layers.Conv2D, networks.SpectralConv2D, (2, 9, 65, 3), 2, (5, 21), (2, 3)),
    ],
)
def test_fast_layer_is_the_plain_one(plain, fast, shape, filters, kernel, strides):
    rng = np.random.default_rng(filters)
    gain = {"gain": 0.3} if plain is networks.EqualisedDeconv2D else {}
    layers = [layer(filters, kernel, strides, "same", **gain) for layer in (plain, fast)]
    for layer in layers:
        layer.build(shape)
    weights = [rng.standard_normal(w.shape).astype(np.float32) for w in layers[0].get_weights()]
    x = rng.standard_normal(shape).astype(np.float32)
    results = []
    for layer in layers:
        layer.set_weights(weights)
        results.append(output_and_gradients(layer, x, layer.trainable_variables))
    (wanted, wanted_gradients), (got, gradients) = results
    assert got.shape == wanted.shape
    assert relative(got, wanted) < 1e-5
    for a, b in zip(gradients, wanted_gradients, strict=True):
        assert relative(a, b) < 1e-5


def test_in_bfloat16_fast_layers_err_as_plain_ones_do(pairs):
    single, x, errors = pairs["magnitude"][1], inputs(Geometry(), 4), {}
    wanted = output_and_gradients(functools.partial(single, training=True), x, single.trainable_variables)
    for layers in ("plain", "fast"):
        build = functools.partial(build_network, "magnitude", Geometry(), layers=layers, seed=1)
        mixed = networks.in_precision("mixed", build)
        mixed.set_weights(single.get_weights())
        assert {v.dtype for v in mixed.variables} == {"float32"}
        got = output_and_gradients(functools.partial(mixed, training=True), x, mixed.trainable_variables)
        errors[layers] = [relative(a, b) for a, b in zip(got, wanted, strict=True)]
    for plain, fast in zip(errors["plain"], errors["fast"], strict=True):
        assert 0.005 < fast < 2 * plain


def test_equalised_layer_is_keras_transposed_convolution():
    ours, theirs = networks.EqualisedDeconv2D(3, (5, 7), 2, "same", gain=0.5), keras.layers.Conv2DTranspose(
        3, (5, 7), 2, "same"
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((2, 6, 9, 4)).astype(np.float32)
    ours.build(x.shape), theirs.build(x.shape)
    theirs.set_weights([0.5 * ours.get_weights()[0], ours.get_weights()[1]])
    assert relative(ours(x), theirs(x)) < 1e-6
    assert ours.get_config()["gain"] == 0.5


@pytest.mark.parametrize(("shape", "kernel", "stride"), [((1, 8, 8, 2), (7, 7), 1), ((1, 8, 6, 2), (3, 3), 1)])
def test_winograd_needs_short_kernels_and_whole_tiles(shape, kernel, stride):
    layer = networks.WinogradDeconv2D(3, kernel, stride, "same")
    layer.build(shape)
    with pytest.raises(ValueError, match="use EqualisedDeconv2D"):
        layer.convolve(tf.zeros(shape))


@pytest.mark.parametrize("shape", [(6, 4, 5, 32), (5, 3, 8, 11), (7, 48)])
def test_fused_batch_normalisation_is_keras(shape):
    rng = np.random.default_rng(0)
    layers = [cls() for cls in (keras.layers.BatchNormalization, networks.FusedBatchNormalization)]
    weights = [rng.uniform(0.5, 2, shape[-1:]) for _ in range(4)]
    for layer in layers:
        layer.build(shape)
        layer.set_weights(weights)
    for _ in range(3):  # the moving statistics follow each other
        x = (rng.standard_normal(shape) * 3 + 1).astype(np.float32)
        for training in (True, False):
            (wanted, wanted_gradients), (got, gradients) = (
                output_and_gradients(lambda x, f=f: f(x, training=training), x, f.trainable_variables)  # noqa: B023
                for f in layers
            )
            assert relative(got, wanted) < 1e-5
            assert relative(gradients, wanted_gradients) < 1e-4
    assert relative(layers[1].get_weights(), layers[0].get_weights()) < 1e-5
    assert not np.allclose(layers[1].moving_variance, weights[3], rtol=0.01)


@pytest.mark.parametrize("kind", ["magnitude", "complex"])
def test_fast_network_is_the_plain_one(pairs, kind):
    plain, fast = pairs[kind]
    assert [v.path for v in fast.variables] == [v.path for v in plain.variables]
    assert any(isinstance(layer, networks.WinogradDeconv2D) for layer in fast.layers)
    fast.set_weights(plain.get_weights())
    x = inputs(Geometry(), 4)
    wanted = plain(x, training=False)
    assert wanted.shape == (4, 11, 257, 1 if kind == "magnitude" else 2)
    assert relative(fast(x, training=False), wanted) < 1e-5
    # When training, statistics are single-precision sums over up to 130,000 values, in plain Keras too, and less exact
    # where one thread adds them all up.
    alone = os.environ.get("TF_NUM_INTRAOP_THREADS") == "1"
    assert relative(fast(x, training=True), plain(x, training=True)) < (2e-4 if alone else 1e-4)
    assert relative(fast.non_trainable_variables, plain.non_trainable_variables) < 1e-4


class Softplus(keras.layers.Layer):
    """Stands for ReLU, whose kinks turn rounding into differences of the gradient."""

    def call(self, x):
        return tf.nn.softplus(x)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_the_network(monkeypatch, training):
    monkeypatch.setattr(keras.layers, "ReLU", Softplus)
    x, results = inputs(Geometry(), 3), []
    for layers in ("plain", "fast"):
        model = build_network("magnitude", Geometry(), layers=layers, seed=2)
        run = functools.partial(model, training=training)
        results.append(output_and_gradients(run, x, model.trainable_variables)[1])
    plain, fast = results
    assert relative(fast, plain) < 1e-4


@pytest.mark.parametrize("name", ["gap of 48 ms", "short window"])
def test_other_geometries(name):
    geometry = GEOMETRIES[name]
    plain, fast = (build_network("magnitude", geometry, layers=x, seed=3) for x in ("plain", "fast"))
    x = inputs(geometry, 2)
    wanted = plain(x)
    assert wanted.shape == (2, geometry.gap_frames, geometry.bins, 1)
    assert relative(fast(x), wanted) < 1e-5


def test_equalised_network_starts_near_silence():
    geometry = Geometry()
    segments = np.random.default_rng(5).standard_normal((8, geometry.length)).astype(np.float32)
    target = tf.abs(tf_stft.gap_coefficients(tf.constant(segments), geometry))[..., None]
    x = tf_stft.network_input(tf.constant(segments), geometry)
    model = build_network("magnitude", geometry, equalised=True, seed=0)
    window_energy = 3 / 8 * geometry.window
    assert model.get_layer("deconv5").gain == pytest.approx((window_energy / (11 * 257 * 32)) ** 0.5)
    loss = float(tf.reduce_mean(weighted_nmse(target, model(x, training=True))))
    assert 0.9 < loss < 1.1


def test_seed():
    first, again, other = (build_network("magnitude", Geometry(), seed=seed).get_weights() for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    kernels = [w for w in first if w.ndim == 4]
    assert len({float(k.flat[0]) for k in kernels}) == len(kernels)


def test_auto_takes_the_fast_layers_without_a_gpu(monkeypatch):
    for devices, fast in ([], True), (["GPU:0"], False):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda _, devices=devices: devices)
        layer = build_network("magnitude", Geometry()).get_layer("deconv5")
        assert isinstance(layer, networks.SpectralDeconv2D) == fast


@pytest.mark.parametrize("wrong", [{"kind": "phase"}, {"layers": "quick"}])
def test_errors_name_the_value(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong.values()))}' must be"):
        build_network(**{"kind": "magnitude", "geometry": Geometry(), **wrong})


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_on_a_processor_without_it_is_warned_of(monkeypatch, able):
    monkeypatch.setattr(networks, "has_bfloat16", lambda: able)

    def build() -> keras.Model:
        inputs = keras.Input((2,))
        return keras.Model(inputs, keras.layers.Dense(1)(inputs))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        networks.in_precision("mixed", build)
        networks.in_precision("single", build)
    assert [str(warning.message).endswith("take 'single'") for warning in caught] == [] if able else [True]
