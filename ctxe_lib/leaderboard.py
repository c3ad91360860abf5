"""Score somebody else's method on the fixed test segments, and rank it among those of this book.

The segments are those of a table of results: its rows name them, its record names the corpus and its fingerprint. A
challenge file holds them with their gaps blanked; whoever fills the gaps hands back a file with the gaps' audio.
Both are NumPy archives without pickled objects:

- challenge: ``segment`` int64 [n], ``audio`` float32 [n, length] (gap zero), ``gap`` int64 [2] (its first sample and
  the one behind its last), ``sample_rate``;
- answer: ``segment`` int64 [n], in any order, and ``gaps`` float [n, gap].
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib.corpus import Corpus
from ctxe_lib.evaluation import excerpts, odg, score
from ctxe_lib.files import write_atomically
from ctxe_lib.statistics import summarise

__all__ = ["rank", "score_answer", "write_challenge"]


def _segments(corpus: Corpus, scores: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    """What describes each scored segment, one row each; refuses a corpus that the scores are not of."""
    if record["data"] != corpus.fingerprint:
        raise ValueError(
            f"the scores are of {record['corpus']} with data {record['data'][:12]}, the corpus here is "
            f"{corpus.fingerprint[:12]}: build it again, or run `make results`"
        )
    return scores.drop_duplicates("segment").drop(columns=["method", "snr_td", "snr_ms", "odg"], errors="ignore")


def write_challenge(corpus: Corpus, scores: pd.DataFrame, record: dict[str, Any], path: Path) -> int:
    """Write the test segments with their gaps blanked.

    Parameters
    ----------
    corpus : Corpus
    scores : pandas.DataFrame
        Per-segment scores from :func:`ctxe_lib.evaluation.evaluate`, and
    record : dict
        their record.
    path : Path
        Of the archive, ending in ``.npz``.

    Returns
    -------
    int
        Number of segments.

    Raises
    ------
    ValueError
        If the scores are of other data than the corpus.
    """
    geometry, starts = corpus.geometry, _segments(corpus, scores, record)["segment"].to_numpy()
    audio = corpus.read(starts)
    audio[:, geometry.gap_samples] = 0
    gap = np.array([geometry.gap_samples.start, geometry.gap_samples.stop])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, segment=starts, audio=audio, gap=gap, sample_rate=geometry.sample_rate)
    write_atomically(path, buffer.getvalue())
    return len(starts)


def score_answer(
    corpus: Corpus, scores: pd.DataFrame, record: dict[str, Any], answer: Path, name: str, *, n_jobs: int = 1
) -> pd.DataFrame:
    """Score an answer to the challenge.

    Parameters
    ----------
    corpus, scores, record
        As for :func:`write_challenge`.
    answer : Path
        Archive with ``segment`` and ``gaps``.
    name : str
        What the method is to be called; none of those already scored.
    n_jobs : int
        Workers of the ODG.

    Returns
    -------
    pandas.DataFrame
        Rows like those of `scores`.

    Raises
    ------
    ValueError
        If the name is taken, segments are missing, unknown or doubled, or the gaps have another shape or hold values
        that are not finite.
    """
    described, geometry = _segments(corpus, scores, record), corpus.geometry
    if name in set(scores["method"]):
        raise ValueError(f"name={name!r} is taken by a method that is already scored: choose another")
    with np.load(answer, allow_pickle=False) as file:
        if not {"segment", "gaps"} <= set(file):
            raise ValueError(f"{answer} holds {', '.join(file)}: segment and gaps are wanted")
        segment, gaps = file["segment"], file["gaps"].astype(np.float64)
    if gaps.shape != (len(segment), geometry.gap):
        raise ValueError(f"gaps have shape {gaps.shape}, expected {(len(segment), geometry.gap)}")
    wanted = described["segment"].to_numpy()
    if sorted(segment.tolist()) != sorted(wanted.tolist()):
        missing = len(set(wanted.tolist()) - set(segment.tolist()))
        raise ValueError(f"{answer} must have each of the {len(wanted)} segments once: {missing} are missing")
    gaps = gaps[np.argsort(segment)][np.argsort(np.argsort(wanted))]
    own = score(corpus.read(wanted).astype(np.float64), gaps, geometry)
    grades = odg(excerpts(corpus, wanted, geometry)[0], {name: gaps}, geometry, n_jobs=n_jobs)
    return described.assign(method=name, **own, odg=grades[name])[list(scores)]


def rank(scores: pd.DataFrame, metric: str = "snr_ms") -> pd.DataFrame:
    """Methods by mean score, best first: rank, method, mean, std, low, high, segments, clusters."""
    table = summarise(scores, metric).sort_values("mean", ascending=False, ignore_index=True)
    table.insert(0, "rank", table.index + 1)
    return table.drop(columns="excluded")
