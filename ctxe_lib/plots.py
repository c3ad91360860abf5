"""How the book looks: one style, one scale for spectrograms, the gap marked alike everywhere, one kind of table.

Time is in ms from the start of the segment, frequency in kHz, level in dB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from pandas.io.formats.style import Styler

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import stft

if TYPE_CHECKING:
    from ctxe_lib.inpaint import Method

__all__ = [
    "bars",
    "curve",
    "decibels",
    "gap_mark",
    "notes_axis",
    "plane",
    "spectrogram",
    "spectrograms",
    "style",
    "table",
    "waveform",
]

_INK = "#333333"
_GAP = "#D55E00"
_RANGE = 80.0


def style() -> None:
    """Set matplotlib's defaults for every figure that follows."""
    mpl.rcParams.update(
        {
            "figure.figsize": (7.2, 3.0),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
            "xtick.color": _INK,
            "ytick.color": _INK,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "image.cmap": "magma",
            "legend.frameon": False,
            "lines.linewidth": 1.2,
        }
    )


def _milliseconds(samples: Any, geometry: Geometry) -> Any:
    return 1e3 * samples / geometry.sample_rate


def gap_mark(ax: Axes, geometry: Geometry) -> None:
    """Mark where the gap begins and ends.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Its abscissa is time in ms.
    geometry : Geometry
    """
    for edge in (geometry.gap_samples.start, geometry.gap_samples.stop):
        ax.axvline(_milliseconds(edge, geometry), color=_GAP, linewidth=1.2, linestyle=(0, (4, 2)))


def waveform(ax: Axes, segment: np.ndarray, geometry: Geometry, **line: Any) -> None:
    """Draw a segment's samples and mark its gap.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    segment : np.ndarray [shape=(length,)]
        Full scale 1.
    geometry : Geometry
    **line
        Options of ``Axes.plot``.
    """
    ax.plot(_milliseconds(np.arange(len(segment)), geometry), segment, **({"linewidth": 0.6} | line))
    gap_mark(ax, geometry)
    ax.set(xlabel="Time (ms)", ylabel="Amplitude", xlim=(0, _milliseconds(len(segment), geometry)))


def decibels(magnitude: np.ndarray, reference: float) -> np.ndarray:
    """Level in dB, no lower than 80 dB below the reference.

    Parameters
    ----------
    magnitude : np.ndarray
        Not negative.
    reference : float
        Magnitude of 0 dB, > 0.

    Returns
    -------
    np.ndarray
        As `magnitude`.

    Raises
    ------
    ValueError
        If the reference is not positive.
    """
    if not reference > 0:
        raise ValueError(f"reference={reference} must be > 0: a silent signal has no level to compare with")
    return 20 * np.log10(np.maximum(magnitude / reference, 10 ** (-_RANGE / 20)))


def plane(
    ax: Axes, coefficients: np.ndarray, geometry: Geometry, *, first_frame: int = 0, reference: float | None = None
) -> AxesImage:
    """Draw magnitudes over time and frequency.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    coefficients : np.ndarray [shape=(frames, bins)]
        Complex coefficients or magnitudes.
    geometry : Geometry
    first_frame : int
        Frame of the segment that the first row is: it is drawn around sample ``first_frame * hop``.
    reference : float, optional
        Magnitude of 0 dB; the largest of `coefficients` if not given.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar in dB.

    Raises
    ------
    ValueError
        If the reference is not positive.
    """
    magnitude = np.abs(coefficients)
    edges = _milliseconds((first_frame + np.array([-0.5, len(magnitude) - 0.5])) * geometry.hop, geometry)
    half_bin = geometry.sample_rate / geometry.window / 2e3
    image = ax.imshow(
        decibels(magnitude, magnitude.max() if reference is None else reference).T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(edges[0], edges[1], -half_bin, geometry.sample_rate / 2e3 + half_bin),
        vmin=-_RANGE,
        vmax=0,
    )
    ax.set(xlabel="Time (ms)", ylabel="Frequency (kHz)", ylim=(0, geometry.sample_rate / 2e3))
    return image


def spectrogram(ax: Axes, segment: np.ndarray, geometry: Geometry, *, reference: float | None = None) -> AxesImage:
    """Draw a segment's spectrogram, by the transform that the networks see, and mark its gap.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    segment : np.ndarray [shape=(length,)]
    geometry : Geometry
    reference : float, optional
        Magnitude of 0 dB, for several spectrograms on one scale; the segment's largest if not given.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar in dB.

    Raises
    ------
    ValueError
        If the segment is silent and no reference given.
    """
    image = plane(ax, stft(segment, geometry), geometry, reference=reference)
    gap_mark(ax, geometry)
    ax.set_xlim(0, _milliseconds(len(segment), geometry))
    return image


