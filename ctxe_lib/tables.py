"""Tables 1 to 6 of the paper: its value and the one obtained here, side by side.

The paper's numbers are data (``manifests/paper.json``); what was measured here comes from the tables in ``results/``.
What has not been measured is left empty and says so. Intervals are bootstrapped over clusters (tracks of music,
instruments of notes), see :mod:`ctxe_lib.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy import stats

from ctxe_lib import plots, weights
from ctxe_lib.corpus import SPLITS, Corpus
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import data_folder, results_folder
from ctxe_lib.provenance import link, total_seconds
from ctxe_lib.records import read_table
from ctxe_lib.sources.packages import manifest
from ctxe_lib.statistics import cluster_bootstrap, summarise

__all__ = [
    "KINDS",
    "NotMeasured",
    "Results",
    "by_source",
    "caption",
    "dataset_statistics",
    "enlargement_table",
    "enlargements_averaged",
    "gap_curve",
    "impairments",
    "network_notes",
    "not_scored",
    "overfitting_check",
    "paired",
    "paired_tests",
    "paper",
    "paper_value",
    "score_table",
    "seed_table",
    "sentence",
    "short_gaps",
    "show",
    "tests_against",
]

KINDS = ("music", "instruments")
"""The two kinds of sound, in the order of the paper's columns."""

COMMANDS = {
    "": "ctxe evaluate results/{0}.parquet --corpus {0}",
    "gaps": "ctxe gaps results/{0}-gaps.parquet --corpus {0}",
    "overfit": "ctxe overfit results/{0}-overfit.parquet --corpus {0}",
    "seeds": "ctxe seeds results/{0}-seeds.parquet --corpus {0}",
}
"""What makes each table of results, by the ending of its name."""

UNITS = {"music": "tracks", "instruments": "instruments"}


@lru_cache
def paper() -> dict[str, Any]:
    """The paper's own numbers: tables, axes of figures, sizes."""
    return manifest("paper.json")


def paper_value(table: str, value: str = "mean", **where: str) -> float:
    """One number of the paper's tables.

    Parameters
    ----------
    table : str
        Number of the table.
    value : str
        Such as ``mean`` or ``std``.
    **where
        What its row must say: kind, method, metric, split.

    Returns
    -------
    float
        NaN where the paper has no such row.
    """
    for row in paper()["tables"][table]["rows"]:
        if all(row.get(key) == wanted for key, wanted in where.items()):
            return float(row[value])
    return float("nan")


