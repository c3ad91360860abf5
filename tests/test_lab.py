"""Sliders with a kernel: the cell of page 9 that opens the workbench, run in a real JupyterLab in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

pytest.importorskip("playwright", reason="the test of the sliders needs the test extra")
from playwright.sync_api import Browser, Locator, Page, Route

from ctxe_lib.corpus import SPLITS, Track, build_corpus
from ctxe_lib.geometry import Geometry

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent
NAME, TOKEN = "workbench.ipynb", "of-the-tests"
LAB = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
LAB += [f"--IdentityProvider.token={TOKEN}", "--LabApp.extension_manager=readonly"]
LAB += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--ServerApp.terminals_enabled=False"]

# What a workbench shows and plays: its pictures, its sounds and its scores.
SHOWN = """panel => [
  [...panel.querySelectorAll("img")].map(image => image.src),
  [...panel.querySelectorAll("audio")].map(audio => audio.src),
  [...panel.querySelectorAll("table td")].map(cell => cell.textContent),
]"""


def workbench() -> nbformat.NotebookNode:
    """What page 9 imports, and its cell with the workbench."""
    cells = nbformat.read(ROOT / "notebooks/09_one_gap.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    imports = next(cell for cell in code if "from ctxe_lib import" in cell.source)
    (opens,) = (cell for cell in code if "widgets.Explorer()" in cell.source)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[imports, opens], metadata={"kernelspec": kernel})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab that has the notebook, a corpus made here, no networks, and settings of its own."""
    folder = tmp_path_factory.mktemp("lab")
    times = np.arange(3 * 16_000) / 16_000
    tracks = [
        Track(f"{split}/{i}", f"{split} {i}", "made", 0.3 * np.sin(2 * np.pi * 220 * (i + 1) * times), split, "none")
        for split in SPLITS
        for i in range(2)
    ]
    build_corpus("music-smoke", tracks, folder / "data/music-smoke", Geometry(), provenance={}, rendered=True)
    (folder / "weights").mkdir()
    (folder / "notebooks").mkdir()
    nbformat.write(workbench(), folder / "notebooks" / NAME)
    own = {"CTXE_DATA": "data", "CTXE_WEIGHTS": "weights", "IPYTHONDIR": "ipython"}
    own |= {f"JUPYTER_{name}_DIR": name.lower() for name in ("CONFIG", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": name.lower() for name in ("SETTINGS", "WORKSPACES")}
    environment = os.environ | {name: str(folder / place) for name, place in own.items()}
    log = folder / "log"
    with log.open("w") as written:
        server = subprocess.Popen(
            [*LAB, f"--ServerApp.root_dir={folder / 'notebooks'}"], env=environment, stdout=written, stderr=written
        )
    try:
        told = folder / "runtime" / f"jpserver-{server.pid}.json"
        deadline = time.monotonic() + 240
        while not told.exists():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield json.loads(told.read_text())["url"]
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture
def page(lab: str, browser: Browser) -> Iterator[Page]:
    """The notebook, open in JupyterLab; nothing may have asked another host when it is closed."""
    foreign: list[str] = []

    def ask(route: Route) -> None:
        if route.request.url.startswith(lab):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(240_000)
    page.route(lambda url: url.startswith("http"), ask)
    page.goto(f"{lab}lab/tree/{NAME}?token={TOKEN}", wait_until="domcontentloaded")
    yield page
    assert foreign == []
    page.close()


def changed(panel: Locator, before: list[Any]) -> list[Any]:
    """What a workbench shows, once its picture, its sounds and its scores are all others than before."""
    deadline = time.monotonic() + 120
    while True:
        shown = panel.evaluate(SHOWN)
        if all(new != old for new, old in zip(shown, before, strict=True)):
            return shown
        assert time.monotonic() < deadline, "moving a slider changed no picture, no sound or no score"
        panel.page.wait_for_timeout(100)


def test_workbench_answers_its_sliders(page: Page) -> None:
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for()  # before, what is run is dropped
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    panel = page.locator(".jp-OutputArea .widget-vbox").first
    panel.locator("ctxe-compare button").wait_for()
    first = panel.evaluate(SHOWN)
    assert [len(part) > 0 for part in first] == [True, True, True]

    panel.locator(".widget-hslider", has_text="Gap (ms)").locator(".noUi-handle").press("ArrowRight")
    longer = changed(panel, first)
    waveform = panel.locator(".widget-hslider", has_text="Gap at (s)")
    place = waveform.locator(".widget-readout").text_content()
    waveform.locator(".noUi-target").click(position={"x": 200, "y": 40})
    changed(panel, longer)
    assert waveform.locator(".widget-readout").text_content() != place

    assert panel.get_by_role("status").count() == 0
    assert page.locator("[data-mime-type$='.error'], [data-mime-type$='.stderr']").count() == 0
