"""The built book in a browser: from its files alone, no server, no other host.

Without more, the book is built here at the smoke profile, on sounds made here: corpus, notebooks, pages. CTXE_BOOK
names the folder of another built book to check instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest

pytest.importorskip("playwright", reason="the tests of the book need the test extra")
from playwright.sync_api import Browser, ConsoleMessage, Error, Page

from ctxe_lib import notebooks
from ctxe_lib.corpus import SPLITS, Track, build_corpus
from ctxe_lib.geometry import Geometry

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
# What the schema checker inside the widgets' scripts says of its own schema.
IGNORED = ("strict mode: use allowUnionTypes",)
OWN = ("file:", "data:", "blob:", "about:")

# The length of a player's sound in seconds, once the browser knows it; -1 if it cannot play it.
DURATION = """audio => new Promise(done => {
  const tell = () => done(Number.isFinite(audio.duration) ? audio.duration : -1);
  if (audio.readyState > 0) tell();
  audio.onloadedmetadata = tell;
  audio.onerror = () => done(-1);
  setTimeout(() => done(-1), 10000);
})"""

# What a slider's box shows and plays: the addresses of its pictures and of its sounds.
SHOWN = """handle => ["img", "audio"].map(
  tag => [...handle.closest(".widget-vbox").querySelectorAll(tag)].map(element => element.src))"""


def make_corpus(folder: Path, name: str) -> None:
    """Two tracks for each split: decaying notes in noise, 4 s each."""
    rng = np.random.default_rng(len(name))
    time = np.arange(4 * 16_000) / 16_000
    tracks = []
    for number, split in enumerate(2 * SPLITS):
        note = sum(np.sin(2 * np.pi * 110 * (number + 2) * k * time) / k for k in range(1, 6))
        audio = 0.2 * note * np.exp(-time % 1) + 0.005 * rng.standard_normal(len(time))
        tracks.append(Track(f"{name}/{number}", f"group {number}", "made by the tests", audio, split, "none"))
    build_corpus(name, tracks, folder / name, Geometry(), provenance={"note": "made by the tests"}, rendered=True)


def call(command: list[Any], **variables: str) -> None:
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def copy_book(folder: Path) -> Path:
    """The book's own files, without what is made from them."""
    if not (ROOT / "book/assets").exists():
        pytest.fail("the book's scripts are missing: run `make test`, or `make book/assets/.ready` once")
    return Path(shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns("_build", "notebooks")))


def build_pages(book: Path, **variables: str) -> Path:
    call([SCRIPTS / "jupyter-book", "build", book, "-q", "-W", "-n", "--keep-going"], **variables)
    return book / "_build/html"