class NotMeasured(LookupError):
    """A result that is not there; `command` makes it."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(f"{what}: `{command}`")
        self.what, self.command = what, command


@dataclass(frozen=True)
class Results:
    """What has been measured, on which corpora.

    Parameters
    ----------
    corpora : mapping
        Name of the corpus of each of :data:`KINDS`.
    draws, seed : int
        Of the bootstrap.
    folder : Path, optional
        ``results/`` by default.
    """

    corpora: Mapping[str, str]
    draws: int = 2000
    seed: int = 0
    folder: Path = field(default_factory=results_folder)
    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def path(self, kind: str, what: str = "") -> Path:
        """File of a table: ``what`` is empty for the scores, else a key of :data:`COMMANDS`."""
        return self.folder / f"{self.corpora[kind]}{'-' * bool(what)}{what}.parquet"

    def table(self, kind: str, what: str = "") -> pd.DataFrame:
        """A table of results.

        Raises
        ------
        NotMeasured
            If it has not been made.
        """
        return self._load(kind, what)[0]

    def record(self, kind: str, what: str = "") -> dict[str, Any]:
        """The record of a table of results; raises as :meth:`table` does."""
        return self._load(kind, what)[1]

    def _load(self, kind: str, what: str) -> tuple[pd.DataFrame, dict[str, Any]]:
        path, command = self.path(kind, what), COMMANDS[what].format(self.corpora[kind])
        try:
            return self.remember(path.name, lambda: read_table(path, command))
        except FileNotFoundError:
            raise NotMeasured(f"no results in {path.name}", command) from None

    def corpus(self, kind: str) -> Corpus:
        """The corpus itself."""
        name = self.corpora[kind]
        try:
            return self.remember(kind, lambda: Corpus.open(data_folder() / name))
        except FileNotFoundError:
            raise NotMeasured(f"no corpus {name}", f"python data_scripts/build_data.py {name}") from None

    def remember(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for each key."""
        if key not in self._read:
            self._read[key] = make()
        return self._read[key]

    def interval(self, values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
        """Confidence interval of a mean, by the bootstrap over clusters."""
        return cluster_bootstrap(values, clusters, draws=self.draws, seed=self.seed)

    def summary(self, scores: pd.DataFrame, metric: str, by: Sequence[str] = ("method",)) -> pd.DataFrame:
        """:func:`ctxe_lib.statistics.summarise` with this bootstrap; empty where the metric was not scored."""
        if metric not in scores or scores.empty:
            return pd.DataFrame(columns=[*by, "mean", "std", "low", "high", "segments", "clusters", "excluded"])
        return summarise(scores, metric, by=tuple(by), draws=self.draws, seed=self.seed)


def _status(results: Results, kind: str, method: str, measured: bool) -> str:
    """Why a cell is empty; nothing where it is not."""
    if measured:
        return ""
    name = METHODS[method].weights_name(kind)
    return "not trained" if name is not None and name not in weights.available() else "not measured"


def _beside(results: Results, summary: pd.DataFrame, number: str, kind: str, **where: str) -> pd.DataFrame:
    """The paper's value and ours for every method there is, in the order of METHODS."""
    rows = pd.DataFrame({"method": list(METHODS)}).merge(summary, on="method", how="left")
    rows.insert(0, "kind", kind)
    for value in ("mean", "std"):
        rows[f"paper_{value}"] = [paper_value(number, value, kind=kind, method=m, **where) for m in rows["method"]]
    measured = (rows["segments"] > 0).to_numpy()
    rows["status"] = [_status(results, kind, m, bool(there)) for m, there in zip(rows["method"], measured, strict=True)]
    ours = ["mean", "std", "low", "high", "segments", "clusters", "excluded"]
    rows[ours] = rows[ours].astype(float)
    return rows[["kind", "method", "paper_mean", "paper_std", *ours, "status"]]


def dataset_statistics(results: Results) -> pd.DataFrame:
    """Table 1: kind, split, paper_millions, paper_percentage, millions, percentage, tracks, hours."""
    parts = []
    for kind in reversed(KINDS):
        ours = results.corpus(kind).statistics().assign(kind=kind)
        ours["millions"] = ours["segments"] / 1e6
        for value in ("millions", "percentage"):
            ours[f"paper_{value}"] = [paper_value("1", value, kind=kind, split=split) for split in ours["split"]]
        parts.append(ours)
    columns = ["kind", "split", "paper_millions", "paper_percentage", "millions", "percentage", "tracks", "hours"]
    return pd.concat(parts, ignore_index=True)[columns]


def impairments(results: Results, kind: str) -> pd.DataFrame:
    """Table 2: the ODG scale, and the percentage of test segments nearest to each grade, one column per method.

    Raises
    ------
    NotMeasured
        If no ODG has been computed.
    """
    scores = results.table(kind)
    if "odg" not in scores:
        raise NotMeasured("no ODG", COMMANDS[""].format(results.corpora[kind]))
    table = pd.DataFrame(paper()["tables"]["2"]["rows"])
    for name in METHODS:
        grades = scores.loc[scores["method"] == name, "odg"].dropna().clip(-4, 0).round()
        if len(grades):
            table[METHODS[name].label] = [100 * (grades == grade).mean() for grade in table["odg"]]
    return table


def overfitting_check(results: Results, kind: str) -> pd.DataFrame:
    """Table 3 for one kind: method, split, the paper's mean and std, ours with interval, status."""
    try:
        summary = results.summary(results.table(kind, "overfit"), "snr_raw", ("method", "split"))
    except NotMeasured:
        summary = results.summary(pd.DataFrame(), "snr_raw", ("method", "split"))
    parts = []
    for split in SPLITS:
        own = summary[summary["split"] == split].drop(columns="split")
        rows = _beside(results, own, "3", kind, split=split)
        rows.insert(2, "split", split)
        parts.append(rows[rows["paper_mean"].notna()])
    order = {method: n for n, method in enumerate(METHODS)}
    return pd.concat(parts).sort_values("method", key=lambda name: name.map(order), kind="stable", ignore_index=True)


def score_table(results: Results, kind: str, metric: str) -> pd.DataFrame:
    """One metric of Table 4 (``snr_ms``, ``odg``) or 5 (``snr_td``) for one kind, every method of this book.

    Parameters
    ----------
    results : Results
    kind : str
        One of :data:`KINDS`.
    metric : str

    Returns
    -------
    pandas.DataFrame
        kind, method, mean, std, low, high, segments, clusters, excluded, paper_mean, paper_std, status.

    Raises
    ------
    NotMeasured
        If there are no scores.
    """
    number = "5" if metric == "snr_td" else "4"
    return _beside(results, results.summary(results.table(kind), metric), number, kind, metric=metric)


def seed_table(results: Results, kind: str) -> pd.DataFrame:
    """The hybrid and those trained as it was from other seeds, on the same segments: seed, snr_ms, snr_td, odg (means).

    Raises
    ------
    NotMeasured
        If they have not been scored.
    """
    means = results.table(kind, "seeds").groupby("network_seed")[["snr_ms", "snr_td", "odg"]].mean()
    return means.rename_axis("seed").reset_index()


def enlargements_averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Scores at all durations with one row per segment: the mean over the three enlargements where there are any."""
    own = table[table["enlargement"] != "mixed"]
    keys = ["cluster", "segment", "method", "gap_ms"]
    return own.groupby(keys, sort=False, as_index=False)[["snr_td", "snr_ms"]].mean()


def short_gaps(results: Results, kind: str, gap_ms: int = 48, metric: str = "snr_ms") -> pd.DataFrame:
    """Table 6 for one kind; a network's score of a segment is the mean over the three enlargements.

    Raises
    ------
    NotMeasured
        If no gap durations have been scored.
    """
    scores = enlargements_averaged(results.table(kind, "gaps"))
    summary = results.summary(scores[scores["gap_ms"] == gap_ms], metric)
    return _beside(results, summary, "6", kind, metric=metric)


def enlargement_table(results: Results, kind: str, gap_ms: int = 48, metric: str = "snr_ms") -> pd.DataFrame:
    """Networks at a shorter gap by way of enlargement: method, enlargement, mean, std, low, high, segments, clusters.

    Raises
    ------
    NotMeasured
        If no gap durations have been scored.
    """
    table = results.table(kind, "gaps")
    own = table[(table["gap_ms"] == gap_ms) & (table["enlargement"] != "none")]
    return results.summary(own, metric, ("method", "enlargement"))


def gap_curve(results: Results, kind: str, metric: str) -> pd.DataFrame:
    """Score against duration: method, gap_ms, mean, low, high, segments, clusters.

    Raises
    ------
    NotMeasured
        If no gap durations have been scored.
    """
    scores = enlargements_averaged(results.table(kind, "gaps"))
    return results.summary(scores, metric, ("method", "gap_ms"))


def by_source(results: Results, kind: str, metric: str) -> pd.DataFrame:
    """Mean score of every method for each source of test tracks: source, tracks, segments, one column per method."""
    tracks = results.corpus(kind).tracks[["track", "source"]]
    scores = results.table(kind).dropna(subset=[metric]).merge(tracks, on="track")
    wide = scores.pivot_table(metric, "source", "method", "mean")
    wide = wide[[name for name in METHODS if name in wide]].rename(columns=lambda name: METHODS[name].label)
    one = scores[scores["method"] == scores["method"].iloc[0]].groupby("source")
    wide.insert(0, "segments", one.size())
    wide.insert(0, UNITS[kind], one["cluster"].nunique())
    return wide.rename_axis(columns=None).reset_index()


def not_scored(results: Results, kind: str, method: str, metric: str) -> NotMeasured:
    """The error that says what is missing for a score: the network itself, or its evaluation."""
    name = METHODS[method].weights_name(kind) if method in METHODS else None
    if name is not None and name not in weights.available():
        train = f"ctxe train {name} --kind {method} --corpus {kind}-full; ctxe export {name} {name}; make results"
        return NotMeasured(f"no trained network {name}", train)
    return NotMeasured(f"no {metric} of {method} on {kind}", COMMANDS[""].format(results.corpora[kind]))


def paired(results: Results, kind: str, method: str, other: str, metric: str) -> pd.Series:
    """Differences of two methods on the same segments, method minus other.

    Returns
    -------
    pandas.Series
        Indexed by cluster and segment; segments without a score are left out.

    Raises
    ------
    NotMeasured
        If one of them, or the metric, has not been scored.
    """
    scores = results.table(kind)
    for name in (method, other):
        if metric not in scores or not (scores["method"] == name).any():
            raise not_scored(results, kind, name, metric)
    wide = scores.pivot(index=["cluster", "segment"], columns="method", values=metric)[[method, other]]
    return (wide[method] - wide[other]).replace([np.inf, -np.inf], np.nan).dropna()


def paired_tests(results: Results, kind: str, method: str, other: str, metric: str) -> pd.DataFrame:
    """Paired t-test over segments, as the paper did, and over clusters.

    Segments of one track are not independent, so that the test over segments finds significance too easily; the one
    over clusters compares the means of tracks.

    Returns
    -------
    pandas.DataFrame
        Two rows: unit, n, difference, low, high (95 % interval of the mean difference, by bootstrap over segments or
        over clusters), t, p.
    """
    difference = paired(results, kind, method, other, metric)
    means = difference.groupby(level="cluster").mean()
    rows = []
    for unit, values, groups in (
        ("segments", difference, np.arange(len(difference))),
        (UNITS[kind], means, means.index.to_numpy()),
    ):
        test = stats.ttest_rel(values, np.zeros(len(values))) if len(values) > 1 else None
        low, high = results.interval(values.to_numpy(), groups)
        rows.append(
            {
                "unit": unit,
                "n": len(values),
                "difference": values.mean(),
                "low": low,
                "high": high,
                "t": np.nan if test is None else float(test.statistic),
                "p": np.nan if test is None else float(test.pvalue),
            }
        )
    return pd.DataFrame(rows)


def tests_against(results: Results, kind: str, other: str, metric: str) -> pd.DataFrame:
    """:func:`paired_tests` of every method that has been scored against one other, with a column for the method.

    Raises
    ------
    NotMeasured
        If the other, or the metric, has not been scored.
    """
    there = set(results.table(kind)["method"])
    names = [name for name in METHODS if name in there and name != other]
    parts = [paired_tests(results, kind, name, other, metric) for name in names]
    if not parts:
        raise not_scored(results, kind, other, metric)
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "method", np.repeat(names, 2))
    return table


def _compared(results: Results, kind: str, method: str, other: str, metric: str) -> tuple[float, float, float]:
    """Mean difference on the same segments and its interval over clusters; raises as :func:`paired` does."""
    difference = paired(results, kind, method, other, metric)
    low, high = results.interval(difference.to_numpy(), difference.index.get_level_values("cluster").to_numpy())
    return float(difference.mean()), low, high


def sentence(results: Results, kind: str, method: str, other: str, metric: str) -> str:
    """In words, how two methods compare on the same segments, with the interval over clusters."""
    label, base = METHODS[method].label, METHODS[other].label
    try:
        mean, low, high = _compared(results, kind, method, other, metric)
    except NotMeasured as missing:
        return f"{label} on {kind}: {missing.what}."
    relation = "above" if low > 0 else "below" if high < 0 else "not distinguishable from"
    return f"{label} is {relation} {base} on {kind}: {mean:+.1f} dB ({low:+.1f} to {high:+.1f})."


def has_learnt(low: float, high: float, relative_to: str) -> bool:
    """Whether a network has learnt enough for its design to be judged by it.

    It has not if plain interpolation beats it on the test segments: the claims about it are not confirmed, whatever
    it does. One that starts from interpolated magnitudes has to beat them.

    Parameters
    ----------
    low, high : float
        Ends of the interval of its SNR_MS less plain interpolation's, in dB.
    relative_to : str
        From :func:`ctxe_lib.weights.relative_to`.
    """
    return low > 0 if relative_to == weights.INTERPOLATED else high >= 0


def network_notes(results: Results, kind: str) -> str:
    """What the networks among the scored methods have seen and whether they have learnt, in Markdown.

    Raises
    ------
    NotMeasured
        If there are no scores.
    """
    full = paper()["examples"]["steps"] * paper()["examples"]["batch"]
    scored, notes = set(results.table(kind)["method"]), []
    for name, method in METHODS.items():
        weight = method.weights_name(kind)
        if name not in scored or weight not in weights.available():
            continue
        card = weights.read_card(weight)
        seen = card.get("examples", 0)
        share = "" if method.shared else f", {100 * seen / full:.2g} % of the paper's"
        base = weights.relative_to(card)
        relative = f", output relative to {base}" if base else ""
        runs = len(weights.seeds_of(weight))
        seeds = "one seed" if runs == 1 else f"one of {runs} seeds"
        note = f"{method.label} ({link('weights', weight)}): {seen:,} examples{share}, {seeds}{relative}"
        try:
            mean, low, high = _compared(results, kind, name, "interpolation", "snr_ms")
        except NotMeasured:
            notes.append(f"{note}.")
            continue
        learnt = "has learnt" if has_learnt(low, high, base) else "has not learnt enough to judge its design by"
        notes.append(
            f"{note}; it {learnt}: {mean:+.1f} dB of SNR_MS ({low:+.1f} to {high:+.1f}) against plain interpolation."
        )
    return f"*Networks. {' '.join(notes)}*" if notes else ""


HEADINGS = {
    "kind": "Sound",
    "method": "Method",
    "split": "Split",
    "enlargement": "Enlarged",
    "unit": "Test over",
    "paper_mean": "Paper: mean",
    "paper_std": "Paper: std",
    "mean": "Here: mean",
    "std": "Here: std",
    "difference": "Mean difference",
    "interval": "95 % interval",
    "paper_millions": "Paper: millions",
    "paper_percentage": "Paper: %",
    "millions": "Here: millions",
    "percentage": "Here: %",
    "odg": "ODG",
    "impairment": "Impairment",
    "segments": "Segments",
    "source": "Source",
    "tracks": "Tracks",
    "instruments": "Instruments",
    "hours": "Hours",
}


def show(frame: pd.DataFrame, *, decimals: Mapping[str, int] | None = None, best: bool = False) -> Styler:
    """Render one of the frames above: readable headings, aligned decimals, intervals in words.

    Parameters
    ----------
    frame : pandas.DataFrame
        From a function of this module.
    decimals : mapping of str to int, optional
        Digits after the point by the frame's column; 1 if not given.
    best : bool
        Whether to set the highest mean of each kind in bold, in the paper's column and in ours.

    Returns
    -------
    pandas.io.formats.style.Styler
    """
    frame, digits = frame.reset_index(drop=True), dict(decimals or {})
    if "p" in frame:
        frame["p"] = [f"{p:.2g}" if p >= 0.001 else "< 0.001" if p >= 0 else "" for p in frame["p"]]
    if {"low", "high"} <= set(frame):
        places = digits.get("mean", digits.get("difference", 1))
        text = [f"{low:.{places}f} to {high:.{places}f}" for low, high in zip(frame["low"], frame["high"], strict=True)]
        text = [words if "nan" not in words else "" for words in text]
        status = frame.get("status", pd.Series("", frame.index))
        frame.insert(list(frame).index("low"), "interval", [a or b for a, b in zip(status, text, strict=True)])
    if "method" in frame:
        frame["method"] = [METHODS[name].label for name in frame["method"]]
    hidden = {"low", "high", "status", "clusters", "excluded"} | ({"segments"} if "low" in frame else set())
    frame = frame[[name for name in frame if name not in hidden]]
    kinds = frame.get("kind", pd.Series("", frame.index))
    if "kind" in frame and kinds.nunique() == 1:  # said once, above the table
        frame = frame.drop(columns="kind")
    headings = {str(name): HEADINGS.get(str(name), str(name)) for name in frame}
    bold = pd.DataFrame("", frame.index, list(headings.values()))
    for name in ("paper_mean", "mean") if best else ():
        groups = frame[name].groupby(kinds)
        bold.loc[frame[name] == groups.transform("max"), headings[name]] = "font-weight: bold"
    shown = plots.table(
        frame.rename(columns=headings), decimals={headings[name]: n for name, n in digits.items() if name in headings}
    )
    words = pd.Index([headings[name] for name in ("interval", "p") if name in headings])
    aligned = {"text-align": "right", "font-variant-numeric": "tabular-nums", "white-space": "nowrap"}
    shown = shown.set_properties(subset=words, **aligned)
    if kinds.nunique() == 1 and kinds.iloc[0]:
        shown = shown.set_caption(f"<b>{str(kinds.iloc[0]).capitalize()}</b>")
    return shown.apply(lambda _: bold, axis=None)


def caption(results: Results, kind: str, what: str = "", *, intervals: bool = True) -> str:
    """Where the numbers of a table or figure come from, in Markdown: record, data, commit, seed, n, machine, time.

    Parameters
    ----------
    results : Results
    kind : str
    what : str
        As in :meth:`Results.table`.
    intervals : bool
        Whether there are intervals to be explained.

    Returns
    -------
    str

    Raises
    ------
    NotMeasured
        If the table of results is not there.
    """
    table, record = results.table(kind, what), results.record(kind, what)
    rendered = " The sounds are rendered, not recorded." if record["rendered"] else ""
    per_method = table.drop_duplicates("segment")
    bootstrap = f" Intervals: bootstrap over {UNITS[kind]}." if intervals else ""
    networks = "".join(f", network {name} `{digest[:12]}`" for name, digest in record["weights"].items())
    return (
        f"*From {link('results', results.path(kind, what).name)}: {len(per_method):,} segments of "
        f"{per_method['cluster'].nunique()} {UNITS[kind]} of {record['corpus']} "
        f"(data `{record['data'][:12]}`{networks}), segments chosen by one seed ({record['seed']}), commit "
        f"`{(record['commit'] or 'unknown')[:12]}`, computed in {total_seconds(record):.0f} s on "
        f"{record['cores']} cores.{bootstrap}{rendered}*"
    )
