"""Released scores: what is in scores/ and README, and how fresh scores compare with it."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ctxe_lib import cli, released, weights
from ctxe_lib.inpaint import METHODS
from ctxe_lib.paths import ROOT
from ctxe_lib.records import read_table, write_table

RECORD = {
    "corpus": "tiny",
    "rendered": False,
    "data": "d" * 64,
    "split": "test",
    "per_track": 2,
    "seed": 0,
    "geometry": {},
    "weights": {"music-magnitude": "w" * 64},
}


def scores(methods: tuple[str, ...] = ("lpc", "magnitude")) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    base = pd.DataFrame({"cluster": list("aabbcc"), "segment": np.arange(6), "trained_on": "music"})
    parts = [
        base.assign(method=name, snr_td=rng.normal(3, 1, 6), snr_ms=rng.normal(6, 1, 6), odg=rng.uniform(-2, 0, 6))
        for name in methods
    ]
    return pd.concat(parts, ignore_index=True)


CARD = {"sha256": "w" * 64, "examples": 1234, "kind": "magnitude", "phases": "continued"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scores of a tiny corpus, fresh and released, and the card of a network."""
    for name in ("results", "scores", "weights"):
        monkeypatch.setenv(f"CTXE_{name.upper()}", str(tmp_path / name))
        (tmp_path / name).mkdir()
    (tmp_path / "weights/music-magnitude.json").write_text(json.dumps(CARD))
    (tmp_path / "weights/music-magnitude.safetensors").touch()
    monkeypatch.setattr(released, "CORPORA", {"music": "tiny"})
    write_table(tmp_path / "results/tiny.parquet", scores(), RECORD)
    released.release("tiny")
    return tmp_path


@pytest.mark.parametrize("corpus", released.CORPORA.values())
def test_released_scores_are_whole_and_of_the_released_networks(corpus: str) -> None:
    path = ROOT / "scores" / f"{corpus}.parquet"
    table, record = read_table(path, "ctxe release")  # compares the hash
    assert path.stat().st_size < 300_000
    columns = {"corpus", "split", "track", "group", "cluster", "segment", "method", "trained_on", *released.METRICS}
    assert set(table) == columns and len(table) == record["rows"]
    assert all(table[metric].dtype == np.float32 for metric in released.METRICS)
    assert (record["corpus"], record["split"]) == (corpus, "test") and record["commit"] and record["seconds"]
    assert set(table["method"]) == set(record["methods"]) >= {n for n, m in METHODS.items() if not m.network}
    assert (table.groupby("method")["segment"].nunique() == len(table) / len(record["methods"])).all()
    for name, digest in record["weights"].items():
        assert weights.read_card(name)["sha256"] == digest, f"{name} is another network: `make results; ctxe release`"


def test_the_table_says_what_outputs_are_relative_to(folder: Path) -> None:
    assert "relative" not in released._training()
    (folder / "weights/music-magnitude.json").write_text(json.dumps(CARD | {"output": "correction"}))
    assert "relative to what is not learnt: music-magnitude to interpolated magnitudes." in released._training()


def test_readme_and_picture_are_those_of_the_released_scores() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert released.with_table(page) == page, "README.md and scores/ disagree: run `ctxe release`"
    assert (ROOT / "scores" / released.PICTURE).read_text("utf-8") == released.picture()
    assert f"(scores/{released.PICTURE})" in page


def test_a_release_is_a_copy_in_single_precision(folder: Path) -> None:
    table, record = read_table(folder / "scores/tiny.parquet", "")
    np.testing.assert_array_equal(table["snr_ms"], scores()["snr_ms"].astype(np.float32))
    fresh = read_table(folder / "results/tiny.parquet", "")[1]
    assert (
        record["copied_from"]
        == fresh["sha256"]
        == hashlib.sha256((folder / "results/tiny.parquet").read_bytes()).hexdigest()
    )
    assert {key: record[key] for key in ("data", "commit", "written")} == {
        key: fresh[key] for key in ("data", "commit", "written")
    }
    (folder / "weights/music-magnitude.json").write_text(json.dumps({"sha256": "x" * 64}))
    with pytest.raises(ValueError, match="other weights of music-magnitude"):
        released.release("tiny")
    with pytest.raises(FileNotFoundError, match="ctxe evaluate results/none"):
        released.release("none")


def test_cards_note_what_their_networks_reached(folder: Path) -> None:
    noted = weights.read_card("music-magnitude")["test"]["tiny"]
    table = scores().query("method == 'magnitude'")
    assert noted["snr_ms"]["mean"] == pytest.approx(table["snr_ms"].mean(), abs=1e-3)
    assert noted["odg"]["low"] <= noted["odg"]["mean"] <= noted["odg"]["high"]
    assert (noted["segments"], noted["clusters"]) == (6, 3)
    assert weights.read_card("music-magnitude")["examples"] == 1234


def test_own_scores_go_before_released_ones(folder: Path) -> None:
    own = folder / "results/tiny.parquet"
    assert released.scored("tiny")[0]["snr_ms"].dtype == np.float64
    own.unlink()
    assert released.scored("tiny")[0]["snr_ms"].dtype == np.float32
    with pytest.raises(FileNotFoundError, match="ctxe evaluate results/other"):
        released.scored("other")


def test_fresh_scores_are_compared_with_released_ones(folder: Path) -> None:
    def verdicts(table: pd.DataFrame, **change: object) -> dict[str, str]:
        return released.compare(table, RECORD | change).set_index("method")["verdict"].to_dict()

    same = scores()
    assert verdicts(same) == {"lpc": "agrees", "magnitude": "agrees"}
    louder = same.assign(snr_td=same["snr_td"] + 0.08)
    assert verdicts(louder) == {"lpc": "differs", "magnitude": "agrees"}
    assert released.compare(louder, RECORD).loc[0, "snr_td"] == pytest.approx(0.08, abs=1e-6)
    assert verdicts(same.assign(odg=np.nan))["lpc"] == "differs", "a score that is missing does not agree"
    assert verdicts(same[same["segment"] > 0])["lpc"] == "differs", "nor does a segment that is missing"
    assert verdicts(same, weights={"music-magnitude": "new"}) == {"lpc": "agrees", "magnitude": "other weights"}
    assert verdicts(scores(("lpc", "janssen"))) == {"lpc": "agrees", "janssen": "not released"}
    with pytest.raises(ValueError, match="data="):
        verdicts(same, data="other")
    with pytest.raises(FileNotFoundError, match="ctxe release other"):
        verdicts(same, corpus="other")


def test_table_and_picture_follow_from_the_scores(folder: Path) -> None:
    text = released.readme()
    mean = scores().groupby("method")["snr_ms"].mean()
    for method in ("lpc", "magnitude"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {METHODS[method].label} |"))
        assert f"{mean[method]:.1f}" in row.split("|")[2]
    assert "1,234" in text and "205 million" in text
    drawing = ElementTree.fromstring(released.picture())
    assert len(drawing.findall("{*}rect")) == 2
    with pytest.raises(ValueError, match="once"):
        released.with_table("no markers")


def test_command_reports_what_is_missing(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, ["release", "none"])
    assert done.exit_code == 1 and "ctxe evaluate results/none.parquet" in done.output
