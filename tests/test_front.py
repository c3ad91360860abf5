"""What the front page says is what the results say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ctxe_lib import claims, front
from ctxe_lib.provenance import link
from ctxe_lib.records import write_table

LEVELS = {"music": {"lpc": 6.0, "magnitude": 8.0, "hybrid": 5.0}, "instruments": {"lpc": 30.0, "magnitude": 20.0}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scores of 4 tracks with 5 segments each, and a ledger of two verdicts."""
    for kind, levels in LEVELS.items():
        rows = [
            (f"t{track}", 10 * track + segment, method, level + (track + segment - 3.5) / 10)
            for method, level in levels.items()
            for track in range(4)
            for segment in range(5)
        ]
        table = pd.DataFrame(rows, columns=["cluster", "segment", "method", "snr_ms"])
        write_table(tmp_path / f"made-{kind}.parquet", table, {"corpus": f"made-{kind}", "rendered": kind != "music"})
    record = {
        "corpora": {kind: f"made-{kind}" for kind in LEVELS},
        "summary": {"confirmed": 3, "not confirmed": 2, "not testable here": 0},
    }
    monkeypatch.setattr(claims, "read", lambda folder: record)
    return tmp_path


def test_scores_stand_beside_the_papers_and_the_best_is_bold(results: Path) -> None:
    lines = front.substitutions(results)["scores"].splitlines()
    assert lines[0] == "| SNR_MS in dB | Music: paper | Music: here | Notes: paper | Notes: here |"
    assert "| LPC | 6.3 | 6.0 | **30.5** | **30.0** |" in lines
    assert "| Magnitude network | **7.7** | **8.0** | 22.4 | 20.0 |" in lines
    assert "| Hybrid | – | 5.0 | – | – |" in lines
    assert not any(line.startswith("| Janssen") for line in lines)


def test_findings_follow_from_the_scores(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = SimpleNamespace(available=lambda: ["music-magnitude"], read_card=lambda name: {"examples": 204_800})
    monkeypatch.setattr(front, "weights", cards)
    found = front.substitutions(results)["found"].splitlines()
    assert found[0].startswith("- Magnitude network is above LPC on music: +2.0 dB")
    assert found[1].startswith("- Magnitude network is below LPC on instruments: -10.0 dB")
    assert found[2].startswith("- Hybrid is below LPC on music: -1.0 dB")
    assert "204,800 examples here at most, one for each 1,000 that" in found[3] and len(found) == 4


def test_claims_are_counted_and_data_named(results: Path) -> None:
    said = front.substitutions(results)
    assert said["claims"] == "**3** confirmed, **2** not confirmed"
    music, instruments = (link("results", name, book=".") for name in ("made-music", "made-instruments"))
    assert said["data"] == f"20 gaps in 4 tracks of {music} and 20 gaps in 4 instruments of {instruments}, rendered"


def test_what_is_missing_is_said_with_its_command(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "made-music.parquet").unlink()
    assert set(front.substitutions(results).values()) == {
        "*not measured yet: no results in made-music.parquet: `ctxe evaluate results/made-music.parquet --corpus "
        "made-music`*"
    }
    monkeypatch.undo()
    assert "make notebooks ONLY=12" in front.substitutions(tmp_path / "empty")["claims"]


def test_a_ledger_by_other_rules_is_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> None:
        raise ValueError("judged by another rule: run it again")

    monkeypatch.setattr(claims, "read", read)
    assert front.substitutions(results)["claims"] == "*not measured yet: judged by another rule: run it again*"


def test_sphinx_gets_the_substitutions(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "results_folder", lambda: results)
    calls = {}
    front.setup(SimpleNamespace(connect=calls.__setitem__))
    config = SimpleNamespace(myst_substitutions={"own": "kept"})
    calls["config-inited"](None, config)
    assert config.myst_substitutions["own"] == "kept"
    assert config.myst_substitutions["claims"] == "**3** confirmed, **2** not confirmed"
    assert np.all([isinstance(value, str) for value in config.myst_substitutions.values()])