def build_smoke_book(folder: Path) -> Path:
    data, results = folder / "data", folder / "results"
    names = ("music-smoke", "instruments-smoke")
    for name in names:
        make_corpus(data, name)
    book = copy_book(folder / "book")
    folders = {"CTXE_DATA": str(data), "CTXE_RESULTS": str(results)}

    def evaluate(name: str) -> None:
        command = [SCRIPTS / "ctxe", "evaluate", results / f"{name}.parquet", "--corpus", name, "--per-track", "2"]
        call(command, **folders)

    with ThreadPoolExecutor() as pool:
        list(pool.map(evaluate, names))
    runner = [sys.executable, "-m", "ctxe_lib.notebooks", "--profile", "smoke"]
    call([*runner, "--output", book / "notebooks"], **folders)
    return build_pages(book, **folders)


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built book."""
    if given := os.environ.get("CTXE_BOOK"):
        assert (ROOT / given / "index.html").exists(), f"CTXE_BOOK={given} holds no built book: run `make book`"
        return (ROOT / given).resolve()
    return build_smoke_book(tmp_path_factory.mktemp("smoke"))


@dataclass
class Visit:
    """What the browser saw of a page."""

    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    unnamed: int = 0
    formulas: int = 0
    raw_formulas: int = 0
    overflow: int = 0
    sliders: int = 0
    stuck: list[str] = field(default_factory=list)


def watch(page: Page, visit: Visit) -> None:
    """Note what a page complains of and whom it asks."""

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(IGNORED):
            visit.complaints.append(message.text)

    page.on("console", console)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("requestfailed", lambda request: visit.complaints.append(f"{request.url[:200]} failed: {request.failure}"))
    page.on("request", lambda request: None if request.url.startswith(OWN) else visit.foreign.append(request.url))


def turn(page: Page, visit: Visit) -> None:
    """Turn every slider from end to end and note those that change no picture, or not the sounds that they have."""
    if page.locator("script[type='application/vnd.jupyter.widget-view+json']").count() == 0:
        return
    page.locator(".noUi-handle").first.wait_for()
    for handle in page.locator(".noUi-handle").all():
        visit.sliders += 1
        ends = []
        for key in ("Home", "End"):
            handle.press(key)
            page.wait_for_timeout(200)
            ends.append(handle.evaluate(SHOWN))
        (pictures, sounds), (other_pictures, other_sounds) = ends
        if not pictures or pictures == other_pictures or (sounds and sounds == other_sounds):
            visit.stuck.append(handle.evaluate("handle => handle.closest('.widget-inline-hbox').textContent"))


def pages(book: Path) -> list[Path]:
    return sorted(path for path in book.rglob("*.html") if "_static" not in path.relative_to(book).parts)


@pytest.fixture(scope="session")
def visits(book: Path, browser: Browser) -> dict[str, Visit]:
    """Every page, loaded from its file at desktop width and looked at again at the width of a phone."""
    seen = {}
    for path in pages(book):
        visit = seen[str(path.relative_to(book))] = Visit()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        watch(page, visit)
        try:
            page.goto(path.as_uri(), wait_until="load")
            page.evaluate("window.MathJax?.startup?.promise")
            visit.durations = [audio.evaluate(DURATION) for audio in page.query_selector_all("audio")]
        except Error as error:
            visit.complaints.append(str(error))
        visit.unnamed = page.locator("audio:not([aria-label]), img:not([alt]), img[alt^='../_images']").count()
        visit.formulas = page.locator("mjx-container").count()
        visit.raw_formulas = page.locator(".math:not(:has(mjx-container))").count()
        turn(page, visit)
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_timeout(100)
        visit.overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        page.close()
    return seen


def test_every_page_loads_without_complaint(visits: dict[str, Visit]) -> None:
    assert len(visits) > 5
    assert {name: visit.complaints for name, visit in visits.items() if visit.complaints} == {}


def test_no_page_asks_another_host(visits: dict[str, Visit]) -> None:
    assert {name: visit.foreign for name, visit in visits.items() if visit.foreign} == {}


def test_players_have_a_duration(visits: dict[str, Visit]) -> None:
    silent = {name: visit.durations for name, visit in visits.items() if min(visit.durations, default=1) <= 0}
    assert silent == {}
    assert sum(len(visit.durations) for visit in visits.values()) >= 5


def test_players_and_pictures_have_a_text(visits: dict[str, Visit]) -> None:
    assert {name: visit.unnamed for name, visit in visits.items() if visit.unnamed} == {}


def test_formulas_are_set(visits: dict[str, Visit]) -> None:
    assert visits["notation.html"].formulas > 10
    assert {name: visit.raw_formulas for name, visit in visits.items() if visit.raw_formulas} == {}


def test_no_page_scrolls_sideways_on_a_phone(visits: dict[str, Visit]) -> None:
    assert {name: visit.overflow for name, visit in visits.items() if visit.overflow > 0} == {}


class Links(HTMLParser):
    """Addresses a page refers to, and names it can be referred to by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.targets |= {value for key in ("href", "src") if (value := values.get(key))}
        self.names |= {value for key in ("id", "name") if (value := values.get(key))}


def test_links_inside_the_book_resolve(book: Path) -> None:
    links = {path: Links(path.read_text(encoding="utf-8")) for path in pages(book)}
    broken = []
    for path, page in links.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            if not file.is_file() or (fragment and file in links and fragment not in links[file].names):
                broken.append(f"{path.relative_to(book)}: {target}")
    assert broken == []


def test_front_page_tells_what_was_found(book: Path) -> None:
    """Numbers and example come from results and notebooks: nothing is missing and no name is left unfilled."""
    text = (book / "index.html").read_text(encoding="utf-8")
    assert "not measured yet:" not in text and "{{" not in text
    assert "confirmed" in text and "<ctxe-compare" in text and "SNR_MS" in text


def test_each_slider_changes_picture_and_sound(visits: dict[str, Visit]) -> None:
    assert {name: visit.stuck for name, visit in visits.items() if visit.stuck} == {}
    assert visits["notebooks/09_one_gap.html"].sliders >= 3


WIDGETS = r"""
import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from ctxe_lib import listen, widgets

slider = ipywidgets.IntSlider(max=2)
stack = ipywidgets.Stack([ipywidgets.HTMLMath(fr'<b class="shown">\({n}^2\)</b>') for n in range(3)], selected_index=0)
ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
display(ipywidgets.VBox([slider, stack]))


def sounds(pitch):
    return {name: 0.01 * np.sin(pitch * k * np.arange(48_000)) for k, name in enumerate(("A", "B", "C"), 1)}


display(listen.compare(sounds(0.1), 16_000))
display(widgets.Slides("Pitch", [(str(n), Figure(figsize=(n + 1, 1)), sounds(0.1 + n)) for n in range(3)], alt="none"))
"""


