from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from ctxe_lib import cli
from ctxe_lib.evaluation import evaluate
from ctxe_lib.inpaint import inpaint
from ctxe_lib.leaderboard import rank, score_answer, write_challenge
from ctxe_lib.records import read_record, read_table


@pytest.fixture(scope="module")
def scored(tiny_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaderboard")
    path = folder / "tiny.parquet"
    table = evaluate(tiny_corpus, path, methods=["lpc", "interpolation"], per_track=2, n_jobs=1, progress=False)
    record = read_record(path, "")
    write_challenge(tiny_corpus, table, record, folder / "challenge.npz")
    return table, record, folder


def answer(folder, name, **change):
    """An answer by linear prediction, in another order than the challenge's."""
    with np.load(folder / "challenge.npz", allow_pickle=False) as challenge:
        segment, audio = challenge["segment"][::-1], challenge["audio"][::-1]
    content = {"segment": segment, "gaps": inpaint("lpc", audio, change.pop("geometry"))} | change
    np.savez(folder / name, **content)
    return folder / name


def test_the_challenge_does_not_hold_the_gaps(scored):
    with np.load(scored[2] / "challenge.npz", allow_pickle=False) as challenge:
        first, stop = challenge["gap"]
        assert not challenge["audio"][:, first:stop].any() and challenge["audio"][:, :first].any()
        assert set(challenge["segment"]) == set(scored[0]["segment"])


def test_an_answer_gets_the_scores_of_its_method(scored, tiny_corpus, geometry):
    table, record, folder = scored
    mine = score_answer(tiny_corpus, table, record, answer(folder, "a.npz", geometry=geometry), "mine")
    both = mine.merge(table.query("method == 'lpc'"), on="segment")
    assert len(both) == len(mine) == table["segment"].nunique()
    for metric in ("snr_td", "snr_ms", "odg"):
        assert both[f"{metric}_x"].to_numpy() == pytest.approx(both[f"{metric}_y"].to_numpy(), abs=1e-3)
    ranking = rank(table)
    assert list(ranking["rank"]) == [1, 2] and ranking["mean"].is_monotonic_decreasing


def test_wrong_answers_are_refused(scored, tiny_corpus, geometry):
    table, record, folder = scored
    good = answer(folder, "a.npz", geometry=geometry)
    with pytest.raises(ValueError, match="taken"):
        score_answer(tiny_corpus, table, record, good, "lpc")
    with pytest.raises(ValueError, match="build it again"):
        score_answer(tiny_corpus, table, record | {"data": "other"}, good, "mine")
    short = answer(folder, "b.npz", geometry=geometry, gaps=np.zeros((len(table) // 2, 3)))
    with pytest.raises(ValueError, match="gaps have shape"):
        score_answer(tiny_corpus, table, record, short, "mine")
    twice = np.full(len(table) // 2, table["segment"].iloc[0])
    with pytest.raises(ValueError, match=f"{len(table) // 2 - 1} are missing"):
        score_answer(tiny_corpus, table, record, answer(folder, "c.npz", geometry=geometry, segment=twice), "mine")


def test_commands(scored, tiny_corpus, geometry, project_folders, monkeypatch):
    folder = scored[2]
    monkeypatch.setenv("CTXE_RESULTS", str(folder))
    (project_folders / "data/tiny").symlink_to(tiny_corpus.folder)
    run = CliRunner().invoke
    done = run(cli.app, ["challenge", str(project_folders / "c.npz"), "--corpus", "tiny"])
    assert done.exit_code == 0, done.output
    output, given = project_folders / "mine.parquet", answer(folder, "a.npz", geometry=geometry)
    done = run(cli.app, ["leaderboard", str(given), "--name", "mine", "--corpus", "tiny", "--output", str(output)])
    assert done.exit_code == 0 and "mine" in done.output, done.output
    assert set(read_table(output, "")[0]["method"]) == {"mine"}
    done = run(cli.app, ["leaderboard", str(given), "--name", "lpc", "--corpus", "tiny"])
    assert done.exit_code == 1 and "taken" in done.output
