"""What LPC, Janssen and A-SPAIN have in common: what they read, what they refuse, and what changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from ctxe_lib import janssen, lpc, sparse
from ctxe_lib.geometry import Geometry

GEOMETRY = Geometry(context=512, gap=256, window=256, hop=64)
Inpainter = Callable[[np.ndarray], np.ndarray]
METHODS: dict[str, Callable[..., np.ndarray]] = {
    "lpc": partial(lpc.inpaint, order=120),
    "janssen": partial(janssen.inpaint, order=120),
    "sparse": sparse.inpaint,
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Inpainter:
    return partial(METHODS[request.param], geometry=GEOMETRY)


def audio() -> np.ndarray:
    """Five segments of decaying tones over noise, without anything in the gap."""
    rng = np.random.default_rng(7)
    time = np.arange(GEOMETRY.length)
    tones = sum(
        rng.uniform(0.1, 0.3, (5, 1)) * np.sin(rng.uniform(0.05, 1.5, (5, 1)) * time + rng.uniform(0, 6, (5, 1)))
        for _ in range(3)
    )
    segments = tones * np.exp(-time / 1500) + 0.01 * rng.standard_normal((5, GEOMETRY.length))
    segments[:, GEOMETRY.gap_samples] = np.nan
    return segments


def test_gap_is_never_read(method: Inpainter) -> None:
    segments = audio()
    gap = method(segments)
    assert gap.shape == (5, GEOMETRY.gap) and gap.dtype == np.float64 and np.isfinite(gap).all()
    filled = segments.copy()
    filled[:, GEOMETRY.gap_samples] = 1e9
    np.testing.assert_array_equal(gap, method(filled))
    np.testing.assert_array_equal(segments, audio())  # the input is left alone


def test_order_of_segments_and_batch_size(method: Inpainter) -> None:
    segments = audio()
    gap = method(segments)
    np.testing.assert_array_equal(method(segments[::-1]), gap[::-1])
    np.testing.assert_array_equal(np.concatenate([method(segments[:2]), method(segments[2:])]), gap)
    assert method(segments[:0]).shape == (0, GEOMETRY.gap)


@pytest.mark.parametrize("gain", [-1.0, 0.003, 30_000.0])
def test_gain(method: Inpainter, gain: float) -> None:
    gap = method(audio())
    np.testing.assert_allclose(method(gain * audio()) / gain, gap, atol=1e-6)


def test_time_reversal(method: Inpainter) -> None:
    np.testing.assert_allclose(method(audio()[:, ::-1])[:, ::-1], method(audio()), atol=1e-6)


def test_a_steady_tone_closes_to_60_db() -> None:
    time = np.arange(Geometry().length)
    segments = (0.5 * np.sin(0.3 * time + 0.2) + 0.2 * np.sin(1.1 * time))[None]
    known = segments.copy()
    known[:, Geometry().gap_samples] = np.nan
    truth = segments[:, Geometry().gap_samples]
    for name, decibels in (("lpc", 60), ("janssen", 60)):
        error = METHODS[name](known, Geometry(), order=500) - truth
        assert 10 * np.log10(np.sum(truth**2) / np.sum(error**2)) > decibels


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_input_types(method: Inpainter, dtype: type) -> None:
    segments = np.nan_to_num(audio() * 10_000).astype(dtype)
    np.testing.assert_array_equal(method(segments), method(segments.astype(np.float64)))


@pytest.mark.parametrize("gap", [128, 512, 1536])
@pytest.mark.parametrize("name", METHODS)
def test_other_gaps(name: str, gap: int) -> None:
    geometry = Geometry(gap=gap)
    time = np.arange(geometry.length)
    segments = np.sin(0.2 * time)[None]
    result = METHODS[name](segments, geometry)
    assert result.shape == (1, gap)
    assert np.corrcoef(result[0], segments[0, geometry.gap_samples])[0, 1] > 0.97


def awkward() -> dict[str, np.ndarray]:
    time = np.arange(GEOMETRY.length)
    noise = np.random.default_rng(5).standard_normal(GEOMETRY.length)
    return {
        "silent": 0.0 * time,
        "constant": 0.25 + 0.0 * time,
        "silent before": noise * (time > 600),
        "silent after": noise * (time < 500),
        "half empty": noise * (time > 256),
        "one sample": 1.0 * (time == 511),
        "first sample": 1.0 * (time == 0),
        "alternating": (-1.0) ** time,
        "square": np.where(time % 64 < 32, 0.5, -0.5),
        "sawtooth": time % 50 / 50.0 - 0.5,
        "impulses": 1.0 * (time % 100 == 0),
        "ramp": time / GEOMETRY.length,
        "growing": np.exp(time / 40 - 25.0) * np.sin(0.2 * time),
        "clipped": np.clip(10 * np.sin(0.1 * time), -1, 1),
        "last bit": np.sign(noise) / 32768,
        "denormal": np.sign(noise) * 5e-324,
        "huge": noise * 1e300,
        "spike": 1e-9 * noise + (time == 511),
    }


@pytest.mark.parametrize("name", awkward())
def test_awkward_input_gives_bounded_audio(method: Inpainter, name: str) -> None:
    segment = awkward()[name].astype(float)
    peak = np.abs(np.delete(segment, np.r_[GEOMETRY.gap_samples])).max()
    gap = method(segment[None])
    assert np.isfinite(gap).all()
    assert np.abs(gap).max() <= lpc.BOUND * peak * (1 + 1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_context_is_refused_by_name(method: Inpainter, value: float) -> None:
    segments = audio()
    segments[3, 17] = value
    with pytest.raises(ValueError, match=rf"before the gap of segments\[3\] has {value} at sample 17"):
        method(segments)
    segments = audio()
    segments[1, -1] = value
    with pytest.raises(ValueError, match=rf"after the gap of segments\[1\] has {value} at sample 511"):
        method(segments)


@pytest.mark.parametrize("shape", [(2, 1279), (1280,), (2, 2, 1280)])
def test_segments_of_another_shape_are_refused(method: Inpainter, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[n, 1280\]"):
        method(np.zeros(shape))


@pytest.mark.parametrize("order", [0, -1, 2.5, True, None, "9"])
@pytest.mark.parametrize("module", [lpc, janssen])
def test_order_must_be_a_positive_integer(module: object, order: object) -> None:
    with pytest.raises(ValueError, match=f"order={order!r} must be an integer > 0"):
        module.inpaint(audio(), GEOMETRY, order=order)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [lpc, janssen])
def test_order_must_be_less_than_the_context(module: object) -> None:
    with pytest.raises(ValueError, match="order=512 must be less than the 512 samples"):
        module.inpaint(audio(), GEOMETRY, order=512)  # type: ignore[attr-defined]
    assert module.inpaint(audio(), GEOMETRY, order=511).shape == (5, GEOMETRY.gap)  # type: ignore[attr-defined]
