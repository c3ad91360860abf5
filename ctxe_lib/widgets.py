"""Sliders: over what was computed beforehand, for pages without a kernel, and over what is computed now, in JupyterLab.

- :class:`Slides` turns through pictures and sounds that are stored in the page itself.
- :class:`Explorer` and :class:`Probe` fill a gap anew whenever a control is moved; they need a running kernel.

All of them show a :class:`Gap`: a place in a recording, what methods put there, and the scores.
"""

from __future__ import annotations

import base64
import html
import io
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from ctxe_lib import audio, interpolation, listen, lpc, metrics, phase, plots, weights
from ctxe_lib.corpus import Corpus
from ctxe_lib.evaluation import score, trained_on
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, available_methods, prepare
from ctxe_lib.paths import data_folder

__all__ = ["Explorer", "Gap", "Probe", "Slides", "in_lab", "picture"]

GAPS_MS = range(8, 97, 8)
"""Durations that the sliders offer, in ms."""
ORDERS = (8, 16, 32, 64, 125, 250, 500, 768, 1000, 1500, 2000)
"""Orders of linear prediction that the sliders offer."""
SLOW = frozenset({"sparse"})
"""Methods that take longer than a second; they are off until chosen."""
_COLOURS = {method.label: method.colour for method in METHODS.values()}
_HEARD = (0.5, 1.0)  # seconds before and after the middle of the gap
_SEEN = 0.125
_load = lru_cache(maxsize=2)(weights.load_encoder)


