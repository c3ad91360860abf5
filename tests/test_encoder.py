"""The encoders' rules for phases and output: what they give the networks, and what they give back."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib import interpolation, stft
from ctxe_lib.encoder import ContextEncoder, Phases, continued_phases, interpolated_magnitudes
from ctxe_lib.geometry import Geometry
from ctxe_lib.networks import Kind, build_network


def tones(geometry: Geometry, frequency: float, phases: np.ndarray) -> np.ndarray:
    times = np.arange(geometry.length) / geometry.sample_rate
    return np.cos(2 * np.pi * frequency * times + phases[:, None]).astype(np.float32)


@pytest.mark.parametrize("frequency", [437.0, 3141.6, 7003.0])
@pytest.mark.parametrize("sizes", [{}, {"context": 1024, "gap": 512, "window": 256, "hop": 64}])
def test_a_sinusoid_s_phases_are_continued(frequency, sizes):
    geometry = Geometry(**sizes)
    segments = tones(geometry, frequency, np.linspace(0, 3, 4))
    contexts, gap = (x.numpy() for x in continued_phases(stft.network_input(segments, geometry), geometry))
    assert contexts.shape == (4, 2, geometry.context_frames, geometry.bins)
    peak = round(frequency / geometry.sample_rate * geometry.window)
    true = stft.gap_coefficients(segments, geometry)[..., peak]
    assert np.abs(np.angle(gap[..., peak] * true.conj())).max() < 0.02
    inputs = stft.network_input(segments, geometry)[:, :, peak]
    free = geometry.stripped_frames
    for side, frames in ((0, slice(0, free)), (1, slice(-free, None))):
        spectra = inputs[..., 2 * side] + 1j * inputs[..., 2 * side + 1]
        assert np.abs(np.angle(spectra * contexts[:, side, :, peak].conj())[:, frames]).max() < 0.05


def test_continued_phases_of_silence_and_noise_are_finite():
    geometry, rng = Geometry(), np.random.default_rng(0)
    segments = np.stack([np.zeros(geometry.length), np.ones(geometry.length), rng.normal(size=geometry.length)])
    for turns in continued_phases(stft.network_input(segments, geometry), geometry):
        modulus = np.abs(turns.numpy())
        assert np.all((np.abs(modulus - 1) < 1e-4) | (modulus == 0))
        assert np.mean(modulus > 0) > 0.99


def test_time_reversed_contexts_have_reversed_phases():
    geometry, rng = Geometry(), np.random.default_rng(1)
    inputs = rng.normal(size=(2, geometry.context_frames, geometry.bins, 4)).astype(np.float32)
    backwards = inputs[:, ::-1, :, [2, 3, 0, 1]] * np.array([1, -1, 1, -1], np.float32)  # the conjugates
    forth, back = continued_phases(inputs, geometry), continued_phases(backwards, geometry)
    np.testing.assert_allclose(back[0].numpy()[:, ::-1, ::-1].conj(), forth[0], atol=1e-4)
    np.testing.assert_allclose(back[1].numpy()[:, ::-1].conj(), forth[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["magnitude", "complex"])
def test_a_tone_s_phase_turns_the_complex_output_and_no_magnitude(kind: Kind):
    geometry = Geometry()
    model = build_network(kind, geometry, seed=3)
    model.get_layer("deconv5").kernel.assign(
        tf.random.stateless_normal(model.get_layer("deconv5").kernel.shape, (1, 2))
    )
    shifts = np.array([0.0, 1.0, 2.5])
    segments = tones(geometry, 2011.0, shifts)  # between two bins: all bins beside them have some of it
    turns = np.exp(1j * shifts) if kind == "complex" else np.ones(3)
    errors = {}
    for phases in get_args(Phases):
        output = ContextEncoder(model, geometry, kind, "context", phases).predict(segments)[..., 56:73]
        errors[phases] = np.linalg.norm(output - output[:1] * turns[:, None, None]) / np.linalg.norm(output)
    # Not nothing: frames that the gap cuts off leak, and what leaks depends on the phase at the cut.
    assert errors["continued"] < 0.2 * errors["frame"]


@pytest.mark.parametrize("phases", ["frame", "continued"])
def test_the_gap_is_not_read(phases: Phases):
    geometry, rng = Geometry(), np.random.default_rng(2)
    encoder = ContextEncoder(build_network("complex", geometry, seed=3), geometry, "complex", "context", phases)
    segments = rng.normal(size=(2, geometry.length))
    changed = segments.copy()
    changed[:, geometry.gap_samples] = rng.normal(size=(2, geometry.gap))
    np.testing.assert_array_equal(encoder.predict(segments), encoder.predict(changed))


@pytest.mark.parametrize("sizes", [{}, {"context": 1024, "gap": 512, "window": 256, "hop": 64}])
def test_interpolated_magnitudes_are_those_of_the_method(sizes):
    geometry = Geometry(**sizes)
    segments = np.random.default_rng(4).normal(size=(3, geometry.length)) * [[1], [0], [1e-3]]
    inputs = stft.network_input(segments, geometry).astype(np.float32)
    wanted = interpolation.magnitudes(segments, geometry)
    found, apart = (x.numpy() for x in interpolated_magnitudes(inputs, geometry))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())
    slopes = np.abs(wanted[:, 1] - wanted[:, 0]) * (geometry.gap_frames + 1)
    np.testing.assert_allclose(apart[:, 0, 7], slopes[:, 5:10].mean(axis=1), rtol=1e-3)


def test_a_correction_is_added_to_the_interpolated_magnitudes():
    geometry, rng = Geometry(), np.random.default_rng(5)
    noise = 0.01 * rng.normal(size=(3, geometry.length))
    steady = 0.01 * tones(geometry, 2000.0, np.zeros(1))  # whole periods in a hop: the sides agree
    model = build_network("magnitude", geometry, seed=3)
    last = model.get_layer("deconv5")
    last.bias.assign([0.5])
    encoder = ContextEncoder(model, geometry, "magnitude", "context", "continued", "correction")
    last.kernel.assign(tf.zeros_like(last.kernel))
    for segments, change in ((noise, 0.5), (steady, 0.0)):
        inputs = stft.network_input(segments, geometry).astype(np.float32)
        magnitudes, apart = (x.numpy() for x in interpolated_magnitudes(inputs, geometry))
        found = encoder.predict(segments) - magnitudes
        np.testing.assert_allclose(found, np.broadcast_to(change * apart, found.shape), atol=1e-4 * magnitudes.max())
    assert encoder.predict(noise).mean() > 1.1 * interpolation.magnitudes(noise, geometry).mean()


def test_only_magnitudes_are_corrected():
    geometry = Geometry()
    with pytest.raises(ValueError, match="of a complex network: only magnitudes are interpolated"):
        ContextEncoder(build_network("complex", geometry), geometry, "complex", "context", "continued", "correction")
