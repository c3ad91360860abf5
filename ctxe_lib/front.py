"""What the book's front page says of the results: a Sphinx extension, so that no number on it is typed in.

It gives the pages the substitutions ``{{ scores }}``, ``{{ found }}``, ``{{ claims }}`` and ``{{ data }}``, computed
from the claim ledger and the tables of results when the book is built. What has not been measured is said in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ctxe_lib import claims, tables, weights
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import results_folder
from ctxe_lib.provenance import link

__all__ = ["setup", "substitutions"]

METRIC = "snr_ms"
_SOUNDS = {"music": "Music", "instruments": "Notes"}


def _cell(value: float, best: float) -> str:
    if np.isnan(value):
        return "–"
    return f"**{value:.1f}**" if value == best else f"{value:.1f}"


def _scores(results: tables.Results) -> str:
    """Mean scores of every method, the paper's beside ours, as a Markdown table."""
    columns: dict[str, dict[str, float]] = {}
    for kind in tables.KINDS:
        table = tables.score_table(results, kind, METRIC)
        for heading, column in {"paper": "paper_mean", "here": "mean"}.items():
            columns[f"{_SOUNDS[kind]}: {heading}"] = dict(zip(table["method"], table[column], strict=True))
    lines = [" | ".join(["SNR_MS in dB", *columns]), " | ".join([":--", *["--:"] * len(columns)])]
    best = [np.nanmax([*column.values(), -np.inf]) for column in columns.values()]
    for name, method in METHODS.items():
        values = [column.get(name, np.nan) for column in columns.values()]
        if not np.isnan(values).all():
            cells = [_cell(value, top) for value, top in zip(values, best, strict=True)]
            lines.append(" | ".join([method.label, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _found(results: tables.Results) -> str:
    """How the paper's better network and the hybrid compare with linear prediction, as a Markdown list."""
    lines = []
    for name in ("magnitude", "hybrid"):
        for kind in tables.KINDS:
            try:
                tables.paired(results, kind, name, "lpc", METRIC)
            except tables.NotMeasured:
                continue
            lines.append(f"- {tables.sentence(results, kind, name, 'lpc', METRIC)}")
    cards = [weights.read_card(stem) for kind in tables.KINDS if (stem := f"{kind}-magnitude") in weights.available()]
    if cards:
        seen = max(card["examples"] for card in cards)
        trained = tables.paper()["examples"]
        times = round(trained["steps"] * trained["batch"] / seen)
        lines.append(
            f"- The paper's networks saw {seen:,} examples here at most, one for each {times:,} that the authors' saw: "
            "what they score says little about their design."
        )
    return "\n".join(lines)


def _data(results: tables.Results) -> str:
    """What the numbers were computed from, with links to their records."""
    parts = []
    for kind in tables.KINDS:
        table, record = results.table(kind), results.record(kind)
        rendered = ", rendered" if record["rendered"] else ""
        parts.append(
            f"{table['segment'].nunique()} gaps in {table['cluster'].nunique()} {tables.UNITS[kind]} of "
            f"{link('results', record['corpus'], book='.')}{rendered}"
        )
    return " and ".join(parts)


def substitutions(folder: Path | None = None) -> dict[str, str]:
    """What the front page says, in Markdown, by the names of its substitutions.

    Parameters
    ----------
    folder : Path, optional
        With the results; ``results/`` by default.

    Returns
    -------
    dict of str to str
    """
    folder = folder or results_folder()
    try:
        record = claims.read(folder)
        results = tables.Results(record["corpora"], folder=folder)
        return {
            "scores": _scores(results),
            "found": _found(results),
            "data": _data(results),
            "claims": ", ".join(f"**{count}** {verdict}" for verdict, count in record["summary"].items() if count),
        }
    except (FileNotFoundError, ValueError, tables.NotMeasured) as missing:  # a ledger by other rules is a ValueError
        return dict.fromkeys(("scores", "found", "data", "claims"), f"*not measured yet: {missing}*")


def setup(app: Any) -> dict[str, bool]:
    """Give Sphinx the substitutions."""
    app.connect("config-inited", lambda _, config: config.myst_substitutions.update(substitutions()))
    return {"parallel_read_safe": True}
