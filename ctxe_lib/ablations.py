"""What each part of the hybrid, and each choice in the recipe of the encoders, is worth: short runs of equal length.

The runs are trained and scored on tracks of the train and validation splits; test tracks have no part in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ctxe_lib.corpus import Corpus, JoinedCorpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.provenance import link
from ctxe_lib.training import Recipe, Trainer, build_encoder

__all__ = ["VARIANTS", "ablate", "caption", "several_seeds", "spread"]

_HYBRIDS: dict[str, dict[str, Any]] = {
    name: {"options": options}
    for name, options in {
        "as it is": {},
        "starts from the LPC cross-fade": {"start": "lpc"},
        "no linear prediction: starts from interpolation": {"start": "interpolation", "orders": ()},
        "no other orders": {"orders": ()},
        "no interpolated magnitudes": {"interpolated": False},
        "sees no surrounding frames": {"surroundings": 0, "interpolated": False},
        "sees phases": {"phases": True},
        "no Griffin-Lim iterations": {"iterations": 0},
        "corrects half the bins": {"bins": 128},
        "half the width": {"width": 64},
        "half the blocks": {"blocks": 3},
        "loss on SNR_TD only": {"balance": 0.0},
        "loss on SNR_MS only": {"balance": 1.0},
    }.items()
}

_RECIPES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "equation (1) itself": {"loss": "paper"},
    "released code's loss": {"loss": "released"},
    "phases as they are": {"phases": "frame"},
    "segments as they are": {"level": "none"},
    "plain learning rates": {"equalised": False},
    "four times the batch": {"batch": 64},
    "Adam, at half the rate": {"optimizer": "adam", "rate": 2e-3},
    "a third of the rate": {"rate": 1.3e-3},
    "rate never falls": {"cooldown": 0},
    "no averaging": {"averaging": 0.0},
}

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "hybrid": _HYBRIDS,
    "magnitude": _RECIPES,
    "complex": {
        **{name: _RECIPES[name] for name in ("as it is", "phases as they are", "Adam, at half the rate")},
        "layers in single precision": {"precision": "single"},
    },
}
"""What each variant of a network changes in its recipe, by what it is called; by the kind of network."""


def several_seeds(first: int, count: int) -> dict[str, dict[str, int]]:
    """Variants that differ by nothing but their seed, from `first` on: the yardstick for the others' differences."""
    return {f"seed {seed}": {"seed": seed} for seed in range(first, first + count)}


def spread(scores: pd.Series, level: float = 0.95) -> tuple[float, float]:
    """Where one more run with another seed would lie, from the scores of a few: a prediction interval.

    Parameters
    ----------
    scores : pandas.Series [shape=(seeds,)]
        Of at least two seeds; taken as normally distributed.
    level : float
        Probability of the interval.

    Returns
    -------
    low, high : float
        In the unit of the scores.

    Raises
    ------
    ValueError
        If there are fewer than two.
    """
    count = len(scores)
    if count < 2:
        raise ValueError(f"{count} seed(s) show no spread: run `ctxe ablate` with --seeds 3 or more")
    reach = stats.t.ppf((1 + level) / 2, count - 1) * scores.std() * (1 + 1 / count) ** 0.5
    return float(scores.mean() - reach), float(scores.mean() + reach)


def caption(path: Path, record: Mapping[str, Any]) -> str:
    """Where a table that `path` holds comes from, in Markdown, with a link to its record."""
    return (
        f"*From {link('weights', path.name)}: {record['what']}, {record['corpus']} (data `{record['data'][:12]}`), "
        f"{record['steps'] * record['batch']:,} examples each, {record['validation_segments']} segments of validation "
        f"tracks, one run a row, from seed {record['seed']}; commit `{(record['commit'] or 'unknown')[:12]}`.*"
    )


def ablate(
    recipe: Recipe,
    variants: Mapping[str, Mapping[str, Any]],
    corpus: Corpus | JoinedCorpus,
    folder: Path,
    *,
    geometry: Geometry | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train every variant on the same number of examples and score it on the validation split.

    Parameters
    ----------
    recipe : Recipe
        What the variants vary; its learning rate rises over at most the first quarter of the steps and falls to zero
        over the last third.
    variants : mapping
        A network's :data:`VARIANTS`, :func:`several_seeds` or others: changed fields of the recipe by what the variant
        is called.
    corpus : Corpus or JoinedCorpus
    folder : Path
        Where the runs are kept; those that are finished are not trained again.
    geometry : Geometry, optional
        The corpus' own if not given.
    progress : bool
        Print what the runs print.

    Returns
    -------
    pandas.DataFrame
        One row per variant: variant, parameters, examples, seconds (of training), and means over the validation
        segments: of a hybrid snr_td and snr_ms, of an encoder snr_raw (dB, as in Table 3) and loss (equation (1)).
        Beside each SNR stands its gain over the untrained network's: gain_td, gain_ms or gain_raw.
    """
    geometry, rows = geometry or corpus.geometry, []
    for name, change in variants.items():
        options = {**recipe.options, **change.get("options", {})}
        steps = recipe.steps * recipe.batch // change.get("batch", recipe.batch)
        short = {"steps": steps, "warmup": min(recipe.warmup, steps // 4), "cooldown": steps // 3}
        chosen = dataclasses.replace(recipe, **{**short, "validate_every": steps, **change, "options": options})
        trainer = Trainer(chosen, corpus, geometry, folder / f"ablation-{recipe.kind}-{'-'.join(name.split())}")
        before = _means(trainer, build_encoder(chosen, geometry))
        if progress:
            print(f"{name}: {dict(change)}", flush=True)
        trainer.train(progress=progress)
        after = _means(trainer, trainer.result("best"))  # the one that was validated
        rows.append(
            {
                "variant": name,
                "parameters": trainer.encoder.model.count_params(),
                "examples": trainer.step * chosen.batch,
                "seconds": round(trainer.seconds, 1),
                **after,
                **{key.replace("snr", "gain"): after[key] - before[key] for key in after if key.startswith("snr")},
            }
        )
    return pd.DataFrame(rows)


def _means(trainer: Trainer, system: Any) -> dict[str, float]:
    """Mean scores over the validation segments, by the names of the table."""
    hybrid, examples = trainer.recipe.kind == "hybrid", trainer.validation
    scores = [system.scores(examples[i : i + 64], "snr" if hybrid else "paper") for i in range(0, len(examples), 64)]
    means = {key: float(np.nanmean(np.concatenate([s[key] for s in scores]))) for key in scores[0]}
    if hybrid:
        return {"snr_td": means["snr_td"], "snr_ms": means["snr"]}
    return {"loss": means["loss"], "snr_raw": means["snr"]}
