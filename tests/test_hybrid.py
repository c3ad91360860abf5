from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ctxe_lib import hybrid, inpaint, interpolation, janssen, lpc, metrics, stft, tf_stft, weights
from ctxe_lib.ablations import VARIANTS, ablate, spread
from ctxe_lib.cli import app
from ctxe_lib.corpus import JoinedCorpus, open_corpora
from ctxe_lib.hybrid import ExampleCache, Hybrid, Options, build_hybrid
from ctxe_lib.training import Recipe, Trainer, batch_starts, read_log

SMALL = {"width": 8, "blocks": 2, "bins": 64, "orders": (64, 300), "interpolated": True}


def network(geometry, scale=0.0, **options):
    """A hybrid with random weights of some size added to its initial ones."""
    chosen = Options(**SMALL | options)
    system = Hybrid(build_hybrid(chosen, geometry, seed=0), geometry, chosen)
    for i, variable in enumerate(system.model.trainable_variables):
        variable.assign_add(scale * tf.random.stateless_normal(variable.shape, (i, 1)))
    return system


@pytest.fixture(scope="module")
def segments(tiny_corpus):
    return tiny_corpus.read(tiny_corpus.select("test", 2, 0)).astype(np.float64)


NO_EXPERTS = {"start": "interpolation", "orders": ()}


@pytest.mark.parametrize(
    ("options", "method"),
    [({}, janssen.inpaint), ({"start": "lpc"}, lpc.inpaint), (NO_EXPERTS, interpolation.inpaint)],
)
def test_untrained_it_is_the_estimate_that_it_corrects(segments, geometry, options, method):
    filled = network(geometry, **options).predict(segments)
    np.testing.assert_allclose(filled, method(segments, geometry), atol=1e-6)


def test_its_errors_are_those_of_the_scores(segments, geometry):
    system = network(geometry, 0.1)
    filled = system.predict(segments)
    scores = system.scores(system.examples(segments))
    np.testing.assert_allclose(scores["snr"], metrics.snr_ms(segments, filled, geometry), atol=2e-3)
    np.testing.assert_allclose(scores["snr_td"], metrics.snr_td(segments, filled, geometry), atol=2e-3)
    expected = -0.1 * (0.25 * scores["snr"] + 0.75 * scores["snr_td"])
    balanced = network(geometry, 0.1, balance=0.25).losses(tf.constant(system.examples(segments)))
    np.testing.assert_allclose(balanced, expected, atol=1e-3)


def test_where_the_experts_agree_no_weight_can_spoil_their_estimate(geometry):
    time = np.arange(geometry.length) / geometry.sample_rate
    tone = (0.3 * np.sin(2 * np.pi * 440 * time))[None]
    system = network(geometry, 0.3)
    noisy = tone + 0.05 * np.random.default_rng(0).normal(size=tone.shape)
    assert metrics.snr_td(tone, system.predict(tone), geometry) > 60
    assert metrics.snr_td(noisy, system.predict(noisy), geometry) < metrics.snr_td(
        noisy, janssen.inpaint(noisy, geometry), geometry
    )


