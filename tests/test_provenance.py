"""Links lead to records, and the page of records has each of them as it lies on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from ctxe_lib import provenance
from ctxe_lib.provenance import link, linked, page
from ctxe_lib.records import write_table

DATA, NETWORK = "d" * 64, "e" * 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of results with its record, a network's card, a corpus and an executed notebook."""
    for name in ("results", "scores", "weights", "data"):
        monkeypatch.setenv(f"CTXE_{name.upper()}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    record = {"corpus": "m", "data": DATA, "weights": {"m-magnitude": NETWORK}, "seed": 7}
    record |= {"seconds": {"lpc": 1.5, "odg": 2.0}, "note": "a < b"}
    write_table(tmp_path / "results/m-gaps.parquet", pd.DataFrame({"segment": [1, 2]}), record)
    card = {"sha256": NETWORK, "recipe": {"seed": 3, "clip": None}, "data": {"fingerprint": DATA}}
    (tmp_path / "weights/m-magnitude.json").write_text(json.dumps(card))
    (tmp_path / "data/m").mkdir()
    (tmp_path / "data/m/corpus.json").write_text(json.dumps({"fingerprint": DATA, "skipped": [{"id": 1}] * 3}))
    cells = [
        {"source": ["music = 1\n", "seed = 2"], "metadata": {"tags": ["parameters"]}},
        {"source": "seed = 5", "metadata": {"tags": ["injected-parameters"]}},
        {"source": f"---\n*{link('notebooks', 'a')}, run with the quick profile.*", "metadata": {}},
    ]
    (tmp_path / "book").mkdir()
    (tmp_path / "book/03_x.ipynb").write_text(json.dumps({"metadata": {}, "cells": cells}))
    (tmp_path / "book/.03_x.running-1.ipynb").write_text("cut off")
    return tmp_path


def test_every_link_has_its_anchor(project: Path) -> None:
    pages = "".join(page(group, project / "book") for group in provenance.GROUPS)
    anchors = set(re.findall('id="([^"]+)"', pages))
    links = [link("results", "m-gaps.parquet"), link("weights", "m-magnitude"), link("notebooks", "03_x")]
    links += [linked("m-gaps.parquet, weights/m-magnitude.json"), linked(f"m {DATA[:12]}")]
    targets = re.findall(r"#([\w-]+)", " ".join(links))
    assert len(targets) == 6 and set(targets) <= anchors
    assert set(re.findall('href="#([^"]+)"', pages)) == {"weights-m-magnitude", "data-m"}
    assert link("results", "m", book=".") == '<a href="./records.html#results-m"><code>results/m</code></a>'
    assert linked("paper.json") == "paper.json" and linked("") == ""
    with pytest.raises(ValueError, match="group='result' must be one of results, scores"):
        link("result", "m")


def test_records_are_shown_whole(project: Path) -> None:
    results = page("results")
    stored = json.loads((project / "results/m-gaps.json").read_text())
    for key in stored:
        assert f"<th>{key.replace('_', ' ')}</th>" in results, key
    assert "7 (one seed)" in results and "3.5" in results and "a &lt; b" in results and stored["sha256"] in results
    assert f'm-magnitude <a href="#weights-m-magnitude"><code>{NETWORK}' in results
    assert f'<a href="#data-m"><code>{DATA}' in page("weights") and "3 entries, in the file" in page("data")
    ran = page("notebooks", project / "book")
    assert "seed = 2\nseed = 5" in ran and "notebooks/a, run with the quick profile." in ran and "running" not in ran
    assert "none yet" in page("scores")


def test_a_table_that_its_record_does_not_describe_is_told(project: Path) -> None:
    assert "is the one that this record describes" in page("results")
    pd.DataFrame({"segment": [3]}).to_parquet(project / "results/m-gaps.parquet")
    assert "differs from this record" in page("results")
