from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from typer.testing import CliRunner

from ctxe_lib import cli, evaluation, metrics, peaq
from ctxe_lib.corpus import Track, build_corpus
from ctxe_lib.evaluation import evaluate, excerpts, odg, trained_on
from ctxe_lib.inpaint import inpaint
from ctxe_lib.records import read_table, write_table
from ctxe_lib.statistics import cluster_bootstrap, summarise
from ctxe_lib.training import read_log


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
    assert np.isfinite(table[["snr_td", "snr_ms", "odg"]]).all(axis=None)


def test_scores_are_those_of_the_metrics(scored, tiny_corpus, geometry):
    table, _ = scored
    row = table[table["method"] == "lpc"].iloc[4]
    segment = tiny_corpus.read(np.array([row["segment"]])).astype(np.float64)
    gap = inpaint("lpc", segment, geometry)
    assert metrics.snr_td(segment, gap, geometry)[0] == pytest.approx(row["snr_td"], abs=1e-6)
    assert metrics.snr_ms(segment, gap, geometry)[0] == pytest.approx(row["snr_ms"], abs=1e-6)


def test_odg_is_that_of_two_seconds_with_the_gap_at_half_a_second(tiny_corpus, geometry, tmp_path):
    row = tiny_corpus.tracks.iloc[0]
    audio = np.tile(tiny_corpus.read(np.array([row["offset"]]), row["samples"])[0], 3)
    made = (Track(f"long/{i}", f"long{i}", "made", audio, "test", "CC0-1.0") for i in range(2))
    corpus = build_corpus("long", made, tmp_path / "long", geometry, provenance={})
    table = evaluate(corpus, tmp_path / "s.parquet", methods=["lpc"], per_track=4, progress=False)
    row = table.iloc[1]
    gap = row["segment"] + geometry.context
    sound = corpus.read(np.array([gap - 8_000]), 32_000)[0].astype(np.float64)
    degraded = sound.copy()
    segment = corpus.read(np.array([row["segment"]]))
    degraded[8_000 : 8_000 + geometry.gap] = inpaint("lpc", segment, geometry)[0]
    assert row["odg"] == pytest.approx(peaq.odg(sound, degraded, 16_000).odg, abs=1e-9)
    np.testing.assert_array_equal(excerpts(corpus, table["segment"].to_numpy()[1:2], geometry)[0][0], sound)


def test_excerpts_that_reach_over_an_end_are_completed_with_silence(scored, tiny_corpus, geometry):
    _, path = scored
    starts = tiny_corpus.select("test", 3, 0)
    audio, whole = excerpts(tiny_corpus, starts, geometry)
    tracks = tiny_corpus.tracks.iloc[tiny_corpus.track_rows(starts)]
    before = 8_000 - geometry.context - (starts - tracks["offset"].to_numpy())
    after = before + tracks["samples"].to_numpy()
    np.testing.assert_array_equal(whole, (before <= 0) & (after >= 32_000))
    assert (before > 0).any() and (after < 32_000).any()
    for sound, start, silent, stop in zip(audio, starts, before, after, strict=True):
        assert not sound[: max(silent, 0)].any() and not sound[min(stop, 32_000) :].any()
        segment = tiny_corpus.read(np.array([start]))[0]
        np.testing.assert_array_equal(sound[8_000 - geometry.context :][: geometry.length], segment)
    record = json.loads(path.with_suffix(".json").read_text())["odg"]
    assert record["excerpts_completed_with_silence"] == np.count_nonzero(~whole)
    assert record["without_grade"] == {"lpc": 0, "interpolation": 0}


def test_odg_orders_and_clips_and_leaves_out_silence(geometry):
    rng = np.random.default_rng(3)
    sound = np.sin(0.1 * np.arange(32_000)) * (0.3 + 0.1 * rng.standard_normal(32_000))
    truth = sound[8_000 : 8_000 + geometry.gap]
    originals = np.stack([sound, np.zeros(32_000), -sound]).astype(np.float32)
    gaps = {"perfect": np.stack([truth, truth, -truth]).astype(np.float32), "loud": np.full((3, geometry.gap), 90.0)}
    grades = odg(originals, gaps, geometry)
    assert list(grades) == ["perfect", "loud"]
    np.testing.assert_array_equal(np.isnan(grades["perfect"]), [False, True, False])
    assert grades["perfect"][0] > 0.1 and grades["loud"][0] < -0.5
    full = np.ones((3, geometry.gap))
    np.testing.assert_array_equal(grades["loud"], odg(originals, {"full": full}, geometry, n_jobs=2)["full"])
    np.testing.assert_array_equal(odg(originals[::-1], {"loud": full}, geometry)["loud"][::-1], grades["loud"])
    assert odg(originals[:0], {"none": full[:0]}, geometry)["none"].shape == (0,)


