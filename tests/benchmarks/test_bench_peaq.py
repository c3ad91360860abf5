"""PEAQ against a plain NumPy version, frame by frame.

The lower bound is that of the Fourier transforms and the spreading; it leaves out about 260,000 exponentials,
logarithms and powers per pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctxe_lib import peaq

Pair = tuple[np.ndarray, np.ndarray]
FRAMES = 93  # of 2 s of sound


@pytest.fixture(scope="module", params=["noise everywhere", "gap of 64 ms"])
def damage(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pair(damage: str) -> Pair:
    """Two seconds at 48 kHz, int16: every frame differs, or only those that touch the gap."""
    with np.load(Path(__file__).parents[1] / "reference" / "peaq.npz") as archive:
        reference = archive["ref48_notes"]
    degraded = reference.copy()
    if damage == "gap of 64 ms":
        degraded[24_000:27_072] = 0
    else:
        degraded += np.random.default_rng(0).integers(-300, 300, len(degraded), dtype=np.int16)
    return reference, degraded


def spread(energy: np.ndarray) -> np.ndarray:
    """Every band's contribution to every other one, as a matrix."""
    fall = np.exp(peaq._FALL_UP + 0.05 * np.log(energy))
    sum_up = (1 - fall ** np.arange(peaq._BANDS, 0, -1)) / (1 - fall)
    share = energy / (peaq._SUM_DOWN + sum_up - 1)
    distance = np.subtract.outer(np.arange(peaq._BANDS), np.arange(peaq._BANDS))
    falls = np.where(distance > 0, fall ** np.maximum(distance, 0), peaq._FALL_DOWN ** np.maximum(-distance, 0))
    return ((falls * share) ** 0.4).sum(axis=1) ** 2.5


class PlainEar:
    """Ear model with its filters' memories."""

    def __init__(self) -> None:
        self.norm = spread(np.ones(peaq._BANDS))
        self.smeared = self.previous = self.change = self.envelope = np.zeros(peaq._BANDS)

    def __call__(self, frame: np.ndarray) -> None:
        self.power = np.abs(np.fft.rfft(frame * peaq._WINDOW)) ** 2
        unsmeared = spread(group(self.power) + peaq._NOISE) / self.norm
        self.smeared = smooth(self.smeared, unsmeared, peaq._SMEAR)
        self.excitation = np.maximum(self.smeared, unsmeared)
        compressed = unsmeared**0.3
        self.change = smooth(self.change, peaq.FRAMES_PER_SECOND * np.abs(compressed - self.previous), peaq._ADAPT)
        self.envelope = smooth(self.envelope, compressed, peaq._ADAPT)
        self.previous = compressed
        self.modulation = self.change / (1 + self.envelope / 0.3)
        inner = 1 - peaq._INDEX + peaq._INDEX / peaq._THRESHOLD * self.excitation
        self.loudness = 24 / peaq._BANDS * np.maximum(peaq._LOUDNESS * (inner**0.23 - 1), 0).sum()


def group(power: np.ndarray) -> np.ndarray:
    sums = [
        peaq._WEIGHTS[first + offset : stop + offset] @ power[first:stop]
        for first, stop, offset in zip(peaq._FIRST, peaq._STOP, peaq._OFFSET, strict=True)
    ]
    return np.maximum(sums, peaq._FAINTEST)


def smooth(state: np.ndarray, x: np.ndarray, decay: np.ndarray) -> np.ndarray:
    return decay * state + (1 - decay) * x


