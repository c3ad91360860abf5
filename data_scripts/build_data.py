"""Build data sets: fetch, decode, trim, index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ctxe_lib.corpus import Corpus
from ctxe_lib.download import DownloadError
from ctxe_lib.geometry import Geometry
from ctxe_lib.paths import data_folder
from ctxe_lib.sources import SOURCES, Source, build, folder_source, is_current

SHOWN = 20
"""Skipped files that are printed; corpus.json has all of them."""

console = Console()
errors = Console(stderr=True)

Sets = Annotated[list[str] | None, typer.Argument(metavar="[SET...]", help=f"Any of {', '.join(SOURCES)}.")]
FromFolder = Annotated[str | None, typer.Option("--source", metavar="folder", help="Build from audio files of yours.")]
FolderPath = Annotated[Path | None, typer.Option("--path", help="The folder that holds them.")]
Name = Annotated[
    str | None, typer.Option(help="Name of the set made from a folder (else folder- and the folder's own).")
]
Mirror = Annotated[
    str | None,
    typer.Option(
        help="Base address of a Debian mirror; otherwise CTXE_DEBIAN_MIRROR, or what apt knows.", metavar="URL"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Build even what is up to date.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data-folder", help="Where data sets lie; otherwise data, or CTXE_DATA.")
]


def main(
    sets: Sets = None,
    source: FromFolder = None,
    path: FolderPath = None,
    name: Name = None,
    mirror: Mirror = None,
    force: Force = False,
    folder: DataFolder = None,
) -> None:
    """Build data sets that notebooks, training and evaluation read.

    Files that cannot be used are left out and listed at the end. A set that is up to date is left as it is, and an
    interrupted build leaves nothing behind.

    \b
    build_data.py music-quick instruments-quick
    build_data.py --source folder --path ~/Music --name mine
    """
    sources = _chosen(sets or [], source, path, name)
    failed = False
    for title, chosen in sources.items():
        target = (folder or data_folder()) / title
        try:
            if not force and is_current(chosen, target, Geometry()):
                console.print(f"{title} is up to date in {target}.", highlight=False, soft_wrap=True)
            else:
                _report(build(title, chosen, target, Geometry(), mirror=mirror))
        except (DownloadError, ValueError, OSError) as error:
            errors.print(f"[red]{title} is not built:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            failed = True
    raise typer.Exit(failed)


def _chosen(sets: list[str], source: str | None, path: Path | None, name: str | None) -> dict[str, Source]:
    """The sources that a command line means, by the name of the corpus."""
    if source is None:
        if not sets or path or name:
            raise typer.BadParameter("name a SET, or give --source folder with --path (and --name)")
        unknown = [title for title in sets if title not in SOURCES]
        if unknown:
            raise typer.BadParameter(f"{', '.join(unknown)} must be among {', '.join(SOURCES)}")
        return {title: SOURCES[title] for title in sets}
    if source != "folder" or path is None or sets:
        raise typer.BadParameter("it is --source folder --path DIR [--name NAME], without a SET", param_hint="--source")
    path = path.expanduser().resolve()
    title = name or "folder-" + (re.sub(r"[^\w.-]+", "-", path.name).strip("-.") or "root")
    if title in SOURCES or not re.fullmatch(r"\w[\w.-]*", title):
        raise typer.BadParameter(f"{title!r} must be letters, digits, - _ . and no set's own name", param_hint="--name")
    return {title: folder_source(path)}


def _report(corpus: Corpus) -> None:
    """Print what a corpus holds, and what was left out."""
    rendered = ", rendered" if corpus.description["rendered"] else ""
    table = Table("split", "tracks", "hours", "segments", "%", title=f"{corpus.name}{rendered}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in corpus.statistics().itertuples():
        table.add_row(
            str(row.split), f"{row.tracks:,}", f"{row.hours:.2f}", f"{row.segments:,}", f"{row.percentage:.1f}"
        )
    console.print(table)
    skipped = corpus.description["skipped"]
    if skipped:
        table = Table("left out", "reason", title=f"{len(skipped)} files left out", title_justify="left")
        for item in skipped[:SHOWN]:
            table.add_row(escape(item["id"]), escape(item["reason"]))
        console.print(table)
    if len(skipped) > SHOWN:
        console.print(f"and {len(skipped) - SHOWN} more, listed in {corpus.folder / 'corpus.json'}")
    console.print(f"It lies in {corpus.folder}.", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
