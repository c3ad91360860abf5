from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import threading
import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ctxe_lib import interpolation, training, weights
from ctxe_lib.ablations import VARIANTS, caption
from ctxe_lib.cli import app
from ctxe_lib.records import read_table
from ctxe_lib.training import (
    Recipe,
    Trainer,
    TrainingStopped,
    batch_starts,
    continued_log,
    learning_rate,
    read_log,
)

RECIPE = Recipe(
    kind="magnitude", corpus="tiny", steps=4, batch=2, validate_every=2, validation_segments=4, warmup=2, seed=3
)


@pytest.fixture(scope="module", autouse=True)
def few_statistics():
    """Validations that do not wait for a thousand examples, where nothing depends on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STATISTICS", 4)
        yield


def trainer(corpus, geometry, folder, **changes):
    return Trainer(dataclasses.replace(RECIPE, **changes), corpus, geometry, folder)


@pytest.fixture(scope="module")
def finished(tiny_corpus, geometry, tmp_path_factory):
    """An uninterrupted run of four steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run = trainer(tiny_corpus, geometry, folder)
    run.train(progress=False)
    return run, folder


def test_a_run_lowers_its_loss_and_leaves_everything_behind(finished):
    _, folder = finished
    log = read_log(folder)
    assert log["step"].tolist() == [2, 4] and log["examples"].tolist() == [4, 8]
    assert np.isfinite(log.to_numpy(float)).all()
    assert {p.name for p in folder.iterdir()} == {
        "recipe.json",
        "state.safetensors",
        "best.safetensors",
        "log.jsonl",
        "tensorboard",
    }
    assert any((folder / "tensorboard").iterdir())


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(finished, tiny_corpus, geometry, tmp_path):
    whole, folder = finished
    first = trainer(tiny_corpus, geometry, tmp_path / "parts")
    first.train(progress=False, until=2)
    # a kill after the checkpoint leaves rows and state of different ages
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 3, "validation_loss": 0.0}) + "\n")
    second = trainer(tiny_corpus, geometry, tmp_path / "parts")
    assert second.step == 2
    second.train(progress=False)
    timeless = ["step", "loss", "validation_loss", "validation_snr", "rate"]
    assert read_log(tmp_path / "parts")[timeless].equals(read_log(folder)[timeless])
    for ours, theirs in zip(second.encoder.model.variables, whole.encoder.model.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_log_counts_on_from_the_network_that_a_run_started_from(tmp_path):
    log = pd.DataFrame({"examples": [10, 20], "seconds": [1.0, 2.5], "loss": [0.2, 0.1]})
    before = {"name": "first", "kind": "magnitude", "examples": 30, "hours": 0.01}
    assert continued_log(log, "magnitude", None, tmp_path).equals(log)
    counted = continued_log(log, "magnitude", before, tmp_path)  # its log is lost
    assert counted["examples"].tolist() == [40, 50] and counted["seconds"].tolist() == [37.0, 38.5]
    # a longer log: this very run's, exported before
    rows = pd.DataFrame({"examples": [15, 30, 40], "seconds": [20.0, 36.0, 37.0], "loss": [0.4, 0.3, 0.2]})
    rows.to_json(tmp_path / "first.log.jsonl", orient="records", lines=True)
    whole = continued_log(log, "magnitude", before, tmp_path)
    assert whole["examples"].tolist() == [15, 30, 40, 50] and whole["loss"].tolist() == [0.4, 0.3, 0.2, 0.1]
    assert continued_log(log, "complex", before, tmp_path).equals(counted)


def test_another_recipe_does_not_touch_the_run(finished, tiny_corpus, geometry):
    _, folder = finished
    before = (folder / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match=rf"rate={RECIPE.rate} \(now 0.01\)"):
        trainer(tiny_corpus, geometry, folder, rate=0.01)
    assert (folder / "recipe.json").read_bytes() == before


def test_a_termination_signal_saves_the_step_at_hand(tiny_corpus, geometry, tmp_path):
    run = trainer(tiny_corpus, geometry, tmp_path / "run", steps=10_000, validate_every=10_000)

    def terminate():
        while run.step < 1:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(TrainingStopped, match="goes on from there"):
        run.train(progress=False)
    assert run.step >= 1
    assert trainer(tiny_corpus, geometry, tmp_path / "run", steps=10_000, validate_every=10_000).step == run.step


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tiny_corpus, geometry, tmp_path):
    run = trainer(tiny_corpus, geometry, tmp_path / "run")
    run.train(progress=False, until=2)
    good = (tmp_path / "run" / "state.safetensors").read_bytes()
    run.encoder.model.variables[0].assign(np.full(run.encoder.model.variables[0].shape, np.nan))
    with pytest.raises(TrainingStopped, match=rf"(loss=nan|is not finite) at step \d: .*rate={RECIPE.rate}"):
        run.train(progress=False)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == good


