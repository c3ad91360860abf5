from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ctxe_lib import plots, probes, tables
from ctxe_lib.corpus import Corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.probes import Contender
from ctxe_lib.records import write_table
from ctxe_lib.stft import stft

GEOMETRY = Geometry()
LPC = Contender("lpc")


@pytest.fixture
def agg() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        plots.style()
        yield
        plt.close("all")


def test_tones_lie_on_notes_and_half_way_between_them_in_turn() -> None:
    grid = probes.frequencies(1.5)
    assert grid[0] >= 20 and grid[-1] < 8000 and (np.isclose(grid, 440)).any()
    assert grid[0] * 2 ** (-1.5 / 12) < 20 and grid[-1] * 2 ** (1.5 / 12) >= 8000
    off = np.abs(probes.cents(grid))
    np.testing.assert_allclose(np.abs(np.diff(off)), 50, atol=1e-6)
    assert set(off.round(6)) == {0, 50}
    assert probes.cents(np.array([27.5, 27.5 * 2 ** (0.3 / 12)])) == pytest.approx([0, 30])
    with pytest.raises(ValueError, match="semitones=0 must be > 0"):
        probes.frequencies(0)


@pytest.mark.parametrize(
    ("reading", "amplitudes", "widest"), [("paper", (0.1, 1), np.pi), ("released", (0.1, 0.1), 2 * np.pi)]
)
def test_tones_cover_the_ranges_of_their_reading(reading: str, amplitudes: tuple[float, float], widest: float) -> None:
    frequency = np.geomspace(100, 4000, 9)
    segments, described = probes.tone_probes(frequency, GEOMETRY, reading=reading)
    assert (described["amplitude"].min(), described["amplitude"].max()) == pytest.approx(amplitudes)
    assert (described["phase"].min(), described["phase"].max()) == pytest.approx((0, widest))
    assert not described["phase"].is_monotonic_increasing
    time = np.arange(GEOMETRY.length) / GEOMETRY.sample_rate
    row = described.iloc[4]
    expected = row["amplitude"] * np.sin(2 * np.pi * row["frequency"] * time + row["phase"])
    np.testing.assert_allclose(segments[4], expected, atol=1e-12)
    again, _ = probes.tone_probes(frequency, GEOMETRY, reading=reading, seed=1)
    assert not np.allclose(segments, again)


def test_tones_are_scored() -> None:
    scores = probes.tone_scores(LPC, np.array([440.0, 1000.0]), GEOMETRY)
    assert list(scores) == ["frequency", "amplitude", "phase", "snr_td", "snr_ms"]
    assert (scores[["snr_td", "snr_ms"]] > 80).all(axis=None)


def test_means_leave_out_what_is_not_finite_and_have_no_negative_zero() -> None:
    mean = probes.Mean.of(np.array([-0.04, -0.02, np.inf, np.nan]), draws=10)
    assert mean.n == 2 and mean.mean == pytest.approx(-0.03)
    assert str(mean) == "+0.0 dB (+0.0 to +0.0, n = 2)"


def test_running_average_takes_fewer_near_the_ends() -> None:
    values = np.arange(7.0) ** 2
    smooth = probes.running_average(values, 3)
    assert smooth[3] == pytest.approx((4 + 9 + 16) / 3)
    assert smooth[0] == pytest.approx(0.5) and smooth[-1] == pytest.approx(30.5)
    np.testing.assert_allclose(probes.running_average(np.full(40, 2.0)), 2)


def test_note_contrast_is_free_of_the_trend_and_fluctuation_is_about_it() -> None:
    grid = probes.frequencies(1.5)
    trend = -3 * np.log2(grid)
    scores = pd.DataFrame({"frequency": grid, "snr_ms": trend + 16 * (np.abs(probes.cents(grid)) < 10)})
    contrast = probes.note_contrast(scores)
    assert contrast.mean == pytest.approx(16, abs=0.05) and contrast.low <= contrast.mean <= contrast.high
    assert str(contrast).startswith(f"+{contrast.mean:.1f} dB (")
    assert probes.fluctuation(scores["snr_ms"].to_numpy()) == pytest.approx(8, abs=1)
    assert probes.fluctuation(np.append(trend, np.inf)) < 1
    with pytest.raises(ValueError, match="notes and between them"):
        probes.note_contrast(scores[np.abs(probes.cents(grid)) < 10])


