from __future__ import annotations

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest

from ctxe_lib import ablations, claims, claims_page, measures, probes
from ctxe_lib.claims import judge
from ctxe_lib.evaluation import evaluate
from ctxe_lib.measures import MEASURES, Effort, NotTestable
from ctxe_lib.paths import ROOT, results_folder
from ctxe_lib.records import write_table
from ctxe_lib.tables import NotMeasured, Results

EXACT, SIGNED = {"equals": 38, "tolerance": 0.5}, {"equals": 1.4, "tolerance": 0.5, "direction": True}


@pytest.mark.parametrize(
    ("numbers", "rule", "verdict"),
    [
        ((37.6, 37.6, 37.6), EXACT, "confirmed"),
        ((37.4, 37.4, 37.4), EXACT, "not confirmed"),
        ((1.2, 0.4, 2.0), SIGNED, "confirmed"),
        ((3.0, 0.4, 5.0), SIGNED, "direction confirmed"),
        ((1.2, -0.1, 2.0), SIGNED, "not confirmed"),
        ((-1.2, -2.0, -0.4), SIGNED, "not confirmed"),
        ((-9.0, -12.0, -6.0), {"equals": -8.1, "tolerance": 1, "direction": True}, "confirmed"),
        ((16.0, 15.5, 17.0), {"at_least": 15}, "confirmed"),
        ((16.0, 14.0, 17.0), {"at_least": 15}, "direction confirmed"),
        ((16.0, -1.0, 30.0), {"at_least": 15}, "not confirmed"),
        ((0.5, 0.1, 0.9), {"at_least": 0}, "confirmed"),
        ((0.5, -0.1, 0.9), {"at_least": 0}, "not confirmed"),
        ((4.0, 3.0, 4.9), {"at_most": 5}, "confirmed"),
        ((4.0, 3.0, 5.1), {"at_most": 5}, "not confirmed"),
        ((1.2, math.nan, math.nan), SIGNED, "not confirmed"),
    ],
)
def test_verdicts_follow_from_numbers(numbers, rule, verdict):
    assert judge(*numbers, rule)[0] == verdict


def test_what_has_no_verdict_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        judge(math.nan, 0, 1, EXACT)
    with pytest.raises(ValueError, match="must have equals"):
        judge(1, 0, 2, {"near": 3})


def test_every_claim_can_be_measured_or_says_why_not():
    listed = claims.claims()
    assert len({claim["id"] for claim in listed}) == len(listed) >= 30
    assert {claim["section"][0] for claim in listed} == set("2345")
    for claim in listed:
        assert ("untestable" in claim) != ("measure" in claim), claim["id"]
        assert claim.get("measure", next(iter(MEASURES))) in MEASURES
        assert "measure" not in claim or len({"equals", "at_least", "at_most"} & set(claim["rule"])) == 1
    used = {claim["measure"] for claim in listed if "measure" in claim}
    assert used == set(MEASURES), "no measure without a claim"
    assert sum("released_code" in claim for claim in listed) >= 8, "each disagreement of paper and code"


