from __future__ import annotations

import numpy as np
import pytest

from ctxe_lib import metrics, stft
from ctxe_lib.geometry import Geometry

G = Geometry()


@pytest.fixture
def segments():
    return np.random.default_rng(2).standard_normal((4, G.length)) * 0.1


def test_snr_of_known_noise():
    x = np.ones(100)
    assert metrics.snr(x, x * 0.9) == pytest.approx(20.0)
    assert metrics.snr(x, 0 * x) == pytest.approx(0.0)
    assert metrics.snr(x, x) == np.inf


def test_snr_td_reads_the_gap_alone(segments):
    gaps = segments[:, G.gap_samples] * 0.5
    np.testing.assert_allclose(metrics.snr_td(segments, gaps, G), 20 * np.log10(2), atol=1e-9)


def test_snr_ms_is_that_of_the_central_frames_of_the_restored_signal(segments):
    gaps = np.random.default_rng(3).standard_normal((4, G.gap)) * 0.1
    restored = segments.copy()
    restored[:, G.gap_samples] = gaps
    original, again = (np.abs(stft.stft(x, G))[:, 18:23].reshape(4, -1) for x in (segments, restored))
    expected = 10 * np.log10((original**2).sum(1) / ((original - again) ** 2).sum(1))
    np.testing.assert_allclose(metrics.snr_ms(segments, gaps, G), expected, rtol=1e-10)


def test_snr_ms_ignores_sign_which_snr_td_does_not(segments):
    gaps = -segments[:, G.gap_samples]
    assert (metrics.snr_ms(segments, gaps, G) > 200).all()
    np.testing.assert_allclose(metrics.snr_td(segments, gaps, G), -20 * np.log10(2))


def test_spectral_convergence_is_snr_ms_in_other_units(segments):
    gaps = np.zeros((4, G.gap))
    np.testing.assert_allclose(metrics.spectral_convergence(segments, gaps, G), 1.0)
    np.testing.assert_allclose(metrics.snr_ms(segments, gaps, G), 0.0, atol=1e-9)


def test_gain_does_not_change_a_score(segments):
    gaps = segments[:, G.gap_samples] + 0.01
    np.testing.assert_allclose(
        metrics.snr_ms(segments, gaps, G), metrics.snr_ms(1e-4 * segments, 1e-4 * gaps, G), rtol=1e-9
    )


def test_a_silent_reference_has_no_score(segments):
    segments[1] = 0
    gaps = np.full((4, G.gap), 0.1)
    for score in (metrics.snr_td(segments, gaps, G), metrics.snr_ms(segments, gaps, G)):
        assert np.isnan(score[1]) and np.isfinite(np.delete(score, 1)).all()


def test_raw_output_score_compares_all_frames(segments):
    target = stft.gap_coefficients(segments, G)
    np.testing.assert_allclose(metrics.snr_raw(target, 0.9 * np.abs(target)), 20.0, atol=1e-9)


def test_bad_input_is_named(segments):
    with pytest.raises(ValueError, match=r"\(4, 1024\).*\(4, 1000\)"):
        metrics.snr_td(segments, np.zeros((4, 1000)), G)
    with pytest.raises(ValueError, match=r"\(4, 1024\).*\(1, 1024\)"):
        metrics.snr_ms(segments, np.zeros((1, G.gap)), G)
    with pytest.raises(ValueError, match="must be real"):
        metrics.snr(segments, segments + 0j)
    gaps = np.zeros((4, G.gap))
    gaps[2, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        metrics.snr_ms(segments, gaps, G)
