from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile as sf

from ctxe_lib.listen import player, players, wav


def test_wav_holds_the_samples() -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, 1000)
    samples, rate = sf.read(io.BytesIO(wav(audio, 16_000)))
    assert rate == 16_000
    np.testing.assert_allclose(samples, audio, atol=1 / 32768)


def test_wav_clips_what_is_too_loud() -> None:
    samples, _ = sf.read(io.BytesIO(wav(np.array([-3.0, 3.0]), 8000)), dtype="int16")
    assert samples.tolist() == [-32768, 32767]


@pytest.mark.parametrize("audio", [np.zeros((2, 4)), np.zeros(0), np.array([0.0, np.nan])])
def test_what_cannot_be_heard_is_refused(audio: np.ndarray) -> None:
    with pytest.raises(ValueError):
        wav(audio, 16_000)


def test_player_is_labelled_and_complete() -> None:
    text = player(np.zeros(160), 16_000, 'LPC <"64 ms">')
    assert text.count("LPC &lt;&quot;64 ms&quot;&gt;") == 2
    (source,) = re.findall(r'src="data:audio/wav;base64,([^"]+)"', text)
    assert sf.info(io.BytesIO(base64.b64decode(source))).frames == 160


def test_players_keep_their_order() -> None:
    page = players({"one": np.zeros(10), "two": np.zeros(10)}, 16_000).data
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == ["one", "two"]