def test_noise_gets_the_power_of_its_surroundings_where_linear_prediction_dies_away(geometry):
    noise = 0.1 * np.random.default_rng(0).normal(size=(4, geometry.length))
    system = network(geometry, bins=geometry.bins, iterations=0)
    bias = np.zeros((system.model.output_shape[-1] // geometry.gap_frames, geometry.gap_frames))
    bias[-2] = 1  # real part of the last weight, of the interpolated magnitudes
    system.model.get_layer("out").bias.assign(bias.ravel())
    middle = slice(geometry.gap // 4, -geometry.gap // 4)
    filled = {"janssen": janssen.inpaint(noise, geometry), "hybrid": system.predict(noise)}
    filled["noise"] = noise[:, geometry.gap_samples]
    power = {name: (gap[:, middle] ** 2).mean() for name, gap in filled.items()}
    assert power["janssen"] < 0.3 * power["noise"] < 0.5 * power["hybrid"] < 1.5 * power["noise"]


def test_the_gap_is_not_read_and_level_and_polarity_pass_through(segments, geometry):
    system = network(geometry, 0.1)
    filled = system.predict(segments)
    shouted = segments.copy()
    shouted[:, geometry.gap_samples] = 9.0
    np.testing.assert_array_equal(system.predict(shouted), filled)
    np.testing.assert_allclose(system.predict(-4 * segments), -4 * filled, atol=1e-5)


def test_a_batch_is_its_segments_one_by_one_and_silence_stays_silent(segments, geometry):
    system = network(geometry, 0.1)
    together = system.predict(segments, batch=3)
    np.testing.assert_allclose(together[::-1], system.predict(segments[::-1], batch=1), atol=1e-6)
    assert system.predict(segments[:0]).shape == (0, geometry.gap)
    assert not system.predict(np.zeros((1, geometry.length))).any()
    assert np.isfinite(system.losses(tf.zeros((1, system.example_length)))).all()


def test_synthesis_of_a_gap_is_that_of_numpy(geometry):
    rng = np.random.default_rng(0)
    gap = rng.normal(size=(2, geometry.gap_frames, geometry.bins, 2)) @ [1, 1j]
    whole = np.zeros((2, geometry.length // geometry.hop, geometry.bins), complex)
    whole[:, geometry.touched_frames] = gap
    ours = tf_stft.gap_signal(tf.constant(gap, tf.complex64), geometry)
    np.testing.assert_allclose(ours, stft.gap_audio(whole, geometry), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width=0 must be an integer >= 1"),
        ({"balance": 1.5}, r"balance=1.5 must lie in \[0, 1\]"),
        ({"start": "zeros"}, "start='zeros' must be"),
        ({"bins": 999}, "bins=999 must be 257 at most"),
        ({"surroundings": 99}, "surroundings=99 13"),
        ({"orders": [500, 0]}, "must be integers > 0"),
        ({"interpolated": True, "surroundings": 0}, "needs surroundings > 0"),
        ({"start": "interpolation"}, r"needs orders=\(\) and interpolated=True, got \(256, 512, 1000\)"),
    ],
)
def test_options_that_can_not_be(geometry, change, message):
    with pytest.raises(ValueError, match=message):
        build_hybrid(Options(**change), geometry)


@pytest.mark.parametrize(
    "change",
    [
        {"surroundings": 0, "interpolated": False},
        {"orders": ()},
        {"phases": True},
        {"blocks": 0},
        NO_EXPERTS,
        NO_EXPERTS | {"phases": True},
    ],
)
def test_every_ablation_runs(segments, geometry, change):
    filled = network(geometry, 0.1, **change).predict(segments[:2])
    assert np.isfinite(filled).all() and filled.any()


def test_without_linear_prediction_there_is_none(segments, geometry, monkeypatch):
    for method in (lpc, janssen):
        monkeypatch.setattr(method, "inpaint", lambda *_, **__: pytest.fail("linear prediction was asked"))
    system = network(geometry, 0.1, **NO_EXPERTS)
    gap = interpolation.inpaint(segments[:2], geometry)
    assert np.abs(system.predict(segments[:2]) - gap).max() > 0.01 * np.abs(gap).max()


def test_examples_are_worked_out_once(tiny_corpus, geometry, tmp_path, monkeypatch):
    system, starts = network(geometry), tiny_corpus.starts("train")[:6]
    cache = ExampleCache(tmp_path, tiny_corpus, system, starts)
    first = cache.read(starts[[4, 1, 1]])
    np.testing.assert_array_equal(first, system.examples(tiny_corpus.read(starts[[4, 1, 1]])))
    asked = []
    whole = Hybrid.examples
    monkeypatch.setattr(Hybrid, "examples", lambda self, x: (asked.append(len(x)), whole(self, x))[1])
    again = ExampleCache(tmp_path, tiny_corpus, system, starts)
    np.testing.assert_array_equal(again.read(starts[[1, 4, 0]])[:2], first[[1, 0]])
    assert asked == [1]
    ExampleCache(tmp_path, tiny_corpus, network(geometry, start="lpc"), starts).read(starts[[4]])
    assert asked == [1, 1] and len(list(tmp_path.glob("*.f32"))) == 2


def test_a_disk_too_full_for_the_examples_is_reported(tiny_corpus, geometry, tmp_path, monkeypatch):
    usage = hybrid.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(hybrid.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match="take a smaller pool"):
        ExampleCache(tmp_path, tiny_corpus, network(geometry), tiny_corpus.starts("train"))


def test_joined_corpora_are_read_as_each_of_them(tiny_corpus):
    joined = JoinedCorpus([tiny_corpus, tiny_corpus])
    own, both = tiny_corpus.starts("train"), joined.starts("train")
    assert len(both) == 2 * len(own) and joined.name == "tiny+tiny" and joined.fingerprint != tiny_corpus.fingerprint
    mixed = both[[-1, 0, len(own) - 1]]
    np.testing.assert_array_equal(joined.read(mixed), tiny_corpus.read(own[[-1, 0, -1]]))
    assert open_corpora("tiny", tiny_corpus.folder.parent).fingerprint == tiny_corpus.fingerprint


def test_training_improves_the_validation_and_resumes_exactly(tiny_corpus, geometry, tmp_path, project_folders):
    recipe = Recipe.hybrid(
        "tiny+tiny", 24, batch=8, pool=32, warmup=2, averaging=0.5, validate_every=12, validation_segments=8,
        rate=1e-3, options=SMALL,
    )  # fmt: skip
    corpus = JoinedCorpus([tiny_corpus, tiny_corpus])
    whole = Trainer(recipe, corpus, geometry, tmp_path / "runs" / "whole")
    before = whole.averaged.scores(whole.validation)["loss"].mean()
    whole.train(progress=False)
    log = read_log(whole.folder)
    assert log["validation_loss"].iloc[-1] < before and {"validation_snr", "validation_snr_td"} <= set(log)

    parts = Trainer(recipe, corpus, geometry, tmp_path / "runs" / "parts")
    parts.train(progress=False, until=12)
    parts = Trainer(recipe, corpus, geometry, tmp_path / "runs" / "parts")
    parts.train(progress=False)
    for ours, theirs in zip(parts.encoder.model.variables, whole.encoder.model.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))

    system = whole.result("last")
    weights.save_encoder(system, "hybrid", {"examples": 0})
    segments = tiny_corpus.read(tiny_corpus.select("test", 2, 0)).astype(np.float64)
    loaded = inpaint.inpaint("hybrid", segments, geometry, trained_on="instruments")
    exact = system.predict(segments)
    for score in (metrics.snr_td, metrics.snr_ms):
        difference = score(segments, loaded, geometry) - score(segments, exact, geometry)
        assert abs(difference).max() < 0.05


def test_a_card_of_another_version_is_refused(project_folders, geometry):
    options = Options(**SMALL)
    weights.save_encoder(Hybrid(build_hybrid(options, geometry, seed=0), geometry, options), "hybrid", {"examples": 0})
    path = project_folders / "weights" / "hybrid.json"
    card = json.loads(path.read_text())
    del card["options"]["interpolated"]
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"the card of hybrid is of another version .* in the options interpolated"):
        weights.load_encoder("hybrid")


def test_seeds_share_the_pool_and_draw_from_it_in_their_own_order(tiny_corpus, geometry, tmp_path):
    runs = [
        Trainer(
            Recipe.hybrid("tiny", 1, batch=4, pool=8, validation_segments=4, options=SMALL, seed=seed),
            tiny_corpus,
            geometry,
            tmp_path / str(seed),
        )
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(runs[0].starts, runs[1].starts)
    drawn = [batch_starts(run.starts, run.recipe, 0).tolist() for run in runs]
    assert len(runs[0].starts) == 8 and drawn[0] != drawn[1]


def test_no_variant_is_another_by_a_second_name():
    chosen = [Options(**change["options"]) for change in VARIANTS["hybrid"].values()]
    assert len(set(chosen)) == len(chosen)


def test_ablations_train_what_they_name(tiny_corpus, tmp_path):
    variants = {"as it is": {}, "no blocks": {"blocks": 0}, "from LPC": {"start": "lpc"}}
    variants = {name: {"options": options} for name, options in variants.items()}
    recipe = Recipe.hybrid("tiny", 3, options=SMALL, batch=4, pool=8, validation_segments=4, warmup=1)
    table = ablate(recipe, variants, tiny_corpus, tmp_path, progress=False)
    assert table["variant"].tolist() == list(variants) and (table["examples"] == 12).all()
    assert table["parameters"][1] < table["parameters"][0]
    start = table["snr_ms"] - table["gain_ms"]
    assert start[0] == pytest.approx(start[1]) and start[0] != pytest.approx(start[2])


def test_the_spread_of_seeds_holds_the_share_it_says():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        *few, one_more = rng.normal(3.0, 0.2, 4)
        low, high = spread(pd.Series(few), 0.8)
        inside += low < one_more < high
    assert inside / 2000 == pytest.approx(0.8, abs=0.03)
    with pytest.raises(ValueError, match="--seeds 3"):
        spread(pd.Series([1.0]))


def test_a_recipe_names_what_does_not_fit():
    with pytest.raises(ValueError, match="only a hybrid has any"):
        Recipe(kind="magnitude", corpus="tiny", steps=1, options={"width": 2})
    with pytest.raises(ValueError, match="loss='paper' must be one of snr"):
        dataclasses.replace(Recipe.hybrid("tiny", 1), loss="paper")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "hybrid", "--option", "widht=3"], "--option widht=3 must be name=value with a name among width"),
        (["--option", "width=3"], "only --kind hybrid has options"),
        (["--kind", "hybrid", "--option", "start=zeros"], "start='zeros' must be"),
    ],
)
def test_the_command_line_names_a_wrong_option(project_folders, arguments, message):
    result = CliRunner().invoke(app, ["train", "run", *arguments])
    assert result.exit_code == 1 and message in " ".join(result.output.split())
