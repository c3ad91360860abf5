"""LPC and its relatives against what one would take instead.

The lower bound of LPC is that of the direct recursion and the extrapolation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import spectrum
from scipy.signal import lfilter, lfiltic

from ctxe_lib import janssen, lpc, sparse
from ctxe_lib.geometry import Geometry

GEOMETRY = Geometry()
ORDER = 1000


@pytest.fixture(scope="module")
def segments() -> np.ndarray:
    with np.load(Path(__file__).parents[1] / "reference" / "lpc.npz") as archive:
        return archive["segment"] / 32768


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


def test_lpc(compare: Callable[..., dict[str, Any]], segments: np.ndarray, thorough: bool) -> None:
    segment = segments[1:2]
    others = {"librosa.lpc, scipy lfilter": partial(with_filter, of_librosa, segment)}
    if thorough:
        others["spectrum.arburg, scipy lfilter"] = partial(with_filter, of_spectrum, segment)
    ours = partial(lpc.inpaint, segment, GEOMETRY, order=ORDER)
    compare("LPC, both sides", ours, others, operations=operations(GEOMETRY, ORDER), rounds=100)
    np.testing.assert_allclose(ours(), with_filter(of_librosa, segment), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("module", "task"), [(janssen, "Janssen"), (sparse, "A-SPAIN")])
def test_stronger_references(
    module: Any, task: str, compare: Callable[..., dict[str, Any]], segments: np.ndarray
) -> None:
    compare(task, partial(module.inpaint, segments, GEOMETRY), items=len(segments), rounds=3)


@pytest.mark.parametrize(
    ("module", "task", "batch"),
    [(lpc, "LPC, both sides", 32), (janssen, "Janssen", 32), (sparse, "A-SPAIN", 4)],
)
def test_two_cores(
    module: Any, task: str, batch: int, on_two_cores: Callable[..., dict[str, Any]], segments: np.ndarray
) -> None:
    work = np.resize(segments, (batch, GEOMETRY.length))
    on_two_cores(task, partial(module.inpaint, geometry=GEOMETRY), work, batch=batch)
