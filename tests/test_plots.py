from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from ctxe_lib import plots
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS

GEOMETRY = Geometry()


@pytest.fixture
def ax() -> Iterator[Axes]:
    with mpl.rc_context({"backend": "agg"}):
        plots.style()
        figure, ax = plt.subplots()
        yield ax
        figure.canvas.draw()
        plt.close(figure)


def tone(hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(GEOMETRY.length) / GEOMETRY.sample_rate)


def gap_lines(ax: Axes) -> list[float]:
    return [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 2]


def test_spectrogram_has_time_in_ms_and_frequency_in_khz(ax: Axes) -> None:
    image = plots.spectrogram(ax, tone(2000), GEOMETRY)
    left, right, bottom, top = image.get_extent()
    levels = image.get_array()
    height = (np.argmax(levels[:, 20]) + 0.5) / len(levels) * (top - bottom) + bottom
    assert height == pytest.approx(2.0, abs=1e-9)
    assert (left, right) == (-4.0, 316.0)
    assert levels.max() == 0 and levels.min() == -80
    assert gap_lines(ax) == [128.0, 192.0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time (ms)", "Frequency (kHz)")


def test_common_reference_keeps_levels_comparable(ax: Axes) -> None:
    loud = plots.spectrogram(ax, tone(1000), GEOMETRY, reference=128.0).get_array().max()
    quiet = plots.spectrogram(ax, 0.1 * tone(1000), GEOMETRY, reference=128.0).get_array().max()
    assert loud - quiet == pytest.approx(20, abs=1e-6)


def test_plane_begins_at_its_first_frame(ax: Axes) -> None:
    image = plots.plane(ax, np.ones((11, 257)), GEOMETRY, first_frame=15)
    assert tuple(image.get_extent()[:2]) == (116.0, 204.0)


def test_silence_needs_a_reference(ax: Axes) -> None:
    with pytest.raises(ValueError, match=r"reference=0.0 must be > 0"):
        plots.spectrogram(ax, np.zeros(GEOMETRY.length), GEOMETRY)
    assert plots.spectrogram(ax, np.zeros(GEOMETRY.length), GEOMETRY, reference=1).get_array().max() == -80


def test_waveform_marks_the_gap(ax: Axes) -> None:
    plots.waveform(ax, tone(100), GEOMETRY)
    assert ax.lines[0].get_xdata()[-1] == pytest.approx(320 - 1 / 16)
    assert gap_lines(ax) == [128.0, 192.0]


def test_bars_take_names_and_colours_of_the_methods(ax: Axes) -> None:
    summary = pd.DataFrame({"method": ["lpc", "magnitude"], "mean": [8.7, 7.0], "low": [8.0, 6.0], "high": [9.0, 7.5]})
    plots.bars(ax, summary, METHODS, label="SNR (dB)")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["LPC", "Magnitude network"]
    colours = [mpl.colors.to_hex(patch.get_facecolor()).upper() for patch in ax.patches]
    assert colours == [METHODS["lpc"].colour, METHODS["magnitude"].colour]


def test_curve_draws_means_and_the_band_of_their_intervals(ax: Axes) -> None:
    summary = pd.DataFrame({"order": [1, 10], "mean": [2.0, 3.0], "low": [1.0, 2.5], "high": [2.5, 4.0]})
    plots.curve(ax, summary, "order", color="#E69F00", label="LPC")
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 2], [10, 3]])
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == 1 and corners[:, 1].max() == 4
    assert line.get_label() == "LPC" and to_hex(band.get_facecolor()[0]) == "#e69f00"


def test_method_colours_differ() -> None:
    colours = [method.colour for method in METHODS.values()]
    assert len(set(colours)) == len(colours)


def test_table_groups_aligns_and_marks_the_best() -> None:
    frame = pd.DataFrame({"method": ["a", "b"], "n": [12345, 6], "dB": [7.84, np.nan]}, index=[0, 0])
    page = plots.table(frame, decimals={"dB": 2}, best={"n": "min"}).to_html()
    assert "12,345" in page and "7.84" in page and "–" in page
    assert "font-weight: bold" in page and "text-align: right" in page
    assert ">0</th>" not in page
