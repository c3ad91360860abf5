"""Where things lie: the project's root and the folders below it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ROOT", "data_folder", "results_folder", "runs_folder", "scores_folder", "weights_folder"]

ROOT = Path(os.environ.get("CTXE_ROOT") or Path(__file__).resolve().parent.parent)
"""Root of the checkout: notebooks and commands find it from any working folder."""


def data_folder() -> Path:
    """Corpora: ``data/``, or what CTXE_DATA names."""
    return Path(os.environ.get("CTXE_DATA") or ROOT / "data")


def results_folder() -> Path:
    """Tables of scores: ``results/``, or what CTXE_RESULTS names."""
    return Path(os.environ.get("CTXE_RESULTS") or ROOT / "results")


def runs_folder() -> Path:
    """Training runs with checkpoints and logs: ``runs/``, or what CTXE_RUNS names."""
    return Path(os.environ.get("CTXE_RUNS") or ROOT / "runs")


def scores_folder() -> Path:
    """Released scores: ``scores/``, or what CTXE_SCORES names."""
    return Path(os.environ.get("CTXE_SCORES") or ROOT / "scores")


def weights_folder() -> Path:
    """Trained networks: ``weights/``, or what CTXE_WEIGHTS names."""
    return Path(os.environ.get("CTXE_WEIGHTS") or ROOT / "weights")
