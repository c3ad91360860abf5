from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile as sf

from ctxe_lib.listen import compare, comparison, flac, player, players


def test_flac_holds_the_samples() -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, 1000)
    samples, rate = sf.read(io.BytesIO(flac(audio, 16_000)))
    assert rate == 16_000
    np.testing.assert_allclose(samples, audio, atol=1 / 32768)


def test_flac_clips_what_is_too_loud() -> None:
    samples, _ = sf.read(io.BytesIO(flac(np.array([-3.0, 3.0]), 8000)), dtype="int16")
    assert samples.tolist() == [-32768, 32767]


def test_sound_takes_less_room_than_its_samples() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    assert len(flac(tone, 16_000)) < 0.7 * 2 * len(tone)


@pytest.mark.parametrize("audio", [np.zeros((2, 4)), np.zeros(0), np.array([0.0, np.nan])])
def test_what_cannot_be_heard_is_refused(audio: np.ndarray) -> None:
    with pytest.raises(ValueError):
        flac(audio, 16_000)


def test_player_is_labelled_and_complete() -> None:
    text = player(np.zeros(160), 16_000, 'LPC <"64 ms">')
    assert text.count("LPC &lt;&quot;64 ms&quot;&gt;") == 2
    (source,) = re.findall(r'src="data:audio/flac;base64,([^"]+)"', text)
    assert sf.info(io.BytesIO(base64.b64decode(source))).frames == 160


def test_players_keep_their_order() -> None:
    page = players({"one": np.zeros(10), "two": np.zeros(10)}, 16_000).data
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == ["one", "two"]


def test_comparison_holds_a_player_for_each_sound_and_one_script() -> None:
    page = compare({"one": np.zeros(10), "two": np.zeros(10)}, 16_000).data
    assert re.findall("<figcaption>(.*?)</figcaption>", page) == ["one", "two"]
    assert page.count("<script>") == page.count("</script>") == page.count("</ctxe-compare>") == 1
    assert comparison({"one": np.zeros(10)}, 16_000, "gap").startswith('<ctxe-compare class="players" group="gap">')
