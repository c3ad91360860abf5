from __future__ import annotations

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from ctxe_lib import inpaint, weights
from ctxe_lib.cli import app
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import Hybrid, Options, build_hybrid
from ctxe_lib.metrics import snr
from ctxe_lib.repair import find_gaps, repair, repair_file

RATE = 44_100


def tone(rate=RATE, seconds=1.0, channels=2):
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * (440 + 110 * i) * time + i) for i in range(channels)], axis=1)


def damaged(audio, *gaps):
    copy = audio.copy()
    for start, stop in gaps:
        copy[start:stop] = 0
    return copy


@pytest.fixture
def hybrid(project_folders):
    """A hybrid with random weights among the trained ones."""
    options = Options(width=8, blocks=1, bins=32)
    system = Hybrid(build_hybrid(options, Geometry(), 0), Geometry(), options)
    for variable in system.model.trainable_variables:
        variable.assign_add(np.random.default_rng(0).normal(0, 0.1, variable.shape))
    inpaint._encoder.cache_clear()
    weights.save_encoder(system, "hybrid", {})
    yield
    inpaint._encoder.cache_clear()


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_tones_of_any_rate_close_and_nothing_else_changes(rate):
    audio = tone(rate)
    gap = (round(0.5 * rate), round(0.5 * rate) + round(0.0413 * rate))
    repaired, report = repair(damaged(audio, gap), rate, [gap], method="janssen")
    inside = slice(*gap)
    assert (snr(audio[inside].T, repaired[inside].T) > 60).all()
    outside = np.r_[0 : gap[0], gap[1] : len(audio)]
    np.testing.assert_array_equal(repaired[outside], audio[outside])
    assert report["method"].tolist() == ["janssen"] and report["before"][0] == pytest.approx(128, abs=0.6)


def test_at_its_own_rate_the_hybrid_gives_what_is_scored(hybrid, geometry, tiny_corpus):
    sound = tiny_corpus.read(tiny_corpus.starts("test")[:1], 16_000)[0].astype(float)
    gap = (8000, 8000 + geometry.gap)
    repaired, report = repair(sound, geometry.sample_rate, [gap])
    segment = sound[None, 8000 - geometry.context :][:, : geometry.length]
    expected = inpaint.inpaint("hybrid", segment, geometry)[0]
    np.testing.assert_allclose(repaired[8000 : 8000 + geometry.gap], expected, atol=1e-7)
    assert report["method"].tolist() == ["hybrid"]


def test_at_another_rate_the_hybrid_adds_the_same_correction(hybrid):
    low = tone(16_000, channels=1)[:, 0] + 0.05 * np.random.default_rng(1).normal(size=16_000)
    high = np.fft.irfft(np.fft.rfft(low), 48_000) * 3  # the same signal at three times the rate
    changes = []
    for audio, rate in ((low, 16_000), (high, 48_000)):
        gap = (rate // 2, rate // 2 + round(0.064 * rate))
        plain, _ = repair(audio, rate, [gap], method="janssen")
        corrected, report = repair(audio, rate, [gap], method="hybrid")
        assert report["method"][0] == "hybrid"
        changes.append((corrected - plain)[gap[0] : gap[1]])
    assert np.corrcoef(changes[0], changes[1][::3])[0, 1] > 0.8


def test_where_a_method_does_not_apply_the_next_one_does(hybrid):
    audio = tone()
    near_start, short, after = (2000, 3000), (20_000, 21_000), (21_900, 22_800)
    gaps = [after, near_start, short]
    repaired, report = repair(damaged(audio, *gaps), RATE, gaps)
    assert report["method"].tolist() == ["lpc", "lpc", "janssen"]
    for gap in gaps:
        assert (snr(audio[slice(*gap)].T, repaired[slice(*gap)].T) > 20).all()
    mono, _ = repair(audio[:, 0], RATE, [short], method="lpc")
    assert mono.shape == audio[:, 0].shape


def test_dropouts_are_found_and_pauses_are_not():
    audio = tone() + 1e-3
    gaps = [(5_000, 6_000), (10_000, 10_500)]
    broken = damaged(audio, *gaps, (15_000, 30_000), (0, 300), (40_000, 40_010), (len(audio) - 800, len(audio)))
    broken[10_000:10_500, 0] = np.nan
    assert find_gaps(broken, RATE) == gaps


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ([(44_000, 44_200)], "must lie within the 1.000 s"),
        ([(500, 400)], "must lie within"),
        ([(5000, 6000), (6000, 6500)], "touches the next one at 0.136 s"),
        ([(5000, 25_000)], "longer than 200 ms"),
        ([(0, 4410), (4800, 8000)], "the gap of 100 ms at 0.000 s has less than 10 ms of audio on either side"),
    ],
)
def test_gaps_that_can_not_be_filled(gaps, message):
    with pytest.raises(ValueError, match=message):
        repair(tone(), RATE, gaps, method="lpc")


def test_a_context_that_is_not_finite_is_named():
    audio = tone()
    audio[20_900] = np.nan
    with pytest.raises(ValueError, match=r"context before the gap of 22\.6757 ms at 0\.476 s holds values"):
        repair(audio, RATE, [(21_000, 22_000)])


@pytest.mark.parametrize(("subtype", "suffix"), [("PCM_16", ".wav"), ("PCM_24", ".flac"), ("FLOAT", ".wav")])
def test_a_file_keeps_every_other_sample_and_its_resolution(tmp_path, subtype, suffix):
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    gap = (20_000, 21_000)
    soundfile.write(source, damaged(tone() * 3.3, gap), RATE, subtype=subtype)
    report = repair_file(source, output, find=True, method="janssen")
    before, after = (
        soundfile.read(path, dtype="int32" if "PCM" in subtype else "float64")[0] for path in (source, output)
    )
    outside = np.r_[0 : gap[0], gap[1] : len(before)]
    np.testing.assert_array_equal(after[outside], before[outside])
    assert after[slice(*gap)].any() and report["clipped"].tolist() == [0]
    assert soundfile.info(output).subtype == subtype
    assert {path.name for path in tmp_path.iterdir()} == {source.name, output.name}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.wav"], "no gaps were given"),
        (["out.wav", "--find"], "no gaps were found"),
        (["in.wav", "--find"], "would replace the recording"),
        (["out.wav", "--gap", "soon"], "--gap soon must be START:MILLISECONDS"),
        (["out.wav", "--gap", "0.99:64"], "must lie within the 1.000 s of audio"),
    ],
)
def test_the_command_line_says_what_is_wrong_and_writes_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", tone(), RATE)
    content = (tmp_path / "in.wav").read_bytes()
    result = CliRunner().invoke(app, ["repair", "in.wav", *arguments])
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"] and (tmp_path / "in.wav").read_bytes() == content


def test_the_command_line_repairs(tmp_path):
    audio = tone()
    gap = (22_050, 22_050 + 1323)
    soundfile.write(tmp_path / "in.wav", damaged(audio, gap), RATE, subtype="PCM_24")
    arguments = [
        "repair",
        str(tmp_path / "in.wav"),
        str(tmp_path / "out.wav"),
        "--gap",
        "0.5:30",
        "--method",
        "janssen",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    repaired = soundfile.read(tmp_path / "out.wav")[0]
    assert (snr(audio[slice(*gap)].T, repaired[slice(*gap)].T) > 40).all()
