"""Sliders by their traits and callbacks, without a browser; tests/test_book.py turns them in one."""

from __future__ import annotations

import base64
import io
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from PIL import Image

from ctxe_lib import lpc, widgets
from ctxe_lib.corpus import SPLITS, Track, build_corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, inpaint

GEOMETRY = Geometry()
RATE = GEOMETRY.sample_rate


def note(seconds: float = 2.0, frequency: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(times))
    return 0.3 * np.sin(2 * np.pi * frequency * times) + 0.01 * noise


@pytest.fixture(autouse=True)
def classical(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose no network to begin with: loading one takes seconds."""
    names = [name for name, method in METHODS.items() if not method.network]
    monkeypatch.setattr(widgets, "available_methods", lambda trained_on: names)


@pytest.fixture
def gap() -> widgets.Gap:
    return widgets.Gap(note(3.0), RATE)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two corpora with two test tracks each."""
    monkeypatch.setenv("CTXE_DATA", str(tmp_path / "data"))
    for name in ("music-small", "instruments-small"):
        tracks = [
            Track(f"{name}/{i}", f"group {i}", "made by the tests", note(2 + i, 200.0 + 50 * i), split, "none")
            for i, split in enumerate(2 * SPLITS)
        ]
        build_corpus(name, tracks, tmp_path / "data" / name, GEOMETRY, provenance={}, rendered=True)
    return tmp_path / "data"


@pytest.fixture
def explorer(data: Path) -> widgets.Explorer:
    return only(widgets.Explorer(), "lpc")


def only(panel: widgets.Explorer | widgets.Probe, *names: str) -> widgets.Explorer | widgets.Probe:
    """The panel with these methods chosen."""
    with panel.bench.held():
        for name, box in panel.bench.methods.items():
            box.value = name in names
    return panel


# -- a gap --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["interpolation", "lpc", "janssen"])
def test_fill_is_the_method_itself(gap: widgets.Gap, name: str) -> None:
    segment = gap.audio[gap.start - GEOMETRY.context :][: GEOMETRY.length]
    np.testing.assert_allclose(gap.fill(name), inpaint(name, segment[None], GEOMETRY)[0], atol=1e-12)


def test_fill_does_not_read_the_gap(gap: widgets.Gap) -> None:
    audio = gap.audio.copy()
    audio[gap.start : gap.stop] = 0.9
    for name in ("interpolation", "lpc", "janssen"):
        np.testing.assert_array_equal(widgets.Gap(audio, gap.start).fill(name), gap.fill(name))


def test_options_reach_the_methods(gap: widgets.Gap) -> None:
    segment = gap.segment(GEOMETRY)[None]
    np.testing.assert_array_equal(gap.fill("lpc", order=32), lpc.inpaint(segment, GEOMETRY, order=32)[0])
    assert np.abs(gap.fill("interpolation", iterations=0) - gap.fill("interpolation", iterations=50)).max() > 1e-3


@pytest.mark.parametrize("start", [0, 100, 1500, 2 * RATE - 1024])
def test_lpc_works_up_to_the_ends(start: int) -> None:
    gap = widgets.Gap(note(), start)
    scores = gap.scores(gap.fill("lpc"))
    assert scores["SNR_TD (dB)"] > 5 and np.isnan(scores["SNR_MS (dB)"])
    with pytest.raises(ValueError, match="needs 128 ms of the recording on either side"):
        gap.fill("janssen")


def test_a_network_fills_what_it_was_trained_for_and_less(gap: widgets.Gap, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder:
        kind = "complex"

    seen = []

    def fake(name: str, trained_on: str) -> object:
        def run(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
            seen.append((geometry, segments))
            return np.arange(geometry.gap, dtype=float)[None]

        return run

    monkeypatch.setattr(widgets.weights, "read_card", lambda name: {"geometry": GEOMETRY.to_dict()})
    monkeypatch.setattr(widgets, "_load", lambda name: (Encoder(), {}))
    monkeypatch.setattr(widgets, "prepare", fake)
    np.testing.assert_array_equal(gap.fill("complex"), np.arange(1024))
    short = widgets.Gap(gap.audio, gap.start + 384, 256)
    np.testing.assert_array_equal(short.fill("complex"), np.arange(384, 640))
    assert all(geometry == GEOMETRY for geometry, _ in seen)
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    with pytest.raises(ValueError, match="trained for gaps of 64 ms at most"):
        widgets.Gap(gap.audio, gap.start, 1152).fill("complex")


def test_impossible_gaps_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"the gap from 1\.990 to 2\.054 s .* ends at 2\.000 s"):
        widgets.Gap(note(), round(1.99 * RATE))
    with pytest.raises(ValueError, match="does not lie within"):
        widgets.Gap(note(), -1)
    with pytest.raises(ValueError, match="finite samples"):
        widgets.Gap(np.full(RATE, np.nan), 0)
    with pytest.raises(ValueError, match="finite samples"):
        widgets.Gap(np.zeros(0), 0)
    with pytest.raises(ValueError, match="only silence on both sides"):
        widgets.Gap(np.zeros(RATE), 5000).fill("lpc")
    with pytest.raises(ValueError, match="no context"):
        widgets.Gap(np.ones(1025), 0).fill("lpc")


def test_sounds_differ_in_the_gap_alone(gap: widgets.Gap) -> None:
    sounds = gap.sounds({"LPC": gap.fill("lpc")})
    assert list(sounds) == ["Damaged", "LPC", "Original"]
    assert {len(sound) for sound in sounds.values()} == {round(1.5 * RATE)}
    changed = np.flatnonzero(sounds["LPC"] != sounds["Original"])
    assert changed.min() >= RATE // 2 - 512 and changed.max() < RATE // 2 + 512
    assert not sounds["Damaged"][changed.min() : changed.max() + 1].any()


def test_picture_keeps_its_axes_whatever_the_gap(gap: widgets.Gap) -> None:
    for samples in (128, 1536):
        place = widgets.Gap(gap.audio, gap.start, samples)
        axes = widgets.picture(place, {"LPC": place.fill("lpc")}).axes
        middle = 1e3 * (2048 + samples / 2) / RATE
        np.testing.assert_allclose(np.array(axes[2].get_xlim()) - middle, (-125, 125))
        np.testing.assert_allclose(np.array(axes[3].get_xlim()) - middle, (-56, 56))
        assert [label.get_text() for label in axes[3].get_xticklabels()] == ["-40", "-20", "0", "20", "40"]
        assert axes[3].lines[1].get_color() == METHODS["lpc"].colour
        assert axes[3].get_title().startswith("SNR_TD")


# -- slides -------------------------------------------------------------------------------------------------------


def slides(count: int = 3) -> list[tuple[str, Figure, dict[str, np.ndarray]]]:
    def figure(i: int) -> Figure:
        drawn = Figure(figsize=(3, 2))
        drawn.add_subplot().plot([0, i])
        return drawn

    return [(f"{8 * i} ms", figure(i), {"LPC": note(0.1), "Original": note(0.1)}) for i in range(count)]


def test_slides_are_linked_without_a_kernel() -> None:
    made = widgets.Slides("Gap", slides(), alt="a line", first="8 ms")
    state = ipywidgets.Widget.get_manager_state(widgets=None)["state"]
    (link,) = (
        model["state"]
        for model in state.values()
        if model["model_name"] == "LinkModel" and made.slider.model_id in str(model["state"]["source"])
    )
    assert link["source"] == [f"IPY_MODEL_{made.slider.model_id}", "index"]
    assert link["target"] == [f"IPY_MODEL_{made.stack.model_id}", "selected_index"]
    assert (made.slider.index, made.stack.selected_index) == (1, 1)
    pages = [child.value for child in made.stack.children]
    assert [re.findall('alt="(.*?)"', page) for page in pages] == [[f"a line; Gap {8 * i} ms"] for i in range(3)]
    assert len({re.findall('group="(.*?)"', page)[0] for page in pages}) == 1
    assert all(page.count("<audio") == 2 for page in pages)
    (picture,) = re.findall('src="data:image/webp;base64,(.*?)"', pages[2])
    assert Image.open(io.BytesIO(base64.b64decode(picture))).width == 330


def test_slides_without_sound_or_start_are_possible_but_not_without_slides() -> None:
    made = widgets.Slides("Gap", [(name, figure, {}) for name, figure, _ in slides(1)], alt="a line")
    assert "<audio" not in made.stack.children[0].value
    with pytest.raises(ValueError, match="there is none"):
        widgets.Slides("Gap", [], alt="nothing")
    with pytest.raises(ValueError, match="first='9 ms' must be one of the slides: 0 ms, 8 ms"):
        widgets.Slides("Gap", slides(2), alt="a line", first="9 ms")


def test_slides_bring_their_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    bundle = widgets.Slides("Gap", slides(1), alt="a line")._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "customElements.define" in shown[0].data


# -- explorer and probe -------------------------------------------------------------------------------------------


def test_explorer_begins_with_a_test_track_of_music(explorer: widgets.Explorer) -> None:
    assert explorer.corpus.options[:2] == ("music-small", "instruments-small")
    assert explorer.track.label == "music-small/2"
    assert explorer.position.value == pytest.approx(len(explorer.sound) / RATE / 2, abs=1e-3)
    assert list(explorer.bench.fills) == ["LPC"]
    assert explorer.bench.message.value == ""
    assert explorer.bench.results.value.count("<audio") == 3
    assert "SNR_TD (dB)" in explorer.bench.results.value
    assert explorer.bench.trained_on.value == "music"


def test_each_control_changes_what_is_shown(explorer: widgets.Explorer) -> None:
    bench = explorer.bench
    for control, value in (
        (bench.order, 32),
        (bench.gap, 32),
        (explorer.position, 0.5),
        (bench.methods["interpolation"], True),
        (bench.iterations, 0),
        (explorer.track, None),
        (explorer.corpus, "instruments-small"),
    ):
        before = bench.results.value
        if control is explorer.track:
            control.index = 1
        else:
            control.value = value
        assert bench.results.value != before, control.description
        assert bench.message.value == ""
    assert bench.trained_on.value == "instruments"
    assert list(bench.scores["Method"]) == ["Interpolation", "LPC"]
    assert len(bench.fills["LPC"]) == 32 * RATE // 1000


def test_one_change_computes_once(explorer: widgets.Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(widgets, "picture", lambda *_: calls.append(1) or Figure())
    explorer.corpus.value = "instruments-small"
    assert len(calls) == 1
    explorer.position.value = 0.7
    assert len(calls) == 2


def test_explorer_says_what_is_wrong_and_goes_on(explorer: widgets.Explorer, tmp_path: Path) -> None:
    bench = explorer.bench
    explorer.position.value = explorer.position.max
    assert "does not lie within the recording" in bench.message.value
    assert (bench.results.value, bench.fills, len(bench.scores)) == ("", {}, 0)
    explorer.position.value = 0.0
    assert bench.message.value == "" and list(bench.fills) == ["LPC"]
    bench.methods["janssen"].value = True
    assert "Janssen: needs 128 ms" in bench.message.value and list(bench.fills) == ["LPC"]
    only(explorer)
    assert "No method is chosen" in bench.message.value
    explorer.corpus.value = widgets.OWN
    assert "Send a file or give its path" in bench.message.value and bench.results.value == ""
    explorer.path.value = str(tmp_path / "none <b>.wav")
    assert "none &lt;b&gt;.wav is no readable audio" in bench.message.value
    explorer.take(np.zeros(RATE))
    only(explorer, "lpc")
    assert "only silence on both sides" in bench.message.value
    explorer.corpus.value = "music-small"
    assert bench.message.value == "" and list(bench.fills) == ["LPC"]


def test_explorer_takes_files_of_any_rate_and_channels(explorer: widgets.Explorer, tmp_path: Path) -> None:
    times = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 300 * times), np.zeros_like(times)], axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, 44_100)
    explorer.corpus.value = widgets.OWN
    explorer.path.value = str(tmp_path / "a.flac")
    assert len(explorer.sound) == RATE and np.abs(explorer.sound).max() == pytest.approx(0.5, abs=0.01)
    content = (tmp_path / "a.flac").read_bytes()
    explorer.take(np.ones(RATE))
    sent = {"type": "", "last_modified": datetime.now(UTC)}
    explorer.upload.value = [sent | {"name": "a.flac", "size": len(content), "content": memoryview(content)}]
    assert np.abs(explorer.sound).max() == pytest.approx(0.5, abs=0.01)
    explorer.upload.value = [sent | {"name": "b.txt", "size": 4, "content": memoryview(b"text")}]
    assert "b.txt is no readable audio" in explorer.bench.message.value


