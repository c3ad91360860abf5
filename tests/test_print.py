"""The book in one file: a small one, built with the book's own configuration, printed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import papermill
import pytest

pytest.importorskip("playwright", reason="the test of the print version needs the test extra")
from playwright.sync_api import Browser
from test_book import build_pages, copy_book

from ctxe_lib import printing

pytestmark = pytest.mark.browser

TOC = """format: jb-book
root: index
chapters:
  - file: notebooks/sounds
  - file: notation
  - file: references
"""
PAGE = r"""# A page

$n^2$ as in {doc}`notation` and {ref}`below <part>`, by {cite:t}`Marafioti2019`, [elsewhere](https://example.org/away).

(part)=
## A part
"""
CELL = """
import numpy as np
from matplotlib.figure import Figure

from ctxe_lib import listen, widgets

sounds = {name: np.zeros(160) for name in ("Damaged", "Original")}
display(listen.players(sounds, 16_000))
slides = [(f"{n} Hz", Figure(figsize=(n, 1)), sounds) for n in (1, 2)]
display(widgets.Slides("Pitch", slides, alt="none", first="2 Hz"))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of prose, one with sounds and a slider, formulas and references."""
    folder = tmp_path_factory.mktemp("print")
    book = copy_book(folder / "book")
    (book / "_toc.yml").write_text(TOC)
    (book / "index.md").write_text(PAGE)
    notebook = book / "notebooks/sounds.ipynb"
    notebook.parent.mkdir()
    cells = [nbformat.v4.new_markdown_cell("# Sounds\n\n## A part")]
    for tag, code in {"hide-input": CELL, "hide-cell": "print(6 * 7)"}.items():
        cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": [tag]}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)
    papermill.execute_notebook(notebook, notebook, progress_bar=False)
    return build_pages(book, CTXE_RESULTS=str(folder / "results"))


@pytest.fixture(scope="module")
def text(browser: Browser, pages: Path) -> str:
    return printing.document(browser, pages)


def test_pages_are_chapters_in_their_order(text: str) -> None:
    assert re.findall("<h1.*?>(.*?)</h1>", text) == ["A page", "Sounds", "Notation", "References"]
    assert re.findall('<li><a href="#(.*?)">(.*?)</a>', text)[:2] == [
        ("chapter-1", "Sounds"),
        ("chapter-2", "Notation"),
    ]


def test_links_stay_inside_the_document_and_resolve(text: str) -> None:
    linked = set(re.findall(' href="#(.*?)"', text))
    assert {"chapter-2", "chapter-0-part"} <= linked
    assert linked <= set(re.findall(' id="(.*?)"', text))
    assert 'href="https://example.org/away"' in text and 'href="file:' not in text.split("<body>")[1]


def test_sounds_and_sliders_are_named_and_pictures_stay(text: str) -> None:
    assert not re.search("<audio|<script|noUi-|numpy", text.split("<body>")[1])
    assert text.count("In the book, hear: Damaged; Original.") == 2
    assert text.count("In the book, a slider: Pitch 2 Hz.") == 1
    assert text.count('src="data:image/webp') == 1
    assert "mjx-container" in text and "mjx-assistive-mml>" not in text
    assert re.search(r"<details[^>]* open.*42\n", text, re.DOTALL)


def test_the_document_becomes_one_pdf(browser: Browser, text: str, tmp_path: Path) -> None:
    printing.pdf(browser, text, tmp_path / "made/book.pdf")
    printed = (tmp_path / "made/book.pdf").read_bytes()
    assert printed.startswith(b"%PDF") and [path.name for path in (tmp_path / "made").iterdir()] == ["book.pdf"]
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 4
    assert b"https://example.org/away" in printed and b"/Outlines" in printed


def test_without_a_book_or_a_browser_it_says_what_to_do(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="holds no built book: run `make book`"):
        printing.document(browser, tmp_path)
    monkeypatch.setenv("CHROMIUM", "/none/chromium")
    with pytest.raises(FileNotFoundError, match="none of /none/chromium is installed; CHROMIUM="):
        printing.chromium()
