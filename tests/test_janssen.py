"""Janssen's interpolation: the system it solves, and what it gains over extrapolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import lstsq, toeplitz
from scipy.signal import lfilter

from ctxe_lib import janssen, lpc, metrics
from ctxe_lib.geometry import Geometry

GEOMETRY = Geometry(context=512, gap=128, window=256, hop=64)


POLES = 0.995 * np.exp(1j * np.array([0.3, 1.1, 2.0]))
MODEL = np.real(np.poly([*POLES, *np.conj(POLES)]))


def process(n: int) -> np.ndarray:
    """Segments of one resonant autoregressive process."""
    noise = np.random.default_rng(11).standard_normal((n, GEOMETRY.length + 4000))
    return lfilter([1.0], MODEL, noise)[:, 4000:]


def test_one_iteration_is_the_dense_least_squares_solution() -> None:
    segments = process(3)
    start, order, gap = GEOMETRY.context, 30, GEOMETRY.gap
    result = janssen.inpaint(segments, GEOMETRY, order=order, iterations=1)
    first = segments.copy()
    first[:, GEOMETRY.gap_samples] = lpc.inpaint(segments, GEOMETRY, order=order)
    for row, a in enumerate(lpc.burg(first, order)):
        # Row n of the matrix gives the prediction error at sample n + order.
        rows = GEOMETRY.length - order
        matrix = toeplitz(np.r_[a[-1], np.zeros(rows - 1)], np.r_[a[::-1], np.zeros(rows - 1)])
        blank = segments[row].copy()
        blank[GEOMETRY.gap_samples] = 0
        dense = lstsq(matrix[:, start : start + gap], -matrix @ blank, lapack_driver="gelsy")[0]
        np.testing.assert_allclose(result[row], dense, rtol=0, atol=1e-8 * np.abs(dense).max())


def test_close_to_the_optimum_on_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coefficients known, one iteration is the best estimate there is."""
    segments = process(60)

    def score(gaps: np.ndarray) -> float:
        return metrics.snr_td(segments, gaps, GEOMETRY).mean()

    extrapolated = score(lpc.inpaint(segments, GEOMETRY, order=30))
    interpolated = score(janssen.inpaint(segments, GEOMETRY, order=30))
    monkeypatch.setattr(lpc, "burg", lambda x, order: np.tile(MODEL, (len(x), 1)))
    optimum = score(janssen.inpaint(segments, GEOMETRY, order=6, iterations=1))
    assert extrapolated + 0.7 < interpolated < optimum < interpolated + 0.5


def test_better_than_extrapolation_on_tonal_reference_segments(geometry: Geometry) -> None:
    with np.load(Path(__file__).parent / "reference" / "lpc.npz") as file:
        segments = file["segment"][np.isin(file["cls"], ["notes", "vibrato"])] / 32768
    interpolated = metrics.snr_td(segments, janssen.inpaint(segments, geometry), geometry)
    assert (interpolated - metrics.snr_td(segments, lpc.inpaint(segments, geometry), geometry)).mean() > 1.5


def test_iterations_go_on_from_each_other() -> None:
    segments = process(2)
    once, twice, again = (janssen.inpaint(segments, GEOMETRY, order=30, iterations=i) for i in (1, 2, 2))
    np.testing.assert_array_equal(twice, again)
    assert 0 < np.abs(once - twice).max() < 0.1 * np.abs(once).max()


@pytest.mark.parametrize("iterations", [0, -1, 1.5, None])
def test_iterations_must_be_a_positive_integer(iterations: object) -> None:
    with pytest.raises(ValueError, match=f"iterations={iterations!r} must be an integer > 0"):
        janssen.inpaint(process(1), GEOMETRY, order=30, iterations=iterations)  # type: ignore[arg-type]


def test_a_diverging_iteration_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = process(2)
    cross_fade = lpc.inpaint(segments, GEOMETRY, order=30)
    # An anticausal filter with its zeros far outside the unit circle interpolates with huge samples.
    monkeypatch.setattr(lpc, "burg", lambda x, order: np.tile(np.r_[1.0, -1e200, np.zeros(order - 1)], (len(x), 1)))
    np.testing.assert_allclose(janssen.inpaint(segments, GEOMETRY, order=30), cross_fade, rtol=1e-12)