def test_explorer_begins_with_what_it_is_given(data: Path, tmp_path: Path) -> None:
    given = widgets.Explorer(note(1.0))
    assert given.corpus.value == widgets.OWN and len(given.sound) == RATE and given.bench.fills
    soundfile.write(tmp_path / "a.wav", note(1.5), RATE)
    assert len(widgets.Explorer(tmp_path / "a.wav").sound) == 1.5 * RATE


def test_explorer_without_any_corpus_asks_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXE_DATA", str(tmp_path))
    explorer = widgets.Explorer()
    assert explorer.corpus.options == (widgets.OWN,)
    assert "Send a file" in explorer.bench.message.value


def test_probe_makes_tones_and_sweeps() -> None:
    probe = only(widgets.Probe(), "lpc")
    assert isinstance(probe, widgets.Probe)
    assert probe.bench.scores["SNR_TD (dB)"][0] > 60
    tone = probe.place(1024)
    np.testing.assert_allclose(np.abs(tone.audio).max(), 0.1, rtol=1e-3)
    probe.shape.value = "sweep"
    assert not probe.width.disabled
    segment = probe.place(1024).segment(GEOMETRY)
    turns = np.unwrap(np.angle(np.fft.ifft(2 * np.fft.fft(segment) * (np.arange(5120) < 2560)))) / (2 * np.pi)
    speed = np.gradient(turns)[[500, 4600]] * RATE
    np.testing.assert_allclose(speed, 440 + 500 * np.array([500, 4600]) / 5120, rtol=0.05)
    probe.frequency.value = 7900.0
    assert "above half the sample rate" in probe.bench.message.value


def test_lpc_answers_within_a_second(gap: widgets.Gap) -> None:
    """Filled, drawn and packed, at 64 ms; the first call compiles."""
    bench = only(widgets.Explorer(gap.audio), "lpc").bench
    started = time.process_time()
    bench.order.value = 768
    assert time.process_time() - started < 1