@pytest.mark.parametrize(
    ("samples", "dtype", "gap", "message"),
    [
        (9_000, np.float64, 1024, r"at least 9024 samples"),
        (32_000, np.int16, 1024, "dtype int16"),
        (32_000, np.float64, 1000, r"gaps of x have shape \(2, 1000\), expected \(2, 1024\)"),
        (32_000, np.float64, np.nan, "not finite"),
    ],
)
def test_odg_says_what_does_not_fit(samples, dtype, gap, message, geometry):
    audio = np.full((2, 1024), np.nan) if np.isnan(gap) else np.zeros((2, gap))
    with pytest.raises(ValueError, match=message):
        odg(np.ones((2, samples), dtype), {"x": audio}, geometry)


def test_the_record_says_how_the_table_came_about(scored, tiny_corpus):
    table, path = scored
    again, record = read_table(path, "ctxe evaluate")
    pd.testing.assert_frame_equal(again, table)
    assert record["data"] == tiny_corpus.fingerprint and record["seed"] == 0 and record["rows"] == len(table)
    assert record["methods"] == ["lpc", "interpolation"] and record["weights"] == {}
    assert (record["segments"], record["clusters"]) == (table["segment"].nunique(), table["cluster"].nunique())
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


CLASSICAL = ["interpolation", "lpc", "janssen", "sparse"]


@pytest.fixture(scope="module")
def classical(tiny_corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "scores.parquet"
    return evaluate(tiny_corpus, path, methods=CLASSICAL, per_track=2, n_jobs=1, progress=False)


def test_batches_blocks_and_threads_change_nothing(classical, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "BLOCK", 3)
    again = evaluate(tiny_corpus, tmp_path / "s.parquet", methods=CLASSICAL, per_track=2, n_jobs=2, progress=False)
    pd.testing.assert_frame_equal(again, classical, check_exact=True)


def test_a_cluster_of_two_workers_changes_nothing(classical, tiny_corpus, tmp_path):
    workers = {"n_workers": 2, "threads_per_worker": 1, "processes": False}  # threads start at once
    with LocalCluster(**workers, dashboard_address=None) as cluster:
        options = {"per_track": 2, "dask": cluster.scheduler_address, "progress": False}
        again = evaluate(tiny_corpus, tmp_path / "s.parquet", methods=["lpc", "sparse"], **options)
    expected = classical[classical["method"].isin(["lpc", "sparse"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)


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
    table, record = read_table(output, "")
    assert f"{table['odg'].mean():.2f} ± {table['odg'].std(ddof=0):.2f}" in result.output
    assert record["weights"] == {"music-magnitude": card["sha256"]}


def test_an_exported_log_goes_on_from_that_of_the_network_it_started_from(tiny_corpus, project_folders):
    (project_folders / "data" / "tiny").symlink_to(tiny_corpus.folder)
    short = ["--corpus", "tiny", "--steps", "2", "--batch", "2", "--no-progress"]
    calls = (
        ["train", "first", *short],
        ["export", "first", "music-magnitude"],
        ["train", "second", *short, "--start", "music-magnitude"],
        ["export", "second", "music-magnitude"],
    )
    for call in calls:
        result = CliRunner().invoke(cli.app, call)
        assert result.exit_code == 0, result.output
    log = read_log(project_folders / "weights" / "music-magnitude.log.jsonl")
    own = [read_log(project_folders / "runs" / run)["seconds"].iloc[-1] for run in ("first", "second")]
    assert log["examples"].tolist() == [4, 8]
    assert log["seconds"].tolist() == pytest.approx(np.cumsum(own), abs=0.5)
    card = json.loads((project_folders / "weights" / "music-magnitude.json").read_text())
    assert card["examples"] == 8 and card["hours"] == pytest.approx(own[0] / 3600 + own[1] / 3600, abs=2e-4)
    # stopped between validations; the network it started from has a row of that step
    rows = project_folders / "runs" / "second" / "log.jsonl"
    rows.write_text(rows.read_text().replace('"step": 2', '"step": 1'))
    result = CliRunner().invoke(cli.app, ["export", "second", "music-magnitude", "--which", "last"])
    assert result.exit_code != 0 and "stopped at step 2" in result.output


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