@dataclass(frozen=True)
class Gap:
    """A gap in a recording, anywhere in it.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,)]
        The recording at 16 kHz, full scale 1.
    start : int
        First sample of the gap.
    gap : int
        Samples in the gap; a multiple of the hop.

    Raises
    ------
    ValueError
        If the gap does not lie within the recording, or the recording is not finite.
    """

    audio: np.ndarray
    start: int
    gap: int = Geometry().gap

    def __post_init__(self) -> None:
        if not (np.ndim(self.audio) == 1 and len(self.audio) and np.isfinite(self.audio).all()):
            raise ValueError("the recording must be one channel of finite samples, at least one")
        if self.start < 0 or self.stop > len(self.audio):
            rate = self.geometry.sample_rate
            raise ValueError(
                f"the gap from {self.start / rate:.3f} to {self.stop / rate:.3f} s does not lie within the recording, "
                f"which ends at {len(self.audio) / rate:.3f} s: place it elsewhere or shorten it"
            )

    @property
    def stop(self) -> int:
        """First sample after the gap."""
        return self.start + self.gap

    @property
    def geometry(self) -> Geometry:
        """The paper's, with this gap."""
        return Geometry(gap=self.gap)

    @property
    def original(self) -> np.ndarray:
        """What the recording has in the gap, [gap]."""
        return self.audio[self.start : self.stop]

    def segment(self, geometry: Geometry, *, lead: int = 0) -> np.ndarray:
        """Samples [geometry.length] with the gap `lead` samples into that of the geometry; zeros beyond the ends."""
        first = self.start - lead - geometry.context
        inside = slice(max(first, 0), max(min(first + geometry.length, len(self.audio)), 0))
        padding = (max(-first, 0), max(first + geometry.length - len(self.audio), 0))
        return np.pad(np.asarray(self.audio[inside], dtype=np.float64), padding)

    def whole(self, geometry: Geometry, *, lead: int = 0) -> bool:
        """Whether the recording has all of that segment."""
        first = self.start - lead - geometry.context
        return first >= 0 and first + geometry.length <= len(self.audio)

    def fill(self, name: str, *, trained_on: str = "music", order: int = 1000, iterations: int = 100) -> np.ndarray:
        """Have a method fill the gap.

        Parameters
        ----------
        name : str
            Key of :data:`ctxe_lib.inpaint.METHODS`. LPC works up to the ends of a recording, the others want the
            whole context on either side. A network fills the gap it was trained for, of which a shorter gap takes the
            middle.
        trained_on : {'music', 'instruments'}
            Which weights a network takes.
        order : int
            Of LPC; lowered where the recording has no more samples than that beside the gap.
        iterations : int
            Of Griffin-Lim, where the method has only magnitudes.

        Returns
        -------
        np.ndarray [shape=(gap,)]

        Raises
        ------
        ValueError
            If the context is silent, too short, or the gap longer than the network's; in words for the page.
        FileNotFoundError
            If the network has not been trained.
        """
        geometry, method = self.geometry, METHODS[name]
        before = self.audio[max(self.start - geometry.context, 0) : self.start]
        after = self.audio[self.stop : self.stop + geometry.context]
        if not (before.any() or after.any()):
            raise ValueError("there is only silence on both sides: nothing to continue")
        if name == "lpc":
            longest = max(len(before), len(after))
            if longest < 2:
                raise ValueError("the recording has no context beside the gap")
            return lpc.bridge(before[None], after[None], self.gap, order=min(order, longest - 1))[0][0]
        stored = method.weights_name(trained_on)
        if stored is not None:
            geometry = Geometry(**weights.read_card(stored)["geometry"])
        lead = (geometry.gap - self.gap) // 2
        if lead < 0:
            raise ValueError(f"trained for gaps of {1e3 * geometry.gap_seconds:.0f} ms at most")
        if not self.whole(geometry, lead=lead):
            wanted = 1e3 * geometry.context / geometry.sample_rate
            raise ValueError(f"needs {wanted:.0f} ms of the recording on either side, which LPC does not")
        segment = self.segment(geometry, lead=lead)[None]
        segment[:, geometry.gap_samples] = 0
        encoder = _load(stored)[0] if stored is not None else None
        if name == "interpolation" or (encoder is not None and encoder.kind == "magnitude"):
            magnitude = encoder.predict(segment) if encoder else interpolation.magnitudes(segment, geometry)
            filled = phase.reconstruct(segment, magnitude, geometry, iterations=iterations)
        else:
            filled = prepare(name, trained_on)(segment, geometry)
        return filled[0, lead : lead + self.gap]

    def scores(self, filled: np.ndarray) -> dict[str, float]:
        """SNR_TD and SNR_MS in dB, keyed as columns of a table; NaN where they cannot be had."""
        geometry = self.geometry
        if self.whole(geometry):
            both = score(self.segment(geometry)[None], filled[None], geometry)
            return {"SNR_TD (dB)": float(both["snr_td"][0]), "SNR_MS (dB)": float(both["snr_ms"][0])}
        return {"SNR_TD (dB)": float(metrics.snr(self.original, filled)), "SNR_MS (dB)": float("nan")}

    def table(self, fills: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Scores of gap audio by label."""
        rows = [{"Method": label} | self.scores(filled) for label, filled in fills.items()]
        return pd.DataFrame(rows, columns=["Method", "SNR_TD (dB)", "SNR_MS (dB)"])

    def sounds(self, fills: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A second and a half around the gap: damaged, with each filling, and as they were."""
        middle, rate = (self.start + self.stop) // 2, self.geometry.sample_rate
        first, last = max(middle - round(_HEARD[0] * rate), 0), middle + round(_HEARD[1] * rate)
        heard = {}
        for label, filled in {"Damaged": np.zeros(self.gap), **fills, "Original": self.original}.items():
            heard[label] = np.array(self.audio[first:last], dtype=np.float64)
            heard[label][self.start - first : self.stop - first] = filled
        return heard


def in_lab() -> bool:
    """Whether a Jupyter server runs this kernel, so that someone may turn its widgets; papermill does not."""
    return "JPY_SESSION_NAME" in os.environ


def picture(place: Gap, fills: Mapping[str, np.ndarray], *, original: bool = True) -> Figure:
    """Spectrogram and samples about a gap, one row for each filling, on the same axes whatever the gap's length.

    Parameters
    ----------
    place : Gap
    fills : mapping of str to np.ndarray [shape=(gap,)]
        Gap audio by label; labels of methods have their colours.
    original : bool
        Whether the first row shows the recording as it was.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot, so that it is shown only where it is wanted.
    """
    geometry = place.geometry
    segment = place.segment(geometry)
    middle = 1e3 * (geometry.context + geometry.gap / 2) / geometry.sample_rate
    times = 1e3 * np.arange(geometry.length) / geometry.sample_rate
    reference = max(float(np.abs(plots.stft(segment, geometry)).max()), 1e-9)
    rows = ({"Original": place.original} if original else {}) | dict(fills)
    # Margins in inches instead of a layout that is searched for: a widget draws anew at every turn.
    height = 1.35 * len(rows) + 0.55
    figure = Figure(figsize=(7.2, height), layout=PlaceHolderLayoutEngine(True, True))
    axes = figure.subplots(len(rows), 2, sharex="col", sharey="col", squeeze=False)
    figure.subplots_adjust(left=0.185, right=0.985, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.06, hspace=0.38)
    for (left, right), (label, filled) in zip(axes, rows.items(), strict=True):
        restored = segment.copy()
        restored[geometry.gap_samples] = filled
        image = plots.spectrogram(left, restored, geometry, reference=reference)
        left.set(xlabel="", ylabel="", title=label, xlim=(middle - 1e3 * _SEEN, middle + 1e3 * _SEEN))
        right.plot(times, segment, color="#AAAAAA", linewidth=1.8)
        if label != "Original":
            inside = slice(geometry.gap_samples.start - 1, geometry.gap_samples.stop + 1)
            right.plot(times[inside], restored[inside], color=_COLOURS.get(label, "#0072B2"), linewidth=0.9)
            values = place.scores(filled).items()
            shown = ", ".join(f"{name[:-5]} {value:z.1f} dB" for name, value in values if not np.isnan(value))
            right.set_title(shown)
        plots.gap_mark(right, geometry)
        right.set(xlim=(middle - 56, middle + 56), yticks=[])
    loudest = max(float(np.abs(segment[np.abs(times - middle) < 56]).max()), 1e-9)
    axes[0, 1].set_ylim(-1.25 * loudest, 1.25 * loudest)
    for column, ticks in enumerate((range(-100, 101, 50), range(-40, 41, 20))):
        axes[-1, column].set_xticks([middle + tick for tick in ticks], [str(tick) for tick in ticks])
    figure.supxlabel("Time from the middle of the gap (ms)", x=0.58, y=0.08 / height, fontsize=10)
    figure.text(0.14, 0.5, "Frequency (kHz)", rotation=90, va="center", ha="center")
    scale = figure.add_axes((0.092, 0.5 - 0.8 / height, 0.018, 1.6 / height))
    figure.colorbar(image, cax=scale, label="Level (dB)", location="left", ticks=range(-80, 1, 20))
    return figure


def _data_url(figure: Figure, **options: Any) -> str:
    """A figure as the address of a compressed picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", pil_kwargs={"quality": 75, "method": 2}, **options)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _image(figure: Figure, alt: str) -> str:
    width = round(figure.get_figwidth() * 100)
    return (
        f'<div class="scrolling"><img src="{_data_url(figure, dpi=110)}" alt="{html.escape(alt)}" '
        f'style="width: {width}px; max-width: 100%"></div>'
    )


class _Panel(ipywidgets.VBox):
    """A box whose players work wherever it is shown."""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        display(listen.script())
        return super()._repr_mimebundle_(**options)


class Slides(_Panel):
    """A slider over pictures and sounds that were computed beforehand; it works in a page without a kernel.

    A sound that plays goes on when the slider is turned, from where it is, with the new slide's sound.

    Parameters
    ----------
    name : str
        What the slider sets.
    slides : iterable of (str, Figure, mapping of str to np.ndarray)
        Value of the slider, picture, and audio [samples] by label, which may be empty. Use the same labels and lengths
        of audio in all slides.
    sample_rate : int
        In Hz.
    alt : str
        What the pictures show; the value of the slider is added.
    first : str, optional
        The slide shown first; the first one if not given.

    Raises
    ------
    ValueError
        If there is no slide, or none with the value `first`.
    """

    def __init__(
        self,
        name: str,
        slides: Iterable[tuple[str, Figure, Mapping[str, np.ndarray]]],
        sample_rate: int = 16_000,
        *,
        alt: str,
        first: str | None = None,
    ) -> None:
        group, values, pages = f"slides-{uuid.uuid4().hex[:8]}", [], []
        for value, figure, sounds in slides:
            players = listen.comparison(sounds, sample_rate, group) if sounds else ""
            values.append(value)
            pages.append(ipywidgets.HTML(_image(figure, f"{alt}; {name} {value}") + players))
        first = values[0] if first is None and values else first
        if first not in values:
            raise ValueError(f"first={first!r} must be one of the slides: {', '.join(values) or 'there is none'}")
        self.slider = ipywidgets.SelectionSlider(
            options=values, value=first, description=name, layout={"width": "min(32rem, 100%)"}
        )
        self.slider.style.description_width = "initial"
        self.stack = ipywidgets.Stack(pages, selected_index=values.index(first))
        ipywidgets.jslink((self.slider, "index"), (self.stack, "selected_index"))
        super().__init__([self.slider, self.stack])


class _Bench(ipywidgets.VBox):
    """Which methods fill a gap and how; what comes out.

    Parameters
    ----------
    place : callable
        From the length of the gap in samples to the :class:`Gap` to fill.
    """

    def __init__(self, place: Callable[[int], Gap]) -> None:
        plots.style()
        self._place, self._held = place, False
        self.fills: dict[str, np.ndarray] = {}
        self.scores = pd.DataFrame()
        self.seconds = 0.0
        style = {"description_width": "7em"}
        wide = {"width": "26em"}
        self.gap = ipywidgets.IntSlider(
            64, GAPS_MS[0], GAPS_MS[-1], 8, description="Gap (ms)", continuous_update=False, style=style, layout=wide
        )
        self.order = ipywidgets.SelectionSlider(
            options=ORDERS, value=1000, description="Order of LPC", continuous_update=False, style=style, layout=wide
        )
        self.iterations = ipywidgets.IntSlider(
            100, 0, 200, 10, description="Iterations", continuous_update=False, style=style, layout=wide
        )
        self.trained_on = ipywidgets.ToggleButtons(options=["music", "instruments"], description="Networks of")
        self.methods = {
            name: ipywidgets.Checkbox(
                name in available_methods("music") and name not in SLOW,
                description=method.label,
                indent=False,
                layout={"width": "auto"},
            )
            for name, method in METHODS.items()
        }
        self.message, self.results = ipywidgets.HTML(), ipywidgets.HTML()
        controls = (self.gap, self.order, self.iterations, self.trained_on, *self.methods.values())
        for control in controls:
            control.observe(self.update, "value")
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.HBox([self.gap, self.order, self.iterations, self.trained_on], layout=wrap),
                ipywidgets.HBox(list(self.methods.values()), layout=wrap),
                self.message,
                self.results,
            ]
        )

    @contextmanager
    def held(self) -> Any:
        """Compute once for all changes made inside."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before
        self.update()

    def say(self, *words: str) -> None:
        """Show messages in place of the last ones."""
        self.message.value = "".join(f'<p role="status">{html.escape(word)}</p>' for word in words)

    def update(self, _: object = None) -> None:
        """Fill the gap with what is chosen and show it; what goes wrong is said in words."""
        if self._held:
            return
        started = time.perf_counter()
        self.fills, self.scores, problems = {}, pd.DataFrame(), []
        try:
            place = self._place(round(self.gap.value * Geometry().sample_rate / 1e3))
        except (ValueError, OSError) as error:
            self.results.value = ""
            self.say(f"{error}.")
            return
        options = {"order": self.order.value, "iterations": self.iterations.value}
        for name, box in self.methods.items():
            if box.value:
                try:
                    self.fills[METHODS[name].label] = place.fill(name, trained_on=self.trained_on.value, **options)
                except (ValueError, FileNotFoundError) as error:
                    problems.append(f"{METHODS[name].label}: {error}.")
        self.seconds = time.perf_counter() - started
        self.scores = place.table(self.fills)
        if not self.fills and not problems:
            problems = ["No method is chosen."]
        self.say(*problems)
        shown = plots.table(self.scores, best={name: "max" for name in self.scores.columns[1:] if len(self.scores)})
        self.results.value = (
            listen.comparison(place.sounds(self.fills), place.geometry.sample_rate, f"bench-{id(self)}")
            + _image(picture(place, self.fills), "Spectrogram and samples about the gap, a row for each method")
            + (shown.to_html() if len(self.scores) else "")
            + f"<p>Filled in {self.seconds:.2f} s. Scores compare with what the recording has in the gap.</p>"
        )


OWN = "a file of mine"


class Explorer(_Panel):
    """Choose a recording, place a gap in it, and hear and see what each method makes of it; needs a kernel.

    Parameters
    ----------
    sound : np.ndarray [shape=(samples,)] or Path or str, optional
        A recording at 16 kHz, or an audio file of any kind, to begin with in place of a test track.

    Attributes
    ----------
    corpus, track, path, upload, position : ipywidgets.Widget
        Where the recording comes from, and where the gap begins, in seconds. The position's slider lies on the
        waveform, so that a click on the waveform places the gap.
    bench : ipywidgets.Widget
        Length of the gap, methods and their options; ``bench.fills`` and ``bench.scores`` are what came out.
    sound : np.ndarray [shape=(samples,)]
        The recording.
    """

    def __init__(self, sound: np.ndarray | Path | str | None = None) -> None:
        folder, wide = data_folder(), {"width": "26em"}
        corpora = sorted(
            (path.parent.name for path in folder.glob("*/corpus.json")), key=lambda name: ("instruments" in name, name)
        )
        self.sound, self._missing = np.zeros(0), ""
        self.corpus = ipywidgets.Dropdown(options=[*corpora, OWN], description="From", layout=wide)
        self.track = ipywidgets.Dropdown(description="Test track", layout=wide)
        self.path = ipywidgets.Text(
            description="File", placeholder="path of an audio file", continuous_update=False, layout=wide
        )
        self.upload = ipywidgets.FileUpload(
            accept=",".join(sorted(audio.SUFFIXES)), multiple=False, description="or send one"
        )
        # A class of its own, through which the slider of this explorer and no other gets its waveform.
        self._mark = f"ctxe-place-{uuid.uuid4().hex[:8]}"
        self._waveform = ipywidgets.HTML()
        self.position = ipywidgets.FloatSlider(
            description="Gap at (s)",
            step=0.001,
            readout_format=".3f",
            continuous_update=False,
            layout={"width": "100%"},
        )
        self.position.add_class(self._mark)
        self.bench = _Bench(self._place)
        self.corpus.observe(self._choose_corpus, "value")
        self.track.observe(self._choose_track, "value")
        self.path.observe(lambda change: self._read(Path(change["new"]).expanduser()), "value")
        self.upload.observe(self._receive, "value")
        self.position.observe(self.bench.update, "value")
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.HBox([self.corpus, self.track, self.path, self.upload], layout=wrap),
                self._waveform,
                self.position,
                self.bench,
            ]
        )
        if sound is None:
            self._choose_corpus()
            return
        with self.bench.held():
            self.corpus.value = OWN
        if isinstance(sound, np.ndarray):
            self.take(sound)
        else:
            self._read(Path(sound))

    def take(self, sound: np.ndarray) -> None:
        """Explore a recording at 16 kHz, [samples]; the gap goes to its middle."""
        self.sound, self._missing = np.asarray(sound, dtype=np.float64), ""
        seconds = len(self.sound) / Geometry().sample_rate
        with self.bench.held():
            self.position.max = seconds
            self.position.value = round(seconds / 2, 3)
            self._waveform.value = self._style()

    def _style(self) -> str:
        """The waveform as the track of the slider, and the gap as its handle."""
        figure = Figure(figsize=(9, 0.9), layout=PlaceHolderLayoutEngine(True, True))
        ax = figure.add_axes((0, 0, 1, 1))
        pieces = np.array_split(self.sound, min(len(self.sound), 900))
        ax.fill_between(
            range(len(pieces)), [p.min() for p in pieces], [p.max() for p in pieces], color="#56B4E9", linewidth=0.5
        )
        ax.set(xlim=(0, max(len(pieces) - 1, 1)))
        ax.axis("off")
        track = f".{self._mark} .noUi-target"
        return (
            f"<style>.{self._mark} {{ height: 92px !important }} "
            f"{track} {{ height: 80px !important; background: url({_data_url(figure, transparent=True)}) "
            "0 0 / 100% 100% !important } "
            f"{track} .noUi-connects {{ background: none }} {track} .noUi-connect {{ background: none !important }} "
            f"{track} .noUi-handle {{ height: 84px !important; width: 6px !important; right: -3px !important; "
            "top: -3px !important; border-radius: 3px !important; background: #D55E00 !important }</style>"
        )

    def _choose_corpus(self, _: object = None) -> None:
        own = self.corpus.value == OWN
        self.track.layout.display = "none" if own else ""
        self.path.layout.display = self.upload.layout.display = "" if own else "none"
        if own:
            self._fail("Send a file or give its path")
            return
        try:
            corpus = Corpus.open(data_folder() / self.corpus.value)
        except (ValueError, OSError) as error:
            self._fail(str(error))
            return
        tracks = corpus.tracks[corpus.tracks["split"] == "test"]
        with self.bench.held():
            self.bench.trained_on.value = trained_on(corpus)
            self._corpus = corpus
            self.track.options = list(zip(tracks["track"], map(int, tracks.index), strict=True))
            self.track.index = 0 if len(tracks) else None
            self._choose_track()

    def _choose_track(self, _: object = None) -> None:
        if self.track.value is None:
            self._fail(f"{self.corpus.value} has no test track")
            return
        track = self._corpus.tracks.loc[self.track.value]
        self.take(self._corpus.read(np.array([track["offset"]]), track["samples"])[0])

    def _receive(self, change: Mapping[str, Any]) -> None:
        for file in change["new"]:
            self._read(bytes(file["content"]), file["name"])

    def _read(self, source: Path | bytes, name: str = "") -> None:
        try:
            self.take(audio.decode(source, Geometry().sample_rate))
        except ValueError as error:
            self._fail(f"{name or str(source)} {error}")

    def _fail(self, reason: str) -> None:
        """Have no recording, and say why."""
        self.sound, self._missing, self._waveform.value = np.zeros(0), reason, ""
        self.bench.update()

    def _place(self, gap: int) -> Gap:
        if self._missing:
            raise ValueError(self._missing)
        return Gap(self.sound, round(self.position.value * Geometry().sample_rate), gap)


