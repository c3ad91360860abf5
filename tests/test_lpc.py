"""LPC: against the authors' program, against known processes, and at the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from ctxe_lib import lpc, metrics
from ctxe_lib.geometry import Geometry

REFERENCE = Path(__file__).parent / "reference"


def relative(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest relative L2 error over the rows."""
    return float((np.linalg.norm(value - reference, axis=-1) / np.linalg.norm(reference, axis=-1)).max())


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "lpc.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def edges() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Awkward segments by name: [1, length], and the gap that the authors' program returns [1, gap]."""
    with np.load(REFERENCE / "lpc_edge.npz") as file:
        return {
            str(name): (x[None], gap[None])
            for name, x, gap in zip(file["names"], file["x"], file["rec_gap"], strict=True)
        }


# -- against the authors' program -----------------------------------------------------------------------------


def test_coefficients_of_both_contexts(vectors: dict[str, np.ndarray], geometry: Geometry) -> None:
    audio = vectors["segment"] / 32768
    assert relative(lpc.burg(audio[:, : geometry.context], 1000), vectors["a_left"]) < 1e-8
    assert relative(lpc.burg(audio[:, : -geometry.context - 1 : -1], 1000), vectors["a_right"]) < 1e-8


def test_gap_and_both_extrapolations(vectors: dict[str, np.ndarray], geometry: Geometry) -> None:
    gap, sides = lpc.inpaint(vectors["segment"] / 32768, geometry, return_info=True)
    assert relative(gap, vectors["rec_gap"]) < 1e-8
    assert relative(sides.forward, vectors["forward"]) < 1e-8
    assert relative(sides.backward, vectors["backward"]) < 1e-8
    assert sides.used.all()


@pytest.mark.parametrize(
    ("name", "tolerance"),
    # The recursion in extended precision is 3e-8 away from the authors' double precision on two noise-free tones.
    [("left_zero_but_10", 1e-8), ("noise_1e-3", 1e-8), ("left_half_zero", 1e-8), ("noisefree_2tones_f64", 1e-7)],
)
def test_awkward_but_well_defined(
    name: str, tolerance: float, edges: dict[str, tuple[np.ndarray, np.ndarray]], geometry: Geometry
) -> None:
    segment, reference = edges[name]
    assert relative(lpc.inpaint(segment, geometry), reference) < tolerance


# -- where the authors' program returns NaN or explodes -----------------------------------------------------------


def test_one_silent_side_leaves_the_other(edges: dict[str, tuple[np.ndarray, np.ndarray]], geometry: Geometry) -> None:
    segment, _ = edges["left_zero"]
    gap, sides = lpc.inpaint(segment, geometry, return_info=True)
    np.testing.assert_array_equal(sides.used, [[False, True]])
    np.testing.assert_array_equal(gap, sides.backward)
    assert not sides.forward.any() and np.abs(gap).max() > 0.1
    mirrored, sides = lpc.inpaint(segment[:, ::-1], geometry, return_info=True)
    np.testing.assert_array_equal(sides.used, [[True, False]])
    np.testing.assert_array_equal(mirrored, gap[:, ::-1])


def test_two_silent_sides_leave_silence(edges: dict[str, tuple[np.ndarray, np.ndarray]], geometry: Geometry) -> None:
    gap, sides = lpc.inpaint(edges["both_zero"][0], geometry, return_info=True)
    assert not gap.any() and not sides.used.any()


def test_what_repeats_exactly_is_continued(edges: dict[str, tuple[np.ndarray, np.ndarray]], geometry: Geometry) -> None:
    for segment, decibels in ((edges["dc"][0], 100), (edges["square"][0], 50)):
        assert min(continued(segment, geometry)) > decibels


def test_where_the_full_recursion_diverges_a_shorter_one_continues(geometry: Geometry) -> None:
    """How well depends on how the sums are rounded, which is up to the processor: one phase in many is at 20 dB."""
    time = np.arange(geometry.length)
    sawtooths = np.stack([(time + start) % 50 / 50 - 0.5 for start in range(0, 50, 2)])
    decibels = continued(sawtooths, geometry)
    assert np.median(decibels) > 30
    assert decibels.min() > 8  # the silence that a recursion without a second try leaves would be 0