@pytest.fixture(scope="module")
def scored(tiny_corpus, tmp_path_factory):
    """A small corpus as both kinds, with scores of two methods."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").mkdir()
    (folder / "weights").mkdir()
    (folder / "data/tiny").symlink_to(tiny_corpus.folder)
    path = folder / "results/tiny.parquet"
    evaluate(tiny_corpus, path, methods=["interpolation", "lpc"], per_track=1, n_jobs=1, progress=False)
    return folder


@pytest.fixture
def results(scored, monkeypatch):
    for name in ("data", "weights", "results"):
        monkeypatch.setenv(f"CTXE_{name.upper()}", str(scored / name))
    return Results({"music": "tiny", "instruments": "tiny"}, draws=50)


@pytest.fixture
def rows(results):
    return claims.ledger(results, Effort(semitones=10.5, sums=2, per_track=1, most=2))


def test_the_ledger_holds_every_claim_and_survives_the_disk(rows, results):
    claims.check(rows)
    path = claims.write(rows, results)
    record = claims.read(path.parent)
    assert record["claims"] == json.loads(json.dumps(rows))
    assert sum(record["summary"].values()) == len(rows) and set(record["summary"]) == set(claims.VERDICTS)
    by_id = {row["id"]: row for row in rows}
    assert by_id["dense-share"]["verdict"] == "confirmed" and by_id["dense-share"]["value"] == pytest.approx(
        37.6, abs=0.1
    )
    assert by_id["loss-released"]["verdict"] == "not confirmed"
    assert by_id["text-complex"]["value"] == pytest.approx(3.9)
    missing = by_id["complex-lpc-music"]
    assert missing["verdict"] == "not yet measured" and missing["command"].startswith("ctxe train music-complex")
    assert by_id["short-lpc-music"]["command"] == "ctxe gaps results/tiny-gaps.parquet --corpus tiny"
    assert by_id["c-five"]["verdict"] == "not testable here" and by_id["c-five"]["reason"]
    scores = results.table("music").query("method == 'lpc'")["snr_ms"]
    assert by_id["lpc-level-music"]["value"] == pytest.approx(scores.mean())

    page = claims_page.html(rows)
    assert all(f'id="{row["id"]}"' in page for row in rows)
    assert "<script" not in page and page.count('type="radio"') == 1 + sum(n > 0 for n in claims.summary(rows).values())

    for change in ({"verdict": "not confirmed"}, {"value": 99.0, "low": 99.0, "high": 99.0}):
        wrong = copy.deepcopy(rows)
        next(row for row in wrong if row["id"] == "dense-share").update(change)
        with pytest.raises(ValueError, match="dense-share"):
            claims.write(wrong, results)
    unmeasured = copy.deepcopy(rows)
    next(row for row in unmeasured if row["id"] == "complex-lpc-music")["verdict"] = "confirmed"
    with pytest.raises(ValueError, match="complex-lpc-music"):
        claims.check(unmeasured)
    with pytest.raises(ValueError, match=r"missing: .*dense-share"):
        claims.check([row for row in rows if row["id"] != "dense-share"])


@pytest.mark.parametrize(
    ("numbers", "unit", "counts", "text"),
    [
        ((11.31, 8.309, 14.42), "dB", (60, 27), "11.3 (8.3 to 14.4) dB; n = 60 in 27 clusters"),
        ((0.0213, -0.0041, 0.08), "dB", (23, 23), "0.02 (0.00 to 0.08) dB; n = 23"),
        ((1667.9, 1667.9, 1667.9), "times", (0, 0), "1,668 times"),
        ((3.0, 3.0, 3.0), "", (0, 0), "3"),
        ((4e-15, 4e-15, 4e-15), "dB", (0, 0), "4e-15 dB"),
    ],
)
def test_values_and_their_intervals_have_equally_many_decimals(numbers, unit, counts, text):
    row = dict(zip(("value", "low", "high"), numbers, strict=True)) | {"unit": unit}
    assert claims.obtained(row | dict(zip(("segments", "clusters"), counts, strict=True))) == text


def test_every_claim_is_in_one_group(rows):
    groups = claims.grouped(rows)
    assert tuple(groups) == claims.GROUPS
    assert sorted(row["id"] for group in groups.values() for row in group) == sorted(row["id"] for row in rows)
    where = {row["id"]: name for name, group in groups.items() for row in group}
    assert (where["dense-share"], where["loss-released"], where["text-complex"], where["c-five"]) == (
        "confirmed",
        "own disagreement",
        "own disagreement",
        "not testable",
    )
    assert where["complex-lpc-music"] == "not measured"
    for high, group in ((-3.0, "not learnt"), (3.0, "otherwise")):
        margin = {"value": -4.0, "low": -5.0, "high": high, "examples": 1, "relative_to": ""}
        networks = {"music-magnitude": margin}
        row = {"id": "x", "value": 0.1, "verdict": "not confirmed", "released_code": "", "source": "m.parquet"}
        assert claims.grouped([row | {"networks": networks}])[group]


def test_a_network_below_interpolation_confirms_nothing():
    row = {"value": 0.1, "low": -0.2, "high": 0.3, "own": None, "rule": {"equals": 0, "tolerance": 1}}
    learnt = {"value": 2.0, "low": 1.0, "high": 3.0, "examples": 10**8, "relative_to": ""}
    unlearnt = {"value": -4.0, "low": -5.0, "high": -3.0, "examples": 13_280, "relative_to": "a phase vocoder's phases"}
    verdict, reason = claims._verdict(row | {"networks": {"music-magnitude": learnt}})
    assert verdict == "confirmed" and "relative" not in reason
    verdict, reason = claims._verdict(row | {"networks": {"music-magnitude": unlearnt}})
    assert verdict == "not confirmed" and "13,280 examples" in reason and "-4.0 dB" in reason
    assert "relative to a phase vocoder's phases" in reason


@pytest.mark.parametrize(("low", "expected"), [(-0.1, "not confirmed"), (0.1, "confirmed")])
def test_a_correction_of_interpolation_that_does_not_surpass_it_confirms_nothing(low: float, expected: str) -> None:
    row = {"value": 0.1, "low": -0.2, "high": 0.3, "own": None, "rule": {"equals": 0, "tolerance": 1}}
    margin = {"value": 0.5, "low": low, "high": 1.0, "examples": 1, "relative_to": "interpolated magnitudes"}
    verdict, reason = claims._verdict(row | {"networks": {"instruments-magnitude": margin}})
    assert verdict == expected and "relative to interpolated magnitudes" in reason
    margin["relative_to"] = ""
    assert claims._verdict(row | {"networks": {"instruments-magnitude": margin}})[0] == "confirmed"


def test_silence_does_not_follow_a_sweep():
    """Where LPC is worse than nothing, a gain over it is had by silence, whose SNR is 0 dB."""
    rule = {"at_least": 0, "own_above": 0}
    assert judge(3.0, 2.0, 4.0, rule, own=1.0)[0] == "confirmed"
    for own in (0.0, -1.0, math.nan, None):
        verdict, reason = judge(3.0, 2.0, 4.0, rule, own)
        assert verdict == "not confirmed" and reason.endswith("not above 0")
    sweeps = [claim for claim in claims.claims() if claim.get("measure") == "sweep_gain"]
    assert len(sweeps) == 2 and all(claim["rule"] == rule for claim in sweeps)
    assert claims.rule_text(rule) == "≥ 0, its own above 0"


def test_measures_from_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    scores = pd.DataFrame(
        {
            "cluster": np.repeat(["a", "b", "c"], 4),
            "segment": np.arange(12),
            "snr_ms": np.arange(12.0),
            "split": ["train", "test"] * 6,
        }
    )
    both = pd.concat([scores.assign(method="lpc"), scores.assign(method="complex", snr_ms=scores["snr_ms"] + 3)])
    record = {"corpus": "m", "rendered": False, "data": "", "weights": {}, "seed": 0, "seconds": {}}
    write_table(tmp_path / "m.parquet", both, record)
    raw = scores.assign(method="magnitude", snr_raw=np.where(scores["split"] == "train", 5.0, 3.0))
    write_table(tmp_path / "m-overfit.parquet", raw, record)
    gaps = pd.concat([scores.assign(method="lpc", gap_ms=ms, snr_ms=100.0 - ms, snr_td=0.0) for ms in (48, 64)])
    write_table(tmp_path / "m-gaps.parquet", gaps.assign(enlargement="none"), record)
    results, effort = Results({"music": "m", "instruments": "m"}, folder=tmp_path, draws=100), Effort()
    measured = {name: lambda _name=name, **options: MEASURES[_name](results, effort, **options) for name in MEASURES}
    pair = {"kind": "music", "method": "complex", "other": "lpc", "metric": "snr_ms"}
    difference = measured["difference"](**pair)
    assert (difference.value, difference.low, difference.high, difference.segments) == (3, 3, 3, 12)
    assert measured["extreme"](**pair, which="max").value == 3
    assert measured["kind_gain"](method="lpc", metric="snr_ms").value == 0
    split = measured["split_difference"](kind="music", method="magnitude")
    assert (split.value, split.low, split.high) == (2, 2, 2)
    change = measured["gap_change"](kind="music", method="lpc", gap_ms=48, other_ms=64)
    assert (change.value, change.clusters) == (16, 3)
    with pytest.raises(NotMeasured, match="ctxe train music-magnitude"):
        measured["gap_difference"](kind="music", method="magnitude", other="lpc", gap_ms=48)


def test_measures_from_probes(tmp_path, monkeypatch):
    frequency = probes.frequencies(1.5)
    on_notes = np.abs(probes.cents(frequency)) < 10
    levels = {
        ("lpc", "", "tones", "paper"): 40.0,
        ("complex", "instruments", "tones", "paper"): np.where(on_notes, 30.0, 10.0),
        ("complex", "music", "tones", "paper"): np.where(on_notes, 12.0, 10.0),
        ("magnitude", "instruments", "tones", "paper"): np.where(frequency < 200, 35.0, 25.0),
        ("lpc", "", "sweeps", "linear"): 1.0,
        ("lpc", "", "sweeps", "exponential"): 3.0,
        ("magnitude", "music", "sweeps", "linear"): 6.0,
    }
    names = ("method", "trained_on", "probe", "reading")
    parts = [
        pd.DataFrame({"frequency": frequency, "snr_ms": level}).assign(**dict(zip(names, key, strict=True)))
        for key, level in levels.items()
    ]
    monkeypatch.setattr(probes, "probe", lambda *_, **__: (pd.concat(parts), {}))
    results, effort = Results({"music": "m", "instruments": "i"}, folder=tmp_path, draws=100), Effort()

    def value(name, **options):
        return MEASURES[name](results, effort, **options).value

    magnitude = {"kind": "instruments", "method": "magnitude"}
    assert value("note_contrast", kind="instruments", method="complex") == pytest.approx(20)
    assert value("contrast_gain", method="complex") == pytest.approx(18)
    assert value("tone_gain", **magnitude, other="lpc") == pytest.approx(np.mean(np.where(frequency < 200, -5, -15)))
    assert value("tone_bands", **magnitude, band=(20, 200), other=(200, 8000)) == pytest.approx(10)
    assert value("tone_level", **magnitude, band=(4000, 8000)) == pytest.approx(25)
    sweeps = MEASURES["sweep_gain"](results, effort, kind="music", method="magnitude", reading="linear")
    assert (sweeps.value, sweeps.own) == (pytest.approx(5), pytest.approx(6))
    assert value("sweep_readings", method="lpc") == pytest.approx(2)
    with pytest.raises(NotTestable, match="no tone lies from 1 to 2 Hz"):
        value("tone_level", **magnitude, band=(1, 2))
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    with pytest.raises(NotMeasured, match="ctxe train music-magnitude"):
        value("tone_level", kind="music", method="magnitude", band=(20, 200))


def test_losses_are_compared_at_equal_budgets(tmp_path, monkeypatch):
    monkeypatch.setenv("CTXE_WEIGHTS", str(tmp_path))
    results = Results({"music": "m", "instruments": "i"}, folder=tmp_path)
    path = tmp_path / "magnitude-ablations.parquet"
    assert set(measures.LOSS_VARIANTS) <= set(ablations.VARIANTS["magnitude"])
    for table in (None, pd.DataFrame({"variant": ["as it is"], "snr_raw": [4.0]})):
        if table is not None:
            write_table(path, table, {})
        with pytest.raises(NotMeasured, match="make studies"):
            MEASURES["loss_effect"](results, Effort(), kind="magnitude")
    write_table(path, pd.DataFrame({"variant": ["as it is", *measures.LOSS_VARIANTS], "snr_raw": [4.0, 3.0, 2.5]}), {})
    measured = MEASURES["loss_effect"](results, Effort(), kind="magnitude")
    assert (measured.value, measured.source) == (pytest.approx(0.5), "weights/magnitude-ablations.parquet")


def test_the_stored_ledger_still_follows_from_its_numbers():
    """Whatever ledger lies in results/ must agree with the rules as they are now."""
    if not (results_folder() / "claims.json").exists():
        pytest.skip(f"no ledger in {results_folder().relative_to(ROOT)}: `make notebooks ONLY=12` makes one")
    claims.read(results_folder())
