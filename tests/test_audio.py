"""Decoding, mixing, quantising, trimming."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ctxe_lib import audio

RATE = 16_000


def tone(frequency: float, seconds: float, rate: int, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def encoded(samples: np.ndarray, rate: int, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("options", "rate", "tolerance"),
    [
        ({"format": "WAV", "subtype": "FLOAT"}, 44_100, 1e-4),
        ({"format": "FLAC"}, 48_000, 1e-4),
        ({"format": "OGG", "subtype": "VORBIS"}, 44_100, 0.05),
        ({"format": "OGG", "subtype": "OPUS"}, 48_000, 0.05),
        ({"format": "MP3"}, 44_100, 0.05),
        ({"format": "WAV"}, 8_000, 1e-3),
        ({"format": "WAV"}, 16_000, 1e-4),
    ],
)
def test_every_format_becomes_the_same_tone_at_16_khz(options: dict, rate: int, tolerance: float) -> None:
    samples = audio.decode(encoded(tone(440, 1, rate), rate, **options))
    assert samples.dtype == np.float32 and abs(len(samples) - RATE) < 0.1 * RATE
    middle = samples[2000:12_000]
    phases = np.exp(2j * np.pi * 440 * np.arange(len(middle)) / RATE)
    projection = 2 * np.real(np.vdot(phases, middle) / len(middle) * phases)
    assert np.sqrt(np.mean((middle - projection) ** 2)) < tolerance
    assert np.abs(projection).max() == pytest.approx(0.5, rel=0.05)


def test_nothing_above_8_khz_folds_back() -> None:
    samples = audio.decode(encoded(tone(9_500, 1, 44_100), 44_100, format="FLAC"))
    assert np.abs(samples[1000:-1000]).max() < 1e-4


def test_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.stack([tone(440, 0.5, RATE), -tone(440, 0.5, RATE), tone(1000, 0.5, RATE)], axis=1)
    soundfile.write(tmp_path / "three.wav", channels, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.decode(tmp_path / "three.wav"), channels[:, 2] / 3, atol=1e-6)


def test_long_files_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(tone(440, 1, RATE), RATE, format="WAV")
    whole = audio.decode(data)
    monkeypatch.setattr(audio, "_BLOCK", 999)
    np.testing.assert_array_equal(audio.decode(data), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    samples = tone(440, 0.5, RATE)
    samples[100] = bad
    with pytest.raises(ValueError, match="1 of 8000 samples are NaN or infinite"):
        audio.decode(encoded(samples, RATE, format="WAV", subtype="FLOAT"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no readable audio"),
        (b"no audio at all, but text", "no readable audio"),
        (encoded(np.zeros(0), RATE, format="WAV"), "holds no samples"),
    ],
)
def test_what_is_no_audio_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        audio.decode(data)


@pytest.mark.parametrize("name", ["FLAC", "WAV", "OGG", "MP3"])
def test_a_truncated_file_is_refused_or_shorter_never_padded(name: str) -> None:
    data = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE), RATE, format=name)
    whole = audio.decode(data)
    try:
        samples = audio.decode(data[: len(data) // 3])
    except ValueError as error:
        assert any(word in str(error) for word in ("announced", "no readable audio", "no samples"))
    else:
        assert RATE // 2 < len(samples) < 2 * RATE
        np.testing.assert_allclose(samples, whole[: len(samples)], atol=1e-3)


def ogg_checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


@pytest.mark.parametrize(("excess", "usable"), [(0.005, True), (0.5, False)])
def test_a_header_may_promise_a_little_too_much(excess: float, usable: bool) -> None:
    length = 20 * RATE
    data = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, length), RATE, format="OGG")
    whole = audio.decode(data)
    last = bytearray(data[data.rindex(b"OggS") :])  # the page that states the length
    assert int.from_bytes(last[6:14], "little") == len(whole) == length
    last[6:14] = round((1 + excess) * length).to_bytes(8, "little")
    last[22:26] = bytes(4)
    last[22:26] = ogg_checksum(last).to_bytes(4, "little")
    promising = data[: -len(last)] + bytes(last)
    if usable:
        samples = audio.decode(promising)
        assert length <= len(samples) < (1 + excess) * length
        np.testing.assert_array_equal(samples[:length], whole)
    else:
        with pytest.raises(ValueError, match=r"ends after \d+ of 480000 announced samples"):
            audio.decode(promising)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable audio"):
        audio.decode(tmp_path / "nowhere.wav")


def test_stems_add_up_and_stay_within_full_scale() -> None:
    long, short = np.full(10, 0.75, np.float32), np.full(4, 0.75, np.float32)
    np.testing.assert_allclose(audio.mix([long, short]), [1] * 4 + [0.5] * 6)
    np.testing.assert_allclose(audio.mix([0.1 * short, long]), [0.825] * 4 + [0.75] * 6)


def test_16_bits_round_to_the_nearest_and_count_what_is_clipped() -> None:
    pcm, clipped = audio.to_int16(np.array([0, 0.5, -1, 1, 1.5, -1.5, 0.6 / 32768]))
    assert pcm.tolist() == [0, 16384, -32768, 32767, 32767, -32768, 1] and clipped == 2
    assert pcm.dtype == np.dtype("<i2")
    with pytest.raises(ValueError, match="NaN"):
        audio.to_int16(np.array([0, np.nan]))
    with pytest.raises(ValueError, match="no samples"):
        audio.to_int16(np.zeros(0))


def reference_trim(samples: np.ndarray) -> tuple[int, int]:
    """The rule written out: centred frames of 1024 every 512, silence beyond the ends."""
    padded = np.pad(samples, 512)
    loud = [
        centre
        for centre in range(0, len(samples) + 1, 512)
        if np.sqrt(np.mean(padded[centre : centre + 1024] ** 2)) > 0.01
    ]
    return (loud[0], loud[-1]) if loud else (0, 0)


@pytest.mark.parametrize("before", [0, 3000, 20_480])
@pytest.mark.parametrize("length", [600, 5120, 33_333])
@pytest.mark.parametrize("after", [0, 5000])
def test_trim_follows_the_rule(before: int, length: int, after: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, length)
    pcm, _ = audio.to_int16(np.concatenate([np.zeros(before), noise, np.full(after, 0.005)]))
    kept = audio.trim(pcm)
    assert (kept.start, kept.stop) == reference_trim(pcm / 32768)


@pytest.mark.parametrize("level", [0, 0.009])
def test_trim_keeps_nothing_of_silence(level: float) -> None:
    assert audio.trim(audio.to_int16(np.full(RATE, level))[0]) == slice(0, 0)


def test_trim_keeps_quiet_passages_between_loud_ones() -> None:
    samples = np.concatenate([tone(440, 0.5, RATE), np.zeros(RATE), tone(440, 0.5, RATE)])
    kept = audio.trim(audio.to_int16(samples)[0])
    assert kept.start == 0 and kept.stop > 1.9 * RATE
