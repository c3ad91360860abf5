from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ctxe_lib import cli, metrics
from ctxe_lib.corpus import Track, build_corpus
from ctxe_lib.evaluation import evaluate, trained_on
from ctxe_lib.inpaint import inpaint
from ctxe_lib.records import read_table, write_table
from ctxe_lib.statistics import cluster_bootstrap, summarise


@pytest.fixture(scope="module")
def scored(tiny_corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "scores.parquet"
    table = evaluate(tiny_corpus, path, methods=["lpc", "interpolation"], per_track=3, progress=False)
    return table, path


def test_one_row_per_method_and_segment(scored, tiny_corpus):
    table, _ = scored
    assert len(table) == 2 * 4 * 3
    assert not table.duplicated(["method", "segment"]).any()
    assert set(table["track"]) == set(tiny_corpus.tracks.query("split == 'test'")["track"])
    assert np.isfinite(table[["snr_td", "snr_ms"]]).all(axis=None)


def test_scores_are_those_of_the_metrics(scored, tiny_corpus, geometry):
    table, _ = scored
    row = table[table["method"] == "lpc"].iloc[4]
    segment = tiny_corpus.read(np.array([row["segment"]])).astype(np.float64)
    gap = inpaint("lpc", segment, geometry)
    assert metrics.snr_td(segment, gap, geometry)[0] == pytest.approx(row["snr_td"], abs=1e-6)
    assert metrics.snr_ms(segment, gap, geometry)[0] == pytest.approx(row["snr_ms"], abs=1e-6)


def test_the_record_says_how_the_table_came_about(scored, tiny_corpus):
    table, path = scored
    again, record = read_table(path, "ctxe evaluate")
    pd.testing.assert_frame_equal(again, table)
    assert record["data"] == tiny_corpus.fingerprint and record["seed"] == 0 and record["rows"] == len(table)
    assert record["methods"] == ["lpc", "interpolation"] and record["weights"] == {}
    assert {"commit", "versions", "processor", "cores", "seconds", "written", "geometry"} <= set(record)


def test_a_table_that_is_not_its_records_is_refused(scored, tmp_path):
    table, _ = scored
    copy = tmp_path / "scores.parquet"
    write_table(copy, table, {})
    table.assign(snr_ms=99.0).to_parquet(copy, index=False)
    with pytest.raises(ValueError, match="run `make results` again"):
        read_table(copy, "make results")
    with pytest.raises(FileNotFoundError, match="run `make results` first"):
        read_table(tmp_path / "nothing.parquet", "make results")


def test_evaluation_is_reproducible(scored, tiny_corpus, tmp_path):
    table, _ = scored
    again = evaluate(tiny_corpus, tmp_path / "s.parquet", methods=["lpc", "interpolation"], per_track=3, progress=False)
    pd.testing.assert_frame_equal(again, table)


def test_music_is_clustered_by_track_and_instruments_by_instrument(scored, tiny_corpus, geometry, tmp_path):
    table, _ = scored
    assert (table["cluster"] == table["track"]).all()
    row = tiny_corpus.tracks.iloc[0]
    audio = tiny_corpus.read(np.array([row["offset"]]), row["samples"])[0]
    made = (Track(f"piano/{i}", "piano", "made", audio, "test", "CC0-1.0") for i in range(2))
    corpus = build_corpus("instruments-tiny", made, tmp_path / "instruments-tiny", geometry, provenance={})
    assert trained_on(corpus) == "instruments"
    table = evaluate(corpus, tmp_path / "s.parquet", methods=["lpc"], per_track=1, progress=False)
    assert table["cluster"].tolist() == ["piano", "piano"] and set(table["trained_on"]) == {"instruments"}


def test_bootstrap_over_clusters_is_wider_than_over_segments():
    rng = np.random.default_rng(8)
    tracks = np.repeat(np.arange(20), 50)
    values = rng.standard_normal(20)[tracks] + 0.1 * rng.standard_normal(1000)
    low, high = cluster_bootstrap(values, tracks)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(20), rel=0.5)
    narrow = cluster_bootstrap(values, np.arange(1000))
    assert narrow[1] - narrow[0] < 0.3 * (high - low)


def test_bootstrap_covers_the_true_mean():
    rng = np.random.default_rng(9)
    tracks = np.repeat(np.arange(30), 5)
    hits = 0
    for trial in range(200):
        low, high = cluster_bootstrap(rng.standard_normal(30)[tracks], tracks, draws=400, seed=trial)
        hits += low <= 0 <= high
    assert 0.87 <= hits / 200 <= 0.99


def test_bootstrap_refuses_what_has_no_mean():
    with pytest.raises(ValueError, match="exclude"):
        cluster_bootstrap(np.array([1.0, np.nan]), np.array([0, 1]))
    assert np.isnan(cluster_bootstrap(np.ones(3), np.zeros(3))).all()


def test_summary_excludes_and_counts_silent_references():
    scores = pd.DataFrame({"method": "lpc", "cluster": ["a", "a", "b", "b"], "snr_ms": [1.0, 3.0, np.nan, 5.0]})
    row = summarise(scores, "snr_ms").iloc[0]
    assert (row["mean"], row["segments"], row["clusters"], row["excluded"]) == (3.0, 3, 2, 1)


def test_the_command_line_trains_exports_and_evaluates(tiny_corpus, project_folders):
    (project_folders / "data" / "tiny").symlink_to(tiny_corpus.folder)
    run = CliRunner().invoke
    short = ["--corpus", "tiny", "--steps", "2", "--batch", "2", "--no-progress"]
    result = run(cli.app, ["train", "first", *short])
    assert result.exit_code == 0, result.output
    result = run(cli.app, ["export", "first", "music-magnitude"])
    assert result.exit_code == 0, result.output
    card = json.loads((project_folders / "weights" / "music-magnitude.json").read_text())
    assert card["examples"] == 4 and card["data"]["fingerprint"] == tiny_corpus.fingerprint
    assert card["data"]["licences"] == ["CC0-1.0"]
    output = project_folders / "scores.parquet"
    result = run(
        cli.app,
        ["evaluate", str(output), "--corpus", "tiny", "--method", "magnitude", "--per-track", "1", "--no-progress"],
    )
    assert result.exit_code == 0, result.output
    _, record = read_table(output, "")
    assert record["weights"] == {"music-magnitude": card["sha256"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "x", "--corpus", "nowhere"], "build_data.py nowhere"),
        (["evaluate", "x.csv", "--corpus", "nowhere"], "must end in .parquet"),
        (["export", "nothing", "name"], "nothing"),
    ],
)
def test_the_command_line_says_what_to_do(arguments, message, project_folders):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1 and message in result.output.replace("\n", "")