def test_a_full_disk_is_reported_before_a_checkpoint_is_lost(tiny_corpus, geometry, tmp_path, monkeypatch):
    run = trainer(tiny_corpus, geometry, tmp_path / "run")
    usage = training.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(training.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    with pytest.raises(TrainingStopped, match="10 MB left"):
        run.train(progress=False, until=2)
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_errors_of_the_reading_thread_reach_the_caller(tiny_corpus, geometry, tmp_path, monkeypatch):
    run = trainer(tiny_corpus, geometry, tmp_path / "run")
    monkeypatch.setattr(type(tiny_corpus), "read", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        run.train(progress=False)


def test_data_order_depends_on_seed_and_step_alone():
    starts = np.arange(1000)
    again = batch_starts(starts, RECIPE, 7)
    np.testing.assert_array_equal(again, batch_starts(starts, RECIPE, 7))
    assert not np.array_equal(again, batch_starts(starts, RECIPE, 8))
    assert not np.array_equal(again, batch_starts(starts, dataclasses.replace(RECIPE, seed=4), 7))


def test_schedules():
    paper = Recipe.paper("magnitude", "music-fma")
    assert (paper.steps, paper.batch, paper.regularisation) == (800_000, 256, 0.01)
    assert [learning_rate(paper, s) for s in (0, 599_999, 600_000, 799_999)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    ramp = dataclasses.replace(RECIPE, steps=100, warmup=10, cooldown=20, rate=1.0)
    assert [learning_rate(ramp, s) for s in (0, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05])


def test_a_run_of_which_no_optimizer_is_known_had_adam():
    stored = dataclasses.asdict(RECIPE)
    assert training.recipe_from(stored) == RECIPE
    del stored["optimizer"]
    assert training.recipe_from(stored) == dataclasses.replace(RECIPE, optimizer="adam")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"kind": "phase"}, "kind='phase'"),
        ({"averaging": 1.0}, "averaging=1.0"),
        ({"rate": 0}, "rate=0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


def test_a_network_starts_from_stored_weights(tiny_corpus, geometry, finished, tmp_path, project_folders):
    whole, _ = finished
    earlier = {"name": "before", "examples": 3, "environment": {"processor": "Z80"}}
    facts = {"examples": 8, "hours": 0.1, "environment": {"processor": "6502"}, "started_from": earlier}
    card = weights.save_encoder(whole.averaged, "first", facts)
    magnitude = trainer(tiny_corpus, geometry, tmp_path / "magnitude", start="first")
    segments = tiny_corpus.read(tiny_corpus.starts("train")[:2])
    assert np.allclose(magnitude.encoder.predict(segments), whole.averaged.predict(segments), rtol=0.01, atol=1e-3)
    assert magnitude.started_from["sha256"] == json.loads(card.read_text())["sha256"]
    assert magnitude.started_from["environment"] == facts["environment"]
    assert magnitude.started_from["started_from"] == earlier

    complex_ = trainer(tiny_corpus, geometry, tmp_path / "complex", start="first", kind="complex")
    own, theirs = (dict(zip(weights.weight_names(x.model), x.model.variables, strict=True))
                   for x in (complex_.averaged, whole.averaged))  # fmt: skip
    np.testing.assert_allclose(own["dense/kernel"], theirs["dense/kernel"], rtol=1e-3, atol=1e-6)
    assert own["deconv5/kernel"].shape != theirs["deconv5/kernel"].shape

    correction = trainer(tiny_corpus, geometry, tmp_path / "correction", start="first", output="correction")
    own = dict(zip(weights.weight_names(correction.averaged.model), correction.averaged.model.variables, strict=True))
    np.testing.assert_allclose(own["deconv4/kernel"], theirs["deconv4/kernel"], rtol=1e-3, atol=1e-5)
    wanted = interpolation.magnitudes(segments, geometry)  # its last layer is fresh, and so begins near nothing
    np.testing.assert_allclose(correction.encoder.predict(segments), wanted, atol=0.05 * wanted.max())
    assert np.linalg.norm(own["deconv5/kernel"] - theirs["deconv5/kernel"]) > 0.1 * np.linalg.norm(
        theirs["deconv5/kernel"]
    )

    card.unlink()  # a run that has begun does without
    complex_.train(progress=False, until=2)
    again = trainer(tiny_corpus, geometry, tmp_path / "complex", start="first", kind="complex")
    assert again.step == 2 and again.started_from == complex_.started_from
    with pytest.raises(ValueError, match="they must agree"):
        weights.save_encoder(whole.averaged, "first", {"examples": 8, "hours": 0.1})
        trainer(tiny_corpus, geometry, tmp_path / "other", start="first", phases="frame")


def test_the_averaged_network_has_statistics_of_its_own_weights(tiny_corpus, geometry, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STATISTICS", 128)  # two portions
    run = trainer(tiny_corpus, geometry, tmp_path / "run", batch=4, steps=3, validate_every=3)
    run.train(progress=False)
    model = run.averaged.model
    norm = model.get_layer("conv1_norm")
    gathered = np.asarray(norm.moving_mean)
    run.result("last")
    starts = batch_starts(run.starts, dataclasses.replace(run.recipe, batch=128), 0)
    segments, _ = run.averaged.normalise(tf.constant(tiny_corpus.read(starts)))
    first = keras.Model(model.input, model.get_layer("conv1_relu").output)
    values = first(run.averaged.inputs(segments)[0]).numpy().reshape(-1, gathered.size).astype(np.float64)
    assert abs(gathered - values.mean(0)).max() > 0.1  # three steps gather next to nothing
    np.testing.assert_allclose(norm.moving_mean, values.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, values.var(0), rtol=1e-3, atol=1e-4)


def test_taking_the_best_network_leaves_the_log_whole(tiny_corpus, geometry, tmp_path):
    run = trainer(tiny_corpus, geometry, tmp_path / "run")
    run.train(progress=False, until=2)
    run.best = -math.inf  # nothing after is better
    run.train(progress=False)
    trainer(tiny_corpus, geometry, tmp_path / "run").result("best")
    assert read_log(tmp_path / "run")["step"].tolist() == [2, 4]


def test_the_study_of_the_recipe_by_command(tiny_corpus, project_folders):
    shutil.copytree(tiny_corpus.folder, project_folders / "data" / tiny_corpus.name)
    output = project_folders / "complex-ablations.parquet"
    arguments = ["ablate", str(output), "--kind", "complex", "--corpus", tiny_corpus.name, "--no-progress"]
    small = ["--steps", "1", "--batch", "2", "--validation-segments", "2", "--precision", "mixed"]
    result = CliRunner().invoke(app, [*arguments, *small])
    assert result.exit_code == 0, result.output
    table, record = read_table(output, "ctxe ablate")
    assert table["variant"].tolist() == list(VARIANTS["complex"]) and (table["examples"] == 2).all()
    assert record["recipe"]["kind"] == "complex" and record["split"] == "validation"
    assert record["data"] == tiny_corpus.fingerprint
    recipes = (project_folders / "runs").glob("ablation-complex-*/recipe.json")
    chosen = [json.loads(recipe.read_text()) for recipe in recipes]
    assert sorted((recipe["phases"], recipe["precision"], recipe["optimizer"]) for recipe in chosen) == [
        ("continued", "mixed", "adam"),
        ("continued", "mixed", "muon"),
        ("continued", "single", "muon"),
        ("frame", "mixed", "muon"),
    ]


def test_seeds_instead_of_variants_are_scored_on_the_same_segments(tiny_corpus, project_folders):
    shutil.copytree(tiny_corpus.folder, project_folders / "data" / tiny_corpus.name)
    output = project_folders / "seeds.parquet"
    arguments = ["ablate", str(output), "--corpus", tiny_corpus.name, "--no-progress", "--seeds", "2", "--seed", "3"]
    small = ["--option", "width=8", "--option", "blocks=1", "--validation-segments", "4", "--pool", "8"]
    result = CliRunner().invoke(app, [*arguments, *small, "--steps", "2", "--batch", "4"])
    assert result.exit_code == 0, result.output
    table, record = read_table(output, "ctxe ablate")
    assert table["variant"].tolist() == ["seed 3", "seed 4"] and record["what"] == "seeds of the hybrid network"
    assert table["snr_ms"][0] != table["snr_ms"][1]  # different networks
    untrained = table["snr_ms"] - table["gain_ms"]  # from the same estimate of the same segments
    assert untrained[0] == pytest.approx(untrained[1], abs=1e-5)
    said = caption(output, record)
    assert 'href="../records.html#weights-seeds"' in said and "8 examples each, 4 segments" in said and "seed 3" in said
