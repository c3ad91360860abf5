"""What the benchmarks share: paired timing, this machine's peak, and one table of everything at the end.

Every row comes from one test. A test that compares runs the alternatives in turns with the library, so that other
load falls on both alike; each counts with its shortest time. An ordinary test run does two rounds and leaves out what
is slow; ``--benchmark-only`` does all of them, and ``--bench-json PATH`` writes the table with its record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from threadpoolctl import threadpool_limits

from ctxe_lib.files import write_atomically
from ctxe_lib.parallel import map_batches
from ctxe_lib.records import environment

PATIENCE = 5.0
"""Seconds after which an alternative is not timed again."""
WORK = 1.5
"""Seconds of work on one core in a comparison of cores: beside them, starting and joining threads is nothing."""
RESULT = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench-json", type=Path, help="Write the benchmarks' table and its record here.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULT] = {"what": "benchmarks", "peak_gflops": None, "tasks": [], "cores": []}


@pytest.fixture(scope="session")
def peak_rate(pytestconfig: pytest.Config) -> float:
    """Floating-point operations per second of one core, from a product of float64 matrices."""
    size = 768
    a = np.random.default_rng(0).normal(size=(size, size))
    times = []
    with threadpool_limits(1):
        for _ in range(10):
            start = perf_counter()
            a @ a
            times.append(perf_counter() - start)
    rate = 2 * size**3 / min(times)
    pytestconfig.stash[RESULT]["peak_gflops"] = rate / 1e9
    return rate


@pytest.fixture
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether this run is for the benchmarks' sake."""
    return bool(pytestconfig.getoption("benchmark_only"))


@pytest.fixture
def compare(
    benchmark: BenchmarkFixture, peak_rate: float, thorough: bool, pytestconfig: pytest.Config
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Time a task, and what one would take instead; one core, unless the libraries in use have threads of their own.

    The call takes the name of the task, the library's version, the alternatives by name, and ``items`` (worked on in
    a call), ``unit`` (what an item is), ``operations`` (floating-point operations that an item takes at least) and
    ``rounds``. It returns the row of the table.
    """

    if not benchmark.enabled:
        pytest.skip("timing is disabled")

    def run(
        task: str,
        ours: Callable[[], object],
        alternatives: Mapping[str, Callable[[], object]] | None = None,
        *,
        items: int = 1,
        unit: str = "segment",
        operations: float | None = None,
        rounds: int = 20,
    ) -> dict[str, Any]:
        seconds: dict[str, list[float]] = {name: [] for name in alternatives or {}}

        def others() -> None:
            for name, function in (alternatives or {}).items():
                if sum(seconds[name]) < PATIENCE:
                    start = perf_counter()
                    function()
                    seconds[name].append(perf_counter() - start)

        ours()  # compiles or traces what has to be
        benchmark.pedantic(ours, setup=others, rounds=rounds if thorough else 2)
        best = benchmark.stats.stats.min / items
        row: dict[str, Any] = {
            "task": task,
            "unit": unit,
            "ms": 1e3 * best,
            "alternatives": {
                name: {"ms": 1e3 * min(times) / items, "ratio": min(times) / items / best}
                for name, times in seconds.items()
            },
        }
        if operations is not None:
            bound = operations / peak_rate
            row |= {"megaflop": operations / 1e6, "bound_ms": 1e3 * bound, "times_bound": best / bound}
        benchmark.extra_info |= row
        pytestconfig.stash[RESULT]["tasks"].append(row)
        return row

    with threadpool_limits(1):
        yield run


@pytest.fixture
def on_two_cores(
    benchmark: BenchmarkFixture, thorough: bool, pytestconfig: pytest.Config
) -> Callable[..., dict[str, Any]]:
    """Time a function of a batch on one core and on two, as :func:`ctxe_lib.parallel.map_batches` spreads the work."""
    if (os.cpu_count() or 1) < 2 or not benchmark.enabled:
        pytest.skip("takes two cores, and timing that is not disabled")

    def run(
        task: str, function: Callable[[Any], Any], segments: Any, *, unit: str = "segment", batch: int = 32
    ) -> dict[str, Any]:
        function(segments[:1])
        start = perf_counter()
        function(segments[:batch])
        pairs = round(WORK / 2 / (perf_counter() - start)) if thorough else 1
        repeats = 2 * max(1, pairs)  # an odd batch would leave one core without work
        work = [item for _ in range(repeats) for item in segments[:batch]]
        work = np.stack(work) if isinstance(segments, np.ndarray) else work
        seconds: dict[str, list[float]] = {"one": [], "processes": []}
        options: dict[str, dict[str, Any]] = {"one": {}, "processes": {"n_jobs": 2, "prefer": "processes"}}

        def others() -> None:
            for name, times in seconds.items():
                start = perf_counter()
                map_batches(function, work, batch=batch, **options[name])
                times.append(perf_counter() - start)

        map_batches(function, work[:2], batch=1, **options["processes"])  # starts them, and they import what they need
        benchmark.pedantic(
            map_batches, (function, work), {"n_jobs": 2, "batch": batch}, setup=others, rounds=4 if thorough else 1
        )
        times = {name: min(values) for name, values in seconds.items()} | {"threads": benchmark.stats.stats.min}
        row = {"task": task, "unit": unit, "one_ms": 1e3 * times["one"] / len(work)} | {
            name: {"ms": 1e3 * times[name] / len(work), "ratio": times["one"] / times[name]}
            for name in ("threads", "processes")
        }
        benchmark.extra_info |= row
        pytestconfig.stash[RESULT]["cores"].append(row)
        return row

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    result = config.stash[RESULT]
    if not config.getoption("benchmark_only") or not (result["tasks"] or result["cores"]):
        return
    terminalreporter.section("benchmarks")
    for line in _lines(result):
        terminalreporter.write_line(line)
    path: Path | None = config.getoption("--bench-json", default=None)  # unknown to a run of all tests
    if path is not None:
        record = result | {"written": datetime.now(UTC).isoformat(timespec="seconds")} | environment()
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
        terminalreporter.write_line(f"wrote {path}")


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table in words: shortest times, ratios to the library's, and how far it is from the lower bound."""
    yield f"{'task':<44}{'ms per':>10} {'':<9}{'ratio':>7}{'MFLOP':>9}{'bound, ms':>11}{'times bound':>13}"
    for row in result["tasks"]:
        bound = (
            f"{row['megaflop']:>9.1f}{row['bound_ms']:>11.3f}{row['times_bound']:>13.1f}" if "bound_ms" in row else ""
        )
        yield f"{row['task']:<44}{row['ms']:>10.3f} {row['unit']:<9}{'':>7}{bound}".rstrip()
        for name, other in row["alternatives"].items():
            yield f"    {name:<40}{other['ms']:>10.3f} {row['unit']:<9}{other['ratio']:>7.1f}"
    if result["peak_gflops"]:
        yield f"The bound is the operations over the measured peak of one core, {result['peak_gflops']:.1f} GFLOP/s."
    if result["cores"]:
        yield ""
        yield f"{'task':<44}{'one core':>10} {'ms per':<9}{'2 threads':>10}{'ratio':>7}{'2 processes':>13}{'ratio':>7}"
    for row in result["cores"]:
        (a, b), (c, d) = (row[name].values() for name in ("threads", "processes"))
        yield f"{row['task']:<44}{row['one_ms']:>10.3f} {row['unit']:<9}{a:>10.3f}{b:>7.2f}{c:>13.3f}{d:>7.2f}"
