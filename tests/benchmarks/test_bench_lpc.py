"""LPC and its relatives against what one would take instead; compare within a group, the ratios are in brackets.

``extra_info`` of the library's version tells the floating-point operations of the direct recursion and the
extrapolation, and how far the measured time is from what they would take at this machine's measured peak on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import spectrum
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.signal import lfilter, lfiltic

from ctxe_lib import janssen, lpc, sparse
from ctxe_lib.geometry import Geometry
from ctxe_lib.parallel import map_batches

GEOMETRY = Geometry()
ORDER = 1000


@pytest.fixture(scope="module")
def segments() -> np.ndarray:
    with np.load(Path(__file__).parents[1] / "reference" / "lpc.npz") as archive:
        audio = archive["segment"] / 32768
    for module in (lpc, janssen):
        module.inpaint(audio[:1], GEOMETRY)  # compiled before it is timed
    return audio


def operations(geometry: Geometry, order: int) -> float:
    """Floating-point operations of a segment: both sides.

    Stage k of Burg's recursion updates two errors at ``context - k`` samples and adds to three sums (10 operations),
    and updates k coefficients and their mirror image (4). Each sample of the gap takes ``order`` multiply-adds.
    """
    stages = np.arange(1, order + 1)
    return 2 * (np.sum(10 * (geometry.context - stages) + 4 * stages) + 2 * order * geometry.gap)


def with_filter(burg: Callable[[np.ndarray, int], np.ndarray], segments: np.ndarray) -> np.ndarray:
    """The same method from other people's parts: coefficients by `burg`, extrapolation by SciPy."""
    fade = np.cos(np.linspace(0, np.pi / 2, GEOMETRY.gap)) ** 2
    gaps = []
    for segment in segments:
        sides = []
        for context in (segment[: GEOMETRY.context], segment[: -GEOMETRY.context - 1 : -1]):
            a = burg(np.ascontiguousarray(context), ORDER)
            state = lfiltic([1.0], a, context[: -ORDER - 1 : -1])
            sides.append(lfilter([1.0], a, np.zeros(GEOMETRY.gap), zi=state)[0])
        gaps.append(sides[0] * fade + sides[1][::-1] * (1 - fade))
    return np.array(gaps)


def of_librosa(x: np.ndarray, order: int) -> np.ndarray:
    return librosa.lpc(x, order=order)


def of_spectrum(x: np.ndarray, order: int) -> np.ndarray:
    return np.concatenate([[1.0], np.real(spectrum.arburg(x, order)[0])])


def library(segments: np.ndarray) -> np.ndarray:
    return lpc.inpaint(segments, GEOMETRY, order=ORDER)


@pytest.mark.benchmark(group="LPC of a segment, both sides")
@pytest.mark.parametrize("burg", [library, of_librosa, of_spectrum])
def test_lpc(
    burg: Callable[..., np.ndarray],
    benchmark: BenchmarkFixture,
    segments: np.ndarray,
    request: pytest.FixtureRequest,
    peak_rate: float,
) -> None:
    if burg is not library:
        if not request.config.getoption("benchmark_only"):
            pytest.skip("slow, and only of interest beside the library: --benchmark-only")
        rounds = 10 if burg is of_librosa else 1
        benchmark.pedantic(with_filter, args=(burg, segments[1:2]), rounds=rounds, warmup_rounds=min(rounds - 1, 1))
        return
    gap = benchmark.pedantic(library, args=(segments[1:2],), rounds=100, warmup_rounds=2)
    np.testing.assert_allclose(gap, with_filter(of_librosa, segments[1:2]), rtol=0, atol=1e-3)
    bound = operations(GEOMETRY, ORDER) / peak_rate
    benchmark.extra_info |= {
        "segment_ms": 1e3 * benchmark.stats.stats.min,
        "megaflop": operations(GEOMETRY, ORDER) / 1e6,
        "lower_bound_ms": 1e3 * bound,
        "times_lower_bound": benchmark.stats.stats.min / bound,
    }


@pytest.mark.benchmark(group="Restoring a segment")
@pytest.mark.parametrize("module", [lpc, janssen, sparse])
def test_methods(module: object, benchmark: BenchmarkFixture, segments: np.ndarray) -> None:
    benchmark.pedantic(module.inpaint, args=(segments[1:2], GEOMETRY), rounds=5)  # type: ignore[attr-defined]


@pytest.mark.benchmark(group="LPC on one and two cores, 256 segments")
@pytest.mark.parametrize("cores", [1, 2])
def test_cores(cores: int, benchmark: BenchmarkFixture, segments: np.ndarray) -> None:
    work = np.tile(segments, (32, 1))
    benchmark.pedantic(map_batches, args=(library, work), kwargs={"n_jobs": cores, "batch": 16}, rounds=5)