@pytest.mark.parametrize("reading", probes.SWEEPS)
def test_sweeps_are_where_they_should_be(reading: str) -> None:
    ends = probes.sweep_frequencies(np.array([0, GEOMETRY.seconds]), reading, GEOMETRY)
    np.testing.assert_allclose(ends, np.array([[500, 1000], [2000, 2500], [3500, 4000], [5000, 5500], [6500, 7000]]))
    segments = probes.sweeps(reading, GEOMETRY, count=3)
    assert segments.shape == (3, GEOMETRY.length) and np.abs(segments).max() <= 0.75
    np.testing.assert_array_equal(segments[:2], probes.sweeps(reading, GEOMETRY, count=2))
    frame = 10
    strongest = np.sort(np.argsort(np.abs(stft(segments[0], GEOMETRY)[frame]))[::-1][:20])
    bins = probes.sweep_frequencies(np.array([frame * GEOMETRY.hop / 16_000]), reading, GEOMETRY)[:, 0] / 31.25
    assert all(np.abs(strongest - bin).min() <= 0.5 for bin in bins)


def test_readings_of_the_sweeps_differ_most_where_the_octave_is_whole() -> None:
    middle = np.array([GEOMETRY.seconds / 2])
    linear, exponential = (probes.sweep_frequencies(middle, reading, GEOMETRY)[:, 0] for reading in probes.SWEEPS)
    assert linear[0] == 750 and exponential[0] == pytest.approx(500 * 2**0.5)
    assert (np.diff(linear - exponential) < 0).all()
    with pytest.raises(ValueError, match="reading='quadratic' must be one of linear, exponential"):
        probes.sweeps("quadratic", GEOMETRY)


def test_sweep_scores_tell_silence_noise_and_the_truth_apart() -> None:
    segments = probes.sweeps("linear", GEOMETRY, count=1)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, GEOMETRY.gap))
    truth = segments[:, GEOMETRY.gap_samples]
    right, noisy, silent = (
        probes.sweep_scores(segments, gap, "linear", GEOMETRY).iloc[0]
        for gap in (truth, truth + noise, np.zeros_like(noise))
    )
    assert right["snr_ms"] == np.inf and right["between_db"] < -40
    assert right["between_db"] + 20 < noisy["between_db"] < 0
    assert noisy["snr_along"] > noisy["snr_ms"] > 0
    assert silent["snr_ms"] == pytest.approx(0, abs=0.1) and silent["between_db"] == -np.inf


def test_bands_are_scored_apart() -> None:
    low, high = probes.tones([1000, 6000], [0.3, 0.3], [0, 0], GEOMETRY.length, GEOMETRY.sample_rate)
    segments = (low + high)[None]
    below, above = probes.band_scores(segments, low[None, GEOMETRY.gap_samples], GEOMETRY, 4000)
    assert below[0] > 40 and above[0] == pytest.approx(0, abs=0.1)


