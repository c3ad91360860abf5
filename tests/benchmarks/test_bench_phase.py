"""Phase recovery against what one would take instead.

The lower bound is that of the iterations; PGHI, mostly comparisons, is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest

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
    return segments, touched(segments)


def touched(segments: np.ndarray) -> np.ndarray:
    """Original magnitudes of the frames that touch the gap."""
    return np.abs(stft(segments, GEOMETRY))[:, GEOMETRY.touched_frames]


def recover(segments: np.ndarray) -> np.ndarray:
    return phase.reconstruct(segments, touched(segments), GEOMETRY)


def operations(geometry: Geometry) -> float:
    """Floating-point operations of a segment's iterations on the frames that touch the gap.

    For a frame: two real FFTs of N samples at 2 N log2 N - 4 N + 6 each (split radix), two windows, the overlap-add,
    and 14 operations for each coefficient (magnitude, scaling, acceleration).
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


def griffinlim(segments: np.ndarray) -> np.ndarray:
    """librosa's, which knows no context: the whole segment from its magnitude."""
    whole = np.abs(stft(segments, GEOMETRY)).swapaxes(-1, -2)
    sizes = {"n_fft": GEOMETRY.window, "hop_length": GEOMETRY.hop}
    return librosa.griffinlim(whole, n_iter=ITERATIONS, momentum=0.99, random_state=0, **sizes)


def test_recovery(compare: Callable[..., dict[str, Any]], work: tuple[np.ndarray, np.ndarray]) -> None:
    ours = partial(phase.reconstruct, *work, GEOMETRY)
    others = {
        "plain NumPy, all frames": partial(plain, *work),
        "librosa.griffinlim, without context": partial(griffinlim, work[0]),
    }
    task = f"PGHI and {ITERATIONS} Griffin-Lim iterations"
    compare(task, ours, others, items=N, operations=operations(GEOMETRY))
    np.testing.assert_allclose(ours()[0], plain(work[0][:1], work[1][:1])[0], rtol=0, atol=1e-9)


def test_pghi(compare: Callable[..., dict[str, Any]], work: tuple[np.ndarray, np.ndarray]) -> None:
    coefficients = stft(work[0], GEOMETRY)
    known = np.ones(GEOMETRY.frames, dtype=bool)
    known[GEOMETRY.touched_frames] = False
    options = {"known_phase": np.angle(coefficients), "known": known}
    compare("PGHI alone", partial(phase.pghi, np.abs(coefficients), GEOMETRY, **options), items=N)


def test_two_cores(on_two_cores: Callable[..., dict[str, Any]], work: tuple[np.ndarray, np.ndarray]) -> None:
    on_two_cores(f"PGHI and {ITERATIONS} Griffin-Lim iterations", recover, np.tile(work[0], (4, 1)))
