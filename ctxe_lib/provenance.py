"""Where every number comes from: the book's page of records, and links to it.

Results, released scores, networks and corpora each have a JSON record beside them, an executed notebook has its
parameters and its closing line. The directive ``{records} group`` of this Sphinx extension puts all records of one
group on a page when the book is built; :func:`link` leads there from captions and sentences.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ctxe_lib.paths import data_folder, results_folder, scores_folder, weights_folder

__all__ = ["GROUPS", "link", "linked", "page", "setup", "total_seconds"]

GROUPS = ("results", "scores", "weights", "data", "notebooks")
"""Kinds of records, by the folder that holds what they tell of."""

LONG = 24
"""A list or mapping with more entries than this is counted, not shown."""


def link(group: str, name: str, *, book: str = "..") -> str:
    """HTML that leads to a record: Sphinx takes what Markdown links to for a page that it must know.

    Parameters
    ----------
    group : str
        One of :data:`GROUPS`.
    name : str
        Name of the table, network, corpus or notebook, with or without the ending.
    book : str
        Way from the page to the book's root.

    Raises
    ------
    ValueError
        If there is no such group.
    """
    return f'<a href="{book}/records.html#{_anchor(group, name)}"><code>{escape(group)}/{escape(name)}</code></a>'


def linked(source: str) -> str:
    """A source in words, as :class:`ctxe_lib.measures.Measured` names it, as HTML with links to the records.

    Tables of results are named by their file, networks by ``weights/name.json``, corpora by name and hash.
    """
    return ", ".join(_linked(part) for part in source.split(", "))


def _linked(part: str) -> str:
    if match := re.fullmatch(r"(?:weights/)?([\w.-]+)\.(?:parquet|json)", part):
        group = "weights" if part.startswith("weights/") else "results"
        where = "" if part == "paper.json" else _anchor(group, match[1])
    else:
        match = re.fullmatch(r"([\w.-]+) [0-9a-f]{12}", part)
        where = _anchor("data", match[1]) if match else ""
    return f'<a href="../records.html#{where}">{escape(part)}</a>' if where else escape(part)


def _anchor(group: str, name: str) -> str:
    if group not in GROUPS:
        raise ValueError(f"group={group!r} must be one of {', '.join(GROUPS)}")
    return re.sub(r"[^\w-]+", "-", f"{group}-{re.sub(r'[.](parquet|json|ipynb|safetensors)$', '', name)}")


def total_seconds(record: Mapping[str, Any]) -> float | None:
    """Time that a result took, in seconds; None where its record does not say."""
    if "seconds" in record:
        return float(sum(record["seconds"].values()))
    pieces = record.get("pieces")
    return float(sum(piece["seconds"] for piece in pieces.values())) if pieces else None


# -- the page -----------------------------------------------------------------------------------------------------


def page(group: str, notebooks: Path | None = None) -> str:
    """All records of a group as HTML, each with an anchor that :func:`link` leads to.

    Parameters
    ----------
    group : str
        One of :data:`GROUPS`.
    notebooks : Path, optional
        Folder of the executed notebooks.

    Returns
    -------
    str
    """
    known = _known()
    found = _notebooks(notebooks) if group == "notebooks" else _records(group)
    parts = [_record(group, name, facts, known) for name, facts in found]
    return "\n".join(parts) or "<p><em>There are none yet.</em></p>"


def _files(group: str) -> list[Path]:
    folders = {"results": results_folder, "scores": scores_folder, "weights": weights_folder, "data": data_folder}
    return sorted(folders[group]().glob("*/corpus.json" if group == "data" else "*.json"))


def _records(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and facts of every record of a group that lies on disk."""
    for file in _files(group):
        facts = json.loads(file.read_text(encoding="utf-8"))
        table = file.with_suffix(".parquet")
        if table.exists():
            same = hashlib.sha256(table.read_bytes()).hexdigest() == facts["sha256"]
            facts["table"] = "is the one that this record describes" if same else "differs from this record"
        if (seconds := total_seconds(facts)) is not None:
            facts["seconds in all"] = round(seconds, 1)
        yield (file.parent.name if group == "data" else table.name if table.exists() else file.name), facts