def test_probes_are_scored_once_for_each_code_signal_and_network(
    project_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fill(self: Contender, segments: np.ndarray, geometry: Geometry) -> np.ndarray:
        calls.append(self.label)
        return np.zeros((len(segments), geometry.gap))

    monkeypatch.setattr(Contender, "fill", fill)
    monkeypatch.setattr(probes, "contenders", lambda: [LPC, Contender("magnitude", "music")])
    card = project_folders / "weights/music-magnitude.json"
    card.write_text(json.dumps({"sha256": "a" * 64}))
    path = project_folders / "results/probes.parquet"
    path.parent.mkdir()
    table, record = probes.probe(path, semitones=10.5, sums=2)
    assert calls == ["LPC"] * 4 + ["Magnitude network, music"] * 4
    assert table.groupby("probe")["reading"].nunique().to_dict() == {"sweeps": 2, "tones": 2}
    counts = table[table["method"] == "lpc"].groupby(["probe", "reading"]).size()
    tones = len(probes.frequencies(10.5))
    assert counts.to_dict() == {
        ("tones", "paper"): tones,
        ("tones", "released"): -(-tones // 3),
        ("sweeps", "linear"): 2,
        ("sweeps", "exponential"): 2,
    }
    assert record["weights"] == {"music-magnitude": "a" * 64} and "one seed (0)" in probes.origin(table, record)
    again, _ = probes.probe(path, semitones=10.5, sums=2)
    assert len(calls) == 8
    pd.testing.assert_frame_equal(table, again)
    card.write_text(json.dumps({"sha256": "b" * 64}))
    _, record = probes.probe(path, semitones=10.5, sums=2)
    assert calls[8:] == ["Magnitude network, music"] * 4 and record["weights"] == {"music-magnitude": "b" * 64}
    probes.probe(path, semitones=10.5, sums=3)
    assert len(calls) == 12 + 4  # only sweeps are others


def test_contenders_are_those_whose_weights_are_there(project_folders: Path) -> None:
    assert probes.contenders() == [Contender("interpolation"), LPC]
    for name in ("instruments-magnitude", "hybrid"):
        for ending in ("json", "safetensors"):
            (project_folders / f"weights/{name}.{ending}").write_text("{}")
    named = [(c.label, c.weights_name) for c in probes.contenders()[2:]]
    assert named == [("Magnitude network, instruments", "instruments-magnitude"), ("Hybrid", "hybrid")]


def test_training_says_how_little_was_seen(project_folders: Path) -> None:
    card = {"examples": 204_800, "sha256": "c" * 64, "kind": "complex", "phases": "frame"}
    (project_folders / "weights/music-magnitude.json").write_text(json.dumps(card))
    said = probes.training("music-magnitude")
    assert "204,800 examples, 0.1 % of the paper's" in said and "cccccccccccc" in said and "relative" not in said
    (project_folders / "weights/music-magnitude.json").write_text(json.dumps(card | {"phases": "continued"}))
    assert "relative to a phase vocoder's phases" in probes.training("music-magnitude")


def test_cases_are_found_in_the_scores(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXE_DATA", str(tiny_corpus.folder.parent))
    starts = tiny_corpus.select("test", 2, 0)[:5]
    ours = {"magnitude": [1.0, 9.0, 4.0, -2.0, np.nan], "lpc": [1.0, 2.0, 2.0, 6.0, 50.0]}
    scores = pd.concat(
        pd.DataFrame({"cluster": "a", "segment": starts, "method": method, "snr_ms": values})
        for method, values in ours.items()
    )
    names = dict.fromkeys(tables.KINDS, tiny_corpus.name)
    write_table(tmp_path / "tiny.parquet", scores, {"data": tiny_corpus.fingerprint})
    results = tables.Results(names, folder=tmp_path)
    found = {which: probes.find_case(results, "music", "magnitude", which) for which in ("best", "worst", "median")}
    assert [found[which].segment for which in found] == [starts[1], starts[3], starts[0]]
    assert (found["best"].difference, found["worst"].difference) == (7, -8)
    track = tiny_corpus.tracks.set_index("track").loc[found["best"].track]
    assert found["best"].seconds == pytest.approx((starts[1] - track["offset"]) / 16_000)
    with pytest.raises(ValueError, match="which='luckiest' must be one of best, worst, median"):
        probes.find_case(results, "music", "magnitude", "luckiest")
    with pytest.raises(tables.NotMeasured, match="hybrid"):
        probes.find_case(results, "music", "hybrid", "best")
    write_table(tmp_path / "tiny.parquet", scores, {"data": "another"})
    with pytest.raises(ValueError, match=r"another build of tiny: run `ctxe evaluate"):
        probes.find_case(tables.Results(names, folder=tmp_path), "music", "magnitude", "best")


@pytest.mark.usefixtures("agg")
def test_notes_axis_has_its_ticks_at_notes() -> None:
    _, ax = plt.subplots()
    plots.notes_axis(ax, 20, 8000)
    labels = {text.get_text(): place for place, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)}
    assert list(labels) == [f"A{n}" for n in range(9)] and labels["A4"] == 440 and labels["A8"] == 7040
    np.testing.assert_allclose(probes.cents(ax.get_xticks(minor=True)), 0, atol=1e-6)
    assert ax.get_xscale() == "log" and ax.get_xlim() == (20, 8000)


@pytest.mark.usefixtures("agg")
def test_spectrograms_share_the_scale_of_the_original() -> None:
    sound = probes.sweeps("linear", GEOMETRY)[0]
    figure = plots.spectrograms({"Original": sound, "a": sound / 10, "b": sound, "c": 0 * sound}, GEOMETRY)
    drawn = [ax for ax in figure.axes if ax.get_visible() and ax.images]
    assert [ax.get_title() for ax in drawn] == ["Original", "a", "b", "c"]
    peaks = [np.asarray(ax.images[0].get_array()).max() for ax in drawn]
    assert peaks == pytest.approx([0, -20, 0, -80]) and all(ax.images[0].get_clim() == (-80, 0) for ax in drawn)
    assert [ax.get_xlabel() for ax in drawn] == ["", "", "Time (ms)", "Time (ms)"]
    five = plots.spectrograms(dict.fromkeys("abcde", sound), GEOMETRY)
    shown = [ax for ax in five.axes if ax.get_visible() and ax.images]
    assert [ax.get_xlabel() for ax in shown] == ["", "", *["Time (ms)"] * 3]
    with pytest.raises(ValueError, match="silent"):
        plots.spectrograms({"Original": 0 * sound}, GEOMETRY)
