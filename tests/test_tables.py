from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from ctxe_lib import cli, experiments, lpc, tables, weights
from ctxe_lib.evaluation import evaluate
from ctxe_lib.inpaint import METHODS, inpaint
from ctxe_lib.metrics import snr_td
from ctxe_lib.records import read_table, write_table
from ctxe_lib.stft import gap_coefficients
from ctxe_lib.tables import NotMeasured, Results

RECORD = {
    "corpus": "made",
    "rendered": True,
    "data": "d" * 64,
    "weights": {},
    "seed": 0,
    "seconds": {"lpc": 2.0},
}


@pytest.fixture
def results(tmp_path):
    """Scores of two methods on 4 tracks with 5 segments each; the paper's LPC values plus known offsets."""
    rng = np.random.default_rng(1)
    rows = []
    for method, level in (("lpc", 6.0), ("janssen", 7.0)):
        for track in range(4):
            for segment in range(5):
                score = level + track + rng.standard_normal()
                rows.append((f"t{track}", 10 * track + segment, method, score, score - 2, -track))
    columns = ["cluster", "segment", "method", "snr_ms", "snr_td", "odg"]
    for name in ("m", "i"):
        write_table(tmp_path / f"{name}.parquet", pd.DataFrame(rows, columns=columns), RECORD)
    return Results({"music": "m", "instruments": "i"}, folder=tmp_path, draws=200)


def test_paper_has_the_sizes_of_its_tables():
    rows = {number: len(table["rows"]) for number, table in tables.paper()["tables"].items()}
    assert rows == {"1": 6, "2": 5, "3": 12, "4": 12, "5": 6, "6": 4}
    assert tables.paper_value("4", kind="music", method="magnitude", metric="snr_ms") == 7.7
    assert np.isnan(tables.paper_value("4", kind="music", method="janssen", metric="snr_ms"))


def test_paper_and_ours_stand_side_by_side(results):
    table = tables.score_table(results, "music", "snr_ms").set_index("method")
    assert list(table.index) == list(METHODS)
    lpc, own = table.loc["lpc"], results.table("music").query("method == 'lpc'")["snr_ms"]
    assert (lpc["paper_mean"], lpc["paper_std"], lpc["segments"], lpc["clusters"]) == (6.3, 5.1, 20, 4)
    assert lpc["mean"] == pytest.approx(own.mean()) and lpc["low"] < lpc["mean"] < lpc["high"]
    assert lpc["status"] == "" and table.loc["interpolation", "status"] == "not measured"
    assert np.isnan(table.loc["interpolation", "mean"])


def test_network_without_weights_is_said_to_be_untrained(results, project_folders):
    table = tables.score_table(results, "music", "snr_td").set_index("method")
    assert table.loc["complex", "status"] == "not trained" and table.loc["complex", "paper_mean"] == 3.8


def test_what_is_missing_names_its_command(results, project_folders):
    with pytest.raises(NotMeasured, match=r"ctxe gaps results/m-gaps\.parquet --corpus m"):
        tables.short_gaps(results, "music")
    with pytest.raises(NotMeasured, match="ctxe train music-complex"):
        tables.paired(results, "music", "complex", "lpc", "snr_td")
    table = tables.overfitting_check(results, "music")
    assert set(table["status"]) == {"not trained"} and len(table) == 6
    with pytest.raises(NotMeasured, match="build_data"):
        tables.dataset_statistics(results)


def test_paired_tests_are_over_segments_and_over_tracks(results):
    over = tables.paired_tests(results, "music", "janssen", "lpc", "snr_td").set_index("unit")
    wide = results.table("music").pivot(index=["cluster", "segment"], columns="method", values="snr_td")
    expected = stats.ttest_rel(wide["janssen"], wide["lpc"])
    assert over.loc["segments", "p"] == pytest.approx(expected.pvalue) and over.loc["segments", "n"] == 20
    means = wide.groupby(level="cluster").mean()
    assert over.loc["tracks", "p"] == pytest.approx(stats.ttest_rel(means["janssen"], means["lpc"]).pvalue)
    assert over.loc["tracks", "n"] == 4
    both = tables.tests_against(results, "music", "lpc", "snr_td")
    assert list(both["method"]) == ["janssen", "janssen"]
    assert tables.sentence(results, "music", "janssen", "lpc", "snr_td").startswith("Janssen is above LPC on music: +")
    assert "no snr_td of interpolation" in tables.sentence(results, "music", "interpolation", "lpc", "snr_td")


def test_grades_are_counted_by_the_nearest(results):
    table = tables.impairments(results, "music")
    assert list(table["LPC"]) == [25, 25, 25, 25, 0] and list(table["odg"]) == [0, -1, -2, -3, -4]


