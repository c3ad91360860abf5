"""Batches, workers and clusters: the result is always the same."""

from __future__ import annotations

import sys
from functools import partial

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