def _notebooks(folder: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parameters, time and closing line of every executed notebook."""
    for file in sorted(folder.glob("[0-9][0-9]_*.ipynb")) if folder else ():
        notebook = json.loads(file.read_text(encoding="utf-8"))
        run = notebook["metadata"].get("papermill", {})
        tagged = [
            "".join(cell["source"])
            for name in ("parameters", "injected-parameters")
            for cell in notebook["cells"]
            if name in cell["metadata"].get("tags", ())
        ]
        last = "".join(notebook["cells"][-1]["source"])
        made = last.removeprefix("---\n").strip("*").replace("`", "") if last.startswith("---\n") else ""
        made = re.sub("<[^>]*>", "", made)  # links lead to where they already are
        yield file.name, {"parameters": "\n".join(tagged), "started": run.get("start_time", ""), "run": made}


def _known() -> dict[str, str]:
    """Anchor of each network and corpus by its hash."""
    anchors = {}
    for group, key in (("weights", "sha256"), ("data", "fingerprint")):
        for name, facts in _records(group):
            if isinstance(facts.get(key), str):
                anchors[facts[key]] = _anchor(group, name)
    return anchors


def _record(group: str, name: str, facts: Mapping[str, Any], known: Mapping[str, str]) -> str:
    anchor = _anchor(group, name)
    own = {digest: where for digest, where in known.items() if where != anchor}
    rows = "".join(
        f"<tr><th>{escape(key.replace('_', ' '))}</th><td>{_shown(key, value, own)}</td></tr>"
        for key, value in facts.items()
        if value not in ("", None, [], {})
    )
    return (
        f'<div class="record" id="{anchor}"><h3><code>{escape(f"{group}/{name}")}</code></h3>'
        f'<table class="dataframe">{rows}</table></div>'
    )


def _shown(key: str, value: Any, known: Mapping[str, str]) -> str:
    """One fact of a record as HTML."""
    if key == "seed":
        return f"{value} (one seed)"
    if isinstance(value, str) and "\n" in value:
        return f"<pre>{escape(value)}</pre>"
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}(\+changes)?", value):
        code = f"<code>{value}</code>"
        return f'<a href="#{known[value]}">{code}</a>' if value in known else code
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if len(value) > LONG or any(isinstance(part, Mapping) and "seconds" in part for part in value.values()):
            return f"{len(value)} entries, in the file"
        return ", ".join(f"{escape(str(k).replace('_', ' '))} {_nested(k, v, known)}" for k, v in value.items())
    if isinstance(value, list):
        if len(value) > LONG or any(isinstance(part, Mapping) for part in value):
            return f"{len(value)} entries, in the file"
        return ", ".join(_shown("", part, known) for part in value)
    return escape(str(value))


def _nested(key: str, value: Any, known: Mapping[str, str]) -> str:
    shown = _shown(key, value, known)
    return f"({shown})" if isinstance(value, (Mapping, list)) else shown


_STYLE = (
    "<style>.record table { table-layout: fixed; width: 100% } .record th { width: 7.5em } "
    ".record td, .record th { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere } "
    ".record code { white-space: normal; word-break: break-all } .record pre { white-space: pre-wrap } "
    ".record:target h3 { outline: 2px solid #0072B2 }</style>"
)


# -- as an extension of Sphinx ------------------------------------------------------------------------------------


def setup(app: Any) -> dict[str, bool]:
    """Give Sphinx the directive ``{records} group``: every record of the group."""
    # The library itself does without what builds the book.
    from docutils import nodes  # type: ignore[import-untyped]
    from docutils.parsers.rst import Directive  # type: ignore[import-untyped]

    class Records(Directive):
        required_arguments = 1

        def run(self) -> list[Any]:
            group, source = self.arguments[0], Path(self.state.document.settings.env.srcdir)
            if group not in GROUPS:
                raise self.error(f"records: {group!r} must be one of {', '.join(GROUPS)}")
            return [nodes.raw("", _STYLE + page(group, source / "notebooks"), format="html")]

    app.add_directive("records", Records)
    return {"parallel_read_safe": True}