class Probe(_Panel):
    """A tone or a sweep with a gap, as in section 4.3 of the paper; needs a kernel.

    Attributes
    ----------
    shape, frequency, width, amplitude, phase : ipywidgets.Widget
        ``tone`` or ``sweep``; its frequency in Hz, for a sweep that at the segment's beginning; how far it rises up to
        the segment's end, in Hz; amplitude, and phase in units of pi.
    bench : ipywidgets.Widget
        As in :class:`Explorer`.
    """

    def __init__(self) -> None:
        style, layout = {"description_width": "8em"}, {"width": "26em"}
        options: dict[str, Any] = {"continuous_update": False, "style": style, "layout": layout}
        self.shape = ipywidgets.ToggleButtons(options=["tone", "sweep"], description="Probe")
        self.frequency = ipywidgets.FloatLogSlider(440, min=1.3, max=3.9, step=0.001, description="Hz", **options)
        self.width = ipywidgets.IntSlider(500, 0, 4000, 50, description="rises by (Hz)", disabled=True, **options)
        self.amplitude = ipywidgets.FloatSlider(0.1, min=0.05, max=1, step=0.05, description="Amplitude", **options)
        self.phase = ipywidgets.FloatSlider(0, min=0, max=2, step=0.05, description="Phase (π)", **options)
        self.bench = _Bench(self.place)
        ipywidgets.dlink((self.shape, "value"), (self.width, "disabled"), lambda shape: shape == "tone")
        controls = (self.shape, self.frequency, self.width, self.amplitude, self.phase)
        for control in controls:
            control.observe(self.bench.update, "value")
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([ipywidgets.HBox(list(controls), layout=wrap), self.bench])
        self.bench.trained_on.value = "instruments"
        self.bench.update()

    def place(self, gap: int) -> Gap:
        """The probe with a gap of so many samples.

        Raises
        ------
        ValueError
            If a sweep ends above half the sample rate.
        """
        geometry = Geometry(gap=gap)
        rise = 0 if self.shape.value == "tone" else self.width.value
        highest = self.frequency.value + rise
        if highest > geometry.sample_rate / 2:
            raise ValueError(f"the sweep ends at {highest:.0f} Hz, above half the sample rate: start it lower")
        times = np.arange(2 * geometry.sample_rate) / geometry.sample_rate
        start = geometry.sample_rate - gap // 2
        # Linear within the segment, steady before and after it, so that the excerpt has no frequencies of its own.
        passed = np.clip(times - (start - geometry.context) / geometry.sample_rate, 0, geometry.seconds)
        after = np.maximum(times - (start - geometry.context) / geometry.sample_rate - geometry.seconds, 0)
        turns = self.frequency.value * times + rise * (passed**2 / (2 * geometry.seconds) + after)
        return Gap(self.amplitude.value * np.sin(2 * np.pi * turns + np.pi * self.phase.value), start, gap)