def test_rendering_aligns_marks_the_best_and_says_why_cells_are_empty(results):
    html = tables.show(tables.score_table(results, "music", "snr_ms"), best=True).to_html()
    assert "Paper: mean" in html and "not measured" in html and "tabular-nums" in html
    assert html.count("font-weight: bold") == 1  # one rule for the best of the paper and the best of ours
    before = html[: html.index("font-weight: bold")].splitlines()
    rule = next(line for line in reversed(before) if line.startswith("#"))
    row = {name: number for number, name in enumerate(METHODS)}
    assert f"row{row['magnitude']}_col1" in rule and f"row{row['janssen']}_col3" in rule
    assert "<caption><b>Music</b></caption>" in html and "Sound" not in html


def test_caption_names_file_data_and_size(results):
    caption = tables.caption(results, "music")
    assert 'href="../records.html#results-m"><code>results/m.parquet</code></a>: 20 segments of 4 tracks' in caption
    assert "`dddddddddddd`" in caption and "rendered" in caption


def test_notes_tell_which_networks_have_learnt(tmp_path, monkeypatch):
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    levels = {"interpolation": 6.0, "magnitude": 2.0, "hybrid": 9.0, "complex": 3.0}
    rows = [(f"t{n % 4}", n, method, level + n / 10) for method, level in levels.items() for n in range(8)]
    table = pd.DataFrame(rows, columns=["cluster", "segment", "method", "snr_ms"])
    write_table(tmp_path / "m.parquet", table, RECORD)

    def notes_with(kinds, **card):
        for name, kind in kinds.items():
            facts = {"name": name, "kind": kind, "phases": "continued", "examples": 2_048_000, **card}
            (tmp_path / f"{name}.json").write_text(json.dumps(facts))
            (tmp_path / f"{name}.safetensors").touch()
        return tables.network_notes(Results({"music": "m", "instruments": "m"}, folder=tmp_path, draws=50), "music")

    notes = notes_with({"music-magnitude": "magnitude", "hybrid": "hybrid"})
    magnitude, hybrid = notes.split("interpolation. ")
    assert (
        "2,048,000 examples, 1 % of the paper's, one seed; it has not learnt enough" in magnitude
        and "-4.0 dB" in magnitude
    )
    assert "records.html#weights-hybrid" in hybrid and "it has learnt: +3.0 dB" in hybrid
    assert "Complex" not in notes, "no weights, no card"
    assert "relative" not in notes, "they give no phases"
    assert "one of 2 seeds" in notes_with({"hybrid-seed-1": "hybrid"}) and "seed-1" not in notes
    said = "% of the paper's, one seed, output relative to a phase vocoder's phases; it has"
    assert said in notes_with({"music-complex": "complex"})
    assert "relative" not in notes_with({"music-complex": "complex"}, phases="frame")
    below = "output relative to interpolated magnitudes; it has not learnt enough"
    assert below in notes_with({"music-magnitude": "magnitude"}, output="correction")


@pytest.mark.parametrize(("direction", "before"), [("centred", 128), ("forwards", 0), ("backwards", 256)])
def test_enlargement_keeps_the_gap_inside(direction, before):
    assert experiments.enlarge(768, 1024, direction) == before


def test_enlargement_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="longer"):
        experiments.enlarge(1100, 1024, "centred")
    with pytest.raises(ValueError, match="sideways"):
        experiments.enlarge(768, 1024, "sideways")


def test_gap_durations_are_scored_at_the_same_places(tiny_corpus, tmp_path):
    path = tmp_path / "tiny-gaps.parquet"
    table = experiments.gap_durations(
        tiny_corpus, path, methods=["lpc"], gaps_ms=(16, 64), per_track=2, n_jobs=1, progress=False
    )
    assert set(table["enlargement"]) == {"none"}
    short, usual = (table[table["gap_ms"] == ms].set_index("segment")["snr_td"] for ms in (16, 64))
    assert list(short.index) == list(usual.index) and (short > usual).all()
    start = usual.index[:1].to_numpy()
    segment = tiny_corpus.read(start).astype(np.float64)
    geometry = tiny_corpus.geometry
    assert usual.iloc[0] == pytest.approx(snr_td(segment, inpaint("lpc", segment, geometry), geometry)[0], abs=1e-6)
    _, record = read_table(path, "")
    assert record["gaps_ms"] == [16, 64] and record["data"] == tiny_corpus.fingerprint


class Halves:
    """In place of a network: predicts half of the true magnitudes."""

    def __init__(self, geometry):
        self.geometry = geometry

    def predict(self, segments):
        return 0.5 * np.abs(gap_coefficients(segments, self.geometry))


