"""The built book as one PDF: ``make print``.

A browser shows every page in turn, formulas set and sliders drawn. What paper can hold of them becomes one document, a
chapter for each page, with links from one to another and a word where there was a sound or a slider; the browser
prints it.
"""

from __future__ import annotations

import html
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, PdfMargins, sync_playwright

__all__ = ["browse", "chromium", "document", "pdf"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_QUIET += ["--disable-component-update", "--disable-sync"]

# Pages of the book in the order of its contents.
_PAGES = """[...document.querySelectorAll("nav.bd-links a.reference.internal")].map(link => link.href.split("#")[0])"""

# Whether formulas are set, pictures there and widgets drawn.
_READY = """async () => {
  await window.MathJax?.startup?.promise;
  const views = [...document.querySelectorAll("script[type='application/vnd.jupyter.widget-view+json']")];
  return views.every(view => view.parentElement.querySelector(".jupyter-widgets"))
    && [...document.images].every(image => image.complete);
}"""

# The styles and the text of a page, given the name of each page's chapter by address.
_TAKE = """chapters => {
  const article = document.querySelector("article.bd-article");
  const name = chapters[location.href.split("#")[0]];
  const all = what => [...article.querySelectorAll(what)];
  const say = (element, text) => {
    const words = Object.assign(document.createElement("p"), { className: "left-out", textContent: text });
    element.replaceWith(words);
  };
  for (const box of [...all("ctxe-compare"), ...all("div.players:not(ctxe-compare *)")])
    say(box, "In the book, hear: " + [...box.querySelectorAll("audio")].map(audio => audio.ariaLabel).join("; ") + ".");
  for (const slider of all(".widget-inline-hbox:has(.noUi-target)"))
    say(slider, "In the book, a slider: " + [".widget-label", ".widget-readout"].map(
      part => slider.querySelector(part)?.textContent).join(" ") + ".");
  const gone = ".tag_hide-input > details, .headerlink, .copybtn, audio, script, mjx-assistive-mml";
  for (const element of all(gone)) element.remove();
  for (const folded of all("details")) folded.open = true;
  for (const image of all("img")) {
    image.setAttribute("src", image.src);
    image.removeAttribute("loading");
  }
  for (const marked of all("[id]:not(svg *)")) marked.id = `${name}-${marked.id}`;
  for (const link of all("a[href]")) {
    const [page, place = ""] = link.href.split("#");
    const names = [chapters[page], decodeURIComponent(place)].filter(Boolean);
    if (page in chapters) link.setAttribute("href", `#${names.join("-")}`);
    else if (link.protocol === "file:") link.replaceWith(...link.childNodes);
  }
  const styles = [...document.head.querySelectorAll("link[rel=stylesheet], style")].map(style => {
    if (style.href) style.setAttribute("href", style.href);
    return style.outerHTML;
  });
  return [styles, article.innerHTML, document.querySelector("h1").firstChild.textContent];
}"""

_FOOT = '<div style="width: 100%; font-size: 8px; text-align: center"><span class="pageNumber"></span></div>'


def chromium() -> str:
    """Path of the browser: the one that the environment's ``CHROMIUM`` names, or one that is installed.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    names = (os.environ["CHROMIUM"],) if "CHROMIUM" in os.environ else BROWSERS
    if found := next(filter(None, map(shutil.which, names)), None):
        return found
    raise FileNotFoundError(f"no browser: none of {', '.join(names)} is installed; CHROMIUM=/path/to/it names another")


@contextmanager
def browse(*options: str) -> Iterator[Browser]:
    """A browser without a window, that asks nobody anything by itself.

    Parameters
    ----------
    *options : str
        More of Chromium's command line.
    """
    path = chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*_QUIET, *options])
        yield running
        running.close()


def document(browser: Browser, book: Path) -> str:
    """Put the pages of a book into one.

    Parameters
    ----------
    browser : Browser
    book : Path
        Folder of the built pages.

    Returns
    -------
    str
        HTML without scripts; pictures and styles stay where they are.

    Raises
    ------
    FileNotFoundError
        If the folder has no built book.
    """
    index = book.resolve() / "index.html"
    if not index.exists():
        raise FileNotFoundError(f"{book} holds no built book: run `make book`")
    page = browser.new_page(viewport={"width": 1000, "height": 1200}, color_scheme="light")
    page.goto(index.as_uri())
    addresses = list(dict.fromkeys(page.evaluate(_PAGES)))
    chapters = {address: f"chapter-{number}" for number, address in enumerate(addresses)}
    styles: dict[str, None] = {}
    texts, titles, links = [], [], []
    for address, name in chapters.items():
        page.goto(address)
        page.wait_for_function(_READY, timeout=120_000)
        own, text, title = page.evaluate(_TAKE, chapters)
        styles |= dict.fromkeys(own)
        texts.append(f'<section class="chapter" id="{name}">{text}</section>')
        titles.append(html.escape(title))
        links.append(f'<li><a href="#{name}">{titles[-1]}</a></li>')
    page.close()
    contents = f'<nav class="chapters"><h2>Contents</h2><ol>{"".join(links[1:])}</ol></nav>'
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{titles[0]}</title>'
        f'{"".join(styles)}<link rel="stylesheet" href="{(book.resolve() / "_static/print.css").as_uri()}"></head>'
        f'<body><article class="bd-article bd-content">{texts[0]}{contents}{"".join(texts[1:])}</article></body></html>'
    )


def pdf(browser: Browser, text: str, output: Path) -> None:
    """Print an HTML document, with numbered pages and an outline of its headings.

    Parameters
    ----------
    browser : Browser
    text : str
        As :func:`document` gives it.
    output : Path
        Replaced only by a finished file.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        source, printed = Path(folder) / "book.html", Path(folder) / "book.pdf"
        source.write_text(text, encoding="utf-8")
        page = browser.new_page()
        page.goto(source.as_uri(), wait_until="load")
        margin = PdfMargins(top="18mm", bottom="18mm", left="18mm", right="18mm")
        page.pdf(
            path=printed,
            format="A4",
            margin=margin,
            print_background=True,
            outline=True,
            tagged=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=_FOOT,
        )
        page.close()
        printed.replace(output)


def main(
    book: Annotated[Path, typer.Argument(help="Folder of the built pages.")] = Path("book/_build/html"),
    output: Annotated[Path, typer.Argument(help="The PDF.")] = Path("book/_build/print/ctxe.pdf"),
) -> None:
    """Print the built book into one PDF."""
    try:
        with browse() as browser:
            pdf(browser, document(browser, book), output)
    except FileNotFoundError as missing:
        raise typer.BadParameter(str(missing)) from None


if __name__ == "__main__":
    typer.run(main)
