"""What the paper's full run takes: arithmetic, time and disk, derived from sizes that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import keras
import pandas as pd

from ctxe_lib import weights
from ctxe_lib.geometry import Geometry
from ctxe_lib.networks import Kind, build_network
from ctxe_lib.tables import paper

__all__ = ["disk", "here", "operations", "training_operations", "training_time"]

NOTES, NOTE_SECONDS = 305_979, 4
CLIPS, CLIP_SECONDS = 8_000, 30
"""Sizes of NSynth and of FMA small, as their publishers state them."""


def operations(model: keras.Model) -> int:
    """Floating-point operations of one example's way through a network: two for each product of a weight.

    Parameters
    ----------
    model : keras.Model
        From :func:`ctxe_lib.networks.build_network` with plain layers.

    Returns
    -------
    int
    """
    total = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            # Every kernel is applied at each output, a transposed one at each input.
            places = layer.input if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output
            total += 2 * math.prod(layer.kernel.shape) * math.prod(places.shape[1:-1])
    return total


@lru_cache
def training_operations(kind: Kind) -> int:
    """Operations of training on one example: the way forward, and backward to the inputs and to the weights."""
    return 3 * operations(build_network(kind, Geometry(), layers="plain"))


def _examples() -> int:
    """Examples that the paper trained each network on."""
    return int(paper()["examples"]["steps"] * paper()["examples"]["batch"])


def training_time(teraflops: Sequence[float]) -> pd.DataFrame:
    """Hours of the paper's training for one network of each kind.

    Parameters
    ----------
    teraflops : sequence of float
        Arithmetic that a processor is assumed to sustain, in 10^12 operations per second.

    Returns
    -------
    pandas.DataFrame
        kind, gigaflop (of one example), and a column of hours for each rate.

    Raises
    ------
    ValueError
        If a rate is not positive.
    """
    if not all(rate > 0 for rate in teraflops):
        raise ValueError(f"teraflops={list(teraflops)} must be > 0")
    kinds: tuple[Kind, ...] = ("magnitude", "complex")
    work = {kind: training_operations(kind) for kind in kinds}
    hours = [[work[kind] * _examples() / (rate * 1e12) / 3600 for rate in teraflops] for kind in kinds]
    names = [f"hours at {rate:g} TFLOP/s" for rate in teraflops]
    gigaflop = [work[kind] / 1e9 for kind in kinds]
    return pd.DataFrame(hours, columns=names).assign(kind=kinds, gigaflop=gigaflop)[["kind", "gigaflop", *names]]


def here() -> pd.DataFrame:
    """How far the networks of this project were trained, and what the rest would take at their speed.

    Returns
    -------
    pandas.DataFrame
        network, material (hours of sound that it was trained on), examples, share (percentage of the paper's), hours,
        teraflops (sustained) and days (for as many examples as the paper's), of the paper's networks; else NaN.
    """
    rows: list[dict[str, Any]] = []
    for name in weights.available():
        card = weights.read_card(name)
        if not card.get("hours"):
            continue
        seconds = 3600 * card["hours"] / card["examples"]
        theirs = card["kind"] != "hybrid"
        rows.append(
            {
                "network": name,
                "material": card["data"]["hours"],
                "examples": card["examples"],
                "share": 100 * card["examples"] / _examples(),
                "hours": card["hours"],
                "teraflops": training_operations(card["kind"]) / seconds / 1e12 if theirs else math.nan,
                "days": seconds * _examples() / 86_400 if theirs else math.nan,
            }
        )
    columns = ["network", "material", "examples", "share", "hours", "teraflops", "days"]
    return pd.DataFrame(rows, columns=columns)


def disk(geometry: Geometry) -> pd.DataFrame:
    """Disk that the paper's sets take as corpora, before trimming.

    Returns
    -------
    pandas.DataFrame
        corpus, hours, gigabytes: 16 bits a sample.
    """
    seconds = pd.Series({"instruments-nsynth": NOTES * NOTE_SECONDS, "music-fma": CLIPS * CLIP_SECONDS})
    gigabytes = 2 * geometry.sample_rate * seconds / 1e9
    return pd.DataFrame({"corpus": seconds.index, "hours": seconds / 3600, "gigabytes": gigabytes})
