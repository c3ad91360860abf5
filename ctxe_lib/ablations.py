"""What each part of the hybrid is worth: short runs of equal length that differ in one option.

The runs are trained and scored on tracks of the train and validation splits; test tracks have no part in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib.corpus import Corpus, JoinedCorpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import Options
from ctxe_lib.training import Recipe, Trainer, build_encoder

__all__ = ["VARIANTS", "ablate"]

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "starts from the LPC cross-fade": {"start": "lpc"},
    "sees no surrounding frames": {"surroundings": 0},
    "sees no phases": {"phases": False},
    "no Griffin-Lim iterations": {"iterations": 0},
    "corrects all bins": {"bins": 257},
    "half the width": {"width": 96},
    "half the blocks": {"blocks": 3},
    "loss on SNR_TD only": {"balance": 0.0},
    "loss on SNR_MS only": {"balance": 1.0},
}
"""Options that each variant changes, by what it is called."""


def ablate(
    corpus: Corpus | JoinedCorpus,
    folder: Path,
    *,
    steps: int,
    options: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    geometry: Geometry | None = None,
    progress: bool = True,
    **recipe: Any,
) -> pd.DataFrame:
    """Train every variant for the same number of steps and score it on the validation split.

    Parameters
    ----------
    corpus : Corpus or JoinedCorpus
    folder : Path
        Where the runs are kept; those that are finished are not trained again.
    steps : int
        Of each; over the last third the learning rate falls to zero.
    options : mapping
        Options of all variants, see :class:`ctxe_lib.hybrid.Options`.
    variants : mapping, optional
        Other variants than :data:`VARIANTS`.
    geometry : Geometry, optional
        The corpus' own if not given.
    progress : bool
        Print what the runs print.
    **recipe
        Fields of :class:`ctxe_lib.training.Recipe`, such as ``pool`` or ``seed``.

    Returns
    -------
    pandas.DataFrame
        One row per variant: variant, parameters, examples, seconds (of training), snr_td
        and snr_ms (dB, means over the validation segments), gain_td and gain_ms: over what the variant starts from.
    """
    geometry, rows = geometry or corpus.geometry, []
    for name, change in (VARIANTS if variants is None else variants).items():
        chosen = Recipe.hybrid(
            corpus.name,
            steps,
            **{"options": {**options, **change}, "cooldown": steps // 3, "validate_every": steps} | recipe,
        )
        run = folder / f"ablation-{'-'.join(name.split())}"
        trainer = Trainer(chosen, corpus, geometry, run)
        before = _means(trainer, build_encoder(chosen, geometry))
        if progress:
            print(f"{name}: {dataclasses.asdict(Options(**chosen.options))}", flush=True)
        trainer.train(progress=progress)
        after = _means(trainer, trainer.averaged)
        rows.append(
            {
                "variant": name,
                "parameters": trainer.encoder.model.count_params(),
                "examples": trainer.step * chosen.batch,
                "seconds": round(trainer.seconds, 1),
                "snr_td": after["snr_td"],
                "snr_ms": after["snr"],
                "gain_td": after["snr_td"] - before["snr_td"],
                "gain_ms": after["snr"] - before["snr"],
            }
        )
    return pd.DataFrame(rows)


def _means(trainer: Trainer, system: Any) -> dict[str, float]:
    examples = trainer.validation
    scores = [system.scores(examples[i : i + 64], "snr") for i in range(0, len(examples), 64)]
    return {key: float(np.mean(np.concatenate([s[key] for s in scores]))) for key in scores[0]}
