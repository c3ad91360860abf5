"""Work over many segments: in batches, on several cores or on a Dask cluster, always with the same result.

Every method of the library takes a batch of segments [n, samples] and treats each segment by itself. So how the
batches are cut and who works on them must not, and does not, change the outcome: batches come back in order, and
linear algebra runs on one thread per batch, since its rounding may depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

__all__ = ["map_batches"]


def map_batches(
    function: Callable[[NDArray[Any]], Any],
    segments: NDArray[Any],
    *,
    n_jobs: int = 1,
    batch: int = 32,
    dask: str | None = None,
    prefer: Literal["threads", "processes"] = "threads",
    progress: bool = False,
    label: str | None = None,
) -> Any:
    """Apply `function` to batches of `segments` and join what it returns.

    Parameters
    ----------
    function : callable
        Takes segments [m, ...] and returns an array [m, ...], or a tuple (also a named one) of such results. For
        processes and Dask it must be importable: a function of a module, or a `functools.partial` of one.
    segments : np.ndarray [shape=(n, ...)]
        What to work on; cut along its first axis.
    n_jobs : int
        Batches worked on at the same time; -1 for as many as there are cores. Not used with `dask`.
    batch : int
        Segments per batch.
    dask : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``; all its workers take part, and each needs this
        library.
    prefer : {"threads", "processes"}
        Threads share memory and suit methods whose time goes into compiled code, which lets go of Python's lock;
        processes suit the others. Not used with `dask`.
    progress : bool
        Whether to show a progress bar, where there is a terminal.
    label : str, optional
        What it is called.

    Returns
    -------
    np.ndarray [shape=(n, ...)] or tuple
        The results for all segments, in their order.

    Raises
    ------
    ValueError
        If `batch` is not positive, or `n_jobs` is neither positive nor -1.
    """
    if batch < 1:
        raise ValueError(f"batch={batch} must be an integer > 0")
    if n_jobs < 1 and n_jobs != -1:
        raise ValueError(f"n_jobs={n_jobs} must be an integer > 0, or -1 for all cores")
    starts = range(0, max(len(segments), 1), batch)
    with _workers(n_jobs, dask, prefer):
        results = joblib.Parallel(return_as="generator")(
            joblib.delayed(function)(segments[start : start + batch]) for start in starts
        )
        return _join(list(tqdm(results, label, total=len(starts), unit="batch", disable=None if progress else True)))


@contextmanager
def _workers(n_jobs: int, dask: str | None, prefer: str) -> Iterator[None]:
    with ExitStack() as stack:
        if dask is not None:
            from distributed import Client  # seconds to import, and rarely needed

            stack.enter_context(Client(dask))
            stack.enter_context(joblib.parallel_config("dask", n_jobs=-1))
        elif prefer == "processes" and n_jobs != 1:
            stack.enter_context(joblib.parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1))
        else:
            stack.enter_context(threadpool_limits(1))
            stack.enter_context(joblib.parallel_config("threading", n_jobs=n_jobs))
        yield


def _join(results: Sequence[Any]) -> Any:
    first = results[0]
    if not isinstance(first, tuple):
        return np.concatenate(results)
    parts = [_join(column) for column in zip(*results, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
