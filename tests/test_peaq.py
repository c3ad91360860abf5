"""PEAQ against what PQevalAudio v1r0 (Kabal, run in Octave) said about 13 pairs, and what must hold for any pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from scipy.signal import resample_poly

from ctxe_lib import peaq
from ctxe_lib.peaq import MOVS, OdgResult, Reference, odg, odg_many

with np.load(Path(__file__).parent / "reference" / "peaq.npz") as _archive:
    VECTORS = dict(_archive)
SIGNALS = [name for name in VECTORS["ref"] if f"ref48_{name}" in VECTORS]  # of the 18 pairs in the list, 13 are here
KINDS = [f"{signal}-{kind}" for signal, kind in zip(SIGNALS, VECTORS["kind"], strict=True)]
PAIRS = range(len(KINDS))
NOTES, SPEECH, TONES = (VECTORS[f"ref48_{name}"] for name in ("notes", "speech", "fbsyn"))


def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference and degraded signal of a pair, int16 at 48 kHz."""
    reference = VECTORS[f"ref48_{SIGNALS[index]}"]
    number = f"{VECTORS['pair_id'][index]:02d}"
    degraded, patch, start = reference.copy(), VECTORS[f"patch_{number}"], int(VECTORS[f"patch_start_{number}"])
    degraded[start : start + len(patch)] = patch
    return reference, degraded


def movs(result: OdgResult) -> np.ndarray:
    return np.array([result.movs[name] for name in MOVS])


def gap_of_zeros(signal: np.ndarray, start: float, stop: float, rate: int) -> np.ndarray:
    degraded = signal.copy()
    degraded[round(start * rate) : round(stop * rate)] = 0
    return degraded


