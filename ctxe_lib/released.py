"""Released scores: what every method reached on each test segment, in ``scores/``, for comparison.

Tables in ``results/`` are computed anew on each machine; those in ``scores/`` are part of the project. One is a copy of
the other, in single precision, with its record. They rank other methods (:mod:`ctxe_lib.leaderboard`), and they tell
whether a machine computes what was released (:func:`compare`). README's table and picture are made of them.
"""

from __future__ import annotations

import hashlib
import io
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctxe_lib import weights
from ctxe_lib.files import write_atomically
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import ROOT, results_folder, scores_folder
from ctxe_lib.records import read_record, read_table
from ctxe_lib.statistics import summarise
from ctxe_lib.tables import COMMANDS, UNITS, paper, paper_value

__all__ = ["CORPORA", "METRICS", "compare", "is_released", "picture", "readme", "release", "scored"]

CORPORA = {"music": "music-quick", "instruments": "instruments-quick"}
"""What is released, by kind of sound."""
METRICS = {"snr_ms": "SNR_MS", "snr_td": "SNR_TD", "odg": "ODG"}
"""Scores by column, and how tables name them."""
TOLERANCE, NETWORK_TOLERANCE = 0.05, 0.1
"""By how many dB (or grades) a mean may differ from the released one: arithmetic differs from machine to machine."""
BEGIN, END = "<!-- scores: begin (ctxe release) -->\n", "<!-- scores: end -->\n"
PICTURE = "snr_ms.svg"


