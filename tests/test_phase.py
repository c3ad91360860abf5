"""Phase recovery against the original programs, against plain formulations and against what must hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctxe_lib import phase
from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import gap_audio, istft, stft

GEOMETRY = Geometry()
TOUCHED = GEOMETRY.touched_frames
KNOWN = np.ones(GEOMETRY.frames, dtype=bool)
KNOWN[TOUCHED] = False


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "reference" / "pghi.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def segments(reference: dict[str, np.ndarray]) -> np.ndarray:
    return reference["segment"] / 32768 * reference["gain"][:, None]


@pytest.fixture(scope="module")
def magnitudes(segments: np.ndarray) -> dict[str, np.ndarray]:
    whole = np.abs(stft(segments, GEOMETRY))
    weight = (np.arange(1, GEOMETRY.gap_frames + 1) / (GEOMETRY.gap_frames + 1))[:, None]
    before, after = whole[:, [TOUCHED.start - 1]], whole[:, [TOUCHED.stop]]
    return {"oracle": whole[:, TOUCHED], "interp": before * (1 - weight) + after * weight}


def wrapped(difference: np.ndarray) -> np.ndarray:
    return (difference + np.pi) % (2 * np.pi) - np.pi


def snr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    return 10 * np.log10((reference**2).sum(axis=-1) / ((reference - estimate) ** 2).sum(axis=-1))


def plain_fast_griffin_lim(
    magnitude: np.ndarray, angle: np.ndarray, known: np.ndarray, iterations: int, alpha: float, tol: float
) -> np.ndarray:
    """The algorithm as published, over all frames of one segment."""
    start = magnitude * np.exp(1j * angle)
    coefficients, previous = start, start
    for _ in range(iterations):
        analysed = stft(istft(coefficients, GEOMETRY), GEOMETRY)
        distance = np.linalg.norm(np.abs(analysed) - magnitude) / np.linalg.norm(magnitude)
        imposed = magnitude * np.exp(1j * np.angle(analysed))
        coefficients = np.where(known[:, None], start, imposed + alpha * (imposed - previous))
        previous = imposed
        if distance < tol:
            break
    return coefficients


# -- the original programs' numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["oracle", "interp"])
@pytest.mark.parametrize(("name", "iterations", "column"), [("pghi", 0, 1), ("pgla", 100, 2)])
def test_reference(
    kind: str,
    name: str,
    iterations: int,
    column: int,
    reference: dict[str, np.ndarray],
    segments: np.ndarray,
    magnitudes: dict[str, np.ndarray],
) -> None:
    blinded = segments.copy()
    blinded[:, GEOMETRY.gap_samples] = np.nan
    recovered = phase.recover(blinded, magnitudes[kind], GEOMETRY, iterations=iterations)

    expected = reference[f"phase_{name}_{kind}"].transpose(0, 2, 1)
    loudest = np.abs(stft(segments, GEOMETRY)).max(axis=(1, 2), keepdims=True)
    error = np.abs(wrapped(np.angle(recovered[:, TOUCHED]) - expected))[magnitudes[kind] > 1e-10 * loudest]
    # The reference's refined phases are stored in single precision.
    assert error.max() < (1e-8 if expected.dtype == np.float64 else 1e-6)

    signal = istft(recovered, GEOMETRY)
    expected = reference[f"f_{name}_{kind}"]
    error = np.linalg.norm(signal[:, 1536:3584] - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-10
    np.testing.assert_allclose(signal[:, :1536], segments[:, :1536], rtol=0, atol=1e-14)
    np.testing.assert_allclose(signal[:, 3584:], segments[:, 3584:], rtol=0, atol=1e-14)

    gap = GEOMETRY.gap_samples
    np.testing.assert_allclose(
        snr(segments[:, gap], signal[:, gap]), reference[f"snr_{kind}"][:, column], rtol=0, atol=1e-6
    )
    scored = [np.abs(stft(x, GEOMETRY))[:, GEOMETRY.scored_frames].reshape(len(x), -1) for x in (segments, signal)]
    np.testing.assert_allclose(snr(*scored), reference[f"snrms_{kind}"][:, column], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(
        phase.reconstruct(blinded, magnitudes[kind], GEOMETRY, iterations=iterations), gap_audio(recovered, GEOMETRY)
    )


@pytest.mark.parametrize("kind", ["oracle", "interp"])
def test_original_phase(
    kind: str, reference: dict[str, np.ndarray], segments: np.ndarray, magnitudes: dict[str, np.ndarray]
) -> None:
    angle = np.angle(stft(segments, GEOMETRY)[:, TOUCHED])
    gap = phase.reconstruct(segments, magnitudes[kind], GEOMETRY, iterations=0, initial_phase=angle)
    found = snr(segments[:, GEOMETRY.gap_samples], gap)
    if kind == "oracle":
        assert found.min() > 290
        refined = phase.reconstruct(segments, magnitudes[kind], GEOMETRY, initial_phase=angle)
        assert snr(segments[:, GEOMETRY.gap_samples], refined).min() > 290
    else:
        np.testing.assert_allclose(found, reference["snr_interp"][:, 0], rtol=0, atol=1e-6)


# -- PGHI ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chirp", [0.0, 2e-5])
def test_pghi_is_exact_on_a_gaussian(chirp: float) -> None:
    # With a Gaussian window the STFT of a Gaussian (a linear chirp under it) is the exponential of a quadratic form:
    # central differences of its logarithm and the trapezoidal rule are exact then.
    gamma, frames = 4000.0, 40
    b, a = 1 / gamma, 1 / 300_000.0 - 1j * chirp
    x = ((np.arange(frames) - 17.3) * GEOMETRY.hop)[:, None]
    frequency = np.arange(GEOMETRY.bins) / GEOMETRY.window
    exponent = np.pi * (-b * x**2 + (b * x + 1j * (0.21 - frequency)) ** 2 / (a + b)) + 2j * np.pi * frequency * x
    found = phase.pghi(np.exp(exponent.real), GEOMETRY, gamma=gamma)
    above_floor = exponent.real > exponent.real.max() - 8
    assert above_floor.sum() > 200
    error = (found - exponent.imag)[above_floor]
    peak = np.unravel_index(exponent.real.argmax(), exponent.shape)
    assert found[peak] == 0
    np.testing.assert_allclose(error, error[0], rtol=0, atol=1e-9)


def test_pghi_keeps_known_frames_and_ignores_the_others(segments: np.ndarray) -> None:
    coefficients = stft(segments[:2], GEOMETRY)
    angle = np.angle(coefficients)
    angle[:, TOUCHED] = np.nan
    found = phase.pghi(np.abs(coefficients), GEOMETRY, known_phase=angle, known=KNOWN)
    np.testing.assert_array_equal(found[:, KNOWN], angle[:, KNOWN])
    assert np.isfinite(found).all()
    everything = np.ones_like(KNOWN)
    angle[:, TOUCHED] = 1.5
    np.testing.assert_array_equal(
        phase.pghi(np.abs(coefficients), GEOMETRY, known_phase=angle, known=everything), angle
    )


def test_pghi_islands_start_at_zero() -> None:
    magnitude = np.zeros((20, GEOMETRY.bins))
    magnitude[3:6, 40:43] = [[1, 2, 1], [2, 5, 2], [1, 2, 1]]
    magnitude[12:15, 200:203] = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    found = phase.pghi(magnitude, GEOMETRY)
    assert found[4, 41] == 0
    assert found[13, 201] == 0
    np.testing.assert_array_equal(found[magnitude == 0], 0)
    assert np.count_nonzero(found) == 12  # all but the middle frames' three, which have no slope in time
    # Symmetric in frequency about bin 41: the phase advances as that of a sinusoid there.
    advance = found[5, 41] - found[4, 41]
    assert advance == pytest.approx(2 * np.pi * GEOMETRY.hop * 41 / GEOMETRY.window, abs=1e-12)


def test_pghi_passes(segments: np.ndarray) -> None:
    magnitude = np.abs(stft(segments[2], GEOMETRY))
    first = phase.pghi(magnitude, GEOMETRY, tol=(1e-1,))
    both = phase.pghi(magnitude, GEOMETRY)
    strong = magnitude > 0.1 * magnitude.max()
    np.testing.assert_array_equal(first[~strong], 0)
    np.testing.assert_array_equal(both[strong], first[strong])
    assert np.count_nonzero(both) > 10 * np.count_nonzero(first)


def test_pghi_without_context_reaches_a_usable_signal(segments: np.ndarray) -> None:
    coefficients = stft(segments[0], GEOMETRY)
    magnitude = np.abs(coefficients)
    found = stft(istft(magnitude * np.exp(1j * phase.pghi(magnitude, GEOMETRY)), GEOMETRY), GEOMETRY)
    assert np.linalg.norm(np.abs(found) - magnitude) < 0.05 * np.linalg.norm(magnitude)


# -- fast Griffin-Lim ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [KNOWN, np.zeros_like(KNOWN), np.arange(GEOMETRY.frames) % 7 > 1])
@pytest.mark.parametrize(("iterations", "alpha"), [(1, 0.99), (2, 0.99), (9, 0.0), (15, 0.5)])
def test_matches_the_plain_formulation(known: np.ndarray, iterations: int, alpha: float, segments: np.ndarray) -> None:
    rng = np.random.default_rng(iterations)
    magnitude = np.abs(stft(segments[[1, 3, 6]], GEOMETRY))
    angle = rng.uniform(-np.pi, np.pi, magnitude.shape)
    found = phase.fast_griffin_lim(magnitude, angle, GEOMETRY, known=known, iterations=iterations, alpha=alpha)
    for one, m, p in zip(found, magnitude, angle, strict=True):
        expected = plain_fast_griffin_lim(m, p, known, iterations, alpha, 1e-6)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-9 * m.max())


def test_stops_each_segment_at_its_tolerance(segments: np.ndarray) -> None:
    coefficients = stft(segments, GEOMETRY)
    magnitude, angle = np.abs(coefficients), np.angle(coefficients)
    angle[:, TOUCHED] += np.random.default_rng(5).normal(scale=0.1, size=angle[:, TOUCHED].shape)
    found = phase.fast_griffin_lim(magnitude, angle, GEOMETRY, known=KNOWN, iterations=10, tol=2e-3)
    to_the_end = phase.fast_griffin_lim(magnitude, angle, GEOMETRY, known=KNOWN, iterations=10, tol=0)
    stopped = ~(found == to_the_end).all(axis=(1, 2))
    assert 0 < stopped.sum() < len(segments)
    for one, m, p in zip(found, magnitude, angle, strict=True):
        expected = plain_fast_griffin_lim(m, p, KNOWN, 10, 0.99, 2e-3)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-9 * m.max())


def test_refinement_brings_magnitude_and_signal_together(
    segments: np.ndarray, magnitudes: dict[str, np.ndarray]
) -> None:
    whole = np.abs(stft(segments, GEOMETRY))
    whole[:, TOUCHED] = magnitudes["interp"]

    def distance(iterations: int) -> np.ndarray:
        recovered = phase.recover(segments, magnitudes["interp"], GEOMETRY, iterations=iterations)
        return np.linalg.norm(np.abs(stft(istft(recovered, GEOMETRY), GEOMETRY)) - whole, axis=(1, 2))

    assert (distance(100) < 0.75 * distance(0)).all()


def test_time_reversal(segments: np.ndarray) -> None:
    # Frame n of the reversed signal is frame -n of the signal, conjugated.
    mirror = -np.arange(GEOMETRY.frames) % GEOMETRY.frames
    coefficients = stft(segments[:3], GEOMETRY)
    magnitude, angle = np.abs(coefficients), np.random.default_rng(8).uniform(-3, 3, coefficients.shape)
    options = {"iterations": 20, "tol": 0.0}
    forward = phase.fast_griffin_lim(magnitude, angle, GEOMETRY, known=KNOWN, **options)
    backward = phase.fast_griffin_lim(magnitude[:, mirror], -angle[:, mirror], GEOMETRY, known=KNOWN[mirror], **options)
    np.testing.assert_allclose(backward, forward[:, mirror].conj(), rtol=0, atol=1e-9 * magnitude.max())


# -- both ---------------------------------------------------------------------------------------------------------


def test_zero_iterations_are_pghi_alone(segments: np.ndarray, magnitudes: dict[str, np.ndarray]) -> None:
    recovered = phase.recover(segments, magnitudes["interp"], GEOMETRY, iterations=0)
    coefficients = stft(segments, GEOMETRY)
    magnitude = np.abs(coefficients)
    magnitude[:, TOUCHED] = magnitudes["interp"]
    found = phase.pghi(magnitude, GEOMETRY, known_phase=np.angle(coefficients), known=KNOWN)
    np.testing.assert_allclose(recovered, magnitude * np.exp(1j * found), rtol=0, atol=1e-12 * magnitude.max())


def test_a_stationary_sinusoid_closes() -> None:
    t = np.arange(GEOMETRY.length)
    segments = 0.3 * np.sin(2 * np.pi * np.array([[20], [47], [128]]) / GEOMETRY.window * t + 0.4)
    blinded = segments.copy()
    blinded[:, GEOMETRY.gap_samples] = np.nan
    gap = phase.reconstruct(blinded, np.abs(stft(segments, GEOMETRY))[:, TOUCHED], GEOMETRY)
    assert snr(segments[:, GEOMETRY.gap_samples], gap).min() > 60


def test_batch_and_order_do_not_change_a_result(segments: np.ndarray, magnitudes: dict[str, np.ndarray]) -> None:
    many = np.concatenate([segments, segments[::-1]])
    wanted = np.concatenate([magnitudes["interp"], magnitudes["oracle"][::-1]])
    together = phase.reconstruct(many, wanted, GEOMETRY, iterations=12)
    order = np.random.default_rng(1).permutation(len(many))
    np.testing.assert_array_equal(
        phase.reconstruct(many[order], wanted[order], GEOMETRY, iterations=12), together[order]
    )
    for one, m, expected in zip(many, wanted, together, strict=True):
        np.testing.assert_array_equal(phase.reconstruct(one, m, GEOMETRY, iterations=12), expected)
    stacked = phase.reconstruct(
        many.reshape(2, 9, -1), wanted.reshape(2, 9, *wanted.shape[1:]), GEOMETRY, iterations=12
    )
    np.testing.assert_array_equal(stacked.reshape(together.shape), together)


@pytest.mark.parametrize("gain", [2.0**-20, 0.37])
def test_gain(gain: float) -> None:
    # Noise: no coefficient lies under the floor of the log magnitudes, which is what depends on the gain.
    segments = np.random.default_rng(3).normal(scale=0.1, size=(3, GEOMETRY.length))
    magnitude = np.abs(stft(segments, GEOMETRY))
    assert magnitude.min() > 2 * np.exp(-11) * magnitude.max()
    expected = phase.reconstruct(segments, magnitude[:, TOUCHED], GEOMETRY, iterations=20)
    found = phase.reconstruct(gain * segments, gain * magnitude[:, TOUCHED], GEOMETRY, iterations=20)
    np.testing.assert_allclose(found, gain * expected, rtol=0, atol=1e-9 * gain)


def test_silence() -> None:
    silent = np.zeros((2, GEOMETRY.length))
    nothing = np.zeros((2, GEOMETRY.gap_frames, GEOMETRY.bins))
    np.testing.assert_array_equal(phase.reconstruct(silent, nothing, GEOMETRY), 0)
    something = nothing.copy()
    something[:, 3:8, 50] = 1.0
    sounding = phase.reconstruct(silent, something, GEOMETRY)
    assert np.isfinite(sounding).all()
    assert np.abs(sounding).max() > 1e-4
    loud = np.random.default_rng(0).normal(size=(2, GEOMETRY.length))
    quiet_gap = phase.reconstruct(loud, nothing, GEOMETRY)
    assert np.isfinite(quiet_gap).all()
    np.testing.assert_allclose(quiet_gap[:, GEOMETRY.window : -GEOMETRY.window], 0, atol=1e-12)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(gap=512),
        Geometry(gap=128),
        Geometry(gap=2560, context=3200),
        Geometry(window=480, hop=120, context=960, gap=600),
        Geometry(window=256, hop=32),
        Geometry(window=512, hop=256, context=512),
    ],
)
def test_other_geometries(geometry: Geometry) -> None:
    t = np.arange(geometry.length) / geometry.sample_rate
    rng = np.random.default_rng(geometry.gap)
    segment = np.sin(2 * np.pi * 440 * t) + 0.5 * np.sin(2 * np.pi * 1234 * t) + 1e-3 * rng.normal(size=t.size)
    coefficients = stft(segment, geometry)[geometry.touched_frames]
    gap = segment[geometry.gap_samples]
    given = phase.reconstruct(segment, np.abs(coefficients), geometry, initial_phase=np.angle(coefficients))
    assert snr(gap, given) > 250
    blind = phase.reconstruct(segment, np.abs(coefficients), geometry)
    assert np.isfinite(blind).all()
    assert snr(gap, blind) > (6 if geometry.window // geometry.hop < 4 else 20)


# -- what must not pass -------------------------------------------------------------------------------------------

WHOLE = np.ones((2, GEOMETRY.frames, GEOMETRY.bins))
SOME = np.zeros((2, GEOMETRY.length))
GAP = np.ones((2, GEOMETRY.gap_frames, GEOMETRY.bins))


def spoiled(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    copy = array.copy()
    copy[place] = value
    return copy


@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf])
def test_bad_magnitude_names_its_place(value: float) -> None:
    with pytest.raises(ValueError, match=rf"gap_magnitude\[1, 4, 100\]={value}.*finite and >= 0"):
        phase.reconstruct(SOME, spoiled(GAP, (1, 4, 100), value), GEOMETRY)
    with pytest.raises(ValueError, match=r"magnitude\[0, 2, 3\]"):
        phase.pghi(spoiled(WHOLE, (0, 2, 3), value), GEOMETRY)
    with pytest.raises(ValueError, match=r"magnitude\[0, 2, 3\]"):
        phase.fast_griffin_lim(spoiled(WHOLE, (0, 2, 3), value), WHOLE, GEOMETRY)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="segments must be finite outside the gap"):
        phase.recover(spoiled(SOME, (1, 10), np.nan), GAP, GEOMETRY)
    with pytest.raises(ValueError, match=r"must be real and \[..., 5120\]"):
        phase.recover(SOME[:, 128:], GAP, GEOMETRY)
    with pytest.raises(ValueError, match="gap_magnitude is complex"):
        phase.recover(SOME, GAP + 0j, GEOMETRY)
    with pytest.raises(ValueError, match="phase is complex"):
        phase.fast_griffin_lim(WHOLE, WHOLE + 0j, GEOMETRY)
    with pytest.raises(ValueError, match="does not fit segments"):
        phase.recover(SOME, GAP[:, 1:], GEOMETRY)
    with pytest.raises(ValueError, match="257 bins"):
        phase.recover(SOME, GAP[..., 1:], GEOMETRY)
    with pytest.raises(ValueError, match="initial_phase of shape"):
        phase.recover(SOME, GAP, GEOMETRY, initial_phase=GAP[0])
    with pytest.raises(ValueError, match=r"initial_phase\[0, 1, 2\]=nan"):
        phase.recover(SOME, GAP, GEOMETRY, initial_phase=spoiled(GAP, (0, 1, 2), np.nan))
    with pytest.raises(ValueError, match="iterations=-1 must be an integer >= 0"):
        phase.recover(SOME, GAP, GEOMETRY, iterations=-1)
    with pytest.raises(ValueError, match=r"iterations=1\.5"):
        phase.fast_griffin_lim(WHOLE, WHOLE, GEOMETRY, iterations=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha=nan"):
        phase.fast_griffin_lim(WHOLE, WHOLE, GEOMETRY, alpha=np.nan)
    with pytest.raises(ValueError, match="tol=-1"):
        phase.fast_griffin_lim(WHOLE, WHOLE, GEOMETRY, tol=-1)
    with pytest.raises(ValueError, match="phase of shape"):
        phase.fast_griffin_lim(WHOLE, WHOLE[0], GEOMETRY)
    with pytest.raises(ValueError, match="given together"):
        phase.pghi(WHOLE, GEOMETRY, known=KNOWN)
    with pytest.raises(ValueError, match="one bool for each of 40 frames"):
        phase.pghi(WHOLE, GEOMETRY, known=KNOWN[1:], known_phase=WHOLE)
    with pytest.raises(ValueError, match="known_phase of shape"):
        phase.pghi(WHOLE, GEOMETRY, known=KNOWN, known_phase=WHOLE[0])
    with pytest.raises(ValueError, match=r"known_phase.*nan must be finite"):
        phase.pghi(WHOLE, GEOMETRY, known=KNOWN, known_phase=spoiled(WHOLE, (0, 3, 5), np.nan))
    with pytest.raises(ValueError, match="descending order"):
        phase.pghi(WHOLE, GEOMETRY, tol=(1e-10, 1e-1))
    with pytest.raises(ValueError, match="gamma=0"):
        phase.pghi(WHOLE, GEOMETRY, gamma=0)


def test_an_empty_batch_gives_an_empty_batch() -> None:
    assert phase.reconstruct(SOME[:0], GAP[:0], GEOMETRY).shape == (0, GEOMETRY.gap)
    assert phase.pghi(WHOLE[:0], GEOMETRY).shape == (0, GEOMETRY.frames, GEOMETRY.bins)