def harmonic_structure(reference: np.ndarray, degraded: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(degraded[:511] / reference[:511])
        correlation = np.correlate(ratio, ratio[:256], "valid")
        norm = correlation[0] * np.convolve(ratio**2, np.ones(256), "valid")
        normal = np.where(norm > 0, correlation / np.sqrt(norm), 1)
        values = np.abs(np.fft.rfft(peaq._EHS_WINDOW * (normal - normal.mean()))) ** 2
    return values[1:].max() if values[1:].max() > values[0] else 0.0


def plain(reference: np.ndarray, degraded: np.ndarray) -> float:
    """ODG of a pair that has sound from its first to its last sample."""
    ears = PlainEar(), PlainEar()
    smooth_r = smooth_d = cross = own = correction_r = correction_d = np.zeros(peaq._BANDS)
    neighbours = np.tri(peaq._BANDS, k=3) - np.tri(peaq._BANDS, k=-5)
    neighbours = neighbours.T / neighbours.T.sum(axis=1, keepdims=True)
    signals = [np.pad(x.astype(float), (0, 2048)) for x in (reference, degraded)]
    rows: list[dict[str, float]] = []
    for index in range(len(reference) // 1024):
        frames = [x[1024 * index : 1024 * index + 2048] for x in signals]
        for ear, frame in zip(ears, frames, strict=True):
            ear(frame)
        (r, d), (m, n), (s, t) = ([getattr(ear, x) for ear in ears] for x in ("excitation", "modulation", "power"))

        smooth_r, smooth_d = smooth(smooth_r, r, peaq._ADAPT), smooth(smooth_d, d, peaq._ADAPT)
        level = (np.sqrt(smooth_r * smooth_d).sum() / smooth_d.sum()) ** 2
        a, b = r / max(level, 1), d * min(level, 1)
        cross, own = peaq._ADAPT * cross + a * b, peaq._ADAPT * own + a * a
        correction_r = smooth(correction_r, neighbours @ np.minimum(cross / own, 1), peaq._ADAPT)
        correction_d = smooth(correction_d, neighbours @ np.minimum(own / cross, 1), peaq._ADAPT)
        a, b = a * correction_r, b * correction_d
        slope_r, slope_d = 0.15 * m + 0.5, 0.15 * n + 0.5
        masked = peaq._NOISE + slope_r * a * np.exp(-1.5 * (b - a) / a)
        partial = (1 + np.maximum(slope_d * b - slope_r * a, 0) / masked) ** 0.23 - 1

        ratio = group(s - 2 * np.sqrt(s * t) + t) * peaq._MASK / r
        width = [k + 1 for k in range(347, 921) if s[k] >= 10 * t[921:1024].max()]
        width_d = [k + 1 for k in range(width[-1]) if t[k] >= 10**0.5 * t[921:1024].max()] if width else []
        level_r, level_d = 10 * np.log10(r), 10 * np.log10(d)
        heard = np.maximum(0.3 * np.maximum(level_r, level_d) + 0.7 * level_d, 1e-9)
        step = 5.95072 * (6.39468 / heard) ** 1.71332 + np.polyval(
            [9.01033e-11, 5.05622e-6, -0.00102438, 0.0550197, -0.198719], heard
        )
        exponent = np.abs((level_r - level_d) / step) ** np.where(level_r > level_d, 4, 6)
        faint = all((frame[1024:] ** 2).sum() < 8000 for frame in frames)
        rows.append(
            {
                "Mt1B": 100 * (np.abs(m - n) / (1 + m)).mean(),
                "Mt2B": 100 * (np.where(m > n, 0.1, 1) * np.abs(m - n) / (0.01 + m)).mean(),
                "Wt": (ears[0].envelope / (ears[0].envelope + 100 * peaq._NOISE**0.3)).sum(),
                "NL": 24 * ((peaq._NOISE / slope_d) ** 0.23 * partial).mean(),
                "NRef": ears[0].loudness,
                "NTest": ears[1].loudness,
                "BWRef": width[-1] if width else -1,
                "BWTest": width_d[-1] if width_d else -1,
                "NMRavg": ratio.mean(),
                "NMRmax": ratio.max(),
                "EHS": -1 if faint else harmonic_structure(s, t),
                "Pc": 1 - np.prod(0.5**exponent),
                "Qc": (np.abs(np.trunc(level_r - level_d)) / step).sum(),
            }
        )
    frames = np.array([[[row[name] for row in rows]] for name in peaq._FRAMES])
    movs = peaq._average(frames, np.array([row["Pc"] for row in rows]), np.array([row["Qc"] for row in rows]), 24)
    return peaq._grade(movs)[0]


def operations() -> float:
    """Floating-point operations: two real FFTs of 2048, three of 512 and one of 256 samples, two spreadings per frame.

    N samples take 2 N log2 N - 4 N + 6 (split radix), the spreading two per band and band below it.
    """
    ffts = sum(count * (2 * n * np.log2(n) - 4 * n + 6) for count, n in ((2, 2048), (3, 512), (1, 256)))
    return FRAMES * (ffts + 2 * peaq._BANDS * (peaq._BANDS - 1))


def compiled(reference: np.ndarray, degraded: np.ndarray) -> float:
    return peaq.odg(reference, degraded, peaq.RATE).odg


def grades(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([compiled(*pair) for pair in pairs])


def test_pair(compare: Callable[..., dict[str, Any]], pair: Pair, damage: str) -> None:
    others = {"plain NumPy, frame by frame": partial(plain, *pair)}
    compare(f"PEAQ of 2 s, {damage}", partial(compiled, *pair), others, unit="pair", operations=operations())
    assert compiled(*pair) == pytest.approx(plain(*pair), abs=1e-9)


def test_version(compare: Callable[..., dict[str, Any]], pair: Pair, damage: str) -> None:
    heard = peaq.Reference(pair[0], peaq.RATE)
    compare(f"PEAQ of another version, {damage}", partial(heard.odg, pair[1]), unit="version")


def test_two_cores(on_two_cores: Callable[..., dict[str, Any]], pair: Pair, damage: str) -> None:
    on_two_cores(f"PEAQ of 2 s, {damage}", grades, [pair] * 8, unit="pair", batch=8)
