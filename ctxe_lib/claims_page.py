"""The claim ledger as a page: a table that is filtered by verdict, each value with a link to its record."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ctxe_lib.claims import VERDICTS, obtained, summary
from ctxe_lib.paths import ROOT
from ctxe_lib.provenance import linked

__all__ = ["html"]

_MARKS = dict(zip(VERDICTS, ("✔", "↗", "✘", "–", "…"), strict=True))
_COLOURS = dict(zip(VERDICTS, ("#009E73", "#56B4E9", "#D55E00", "#999999", "#CC79A7"), strict=True))


def html(rows: list[dict[str, Any]]) -> str:
    """The ledger as HTML: counts by verdict that filter the table, without any script.

    Parameters
    ----------
    rows : list of dict
        From :func:`ledger`.

    Returns
    -------
    str
    """
    short = {verdict: verdict.replace(" ", "-") for verdict in VERDICTS}
    style, inputs = [], []
    for name, label in [("all", f"all {len(rows)}")] + [
        (short[v], f"{_MARKS[v]} {n} {v}") for v, n in summary(rows).items() if n
    ]:
        checked = " checked" if name == "all" else ""
        inputs.append(
            f'<input type="radio" name="claim" id="claim-{name}"{checked}><label for="claim-{name}">{label}</label>'
        )
        if name != "all":
            style.append(f"#claim-{name}:checked ~ div tbody tr:not(.{name}) {{ display: none }}")
    style += [
        f".claims .{short[v]} .verdict {{ border-left: 4px solid {_COLOURS[v]}; padding-left: 8px }}" for v in VERDICTS
    ]
    body = "".join(_row(row, short[row["verdict"]]) for row in rows)
    heads = "".join(f"<th>{head}</th>" for head in ("Claim", "Expected", "Here", "Verdict"))
    return (
        f"<style>{_STYLE}{' '.join(style)}</style>"
        f'<div class="claims">{"".join(inputs)}<div class="scroll"><table class="dataframe"><thead><tr>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></div>"
    )


def _row(row: Mapping[str, Any], name: str) -> str:
    notebook = row["notebook"]
    there = (ROOT / "notebooks" / f"{notebook}.ipynb").exists()
    link = f'<a href="{notebook}.html">{notebook}</a>' if there else notebook
    released = f"<br><small>Released code: {escape(row['released_code'])}.</small>" if row["released_code"] else ""
    source = f" from {linked(row['source'])}" if row["source"] else ""
    why = f"<br><small>{escape(row['why'])}</small>" if row["why"] else ""
    command = f"<code>{escape(row['command'])}</code>{source}; " if row["command"] else ""
    return (
        f'<tr id="{row["id"]}" class="{name}">'
        f"<td>{escape(row['claim'])} <small>({escape(row['section'])})</small>{released}</td>"
        f"<td>{escape(row['expected'])}{why}</td>"
        f'<td>{escape(obtained(row))}</td><td class="verdict"><b>{_MARKS[row["verdict"]]} {row["verdict"]}</b>'
        f"<br><small>{escape(row['reason'])}.<br>{command}see {link}</small></td></tr>"
    )


_STYLE = (
    ".claims input { position: absolute; opacity: 0 } "
    ".claims label { display: inline-block; border: 1px solid currentColor; border-radius: 1em; padding: 0 .8em; "
    "margin: 0 .4em .6em 0; cursor: pointer } "
    ".claims input:checked + label { font-weight: bold; box-shadow: inset 0 0 0 1px currentColor } "
    ".claims input:focus-visible + label { outline: 2px solid #0072B2 } "
    ".claims .scroll { overflow-x: auto } "
    ".claims td, .claims th { text-align: left; vertical-align: top; white-space: normal } "
    ".claims td:nth-child(1) { min-width: 11em } .claims td:nth-child(3) { min-width: 8em } "
    ".claims td.verdict { min-width: 14em; padding-left: 8px } .claims code { overflow-wrap: anywhere } "
)
