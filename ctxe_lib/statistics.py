"""Means with confidence intervals that respect where the segments come from.

Segments of one track resemble each other, so that intervals computed over segments are far too narrow. Tracks are
drawn with replacement instead (cluster bootstrap; Davison & Hinkley 1997, section 3.8).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["cluster_bootstrap", "summarise"]


def cluster_bootstrap(
    values: np.ndarray, clusters: np.ndarray, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over all values, clusters drawn with replacement.

    Parameters
    ----------
    values : np.ndarray [shape=(n,)]
    clusters : np.ndarray [shape=(n,)]
        Which cluster (track, instrument) each value belongs to.
    level : float
        Coverage.
    draws : int
    seed : int

    Returns
    -------
    tuple of float
        Lower and upper bound; NaN where there are fewer than two clusters.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or ``level`` is not between 0 and 1.
    """
    values, clusters = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if values.shape != clusters.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and clusters {clusters.shape} must be two lists of one length")
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite have no mean: exclude and count them first")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1")
    _, index = np.unique(clusters, return_inverse=True)
    count = np.bincount(index)
    if len(count) < 2:
        return float("nan"), float("nan")
    total = np.bincount(index, weights=values)
    drawn = np.random.default_rng(seed).integers(len(count), size=(draws, len(count)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(
    scores: pd.DataFrame, metric: str, *, by: tuple[str, ...] = ("method",), draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Mean, standard deviation and interval of a score for each method.

    Parameters
    ----------
    scores : pandas.DataFrame
        Per-segment scores from :mod:`ctxe_lib.evaluation`, with a ``cluster`` column.
    metric : str
        Column to summarise, in dB.
    by : tuple of str
        Columns to group by.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row per group: mean, std, low, high (95 % interval over clusters), segments, clusters, excluded (segments
        without a score, their reference being silent).
    """
    rows = []
    for key, group in scores.groupby(list(by), sort=False, observed=True):
        finite = group[np.isfinite(group[metric])]
        low, high = cluster_bootstrap(finite[metric].to_numpy(), finite["cluster"].to_numpy(), draws=draws, seed=seed)
        rows.append(
            dict(zip(by, key, strict=True))
            | {
                "mean": finite[metric].mean(),
                "std": finite[metric].std(ddof=0),
                "low": low,
                "high": high,
                "segments": len(finite),
                "clusters": finite["cluster"].nunique(),
                "excluded": len(group) - len(finite),
            }
        )
    return pd.DataFrame(rows)
