"""Batches, workers and clusters: the result is always the same."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from ctxe_lib import lpc
from ctxe_lib.geometry import Geometry
from ctxe_lib.parallel import map_batches

GEOMETRY = Geometry(context=512, gap=256, window=256, hop=64)
SEGMENTS = np.cumsum(np.random.default_rng(3).standard_normal((7, GEOMETRY.length)), axis=1)
METHOD = partial(lpc.inpaint, geometry=GEOMETRY, order=40, return_info=True)


@pytest.fixture(scope="module")
def expected() -> tuple[np.ndarray, lpc.Sides]:
    return METHOD(SEGMENTS)


def check(result: tuple[np.ndarray, lpc.Sides], expected: tuple[np.ndarray, lpc.Sides]) -> None:
    np.testing.assert_array_equal(result[0], expected[0])
    assert isinstance(result[1], lpc.Sides)
    for array, other in zip(result[1], expected[1], strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_batches_and_threads_change_nothing(batch: int, n_jobs: int, expected: tuple[np.ndarray, lpc.Sides]) -> None:
    check(map_batches(METHOD, SEGMENTS, batch=batch, n_jobs=n_jobs), expected)


def test_processes_change_nothing(expected: tuple[np.ndarray, lpc.Sides]) -> None:
    check(map_batches(METHOD, SEGMENTS, batch=3, n_jobs=2, prefer="processes"), expected)


def test_a_cluster_of_two_workers_changes_nothing(expected: tuple[np.ndarray, lpc.Sides]) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        check(map_batches(METHOD, SEGMENTS, batch=2, dask=cluster.scheduler_address), expected)


COMPILED = """
import sys
import numpy as np
from ctxe_lib import janssen, lpc, peaq, phase, sparse
from ctxe_lib.geometry import Geometry

geometry = Geometry(context=512, gap=256, window=256, hop=64)
rng = np.random.default_rng(3)
segments = np.cumsum(rng.standard_normal((7, geometry.length)), axis=1)
magnitude = rng.uniform(size=(7, geometry.gap_frames, geometry.bins))
heard = rng.uniform(-1, 1, 48_000)
results = [
    lpc.inpaint(segments, geometry, order=40),
    lpc.burg(segments, 40),
    janssen.inpaint(segments, geometry, order=40),
    sparse.inpaint(segments, geometry),
    phase.recover(segments, magnitude, geometry),
    list(peaq.odg(heard, heard + 0.01 * np.roll(heard, 7), 48_000).movs.values()),
]
for result in results:
    sys.stdout.buffer.write(np.ascontiguousarray(result).tobytes())
"""


def test_what_was_just_compiled_gives_what_the_cache_gives(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (
        subprocess.run([sys.executable, "-c", COMPILED], env=environment, check=True, stdout=subprocess.PIPE).stdout
        for _ in range(2)
    )
    assert len(compiled) > 8 * 7 * GEOMETRY.gap
    assert compiled == cached


@pytest.mark.parametrize(("progress", "terminal"), [(True, True), (True, False), (False, True)])
def test_progress_is_shown_on_a_terminal(
    progress: bool, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    map_batches(METHOD, SEGMENTS, batch=2, progress=progress, label="repairing")
    shown = capsys.readouterr().err
    assert ("repairing" in shown and "4/4" in shown) if progress and terminal else not shown


def test_no_segments() -> None:
    assert map_batches(partial(lpc.inpaint, geometry=GEOMETRY, order=40), SEGMENTS[:0]).shape == (0, GEOMETRY.gap)


@pytest.mark.parametrize("options", [{"batch": 0}, {"n_jobs": 0}, {"n_jobs": -2}])
def test_numbers_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        map_batches(METHOD, SEGMENTS, **options)
