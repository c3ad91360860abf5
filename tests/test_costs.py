from __future__ import annotations

import json

import keras
import pytest

from ctxe_lib import costs


def test_operations_of_layers_counted_by_hand():
    """A convolution with stride and a transposed one: kernels x places x 2."""
    inputs = keras.Input((8, 10, 3))
    down = keras.layers.Conv2D(4, (3, 5), strides=(2, 2), padding="same")(inputs)
    flat = keras.layers.Dense(7)(keras.layers.Flatten()(down))
    up = keras.layers.Conv2DTranspose(2, (3, 3), strides=(2, 2), padding="same")(down)
    model = keras.Model(inputs, [up, flat])
    by_hand = 3 * 5 * 3 * 4 * (4 * 5) + 4 * 5 * 4 * 7 + 3 * 3 * 4 * 2 * (4 * 5)
    assert costs.operations(model) == 2 * by_hand


def test_time_follows_from_arithmetic():
    table = costs.training_time([10, 20]).set_index("kind")
    assert (table["hours at 10 TFLOP/s"] / table["hours at 20 TFLOP/s"]).to_numpy() == pytest.approx(2)
    # deconv 3 alone: 3 x 3 x 512 x 257 at 32 x 32 places, forward and twice backward, two operations each.
    assert 6 * 9 * 512 * 257 * 1024 / 1e9 < table.loc["magnitude", "gigaflop"] < 100
    expected = table.loc["complex", "gigaflop"] * 1e9 * 800_000 * 256 / 10e12 / 3600
    assert table.loc["complex", "hours at 10 TFLOP/s"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="must be > 0"):
        costs.training_time([0])


def test_speed_of_trained_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    assert costs.here().empty
    cards = {
        "music-magnitude": {"kind": "magnitude", "examples": 2048, "hours": 1.0, "data": {"hours": 5.0}},
        "hybrid": {"kind": "hybrid", "examples": 4096, "hours": 1.0, "data": {"hours": 9.0}},
        "unknown": {"kind": "hybrid", "examples": 10, "data": {}},
    }
    for name, card in cards.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(card))
        (tmp_path / f"{name}.safetensors").touch()
    table = costs.here().set_index("network")
    assert list(table.index) == ["hybrid", "music-magnitude"]
    assert table["share"].to_list() == pytest.approx([0.002, 0.001])
    assert table.loc["music-magnitude", "days"] == pytest.approx(1e5 / 24)
    done = costs.training_operations("magnitude") * 2048 / 3600 / 1e12
    assert table.loc["music-magnitude", "teraflops"] == pytest.approx(done)


def test_disk_of_the_papers_sets(geometry):
    table = costs.disk(geometry).set_index("corpus")
    assert table.loc["music-fma", "hours"] == pytest.approx(66.67, abs=0.01)
    assert table.loc["music-fma", "gigabytes"] == pytest.approx(7.68)
