from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ctxe_lib import interpolation, stft, tf_stft
from ctxe_lib.geometry import Geometry

GEOMETRIES = [
    Geometry(),
    Geometry(gap=768),
    Geometry(gap=128),
    Geometry(window=256, hop=64),
    Geometry(window=1024, hop=128, context=1024),
    Geometry(window=512, hop=256),
    Geometry(sample_rate=44_100, context=4096, gap=2048, window=1024, hop=256),
]


@pytest.fixture(params=GEOMETRIES, ids=lambda g: f"{g.context}-{g.gap}-{g.window}-{g.hop}")
def case(request):
    g = request.param
    return g, np.random.default_rng(1).standard_normal((3, g.length))


def test_perfect_reconstruction(case):
    g, x = case
    coefficients = stft.stft(x, g)
    assert coefficients.shape == (3, g.frames, g.bins)
    np.testing.assert_allclose(stft.istft(coefficients, g), x, atol=1e-13)


def test_insertion_of_the_true_gap_restores_it(case):
    g, x = case
    blanked = x.copy()
    blanked[:, g.gap_samples] = np.nan  # whoever reads it is found out
    merged = stft.merge(blanked, stft.gap_coefficients(x, g), g)
    np.testing.assert_allclose(merged, stft.stft(x, g), atol=1e-11)
    np.testing.assert_allclose(stft.gap_audio(merged, g), x[:, g.gap_samples], atol=1e-13)


def test_contexts_are_frames_of_the_segment_without_gap(case):
    g, x = case
    blanked = x.copy()
    blanked[:, g.gap_samples] = np.nan
    channels = stft.network_input(blanked, g)
    assert channels.shape == (3, g.context_frames, g.bins, 4) and channels.dtype == np.float32
    whole = stft.stft(np.nan_to_num(blanked), g)
    before, after = whole[:, g.before_frames], whole[:, g.after_frames]
    # frames of one context that reach across a gap shorter than a window see zeros there, not the other context
    clear = slice(0, g.stripped_frames)
    np.testing.assert_allclose(channels[:, clear, :, 0], before.real[:, clear], atol=1e-4)
    np.testing.assert_allclose(channels[:, clear, :, 1], before.imag[:, clear], atol=1e-4)
    clear = slice(g.context_frames - g.stripped_frames, None)
    np.testing.assert_allclose(channels[:, clear, :, 2], after.real[:, clear], atol=1e-4)
    np.testing.assert_allclose(channels[:, clear, :, 3], after.imag[:, clear], atol=1e-4)


def test_tensorflow_gives_the_same_numbers(case):
    g, x = case
    x = x.astype(np.float32)
    scale = np.abs(stft.gap_coefficients(x, g)).max()
    np.testing.assert_allclose(
        tf_stft.network_input(tf.constant(x), g).numpy(), stft.network_input(x, g), atol=2e-6 * scale
    )
    np.testing.assert_allclose(
        tf_stft.gap_coefficients(tf.constant(x), g).numpy(), stft.gap_coefficients(x, g), atol=2e-6 * scale
    )


def test_frames_are_interpolated_as_by_the_method(case):
    g, x = case
    wanted = interpolation.magnitudes(x, g)
    whole = tf.abs(tf_stft.coefficients(tf.constant(x, tf.float32), g))
    first = g.touched_frames.start - g.window // 2 // g.hop  # no frames before the segment here
    found = tf_stft.interpolated(whole[:, first - 1], whole[:, first + g.gap_frames], g)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.max())


def test_phase_is_relative_to_the_frame_centre():
    g = Geometry()
    impulse = np.zeros(g.length)
    impulse[20 * g.hop] = 1.0
    np.testing.assert_allclose(stft.stft(impulse, g)[20], np.ones(g.bins), atol=1e-12)


def test_against_ltfat():
    reference = np.load(Path(__file__).parent / "reference" / "pghi.npz")
    g = Geometry()
    row = int(reference["stft_example_seg"])
    x = reference["segment"][row] / 32768 * reference["gain"][row]
    np.testing.assert_allclose(stft.stft(x, g), reference["stft_example"].T, atol=1e-12)
    np.testing.assert_allclose(np.roll(stft.window(g), -g.window // 2), reference["window"], atol=1e-15)


def test_energy_of_a_sinusoid_sits_in_its_bin():
    g = Geometry()
    tone = np.cos(2 * np.pi * 1000 * np.arange(g.length) / g.sample_rate)
    assert (np.abs(stft.stft(tone, g)).argmax(axis=-1) == 1000 * g.window // g.sample_rate).all()


def test_errors_name_the_length():
    g = Geometry()
    with pytest.raises(ValueError, match="5000 samples"):
        stft.stft(np.zeros(5000), g)
    with pytest.raises(ValueError, match="4096 samples"):
        stft.network_input(np.zeros((1, 4096)), g)
    with pytest.raises(ValueError, match="200 bins"):
        stft.istft(np.zeros((40, 200), complex), g)
