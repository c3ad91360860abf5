"""Fixtures shared by the tests: small synthetic audio, never shown as a finding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ctxe_lib.corpus import Corpus, Track, build_corpus
from ctxe_lib.geometry import Geometry

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def geometry() -> Geometry:
    return Geometry()


def notes(seed: int, seconds: float = 2.0, rate: int = 16_000) -> np.ndarray:
    """A few decaying harmonic notes over a little noise, peak below 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    audio = 0.003 * rng.standard_normal(len(time))
    for start in np.arange(0, seconds, 0.5):
        pitch = 220 * 2 ** (rng.integers(24) / 12)
        since = np.maximum(time - start, 0)
        harmonics = sum(np.sin(2 * np.pi * k * pitch * since) / k for k in range(1, 6))
        audio += 0.2 * (time >= start) * np.exp(-3 * since) * harmonics
    return audio / max(1.0, 1.05 * np.abs(audio).max())


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> Corpus:
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 4

    def tracks() -> Iterator[Track]:
        for i, split in enumerate(splits):
            yield Track(
                id=f"made/{i}", group=f"player{i}", source="made", audio=notes(i), split=split, licence="CC0-1.0"
            )

    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    return build_corpus("tiny", tracks(), folder, geometry, provenance={"made": "by the tests"})


@pytest.fixture
def project_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point data, runs and weights at a temporary folder."""
    for name in ("data", "runs", "weights"):
        monkeypatch.setenv(f"CTXE_{name.upper()}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a window, one for all tests: Playwright runs once in a process."""
    from ctxe_lib import printing

    try:
        printing.chromium()
    except FileNotFoundError as missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(missing))
    with printing.browse("--autoplay-policy=no-user-gesture-required") as running:
        yield running
