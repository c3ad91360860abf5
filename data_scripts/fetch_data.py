"""Fetch what named data sets are built from, and build nothing."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from ctxe_lib.download import DownloadError, cache_folder, fetch
from ctxe_lib.sources import SOURCES

Sets = Annotated[list[str], typer.Argument(metavar="SET...", help=f"Any of {', '.join(SOURCES)}.")]
Mirror = Annotated[
    str | None,
    typer.Option(
        help="Base address of a Debian mirror; otherwise CTXE_DEBIAN_MIRROR, or what apt knows.", metavar="URL"
    ),
]


def main(sets: Sets, mirror: Mirror = None) -> None:
    """Fetch the files of data sets into the cache, and verify them.

    An interrupted download goes on where it stopped. Files that are there already are verified and not asked for.
    CTXE_CACHE names another cache than .cache/downloads.
    """
    console = Console(stderr=True)
    unknown = [name for name in sets if name not in SOURCES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} must be among {', '.join(SOURCES)}")
    downloads = {item.name: item for name in sets for item in SOURCES[name].downloads()}
    try:
        total = sum(fetch(item, mirror=mirror).stat().st_size for item in downloads.values())
    except DownloadError as error:
        console.print(f"[red]{error}", highlight=False)
        raise typer.Exit(1) from None
    console.print(f"{len(downloads)} files, {total / 1e6:.1f} MB, are in {cache_folder()}.")


if __name__ == "__main__":
    typer.run(main)
