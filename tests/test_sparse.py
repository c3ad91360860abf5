"""A-SPAIN: sparse signals come back, and the parameters mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from ctxe_lib import metrics, sparse
from ctxe_lib.geometry import Geometry

GEOMETRY = Geometry(context=512, gap=256, window=256, hop=64)


def tones(frequencies: list[float]) -> np.ndarray:
    time = np.arange(GEOMETRY.length)
    return np.sum([np.cos(frequency * time + i) / (i + 1) for i, frequency in enumerate(frequencies)], axis=0)[None]


@pytest.mark.parametrize(("frequencies", "decibels"), [([0.31], 30), ([0.31, 0.82, 1.93], 20)])
def test_a_few_tones_come_back(frequencies: list[float], decibels: float) -> None:
    segment = tones(frequencies)
    assert metrics.snr_td(segment, sparse.inpaint(segment, GEOMETRY, step=1), GEOMETRY) > decibels


def test_one_coefficient_at_most_is_the_louder_tone_alone() -> None:
    segment = tones([0.31, 1.93])
    alone = sparse.inpaint(segment, GEOMETRY, step=1, sparsity=1)
    spectrum = np.abs(np.fft.rfft(alone[0] * np.hanning(GEOMETRY.gap)))
    bins = np.round(np.array([0.31, 1.93]) / (2 * np.pi) * GEOMETRY.gap).astype(int)
    assert spectrum[bins[0]] > 10 * spectrum[bins[1]]


def test_smaller_tolerance_fits_closer() -> None:
    segment = tones([0.31, 0.82, 1.93])
    loose, tight = (
        metrics.snr_td(segment, sparse.inpaint(segment, GEOMETRY, step=1, tolerance=tolerance), GEOMETRY)
        for tolerance in (0.3, 0.01)
    )
    assert tight > loose + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0}, "step=0 must be an integer > 0"),
        ({"sparsity": 1.5}, "sparsity=1.5 must be an integer > 0"),
        ({"step": 9, "sparsity": 8}, "step=9 must not exceed sparsity=8"),
        ({"tolerance": 0}, "tolerance=0 must be a number > 0"),
        ({"tolerance": float("nan")}, "tolerance=nan must be a number > 0"),
    ],
)
def test_parameters_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparse.inpaint(tones([0.3]), GEOMETRY, **options)  # type: ignore[arg-type]
