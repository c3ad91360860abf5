"""Results on disk: a parquet table and, beside it, a JSON record of how it came about.

Every number that the book prints is computed from such a table. The record holds configuration, seed, hashes of
data and weights, commit, versions, hardware, time, and the hash of the table itself.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from ctxe_lib.files import write_atomically
from ctxe_lib.paths import ROOT

__all__ = ["environment", "read_record", "read_table", "write_table"]

PACKAGES = ("numpy", "scipy", "numba", "tensorflow", "keras", "pandas", "soxr", "soundfile")


def _commit() -> str | None:
    """Commit of the checkout, with ``+changes`` where the work tree differs; None outside a checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changes else commit


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@lru_cache
def environment() -> dict[str, Any]:
    """Commit, versions and hardware that a result was made with.

    Returns
    -------
    dict
        commit, python, versions (of the packages that decide numbers), processor, cores, memory_gib, system.
    """
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_table(path: Path, table: pd.DataFrame, record: dict[str, Any]) -> None:
    """Write a table and its record.

    Parameters
    ----------
    path : Path
        Of the table, ending in ``.parquet``; the record gets the ending ``.json``.
    table : pandas.DataFrame
    record : dict
        Configuration, seed, hashes and whatever else the numbers depend on; the environment, the time, the number of
        rows and the table's SHA-256 are added.
    """
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    content = buffer.getvalue()
    full = {
        **record,
        "rows": len(table),
        "sha256": hashlib.sha256(content).hexdigest(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
    }
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), (json.dumps(full, indent=2) + "\n").encode())


def read_record(path: Path, command: str) -> dict[str, Any]:
    """Read the record beside a table.

    Parameters
    ----------
    path : Path
        Of the table.
    command : str
        What makes it, for the error message.

    Raises
    ------
    FileNotFoundError
        If the results do not exist yet; the message names the command.
    """
    record_path = path.with_suffix(".json")
    if not (path.exists() and record_path.exists()):
        raise FileNotFoundError(f"no results in {path}: run `{command}` first")
    record: dict[str, Any] = json.loads(record_path.read_text())
    return record


def read_table(path: Path, command: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table and its record.

    Parameters
    ----------
    path : Path
    command : str
        What makes the table, for the error message.

    Returns
    -------
    table : pandas.DataFrame
    record : dict

    Raises
    ------
    FileNotFoundError
        If the results do not exist yet.
    ValueError
        If table and record do not belong together.
    """
    record = read_record(path, command)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise ValueError(f"{path} is not the table that its record describes: run `{command}` again")
    return pd.read_parquet(io.BytesIO(content)), record