def continued(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """SNR_TD of what continues both sides, in dB."""
    gap, sides = lpc.inpaint(segments, geometry, return_info=True)
    assert sides.used.all()
    return metrics.snr_td(segments, gap, geometry)


def test_reference_segments_stay_far_from_the_bound(vectors: dict[str, np.ndarray], geometry: Geometry) -> None:
    before, after = lpc.contexts(vectors["segment"], geometry)
    assert (np.abs(vectors["forward"]).max(axis=1) < lpc.BOUND / 2 * np.abs(before).max(axis=1) / 32768).all()
    assert (np.abs(vectors["backward"]).max(axis=1) < lpc.BOUND / 2 * np.abs(after).max(axis=1) / 32768).all()


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e300])
def test_extreme_levels(size: float, vectors: dict[str, np.ndarray], geometry: Geometry) -> None:
    segment = np.sign(vectors["segment"][:1]) * size
    gap, sides = lpc.inpaint(segment, geometry, return_info=True)
    assert sides.used.all()
    assert 0 < np.abs(gap).max() <= lpc.BOUND * size


# -- known processes ----------------------------------------------------------------------------------------------


def test_levels_whose_multiples_overflow_are_refused(geometry: Geometry) -> None:
    segment = np.full((1, geometry.length), 1e308)
    with pytest.raises(
        ValueError, match=r"has 1e\+308 at sample 0: samples must be finite, and no larger than 1e\+307"
    ):
        lpc.inpaint(segment, geometry)


@pytest.mark.parametrize("order", [2, 5])
def test_known_process_is_recovered(order: int) -> None:
    a = np.real(np.poly([0.9 * np.exp(0.7j), 0.9 * np.exp(-0.7j), 0.9 * np.exp(2j), 0.9 * np.exp(-2j), 0.5][:order]))
    x = lfilter([1.0], a, np.random.default_rng(1).standard_normal((3, 100_000)))
    np.testing.assert_allclose(lpc.burg(x, order), np.tile(a, (3, 1)), atol=0.02)
    assert np.abs(lpc.burg(x, order + 3)[:, order + 1 :]).max() < 0.02


def test_the_model_is_stable() -> None:
    x = np.random.default_rng(2).standard_normal(300).cumsum()
    assert np.abs(np.roots(lpc.burg(x, 40))).max() < 1


def test_burg_on_any_shape_and_order() -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 33))
    a = lpc.burg(x, 32)
    assert a.shape == (2, 3, 33)
    np.testing.assert_array_equal(a[1, 2], lpc.burg(x[1, 2], 32))
    np.testing.assert_allclose(
        lpc.burg(x, 1)[0, 0, 1],
        -2 * (x[0, 0, 1:] @ x[0, 0, :-1]) / (x[0, 0, 1:] @ x[0, 0, 1:] + x[0, 0, :-1] @ x[0, 0, :-1]),
    )
    np.testing.assert_array_equal(lpc.burg(np.zeros(9), 3), [1, 0, 0, 0])


# -- contexts of different lengths --------------------------------------------------------------------------------


def test_bridge_is_inpaint_on_equal_contexts(vectors: dict[str, np.ndarray], geometry: Geometry) -> None:
    before, after = lpc.contexts(vectors["segment"][:2], geometry)
    gap, _ = lpc.bridge(before, after, geometry.gap, order=100)
    np.testing.assert_array_equal(gap, lpc.inpaint(vectors["segment"][:2], geometry, order=100))


@pytest.mark.parametrize("short", [0, 1, 100])
def test_a_context_too_short_for_the_order_is_not_used(short: int, vectors: dict[str, np.ndarray]) -> None:
    audio = vectors["segment"][:2]
    gap, sides = lpc.bridge(audio[:, :short], audio[:, -2048:], 200, order=100)
    np.testing.assert_array_equal(sides.used, [[False, True]] * 2)
    np.testing.assert_array_equal(gap, sides.backward)
    _, sides = lpc.bridge(audio[:, -2048:], audio[:, :short], 200, order=100)
    np.testing.assert_array_equal(sides.used, [[True, False]] * 2)


def test_what_bridge_refuses() -> None:
    ones = np.ones((2, 50))
    with pytest.raises(ValueError, match="order=50 must be less than the 50 samples of the longer context"):
        lpc.bridge(ones, ones[:, :9], 10, order=50)
    with pytest.raises(ValueError, match="2 contexts before a gap and 1 after"):
        lpc.bridge(ones, ones[:1], 10, order=5)
    with pytest.raises(ValueError, match="gap=0 must be an integer > 0"):
        lpc.bridge(ones, ones, 0, order=5)


@pytest.mark.parametrize("x", [np.ones(9) * 1j, np.array(1.0), np.array(["a"])])
def test_burg_refuses_what_is_no_real_signal(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"x: shape .* must be an array of real numbers"):
        lpc.burg(x, 1)