def release(corpus: str) -> Path:
    """Copy a table of scores from ``results/`` to ``scores/``, in single precision, with its record.

    The cards of the networks in it note what they reached.

    Parameters
    ----------
    corpus : str

    Returns
    -------
    Path
        The table.

    Raises
    ------
    FileNotFoundError
        If it has not been scored.
    ValueError
        If table and record do not belong together, or networks have changed since.
    """
    command = COMMANDS[""].format(corpus)
    table, record = read_table(results_folder() / f"{corpus}.parquet", command)
    for name, digest in record["weights"].items():
        if name not in weights.available() or weights.read_card(name)["sha256"] != digest:
            raise ValueError(f"{corpus} was scored with other weights of {name} than there are: run `{command}` again")
    buffer = io.BytesIO()
    table.astype(dict.fromkeys(METRICS, np.float32)).to_parquet(buffer, index=False, compression="zstd")
    record |= {"sha256": hashlib.sha256(buffer.getvalue()).hexdigest(), "copied_from": record["sha256"]}
    path = _path(corpus)
    write_atomically(path, buffer.getvalue())
    write_atomically(path.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    summaries = {metric: summarise(table, metric).set_index("method") for metric in METRICS}
    for method in summaries["snr_ms"].index:
        if not (name := METHODS[method].weights_name(table["trained_on"].iloc[0])):
            continue
        own = {metric: summary.loc[method] for metric, summary in summaries.items()}
        scores: dict[str, Any] = {
            metric: {key: round(float(row[key]), 3) for key in ("mean", "low", "high")} for metric, row in own.items()
        }
        scores |= {"segments": int(own["snr_ms"]["segments"]), "clusters": int(own["snr_ms"]["clusters"])}
        weights.note_test(name, corpus, scores)
    return path


def _path(corpus: str) -> Path:
    return scores_folder() / f"{corpus}.parquet"


def _released(corpus: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    if not _path(corpus).exists():
        raise FileNotFoundError(f"no scores of {corpus} have been released: `ctxe release {corpus}` does it")
    return read_table(_path(corpus), f"ctxe release {corpus}")


def scored(corpus: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of a corpus and their record: those in ``results/``, else the released ones.

    Raises
    ------
    FileNotFoundError
        If there are neither.
    """
    command, own = COMMANDS[""].format(corpus), results_folder() / f"{corpus}.parquet"
    return read_table(own, command) if own.exists() or not _path(corpus).exists() else _released(corpus)


def is_released(record: dict[str, Any]) -> bool:
    """Whether scores with this record are the very table that was released, so that comparing them tells nothing."""
    path = _path(record["corpus"])
    return path.exists() and read_record(path, "ctxe release")["copied_from"] == record["sha256"]


def compare(table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    """Freshly computed scores against the released ones of the same corpus, method by method.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ctxe_lib.evaluation.evaluate`, and
    record : dict
        its record.

    Returns
    -------
    pandas.DataFrame
        method; segments that both have; the difference of the mean, fresh less released, of each of :data:`METRICS`;
        tolerance; verdict: ``agrees``, ``differs``, ``other weights`` where the network has been trained anew,
        ``not released``.

    Raises
    ------
    FileNotFoundError
        If no scores of this corpus have been released.
    ValueError
        If they are of other data or other segments.
    """
    released, its = _released(record["corpus"])
    for what in ("data", "per_track", "seed", "geometry", "split"):
        if record[what] != its[what]:
            raise ValueError(f"{record['corpus']} has {what}={record[what]}, the released scores {its[what]}")
    rows = []
    for method in (name for name in METHODS if name in set(table["method"])):
        network = METHODS[method].network
        weight = METHODS[method].weights_name(table["trained_on"].iloc[0])
        row: dict[str, Any] = {"method": method, "segments": 0} | dict.fromkeys(METRICS, np.nan)
        row["tolerance"] = NETWORK_TOLERANCE if network else TOLERANCE
        both = [part[part["method"] == method].set_index("segment")[list(METRICS)] for part in (table, released)]
        if both[1].empty:
            row["verdict"] = "not released"
        else:
            difference = (both[0] - both[1]).replace([np.inf, -np.inf], np.nan)
            row |= {metric: float(difference[metric].mean()) for metric in METRICS}
            row["segments"] = len(both[0].index.intersection(both[1].index))
            # A comparison with NaN is false: what can't be compared does not agree.
            near = all(abs(row[metric]) <= row["tolerance"] for metric in METRICS)
            row["verdict"] = "agrees" if near and row["segments"] == len(both[0]) == len(both[1]) else "differs"
            if network and record["weights"][weight] != its["weights"].get(weight):
                row["verdict"] = "other weights"
        rows.append(row)
    return pd.DataFrame(rows)


# -- in the README ------------------------------------------------------------------------------------------------


def _summary(kind: str, metric: str) -> pd.DataFrame:
    table = summarise(_released(CORPORA[kind])[0], metric).set_index("method")
    return table.loc[[name for name in METHODS if name in table.index]]


def readme() -> str:
    """README's table of results: Markdown that follows from the released scores.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    lines = []
    for kind, corpus in CORPORA.items():
        record = _released(corpus)[1]
        parts = {metric: _summary(kind, metric) for metric in METRICS}
        count = parts["snr_ms"]["segments"].max(), parts["snr_ms"]["clusters"].max()
        rendered = ", rendered" if record["rendered"] else ""
        lines += [
            f"**{kind.capitalize()}**: {count[0]:,} gaps of 64 ms in {count[1]} {UNITS[kind]} of {corpus}{rendered}",
            "",
            "| method | SNR_MS (dB) | 95 % interval | paper | SNR_TD (dB) | ODG |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        best = {metric: part["mean"].max() for metric, part in parts.items()}
        for method in parts["snr_ms"].index:
            own = {metric: part.loc[method] for metric, part in parts.items()}
            cells = {metric: f"{row['mean']:.{2 if metric == 'odg' else 1}f}" for metric, row in own.items()}
            cells = {metric: f"**{x}**" if own[metric]["mean"] == best[metric] else x for metric, x in cells.items()}
            interval = f"{own['snr_ms']['low']:.1f} to {own['snr_ms']['high']:.1f}"
            theirs = paper_value("4", kind=kind, method=method, metric="snr_ms")
            reported = f"{theirs:.1f}" if theirs == theirs else ""
            row = (METHODS[method].label, cells["snr_ms"], interval, reported, cells["snr_td"], cells["odg"])
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    lines.append(_training())
    return "\n".join(lines) + "\n"


def _training() -> str:
    """What the networks of the table have seen, beside the paper's."""
    records = [_released(corpus)[1] for corpus in CORPORA.values()]
    cards = {name: weights.read_card(name) for record in records for name in record["weights"]}
    seen = {name: card["examples"] for name, card in cards.items()}
    full = paper()["examples"]["steps"] * paper()["examples"]["batch"]
    networks = [f"{name} saw {count:,}" for name, count in sorted(seen.items()) if "-" in name]
    words = [
        f"Intervals are over {' and '.join(UNITS.values())}, not over gaps; *paper* is its Table 4, on other data."
    ]
    if networks:
        words.append(f"The paper's networks saw {full / 1e6:.0f} million examples; here {', '.join(networks)}.")
    relative = [f"{name} to {base}" for name, card in sorted(cards.items()) if (base := weights.relative_to(card))]
    if relative:
        words.append(f"Unlike the paper's, outputs are relative to what is not learnt: {'; '.join(relative)}.")
    if "hybrid" in seen:
        words.append(f"The hybrid is this project's own, one for both kinds of sound: {seen['hybrid']:,} examples.")
    return "\n".join(words)


def picture() -> str:
    """Bars of SNR_MS with their intervals, for music and instruments, as SVG that is read on light and dark.

    Raises
    ------
    FileNotFoundError
        If no scores have been released.
    """
    parts = {kind: _summary(kind, "snr_ms") for kind in CORPORA}
    methods = [name for name in METHODS if any(name in part.index for part in parts.values())]
    left, width, step, top = 150, 250, 24, 40
    height = top + step * len(methods) + 8
    drawn = []
    for place, (kind, part) in enumerate(parts.items()):
        x = left + place * (width + 70)
        scale = width / max(part["high"].max(), part["mean"].max())
        drawn.append(f'<text x="{x}" y="24" font-weight="bold">{kind.capitalize()}: SNR_MS (dB)</text>')
        for line, method in enumerate(methods):
            y = top + step * line
            if not place:
                label = escape(METHODS[method].label)
                drawn.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>')
            if method not in part.index:
                continue
            mean, low, high = (max(float(part[name][method]), 0) * scale for name in ("mean", "low", "high"))
            drawn += [
                f'<rect x="{x}" y="{y}" width="{mean:.1f}" height="17" fill="{METHODS[method].colour}"/>',
                f'<path d="M{x + low:.1f} {y + 8.5}H{x + mean:.1f}" stroke="#222" stroke-width="2"/>',
                f'<path d="M{x + mean:.1f} {y + 8.5}H{x + high:.1f}" stroke="#767676" stroke-width="2"/>',
                f'<text x="{x + max(mean, high) + 5:.1f}" y="{y + 13}">{part["mean"][method]:.1f}</text>',
            ]
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 2 * width + 120} {height}" role="img" '
        'aria-label="SNR_MS of each method with its interval" font-family="sans-serif" font-size="13" fill="#767676">\n'
        f"{body}\n</svg>\n"
    )


def with_table(text: str) -> str:
    """A README with the table between its two markers made anew.

    Raises
    ------
    ValueError
        If it does not have each marker once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have {BEGIN.strip()} and {END.strip()} once, on lines of their own")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{readme()}\n{END}{rest.split(END)[1]}"


def write_readme() -> list[Path]:
    """Make README's table and the picture anew; returns what was written."""
    page, drawing = ROOT / "README.md", scores_folder() / PICTURE
    content = with_table(page.read_text("utf-8"))
    write_atomically(drawing, picture().encode())
    write_atomically(page, content.encode())
    return [page, drawing]
