"""What must hold whatever the signal, beside what the modules' own tests check."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ctxe_lib import phase
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, prepare
from ctxe_lib.parallel import map_batches
from ctxe_lib.stft import stft

GEOMETRY = Geometry()
CLASSICAL = [name for name, method in METHODS.items() if not method.network]


def music(count: int) -> np.ndarray:
    """Decaying partials over noise: nothing repeats, so that no two coefficients are equally strong."""
    rng = np.random.default_rng(11)
    time = np.arange(GEOMETRY.length)
    sound = 0.01 * rng.standard_normal((count, GEOMETRY.length))
    for _ in range(12):
        frequency, decay, start = (rng.uniform(*span, (count, 1)) for span in ((0.02, 2), (500, 9000), (0, 6)))
        sound += 0.1 * np.exp(-time / decay) * np.sin(frequency * time + start)
    return sound


def test_pghi_time_reversal() -> None:
    # Frame n of the reversed signal is frame -n of the signal, conjugated: the phase changes its sign.
    mirror = -np.arange(GEOMETRY.frames) % GEOMETRY.frames
    known = np.ones(GEOMETRY.frames, dtype=bool)
    known[GEOMETRY.touched_frames] = False
    coefficients = stft(music(3), GEOMETRY)
    magnitude, angle = np.abs(coefficients), np.angle(coefficients)
    forward = phase.pghi(magnitude, GEOMETRY, known_phase=angle, known=known)
    reverse = {"known_phase": -angle[:, mirror], "known": known[mirror]}
    backward = phase.pghi(magnitude[:, mirror], GEOMETRY, **reverse)
    np.testing.assert_allclose(np.exp(1j * backward), np.exp(-1j * forward[:, mirror]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CLASSICAL)
def test_order_batch_and_company_change_no_bit(name: str) -> None:
    segments = music(5)
    method = partial(prepare(name), geometry=GEOMETRY)
    together = method(segments)
    order = np.random.default_rng(0).permutation(len(segments))
    np.testing.assert_array_equal(method(segments[order]), together[order])
    for batch in (1, 2):
        np.testing.assert_array_equal(map_batches(method, segments, batch=batch, n_jobs=2), together)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("gain", [-1.0, 2.0**-7])
def test_gain_of_every_method(name: str, gain: float) -> None:
    segments = music(3)
    method = partial(prepare(name), geometry=GEOMETRY)
    np.testing.assert_allclose(method(gain * segments), gain * method(segments), rtol=0, atol=1e-9 * abs(gain))