# -- the original's numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", PAIRS, ids=KINDS)
def test_equals_pqevalaudio(index: int) -> None:
    result = odg(*pair(index), 48_000)
    assert result.odg == pytest.approx(VECTORS["odg_pqeval"][index], abs=1e-9)
    assert result.di == pytest.approx(VECTORS["di_pqeval"][index], abs=1e-9)
    assert list(result.movs) == list(VECTORS["mov_names"])
    np.testing.assert_allclose(movs(result), VECTORS["mov_pqeval"][index], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("index", PAIRS, ids=KINDS)
def test_every_frame_equals_pqevalaudio(index: int) -> None:
    reference, degraded = pair(index)
    frames = Reference(reference, 48_000).frames(degraded)
    expected = VECTORS[f"frames_{VECTORS['pair_id'][index]:02d}"]
    assert set(frames) == set(VECTORS["frame_names"])
    for name, values in zip(VECTORS["frame_names"], expected, strict=True):
        np.testing.assert_allclose(frames[name][0], values, rtol=1e-9, atol=1e-12 * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize(("name", "index"), [("notes", 1), ("speech", 4)])
@pytest.mark.parametrize("scale", [None, np.float32, np.float64])
def test_16_khz_is_resampled_by_the_stated_rule(name: str, index: int, scale: type | None) -> None:
    reference = VECTORS[f"ref16_{name}"]
    if scale is not None:
        reference = reference.astype(scale) / 32768
    result = odg(reference, gap_of_zeros(reference, 0.5, 0.564, 16_000), 16_000)
    assert VECTORS["kind"][index] == "gap_zeros"
    assert result.odg == pytest.approx(VECTORS["odg_pqeval"][index], abs=1e-9)
    np.testing.assert_allclose(movs(result), VECTORS["mov_pqeval"][index], rtol=1e-9)


@pytest.mark.parametrize("index", [0, 6, 12], ids=lambda index: KINDS[index])
def test_frames_taken_from_the_reference_equal_those_computed(index: int) -> None:
    reference, degraded = pair(index)
    heard = Reference(reference, 48_000)
    expected = heard.frames(degraded)
    for channel in heard._channels:
        channel.samples = channel.samples + 1e-6  # differs from the degraded signal in every frame
    for name, values in heard.frames(degraded).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-15, err_msg=name)


# -- what must hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [NOTES, SPEECH, TONES, np.stack([NOTES, SPEECH], axis=1)])
def test_identical_pairs_give_the_ceiling(signal: np.ndarray) -> None:
    result = odg(signal, signal, 48_000)
    assert 0.19 < result.odg < 0.22
    assert result.movs["BandwidthTestB"] == result.movs["BandwidthRefB"]
    assert result.movs["TotalNMRB"] < -100
    assert all(result.movs[name] == 0 for name in MOVS[3:])


def test_more_noise_is_worse() -> None:
    noise = np.random.default_rng(0).standard_normal(len(NOTES))
    grades = [odg(NOTES / 32768, NOTES / 32768 + 10 ** (-level / 20) * noise, 48_000).odg for level in (80, 60, 40)]
    assert 0.22 > grades[0] > grades[1] > grades[2] > -3.98


def test_the_first_half_second_is_left_out_of_some_variables() -> None:
    early, late = (odg(NOTES, gap_of_zeros(NOTES, start, start + 0.05, 48_000), 48_000) for start in (0.2, 0.6))
    for name in ("WinModDiff1B", "AvgModDiff1B", "AvgModDiff2B", "RmsNoiseLoudB"):
        assert early.movs[name] < 0.01 < 1 < late.movs[name]
    assert early.odg > -1.3
    assert late.odg < -3.8


def test_the_resampler_is_worth_more_than_a_grade() -> None:
    reference = VECTORS["ref16_notes"].astype(float)
    degraded = gap_of_zeros(reference, 0.5, 0.564, 16_000)
    resamplers = {
        "repeated": lambda x: np.repeat(x, 3),
        "default": lambda x: resample_poly(x, 3, 1),
        "stronger": lambda x: resample_poly(x, 3, 1, window=("kaiser", 14.0)),
    }
    grades = {}
    for name, resample in resamplers.items():
        pair_48 = (np.clip(np.round(resample(x)), -32768, 32767).astype(np.int16) for x in (reference, degraded))
        grades[name] = odg(*pair_48, 48_000).odg
    assert grades["default"] == odg(VECTORS["ref16_notes"], degraded.astype(np.int16), 16_000).odg
    assert grades["repeated"] > grades["default"] + 1 > grades["stronger"] + 1.5


def test_zeros_can_beat_a_linear_prediction() -> None:
    grades = {kind: odg(*pair(KINDS.index(f"speech-gap_{kind}")), 48_000).odg for kind in ("zeros", "lpc")}
    assert grades["zeros"] > grades["lpc"] + 0.4


def test_a_silent_frame_has_no_error_harmonic_structure() -> None:
    frames = Reference(NOTES, 48_000).frames(gap_of_zeros(NOTES, 1.0, 1.2, 48_000))
    inside = slice(int(1.0 * 48_000 / 1024) + 1, int(1.2 * 48_000 / 1024) - 1)
    assert (frames["EHS"][0, inside] == 0).all()
    assert (frames["BWTest"][0, inside] == 921).all()  # every bin passes a threshold of zero


# -- two channels ----------------------------------------------------------------------------------------------------


def test_two_equal_channels_are_one() -> None:
    reference, degraded = pair(2)
    mono = odg(reference, degraded, 48_000)
    stereo = odg(np.stack([reference] * 2, axis=1), np.stack([degraded] * 2, axis=1), 48_000)
    np.testing.assert_allclose(movs(stereo), movs(mono), rtol=1e-12)


def test_channels_may_be_swapped() -> None:
    (a, b), (c, d) = pair(2), pair(8)
    reference, degraded = np.stack([a, c], axis=1), np.stack([b, d], axis=1)
    swapped = odg(reference[:, ::-1], degraded[:, ::-1], 48_000)
    np.testing.assert_allclose(movs(odg(reference, degraded, 48_000)), movs(swapped), rtol=1e-12)


def test_channels_are_averaged_but_detected_together() -> None:
    reference, degraded = pair(2)
    mono, clean = odg(reference, degraded, 48_000), odg(reference, reference, 48_000)
    both = odg(np.stack([reference] * 2, axis=1), np.stack([reference, degraded], axis=1), 48_000)
    detected = {"ADBB", "MFPDB"}
    for name in MOVS:
        expected = mono.movs[name] if name in detected else (mono.movs[name] + clean.movs[name]) / 2
        assert both.movs[name] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("starts", "expected"),
    [((100,), 100), ((100, 1500), 1500), ((100, 2043), 2043), ((100, 2044), 100), ((3000, 2043), 2043)],
)
def test_where_sound_begins_and_ends(starts: tuple[int, ...], expected: int) -> None:
    samples = np.zeros((len(starts), 10_000))
    for x, start in zip(samples, starts, strict=True):
        x[start + 4 : start + 5000] = 201  # the first five samples hold one of these
    assert peaq._sound(samples) == (expected, max(starts) + 4999 + 4)
    samples[:] = 40  # five of them make 200: not more
    assert peaq._sound(samples) is None


def test_leading_silence_shortens_the_delay() -> None:
    """Frames of silence before the sound run through the filters, and count towards the 0.5 s that are left out."""
    silence = np.zeros(30 * 1024, dtype=np.int16)
    reference, degraded = pair(6)
    padded, bare = Reference(np.concatenate([silence, reference]), 48_000), Reference(reference, 48_000)
    assert (padded._delay, bare._delay) == (0, 24)
    values = padded.frames(np.concatenate([silence, degraded]))["NMRavg"][0]
    expected = bare.frames(degraded)["NMRavg"][0]
    np.testing.assert_allclose(values[-80:], expected[-80:], rtol=1e-6)


# -- many pairs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray, list[OdgResult]]:
    pairs = [pair(index) for index in PAIRS][::-1]
    references, degraded = (np.stack(signals) for signals in zip(*pairs, strict=True))
    return references, degraded, [odg(r, d, 48_000) for r, d in pairs]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_batches_and_threads_change_nothing(n_jobs: int, batch: tuple[np.ndarray, np.ndarray, list[OdgResult]]) -> None:
    references, degraded, expected = batch
    assert odg_many(references, degraded, 48_000, n_jobs=n_jobs) == expected


