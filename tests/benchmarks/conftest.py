"""What the benchmarks share."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session")
def peak_rate() -> float:
    """Floating-point operations per second of one core, from a product of float64 matrices."""
    size = 768
    a = np.random.default_rng(0).normal(size=(size, size))
    times = []
    with threadpool_limits(1):
        for _ in range(10):
            start = perf_counter()
            a @ a
            times.append(perf_counter() - start)
    return 2 * size**3 / min(times)
