from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctxe_lib import stft
from ctxe_lib.encoder import ContextEncoder, context_level
from ctxe_lib.files import write_atomically
from ctxe_lib.networks import build_network, has_bfloat16
from ctxe_lib.weights import available, load_encoder, read_card, save_encoder

SHIPPED = Path(__file__).parents[1] / "weights"


@pytest.fixture(scope="module")
def stored(geometry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = build_network("complex", geometry, equalised=True, seed=5)
    encoder = ContextEncoder(model, geometry, "complex", "context", "continued")
    save_encoder(encoder, "music-complex", {"examples": 0}, folder)
    return encoder, folder


@pytest.fixture
def segments(geometry):
    return 0.1 * np.random.default_rng(6).standard_normal((3, geometry.length))


def test_half_precision_and_the_plain_network_give_the_same_output(stored, segments):
    encoder, folder = stored
    expected = encoder.predict(segments)
    assert np.abs(expected).max() > 0
    for layers in ("plain", "auto"):
        loaded, card = load_encoder("music-complex", folder, layers=layers)
        error = np.linalg.norm(loaded.predict(segments) - expected) / np.linalg.norm(expected)
        assert error < 3e-3
        assert card["kind"] == "complex" and card["examples"] == 0


def test_weights_that_are_not_the_cards_are_refused(stored, tmp_path):
    _, folder = stored
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray((tmp_path / "music-complex.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "music-complex.safetensors").write_bytes(bytes(content))
    with pytest.raises(ValueError, match="SHA-256"):
        load_encoder("music-complex", tmp_path)


def test_a_missing_network_names_those_there_are(stored):
    _, folder = stored
    assert available(folder) == ["music-complex"]
    with pytest.raises(FileNotFoundError, match=r"'jazz' .*there: music-complex"):
        read_card("jazz", folder)


def test_a_weight_too_large_for_half_precision_is_refused(stored, tmp_path):
    encoder, _ = stored
    bias = encoder.model.get_layer("conv1").bias
    bias.assign(np.full(bias.shape, 1e6))
    try:
        with pytest.raises(ValueError, match="conv1/bias does not fit"):
            save_encoder(encoder, "x", {}, tmp_path)
    finally:
        bias.assign(np.zeros(bias.shape))
    assert not list(tmp_path.iterdir())


def test_the_card_is_json_without_machine_paths(stored):
    _, folder = stored
    card = json.loads((folder / "music-complex.json").read_text())
    assert set(card) >= {"name", "kind", "level", "geometry", "sha256"}


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_encoder_never_reads_the_gap_and_follows_gain(stored, segments, geometry):
    encoder, _ = stored
    hidden = segments.copy()
    hidden[:, geometry.gap_samples] = np.nan
    expected = encoder.predict(segments)
    np.testing.assert_array_equal(encoder.predict(hidden), expected)
    np.testing.assert_allclose(encoder.predict(0.01 * segments), 0.01 * expected, atol=1e-5 * np.abs(expected).max())


def test_batch_size_and_order_do_not_matter(stored, segments):
    encoder, _ = stored
    expected = encoder.predict(segments)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(encoder.predict(segments, batch=1), expected, atol=tolerance)
    np.testing.assert_allclose(encoder.predict(segments[::-1])[::-1], expected, atol=tolerance)
    assert encoder.predict(segments[:0]).shape == (0, *expected.shape[1:])


def test_level_of_silence_is_one(geometry):
    level = context_level(np.zeros((2, geometry.length), np.float32), geometry).numpy()
    np.testing.assert_array_equal(level, 1)


def test_the_target_is_the_gaps_transform(stored, segments, geometry):
    encoder, _ = stored
    expected = stft.gap_coefficients(segments, geometry)
    target = encoder.target(segments.astype(np.float32)).numpy()
    np.testing.assert_allclose(target[..., 0] + 1j * target[..., 1], expected, atol=1e-4)


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no instructions for bfloat16")
@pytest.mark.parametrize("name", available(SHIPPED))
def test_layers_in_bfloat16_change_no_mean_snr_of_the_shipped_networks_by_a_tenth_of_a_decibel(name, tiny_corpus):
    (single, _), (mixed, _) = (load_encoder(name, SHIPPED, precision=precision) for precision in ("single", "mixed"))
    examples = single.examples(tiny_corpus.read(tiny_corpus.select("test", 4, 0)))
    loss = "snr" if single.kind == "hybrid" else "paper"
    rounded = mixed.scores(examples, loss)
    for key, values in single.scores(examples, loss).items():
        if key.startswith("snr"):
            assert 0 < np.abs(values - rounded[key]).max() < 0.3
            assert abs(np.mean(values - rounded[key])) < 0.1


@pytest.mark.parametrize("name", available(SHIPPED))
def test_half_precision_changes_no_snr_of_the_shipped_networks_by_a_twentieth_of_a_decibel(name, tiny_corpus):
    encoder, _ = load_encoder(name, SHIPPED)
    examples = encoder.examples(tiny_corpus.read(tiny_corpus.select("test", 4, 0)))
    loss = "snr" if encoder.kind == "hybrid" else "paper"
    rounded = encoder.scores(examples, loss)
    rng = np.random.default_rng(0)
    for variable in encoder.model.variables:  # one of the single-precision networks that round to what is stored
        half = np.asarray(variable).astype(np.float16)
        exact = half + 0.49 * np.abs(np.spacing(half).astype(np.float32)) * rng.uniform(-1, 1, half.shape)
        assert np.mean(exact.astype(np.float16) == half) > 0.99
        variable.assign(exact.astype(np.float32))
    for key, values in encoder.scores(examples, loss).items():
        if key.startswith("snr"):
            assert 0 < np.abs(values - rounded[key]).max() < 0.05