@pytest.fixture(scope="module")
def widget_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of widgets, built with the book's own configuration."""
    folder = tmp_path_factory.mktemp("widgets")
    book = copy_book(folder / "book")
    (book / "_toc.yml").write_text("format: jb-book\nroot: references\nchapters:\n  - file: notebooks/widget\n")
    cells = [nbformat.v4.new_markdown_cell("# Widget\n\n$n^2$"), nbformat.v4.new_code_cell(WIDGETS)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "widget.ipynb")
    (folder / "plain.yaml").write_text("{}")
    assert notebooks.run([folder / "widget.ipynb"], folder / "plain.yaml", book / "notebooks") == []
    return build_pages(book) / "notebooks/widget.html"


@pytest.fixture
def widget(widget_page: Path, browser: Browser) -> Iterator[Page]:
    """That page, opened; no complaint and no request to another host may have come when it is closed."""
    visit, page = Visit(), browser.new_page()
    watch(page, visit)
    page.goto(widget_page.as_uri())
    page.locator(".shown:visible mjx-assistive-mml").wait_for(state="attached")
    page.locator(".noUi-handle").nth(1).wait_for()
    yield page
    assert (visit.complaints, visit.foreign) == ([], [])
    page.close()


def test_widget_sliders_work_without_a_kernel(widget: Page) -> None:
    assert widget.locator(".shown:visible mjx-assistive-mml").all_text_contents() == ["02"]
    widget.locator(".noUi-handle").first.press("ArrowRight")
    widget.wait_for_function("document.querySelector('.shown mjx-assistive-mml')?.textContent == '12'")


# Of the sounds of a player: which plays, or none, and where they are.
PLAYING = "player => [...player.querySelectorAll('audio')].findIndex(audio => !audio.paused)"
PLACE = "(player, i) => player.querySelectorAll('audio')[i].currentTime"


def test_widget_player_switches_between_sounds_and_keeps_the_position(widget: Page) -> None:
    player = widget.locator("ctxe-compare").first
    assert player.locator("audio:visible").count() == 0
    player.get_by_role("slider", name="Position").fill("1.2")
    player.get_by_role("radio", name="B").check()
    assert player.evaluate(PLACE, 1) == pytest.approx(1.2)
    player.get_by_role("button", name="Play").click()
    widget.wait_for_function("document.querySelectorAll('ctxe-compare audio')[1].currentTime > 1.4")
    assert player.evaluate(PLAYING) == 1
    before = player.evaluate(PLACE, 1)
    player.get_by_role("button", name="Pause").press("3")
    assert player.get_by_role("radio", name="C").is_checked()
    assert (player.evaluate(PLAYING), player.evaluate(PLACE, 2) - before) == (2, pytest.approx(0.25, abs=0.25))
    player.get_by_role("radio", name="C").press("ArrowLeft")
    assert player.evaluate(PLAYING) == 1
    player.get_by_role("button", name="Pause").press("Space")
    assert player.evaluate(PLAYING) == -1


def test_widget_player_follows_whoever_switches_faster_than_it_starts(widget: Page) -> None:
    player = widget.locator("ctxe-compare").first
    player.get_by_role("button", name="Play").click()
    widget.wait_for_function("document.querySelector('ctxe-compare audio').currentTime > 0.1")
    player.evaluate("player => [2, 1, 2, 1].forEach(i => player.querySelectorAll('input[type=radio]')[i].click())")
    widget.wait_for_timeout(300)  # until the events of all of that have come
    assert player.evaluate(PLAYING) == 1
    assert player.evaluate("player => player.state.playing")


def test_widget_sound_goes_on_while_a_slider_is_turned(widget: Page) -> None:
    box = widget.locator(".widget-vbox:has(ctxe-compare)").last
    box.get_by_role("radio", name="C").check()
    box.get_by_role("slider", name="Position").fill("0.9")
    box.get_by_role("button", name="Play").click()
    source = box.locator("audio").nth(2).get_attribute("src")
    box.locator(".noUi-handle").press("ArrowRight")
    widget.wait_for_function(
        "source => [...document.querySelectorAll('.widget-vbox audio')].some("
        "audio => audio.src !== source && !audio.paused && audio.currentTime > 0.9)",
        arg=source,
    )
    player = box.locator("ctxe-compare")
    assert player.evaluate(PLAYING) == 2 and player.get_by_role("radio", name="C").is_checked()
    widget.locator("ctxe-compare").first.get_by_role("button", name="Play").click()
    widget.wait_for_function("document.querySelectorAll('.widget-vbox audio')[2].paused")  # one sound at a time
