"""What notebooks 03 to 05 vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctxe_lib import lpc, metrics, peaq, studies
from ctxe_lib.corpus import Corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.statistics import cluster_bootstrap
from ctxe_lib.stft import gap_coefficients

VECTORS = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    """Segments of tones, notes and speech."""
    with np.load(VECTORS / "lpc.npz") as file:
        return file["segment"][[0, 1, 6]] / 32768


# -- segments, scores, differences --------------------------------------------------------------------------------


def test_chosen_segments_belong_to_the_split_and_their_track(tiny_corpus: Corpus) -> None:
    starts, clusters = studies.choose(tiny_corpus, "test", 3)
    rows = tiny_corpus.tracks.iloc[tiny_corpus.track_rows(starts)]
    assert len(starts) == 12 and set(rows["split"]) == {"test"}
    np.testing.assert_array_equal(clusters, rows["track"])
    fewer, of_them = studies.choose(tiny_corpus, "test", 3, most=5)
    assert len(fewer) == len(of_them) == 5 and set(fewer) <= set(starts)
    assert fewer[0] < starts[3] and fewer[-1] > starts[8], "thinned evenly, not cut off"


def test_chosen_segments_have_room(tiny_corpus: Corpus) -> None:
    starts, clusters = studies.choose(tiny_corpus, "test", 8, room=(8_000, 10_000))
    rows = tiny_corpus.tracks.iloc[tiny_corpus.track_rows(starts)]
    assert 0 < len(starts) == len(clusters) < 32
    assert (starts - 8_000 >= rows["offset"]).all() and (starts + 10_000 <= rows["offset"] + rows["samples"]).all()
    with pytest.raises(ValueError, match=r"no segment of tiny's test split has room=\(0, 99999\)"):
        studies.choose(tiny_corpus, "test", 8, room=(0, 99_999))


def test_scores_and_differences(sounds: np.ndarray, geometry: Geometry) -> None:
    true = sounds[:, geometry.gap_samples]
    gaps = {"half": true / 2, "near": true * 0.9, "exact": true}
    table = studies.scores(sounds, np.array(["a", "a", "b"], dtype=object), gaps, geometry)
    assert list(table.columns) == ["cluster", "segment", "method", "snr_td", "snr_ms"]
    np.testing.assert_allclose(table.query("method == 'half'")["snr_td"], 20 * np.log10(2))
    gain = studies.Difference.of(table, "snr_td", "near", "half")
    assert gain.mean == pytest.approx(20 * np.log10(5)) and gain.low == pytest.approx(gain.high)
    assert (gain.segments, gain.clusters, gain.excluded, gain.verdict) == (3, 2, 0, "above")
    assert studies.Difference.of(table, "snr_td", "half", "near").verdict == "below"
    unbounded = studies.Difference.of(table, "snr_td", "exact", "half")
    assert (unbounded.segments, unbounded.excluded) == (0, 3) and np.isnan(unbounded.mean)
    assert unbounded.verdict == "not distinguishable from"
    with pytest.raises(ValueError, match="'other' must be among"):
        studies.Difference.of(table, "snr_td", "near", "other")


def test_difference_is_paired_and_its_interval_over_clusters() -> None:
    rng = np.random.default_rng(0)
    level, gain = rng.normal(0, 20, 40), rng.normal(1, 0.1, 40)
    clusters = np.repeat(np.arange(10), 4)
    base = pd.DataFrame({"cluster": clusters, "segment": np.arange(40)})
    shuffled = base.assign(method="new", score=level + gain).sample(frac=1, random_state=0)
    table = pd.concat([base.assign(method="old", score=level), shuffled])
    found = studies.Difference.of(table, "score", "new", "old", draws=500)
    assert found.mean == pytest.approx(gain.mean())
    assert (found.low, found.high) == pytest.approx(cluster_bootstrap(gain, clusters, draws=500))


# -- linear prediction --------------------------------------------------------------------------------------------


def test_estimators_recover_a_sinusoid_or_not() -> None:
    x = np.cos(0.3 * np.arange(400) + 1)
    exact = [1, -2 * np.cos(0.3), 1]
    np.testing.assert_allclose(studies.covariance(x, 2), exact, atol=1e-9)
    a = studies.autocorrelation(x, 2)
    assert 1 - a[2] > 1e-4 and np.abs(np.roots(a)).max() < 1, "damped by the missing outside"


def test_yule_walker_equations_hold() -> None:
    x = np.random.default_rng(0).standard_normal(200).cumsum()
    a = studies.autocorrelation(x, 5)
    r = np.array([x[: 200 - k] @ x[k:] for k in range(6)])
    for lag in range(1, 6):
        assert abs(sum(a[k] * r[abs(lag - k)] for k in range(6))) < 1e-9 * r[0]


def test_extrapolation_by_burg_is_the_librarys(sounds: np.ndarray, geometry: Geometry) -> None:
    filled, growth = studies.extrapolate(sounds, geometry, 100, studies.ESTIMATORS["Burg"])
    expected, sides = lpc.inpaint(sounds, geometry, order=100, return_info=True)
    np.testing.assert_allclose(filled, expected, atol=1e-9)
    before, after = lpc.contexts(sounds, geometry)
    np.testing.assert_allclose(growth[:, 0], np.abs(sides.forward).max(axis=1) / np.abs(before).max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(growth[:, 1], np.abs(sides.backward).max(axis=1) / np.abs(after).max(axis=1), rtol=1e-6)


def test_a_diverging_extrapolation_is_told_and_clipped(sounds: np.ndarray, geometry: Geometry) -> None:
    for pole, least in ((1.01, 100.0), (3.0, np.inf)):
        model = np.array([1.0, -pole])
        filled, growth = studies.extrapolate(sounds, geometry, 1, lambda x, order, a=model: a)  # type: ignore[misc]
        assert (growth[:2] >= least).all()
        assert np.isfinite(filled).all() and np.abs(filled).max() <= lpc.BOUND * np.abs(sounds).max()


def test_edges_name_the_sides_used(sounds: np.ndarray, geometry: Geometry) -> None:
    table = studies.edges(sounds[1], geometry, order=900)
    used = dict(zip(table["case"], table["used"], strict=True))
    assert used["the segment itself"] == "both"
    assert used["silence before the gap"] == used["recording begins with the gap"] == "after"
    assert used["recording begins 50 ms before the gap"] == "after", "800 samples are too few for the order"
    assert used["silence after the gap"] == "before"
    assert used["silence on both sides"].startswith("neither")
    peaks = dict(zip(table["case"], table["peak / context's peak"], strict=True))
    assert peaks["silence on both sides"] == 0 and peaks["constant"] == pytest.approx(1, abs=1e-3)
    assert max(peaks.values()) <= lpc.BOUND


# -- phase recovery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [True, False])
def test_the_original_phase_and_magnitude_are_perfect(sounds: np.ndarray, geometry: Geometry, context: bool) -> None:
    magnitude = np.abs(gap_coefficients(sounds, geometry))
    filled = studies.phase_fill(sounds, magnitude, geometry, start="original", iterations=3, context=context)
    assert metrics.snr_td(sounds, filled, geometry).min() > 200
    assert studies.inconsistency(sounds, filled, magnitude, geometry).max() < -200


def test_starts_differ_and_do_not_read_the_gap(sounds: np.ndarray, geometry: Geometry) -> None:
    magnitude = np.abs(gap_coefficients(sounds, geometry))
    blanked = sounds.copy()
    blanked[:, geometry.gap_samples] = 0
    found = []
    for start in ("pghi", "zero", "random"):
        for context in (True, False):
            found.append(studies.phase_fill(sounds, magnitude, geometry, start=start, iterations=2, context=context))
            again = studies.phase_fill(blanked, magnitude, geometry, start=start, iterations=2, context=context)
            np.testing.assert_array_equal(found[-1], again)
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(found) for b in found[:i])
    with pytest.raises(ValueError, match="start='best' must be one of pghi, zero, random, original"):
        studies.phase_fill(sounds, magnitude, geometry, start="best")  # type: ignore[arg-type]


def test_context_and_iterations_help(sounds: np.ndarray, geometry: Geometry) -> None:
    magnitude = np.abs(gap_coefficients(sounds, geometry))

    def reached(**options: bool | int) -> float:
        filled = studies.phase_fill(sounds, magnitude, geometry, **options)  # type: ignore[arg-type]
        return float(studies.inconsistency(sounds, filled, magnitude, geometry).mean())

    assert reached(iterations=30) < reached(iterations=0) - 3
    assert reached(iterations=30) < reached(iterations=30, context=False) - 3


# -- metrics ------------------------------------------------------------------------------------------------------


def test_snr_ms_of_the_five_frames_is_snr_ms(sounds: np.ndarray, geometry: Geometry) -> None:
    gaps = lpc.inpaint(sounds, geometry, order=50)
    five = studies.snr_ms_of(sounds, gaps, geometry, geometry.scored_frames)
    np.testing.assert_allclose(five, metrics.snr_ms(sounds, gaps, geometry), rtol=1e-9)


def test_the_authors_script_scores_the_three_central_frames(geometry: Geometry) -> None:
    with np.load(VECTORS / "pghi.npz") as known:
        sound = known["segment"] / 32768 * known["gain"][:, None]
        expected = known["snrms_oracle_verbatim_idx20_22"][:, 2]
        gaps = known["f_pgla_oracle"][:, 512:-512]
    there = np.isfinite(expected)
    assert there.sum() >= 8
    found = studies.snr_ms_of(sound, gaps, geometry, slice(19, 22))
    np.testing.assert_allclose(found[there], expected[there], atol=1e-9)


def test_excerpts_have_the_gap_where_it_is_wanted(tiny_corpus: Corpus, geometry: Geometry) -> None:
    starts, _ = studies.choose(tiny_corpus, "test", 4, room=(4_000, 16_000))
    segments = tiny_corpus.read(starts)
    for position in (0.1, 0.3):
        sound = studies.excerpts(tiny_corpus, starts, position=position, seconds=0.8)
        first = round(position * geometry.sample_rate)
        assert sound.shape == (len(starts), 12_800)
        np.testing.assert_array_equal(sound[:, first : first + geometry.gap], segments[:, geometry.gap_samples])
        patched = studies.with_gaps(sound, np.ones((len(starts), geometry.gap)), position, geometry.sample_rate)
        changed = np.flatnonzero((patched != sound).any(axis=0))
        assert changed[0] >= first and changed[-1] < first + geometry.gap
        assert (patched[:, first : first + geometry.gap] == 1).all()


def test_resamplers_keep_a_tone_and_the_first_is_the_librarys() -> None:
    time = np.arange(20_000) / 16_000
    tone = 0.4 * np.sin(2 * np.pi * 1000 * time)
    at_48 = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(60_000) / 48_000)
    for resample in studies.RESAMPLERS.values():
        np.testing.assert_allclose(resample(tone, 16_000)[5000:-5000], at_48[5000:-5000], atol=2e-3)
    noisy = tone + 0.01 * np.random.default_rng(0).standard_normal(len(tone))
    plain = studies.grades(tone[None], {"noisy": noisy[None]}, 16_000)["noisy"]
    assert plain == peaq.odg(tone, noisy, 16_000).odg
    assert studies.grades(tone[None], {"noisy": noisy[None]}, 16_000, resampler="resample_poly")["noisy"] == plain
    assert studies.grades(tone[None], {"noisy": noisy[None]}, 16_000, resampler="Fourier")["noisy"] != plain


def test_what_cannot_be_graded_has_no_grade() -> None:
    tone = 0.4 * np.sin(0.4 * np.arange(20_000))
    pair = np.stack([np.zeros(20_000), tone])
    found = studies.grades(pair, {"same": pair}, 16_000)["same"]
    assert np.isnan(found[0]) and 0.1 < found[1] < 0.25


def test_share_of_pairs_in_the_same_order() -> None:
    scores = {"a": ([3, 3, np.nan], [3, 1, 1]), "b": ([2, 2, np.nan], [2, 2, 2]), "c": ([1, 1, 1], [1, 3, 3])}
    parts = [
        pd.DataFrame({"cluster": [0, 1, 1], "segment": range(3), "method": name, "x": x, "y": y})
        for name, (x, y) in scores.items()
    ]
    found = studies.same_order(pd.concat(parts), "x", "y", draws=200)
    assert (found.mean, found.segments, found.clusters, found.excluded) == (0.5, 2, 2, 1)
    assert (found.low, found.high) == (0, 1)


def test_the_slips_of_the_band_table() -> None:
    slips = studies.band_slips()
    assert list(zip(slips["band"], slips["quantity"], slips["table (Hz)"], strict=True)) == [
        (66, "lower edge", 3853.817),
        (100, "centre", 13294.85),
        (28, "upper edge", 933.113),
        (70, "upper edge", 4643.482),
    ]


# -- agreement ----------------------------------------------------------------------------------------------------


def test_agreement_with_the_original_programs(geometry: Geometry) -> None:
    table = studies.lpc_agreement(VECTORS, geometry)
    assert len(table) == 8 and 0 < table.drop(columns="signal").to_numpy().max() < 1e-8
    table = studies.lpc_edge_agreement(VECTORS, geometry)
    error = dict(zip(table["signal"], table["error"], strict=True))
    assert table["original's peak"].isna().sum() == 3 and table["peak here"].max() < lpc.BOUND
    assert 0 < error["noise_1e-3"] < 1e-8 < error["square"]
    table = studies.phase_agreement(VECTORS, geometry)
    assert len(table) == 18 and set(table["magnitude"]) == {"original", "interpolated"}
    assert 0 < table.filter(like="phase").to_numpy().max() < 1e-6
    assert 0 < table.filter(like="output").to_numpy().max() < 1e-8
    table = studies.peaq_agreement(VECTORS)
    assert len(table) == 13 and 0 < table["largest MOV error"].max() < 1e-3
    assert table["ODG difference"].max() < 0.02 and table["ODG of the original"].min() < -3.9