def test_networks_enlarge_shorter_gaps(tiny_corpus, project_folders, monkeypatch):
    (project_folders / "data/tiny").symlink_to(tiny_corpus.folder)
    card = {"geometry": tiny_corpus.geometry.to_dict(), "sha256": "s"}
    (project_folders / "weights/music-magnitude.json").write_text(json.dumps(card))
    (project_folders / "weights/music-magnitude.safetensors").touch()
    sizes = []

    def fill(segments, geometry):
        sizes.append(geometry.gap)
        return lpc.inpaint(segments, geometry, order=32)

    monkeypatch.setitem(METHODS, "magnitude", replace(METHODS["magnitude"], make=lambda _: fill))
    monkeypatch.setattr(weights, "load_encoder", lambda name: (Halves(tiny_corpus.geometry), card))
    run, output = CliRunner().invoke, project_folders / "tiny-gaps.parquet"
    options = ["--corpus", "tiny", "--per-track", "1", "--jobs", "1", "--no-progress"]
    done = run(cli.app, ["gaps", str(output), "--method", "magnitude", "--method", "interpolation", *options])
    assert done.exit_code == 0, done.output
    assert set(sizes) == {1024}, "a network sees gaps of its own size alone"
    table, record = read_table(output, "")
    own = table[table["method"] == "magnitude"]
    used = own.groupby("gap_ms")["enlargement"].unique().map(sorted)
    assert used[48] == ["backwards", "centred", "forwards", "mixed"] and used[64] == ["none"] and max(used.index) == 64
    assert set(table.loc[table["method"] == "interpolation", "gap_ms"]) == set(experiments.GAPS_MS)
    assert record["weights"] == {"music-magnitude": "s"}
    three = own[(own["gap_ms"] == 48) & (own["enlargement"] != "mixed")]
    assert tables.enlargements_averaged(own).query("gap_ms == 48")["snr_ms"].mean() == pytest.approx(
        three["snr_ms"].mean()
    )

    output = project_folders / "tiny-overfit.parquet"
    done = run(cli.app, ["overfit", str(output), "--corpus", "tiny", "--segments", "4", "--no-progress"])
    assert done.exit_code == 0, done.output
    results = Results({"music": "tiny", "instruments": "tiny"}, folder=project_folders, draws=50)
    table = tables.overfitting_check(results, "music")
    assert list(table["split"]) == ["train", "validation", "test"] * 2
    assert list(table.query("method == 'magnitude'")["segments"]) == [4, 4, 4]
    assert table.query("method == 'magnitude'")["mean"].to_numpy() == pytest.approx(20 * np.log10(2), abs=1e-4)
    assert np.isfinite(tables.short_gaps(results, "music").set_index("method").loc["magnitude", "mean"])


@pytest.mark.parametrize("names", [["hybrid", "hybrid-seed-4"], []])
def test_seeds_are_scored_on_the_segments_of_the_main_scores(tiny_corpus, project_folders, monkeypatch, names):
    (project_folders / "data/tiny").symlink_to(tiny_corpus.folder)
    scale = {name: 0.5 + n for n, name in enumerate(names)}  # of the true audio in the gap
    for name in [*names, "music-magnitude"]:
        card = {"sha256": f"of {name}", "recipe": {"seed": 4 if "4" in name else 0}}
        (project_folders / f"weights/{name}.json").write_text(json.dumps(card))
        (project_folders / f"weights/{name}.safetensors").touch()

    def network(name):
        return lambda segments, geometry: scale[name] * segments[:, geometry.gap_samples]

    monkeypatch.setattr(experiments, "network", network)
    output = project_folders / "tiny-seeds.parquet"
    done = CliRunner().invoke(cli.app, ["seeds", str(output), "--corpus", "tiny", "--per-track", "2", "--no-progress"])
    assert done.exit_code == 0, done.output
    table, record = read_table(output, "")
    assert record["weights"] == {name: f"of {name}" for name in names}
    starts = tiny_corpus.select("test", 2, 0)
    assert list(table["segment"]) == list(starts) * len(names)
    shown = tables.seed_table(Results({"music": "tiny"}, folder=project_folders), "music")
    assert list(shown["seed"]) == [0, 4][: len(names)]
    if names:
        assert shown["snr_td"].to_numpy() == pytest.approx([20 * np.log10(2)] * 2, abs=1e-4)
        evaluate(tiny_corpus, project_folders / "s.parquet", methods=["lpc"], per_track=2, n_jobs=1, progress=False)
        assert set(pd.read_parquet(project_folders / "s.parquet")["segment"]) == set(table["segment"])
        assert table["odg"].notna().any()
        results = Results({"music": "tiny"}, folder=project_folders)
        assert "network hybrid-seed-4" in (caption := tables.caption(results, "music", "seeds", intervals=False))
        assert "Intervals" not in caption, "the table shows none"


def test_commands_say_what_is_wrong(project_folders):
    for command in ("gaps", "overfit", "seeds"):
        result = CliRunner().invoke(cli.app, [command, "x.csv"])
        assert result.exit_code == 1 and "must end in .parquet" in result.output