def test_versions_by_name(batch: tuple[np.ndarray, np.ndarray, list[OdgResult]]) -> None:
    references, degraded, expected = batch
    results = odg_many(references[:3], {"method": list(degraded[:3]), "copy": references[:3]}, 48_000)
    assert results["method"] == expected[:3]
    assert results["copy"] == [odg(x, x, 48_000) for x in references[:3]]
    assert odg_many([], [], 48_000) == []


def test_a_cluster_of_two_workers_changes_nothing(batch: tuple[np.ndarray, np.ndarray, list[OdgResult]]) -> None:
    references, degraded, expected = batch
    with LocalCluster(processes=False, n_workers=2, dashboard_address=None) as cluster:
        assert odg_many(references, degraded, 48_000, dask=cluster.scheduler_address) == expected


# -- what is refused -------------------------------------------------------------------------------------------------

ZEROS = np.zeros(96_000)
SOUND = NOTES / 32768


@pytest.mark.parametrize(
    ("reference", "degraded", "rate", "error", "message"),
    [
        (SOUND, SOUND[:-1], 48_000, ValueError, r"degraded has shape \(95999,\).*\(96000,\), is wanted"),
        (SOUND, np.stack([SOUND] * 2, axis=1), 48_000, ValueError, r"degraded has shape \(96000, 2\)"),
        (np.stack([SOUND] * 2), np.stack([SOUND] * 2), 48_000, ValueError, r"\(2, 96000\): \[samples\] or"),
        (SOUND[None, None], SOUND[None, None], 48_000, ValueError, r"reference has shape \(1, 1, 96000\)"),
        (SOUND[:20_000], SOUND[:20_000], 48_000, ValueError, r"too short.*19 frames of sound, at least 28 \(0.60 s\)"),
        (SOUND[:2_000], SOUND[:2_000], 16_000, ValueError, "too short.*5 frames of sound, at least 28"),
        (SOUND[:0], SOUND[:0], 48_000, ValueError, "reference is silent"),
        (SOUND[:0], SOUND[:0], 16_000, ValueError, "reference is silent"),
        (ZEROS, SOUND, 48_000, ValueError, "reference is silent"),
        (SOUND, ZEROS, 48_000, ValueError, "degraded is silent"),
        (SOUND, ZEROS + 1e-6, 16_000, ValueError, "degraded is silent"),
        (ZEROS + 40 / 32768, SOUND, 48_000, ValueError, "reference is silent: its level must exceed 200 / 32768"),
        (np.append(SOUND[1:], np.nan), SOUND, 48_000, ValueError, "reference has 1 values that are NaN or infinite"),
        (SOUND, np.append(SOUND[2:], [np.inf, -np.inf]), 48_000, ValueError, "degraded has 2 values"),
        (SOUND * 32768, SOUND * 32768, 48_000, ValueError, r"peak of \d+.*: floats in \[-1, 1\] or int16"),
        (NOTES.astype(np.int32), NOTES, 48_000, TypeError, "reference has dtype int32"),
        (SOUND, SOUND > 0, 48_000, TypeError, "degraded has dtype bool"),
        (SOUND, SOUND, 0, ValueError, "sample_rate=0 must be an integer > 0"),
        (SOUND, SOUND, 48_000.0, ValueError, "sample_rate=48000.0 must be an integer > 0"),
        (SOUND, SOUND, 47_999, ValueError, "sample_rate=47999 has no simple ratio to 48000"),
    ],
)
def test_errors_say_what_is_wanted(
    reference: np.ndarray, degraded: np.ndarray, rate: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        odg(reference, degraded, rate)


def test_the_error_of_one_pair_names_it() -> None:
    with pytest.raises(ValueError, match="pair 1: degraded is silent"):
        odg_many([SOUND, SOUND], [SOUND, ZEROS], 48_000)


def test_numbers_of_signals_must_agree() -> None:
    with pytest.raises(ValueError, match="lpc has 1 signals: one for each of 2 references is wanted"):
        odg_many([NOTES, NOTES], {"lpc": [NOTES]}, 48_000)


def test_the_shortest_signal() -> None:
    signal = np.random.default_rng(1).uniform(-0.5, 0.5, 28 * 1024)
    assert odg(signal, signal, 48_000).odg > 0.1  # white noise has no bandwidth, and a lower ceiling
    with pytest.raises(ValueError, match="27 frames of sound"):
        odg(signal[1:], signal[1:], 48_000)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_other_rates_are_resampled(rate: int) -> None:
    signal = SOUND[: 2 * rate] if rate <= 48_000 else np.tile(SOUND, 2)
    result = odg(signal, gap_of_zeros(signal, 0.5, 0.55, rate), rate)
    assert -3.98 < result.odg < 0
