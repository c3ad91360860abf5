from __future__ import annotations

import numpy as np
import pytest

from ctxe_lib import inpaint, interpolation, metrics, weights
from ctxe_lib.encoder import ContextEncoder
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import Hybrid, Options, build_hybrid
from ctxe_lib.inpaint import METHODS, available_methods, prepare
from ctxe_lib.networks import build_network


@pytest.fixture(scope="module")
def networks(tmp_path_factory, geometry):
    """Networks with random weights, so that every method can run."""
    folder = tmp_path_factory.mktemp("weights")
    for kind in ("magnitude", "complex"):
        encoder = ContextEncoder(build_network(kind, geometry, seed=1), geometry, kind, "context", "continued")
        weights.save_encoder(encoder, f"music-{kind}", {}, folder)
    options = Options(width=8, blocks=1)
    weights.save_encoder(Hybrid(build_hybrid(options, geometry, seed=1), geometry, options), "hybrid", {}, folder)
    return folder


@pytest.fixture
def with_networks(networks, monkeypatch):
    monkeypatch.setenv("CTXE_WEIGHTS", str(networks))
    inpaint._encoder.cache_clear()
    yield
    inpaint._encoder.cache_clear()


@pytest.fixture
def segments(geometry):
    time = np.arange(geometry.length) / geometry.sample_rate
    rng = np.random.default_rng(7)
    return np.stack(
        [0.3 * np.sin(2 * np.pi * f * time) + 0.01 * rng.standard_normal(len(time)) for f in (330, 1234, 50)]
    )


@pytest.mark.usefixtures("with_networks")
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_called_alike(name, segments, geometry):
    run = prepare(name)
    hidden = segments.copy()
    hidden[:, geometry.gap_samples] = np.nan
    gaps = run(segments, geometry)
    assert gaps.shape == (3, geometry.gap) and gaps.dtype == np.float64 and np.isfinite(gaps).all()
    np.testing.assert_array_equal(run(hidden, geometry), gaps)
    scale = np.abs(gaps).max()
    np.testing.assert_allclose(run(segments[::-1], geometry)[::-1], gaps, atol=1e-4 * scale)
    np.testing.assert_allclose(run(segments[1:2], geometry), gaps[1:2], atol=1e-4 * scale)
    assert np.abs(run(np.zeros((1, geometry.length)), geometry)).max() < 1


@pytest.mark.usefixtures("with_networks")
@pytest.mark.parametrize("name", list(METHODS))
def test_a_context_that_is_not_finite_is_named(name, segments, geometry):
    segments[1, 5] = np.inf
    with pytest.raises(ValueError, match="segment 1"):
        prepare(name)(segments, geometry)


def test_interpolation_and_lpc_keep_a_steady_tone(segments, geometry):
    for name, least in (("interpolation", 15), ("lpc", 20)):
        gaps = inpaint.inpaint(name, segments[:2], geometry)
        assert (metrics.snr_ms(segments[:2], gaps, geometry) > least).all(), name


def test_interpolated_magnitudes_run_from_neighbour_to_neighbour(segments, geometry):
    from ctxe_lib.stft import stft

    magnitudes = interpolation.magnitudes(segments, geometry)
    whole = np.abs(stft(segments, geometry))
    expected = (whole[:, 14] + whole[:, 26]) / 2
    np.testing.assert_allclose(magnitudes[:, 5], expected, rtol=1e-9)


def test_available_methods_follow_the_weights(networks, monkeypatch, tmp_path):
    monkeypatch.setenv("CTXE_WEIGHTS", str(networks))
    assert {"magnitude", "complex", "hybrid", "lpc"} <= set(available_methods("music"))
    assert "magnitude" not in available_methods("instruments")
    assert "hybrid" in available_methods("instruments")  # one for all
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    assert {"interpolation", "lpc"} <= set(available_methods("music"))
    assert "magnitude" not in available_methods("music")


@pytest.mark.usefixtures("with_networks")
def test_errors_name_value_and_remedy(segments, geometry):
    with pytest.raises(ValueError, match=r"'magic' must be one of .*lpc"):
        prepare("magic")
    with pytest.raises(ValueError, match=r"\(3, 5000\), expected \(n, 5120\)"):
        prepare("lpc")(segments[:, :5000], geometry)
    with pytest.raises(ValueError, match=r"shape \(5120,\) .* must be \[n, 5120\]"):
        interpolation.magnitudes(segments[0], geometry)
    with pytest.raises(ValueError, match="dtype complex128: real numbers"):
        prepare("lpc")(segments + 0j, geometry)
    with pytest.raises(ValueError, match="was trained for"):
        other = Geometry(gap=768)
        prepare("magnitude")(segments[:, : other.length], other)
    with pytest.raises(FileNotFoundError, match="instruments-magnitude"):
        prepare("magnitude", "instruments")


def test_names_and_colours_are_distinct():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.colour for method in METHODS.values()}) == len(METHODS)
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