def spectrograms(panels: Mapping[str, np.ndarray], geometry: Geometry) -> Figure:
    """Draw segments side by side, as the paper's Figs. 6 to 8, on the scale of the first, the original.

    Parameters
    ----------
    panels : mapping of str to np.ndarray [shape=(length,)]
        Segments by title; 0 dB is the largest magnitude of the first.
    geometry : Geometry

    Returns
    -------
    matplotlib.figure.Figure
        Three panels in a row; four are two by two.

    Raises
    ------
    ValueError
        If the first segment is silent.
    """
    columns = 2 if len(panels) == 4 else 3
    lines = -(-len(panels) // columns)
    size = (7.2, 0.3 + 2.5 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    reference = float(np.abs(stft(next(iter(panels.values())), geometry)).max())
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for place, (title, segment) in enumerate(panels.items()):
        ax = axes.flat[place]
        image = spectrogram(ax, segment, geometry, reference=reference)
        ax.set_title(title)
        ax.label_outer()
        ax.tick_params(labelbottom=place + columns >= len(panels))
        if place + columns >= len(panels):
            ax.set_xlabel("Time (ms)")
    figure.colorbar(image, ax=axes, label="Level (dB re the original's peak)", aspect=15 * lines + 5)
    return figure


def notes_axis(ax: Axes, low: float, high: float) -> None:
    """Make the abscissa the paper's: logarithmic, ticks at notes of the standard pitch, frequencies above.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Its abscissa is frequency in Hz.
    low, high : float
        Ends of the abscissa in Hz.
    """
    ax.set(xscale="log", xlim=(low, high), xlabel="Note (A4 = 440 Hz)")
    semitones = range(math.ceil(12 * math.log2(low / 440)), math.floor(12 * math.log2(high / 440)) + 1)
    for minor in (False, True):
        shown = [n for n in semitones if minor or n % 12 == 0]
        labels = [""] * len(shown) if minor else [f"A{4 + n // 12}" for n in shown]
        ax.set_xticks([440 * 2 ** (n / 12) for n in shown], labels, minor=minor)
    above = ax.secondary_xaxis("top")
    khz = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8]
    above.set_xticks([1e3 * value for value in khz], [f"{value:g}" for value in khz], minor=False)
    above.set_xticks([], minor=True)
    above.set_xlabel("Frequency (kHz)")


def bars(ax: Axes, summary: pd.DataFrame, methods: Mapping[str, Method], *, label: str) -> None:
    """Draw the mean of each method with its confidence interval.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    summary : pandas.DataFrame
        As :func:`ctxe_lib.statistics.summarise` gives it: method, mean, low, high.
    methods : mapping of str to Method
        :data:`ctxe_lib.inpaint.METHODS`: names and colours.
    label : str
        Of the ordinate, with its unit.
    """
    shown = [methods[name] for name in summary["method"]]
    mean = summary["mean"].to_numpy()
    interval = np.abs(summary[["low", "high"]].to_numpy().T - mean)
    ax.bar(
        [method.label for method in shown],
        mean,
        color=[method.colour for method in shown],
        yerr=interval,
        capsize=3,
        ecolor=_INK,
        width=0.65,
    )
    ax.grid(axis="y")
    ax.set_ylabel(label)


def curve(ax: Axes, summary: pd.DataFrame, x: str, **line: Any) -> None:
    """Draw means over a quantity, with the band of their confidence intervals.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    summary : pandas.DataFrame
        One row per value of the quantity: the quantity, mean, low, high (see
        :func:`ctxe_lib.statistics.summarise`). Intervals may be NaN.
    x : str
        Column with the quantity.
    **line
        Options of ``Axes.plot``.
    """
    options: dict[str, Any] = {"marker": "o", "markersize": 3} | line
    (drawn,) = ax.plot(summary[x], summary["mean"], **options)
    ax.fill_between(summary[x], summary["low"], summary["high"], color=drawn.get_color(), alpha=0.15, linewidth=0)
    ax.grid(axis="y")


def table(
    frame: pd.DataFrame,
    *,
    decimals: Mapping[str, int] | None = None,
    best: Mapping[str, Literal["min", "max"]] | None = None,
) -> Styler:
    """Show a table: decimals aligned, thousands grouped, the best value of a column in bold.

    Parameters
    ----------
    frame : pandas.DataFrame
        The index is not shown.
    decimals : mapping of column to int, optional
        Digits after the point; 0 for whole numbers, 1 for others if not given.
    best : mapping of column to {'min', 'max'}, optional
        Columns whose best value is set in bold.

    Returns
    -------
    pandas.io.formats.style.Styler
    """
    numeric = list(frame.select_dtypes("number").columns)
    default = {name: 0 if frame[name].dtype.kind in "iu" else 1 for name in numeric}
    digits = default | dict(decimals or {})
    shown = (
        frame.reset_index(drop=True)
        .style.hide(axis="index")
        .format({name: f"{{:z,.{places}f}}".format for name, places in digits.items()}, na_rep="–")
    )
    shown = shown.set_table_attributes('class="dataframe"')
    aligned = {"text-align": "right", "font-variant-numeric": "tabular-nums"}
    shown = shown.set_properties(subset=pd.Index(numeric), **aligned)
    columns = [f"th.col{frame.columns.get_loc(name)}" for name in numeric]
    if columns:
        shown = shown.set_table_styles([{"selector": ", ".join(columns), "props": "text-align: right"}])
    for name, which in (best or {}).items():
        highlight = shown.highlight_max if which == "max" else shown.highlight_min
        shown = highlight(subset=[name], props="font-weight: bold")
    return shown
