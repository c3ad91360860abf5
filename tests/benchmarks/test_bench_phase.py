"""Phase recovery against what one would take instead; compare within a group, the ratios are in brackets.

``extra_info`` of the compiled version tells the floating-point operations that the algorithm needs, this machine's
measured peak on one core, and how far the measured time is from their quotient.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
from joblib import Parallel, delayed
from pytest_benchmark.fixture import BenchmarkFixture
from threadpoolctl import threadpool_limits

from ctxe_lib import phase
from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import istft, stft

GEOMETRY = Geometry()
ITERATIONS = 100
N = 8


@pytest.fixture(scope="module")
def work() -> tuple[np.ndarray, np.ndarray]:
    """Segments [8, length] and the gap's original magnitude."""
    with np.load(Path(__file__).parents[1] / "reference" / "pghi.npz") as archive:
        segments = archive["segment"][:N] / 32768
    magnitude = np.abs(stft(segments, GEOMETRY))[:, GEOMETRY.touched_frames]
    phase.reconstruct(segments, magnitude, GEOMETRY, iterations=1)  # compiled before it is timed
    return segments, magnitude


def operations(geometry: Geometry) -> float:
    """Floating-point operations of a segment's iterations on the frames that touch the gap.

    For a frame: two real FFTs of N samples at 2 N log2 N - 4 N + 6 each (split radix), two windows, the overlap-add,
    and 14 operations for each coefficient (magnitude, scaling, acceleration). PGHI, mostly comparisons, is left out.
    """
    samples = geometry.window
    fft = 2 * samples * np.log2(samples) - 4 * samples + 6
    return ITERATIONS * geometry.gap_frames * (2 * fft + 3 * samples + 14 * geometry.bins)


def plain(segments: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """PGHI, then the iterations over all frames in NumPy, one segment after the other."""
    coefficients = stft(segments, GEOMETRY)
    known = np.ones((GEOMETRY.frames, 1), dtype=bool)
    known[GEOMETRY.touched_frames] = False
    whole = np.abs(coefficients)
    whole[:, GEOMETRY.touched_frames] = magnitude
    angle = phase.pghi(whole, GEOMETRY, known_phase=np.angle(coefficients), known=known[:, 0])
    signals = np.empty_like(segments)
    for i in range(len(segments)):
        start = current = previous = whole[i] * np.exp(1j * angle[i])
        for _ in range(ITERATIONS):
            imposed = whole[i] * np.exp(1j * np.angle(stft(istft(current, GEOMETRY), GEOMETRY)))
            current = np.where(known, start, imposed + 0.99 * (imposed - previous))
            previous = imposed
        signals[i] = istft(current, GEOMETRY)
    return signals[:, GEOMETRY.gap_samples]


def griffinlim(segments: np.ndarray, _: np.ndarray) -> np.ndarray:
    """librosa's, which knows no context: the whole segment from its magnitude."""
    whole = np.abs(stft(segments, GEOMETRY)).swapaxes(-1, -2)
    sizes = {"n_fft": GEOMETRY.window, "hop_length": GEOMETRY.hop}
    return librosa.griffinlim(whole, n_iter=ITERATIONS, momentum=0.99, random_state=0, **sizes)


@pytest.mark.benchmark(group=f"PGHI and {ITERATIONS} Griffin-Lim iterations, {N} segments")
@pytest.mark.parametrize("method", [phase.reconstruct, plain, griffinlim])
def test_recovery(
    method: Callable[..., np.ndarray],
    benchmark: BenchmarkFixture,
    work: tuple[np.ndarray, np.ndarray],
    peak_rate: float,
    request: pytest.FixtureRequest,
) -> None:
    if method is not phase.reconstruct:
        if not request.config.getoption("benchmark_only"):
            pytest.skip("slow, and only of interest beside the others: --benchmark-only")
        benchmark.pedantic(method, args=work, rounds=2, warmup_rounds=1)  # librosa compiles at its first call
        return
    with threadpool_limits(1):
        gap = benchmark.pedantic(method, args=(*work, GEOMETRY), rounds=8)
    np.testing.assert_allclose(gap[0], plain(work[0][:1], work[1][:1])[0], rtol=0, atol=1e-9)
    bound = N * operations(GEOMETRY) / peak_rate
    benchmark.extra_info |= {
        "segment_ms": 1e3 * benchmark.stats.stats.min / N,
        "megaflop": operations(GEOMETRY) / 1e6,
        "lower_bound_ms": 1e3 * bound / N,
        "times_lower_bound": benchmark.stats.stats.min / bound,
    }


@pytest.mark.benchmark(group=f"PGHI alone, {N} segments")
def test_pghi(benchmark: BenchmarkFixture, work: tuple[np.ndarray, np.ndarray]) -> None:
    coefficients = stft(work[0], GEOMETRY)
    known = np.ones(GEOMETRY.frames, dtype=bool)
    known[GEOMETRY.touched_frames] = False
    options = {"known_phase": np.angle(coefficients), "known": known}
    benchmark.pedantic(phase.pghi, args=(np.abs(coefficients), GEOMETRY), kwargs=options, rounds=8)


@pytest.mark.benchmark(group=f"Griffin-Lim on one and two cores, {4 * N} segments")
@pytest.mark.parametrize("cores", [1, 2])
def test_cores(cores: int, benchmark: BenchmarkFixture, work: tuple[np.ndarray, np.ndarray]) -> None:
    with Parallel(n_jobs=cores, backend="threading") as pool:
        benchmark.pedantic(lambda: pool(delayed(phase.reconstruct)(*work, GEOMETRY) for _ in range(4)), rounds=3)
