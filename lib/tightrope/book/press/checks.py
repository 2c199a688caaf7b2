"""What has to hold before the book is shown to anybody: its built pages, and its files in git.

Every check returns a list of sentences, one a problem; an empty list is good news.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from tightrope.book.checkout import Checkout
from tightrope.book.press import pairs

_SOURCES = ("src", "srcset", "poster", "data")  # attributes whose address a browser fetches,
_BY_HREF = {"use", "image", "link"}  # and elements that have it in their href
_NAMES_ONLY = {"canonical", "next", "prev", "author", "license", "help", "index", "search", "alternate"}
_CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
_FOREIGN = re.compile(r"^\s*(?:https?:|ftp:)?//", re.I)


def site(folder: Path) -> list[str]:
    """Problems of built pages: tracebacks, fetches from other hosts, dead links, pictures without alt text."""
    folder = folder.resolve()
    files = [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.relative_to(folder).parts]
    pages = {path: _read(path) for path in files}
    problems = []
    for path, page in pages.items():
        said = (*page.problems, *_dead_links(path, pages, folder))
        problems += [f"{path.relative_to(folder).as_posix()}: {problem}" for problem in said]
    for path in sorted(folder.rglob("*.css")):
        fetched = _css_urls(path.read_text(encoding="utf-8", errors="replace"))
        name = path.relative_to(folder).as_posix()
        problems += [f"{name}: fetches {url}" for url in fetched if _FOREIGN.match(url)]
    return problems


def chapters(checkout: Checkout) -> list[str]:
    """Chapters whose two files say different things, whose notebook keeps outputs, or whose boxes stay open."""
    problems = []
    for chapter in checkout.chapters():
        text, notebook = checkout.text(chapter), checkout.notebook(chapter)
        if not notebook.is_file():
            problems.append(f"{notebook.name} is missing; run `make sync`.")
            continue
        cells = pairs.read_notebook(notebook).cells
        # A box ends with its cell, so that what follows in it would stand inside, and nothing warns.
        problems += [
            f"{text.name}: a box begins with {box[0]!r} and is not closed in its paragraph of text."
            for cell in cells
            if cell.cell_type == "markdown" and (box := _open(cell.source))
        ]
        for i, cell in enumerate(cells):
            if cell.get("outputs") or cell.get("execution_count") is not None:
                problems.append(f"{notebook.name} keeps outputs (cell {i}); run `make sync`.")
                break
        if found := pairs.difference(text, notebook):
            problems.append(f"{notebook.name} is not the pair of {text.name} ({found}); run `make sync`.")
    known = set(checkout.chapters())
    for notebook in sorted(checkout.book.glob("*.ipynb")):
        if notebook.stem not in known:
            problems.append(f"{notebook.name} belongs to no chapter in _toc.yml; name it there or delete it.")
    return problems


def _open(text: str) -> list[str]:
    """The lines that begin boxes, ":::{name}" or "```{name}", and have no line that ends them."""
    lines: list[str] = []
    for line in text.splitlines():
        fence = re.match(r"(:{3,}|`{3,})", line)
        if fence and line.strip() != fence[1]:
            lines.append(line)
        elif fence and lines and lines[-1].startswith(fence[1]):
            lines.pop()
    return lines


@dataclass(frozen=True)
class _Page:
    ids: set[str]
    links: list[str]
    problems: list[str]


def _read(path: Path) -> _Page:
    """What one page says that a check wants to know."""
    page = BeautifulSoup(path.read_bytes(), "html.parser", from_encoding="utf-8")
    ids, links, problems = set(), [], []
    for element in page.find_all(True):
        ids |= {element[name] for name in ("id", "name") if element.get(name)}
        fetched = _fetched(element)
        problems += [f"fetches {url}" for url in fetched if _FOREIGN.match(url)]
        links += [url for url in fetched if not _FOREIGN.match(url) and " " not in url]
        if element.name == "a" and element.has_attr("href"):
            links.append(element["href"])
        # Without alt text Sphinx writes the file's address there, which says nothing to anybody.
        alt, source = element.get("alt", "").strip(), element.get("src", "")
        named = alt and alt != source and not re.fullmatch(r"\S+\.(png|svg|jpe?g|gif|webp)", alt)
        if element.name == "img" and not named:
            problems.append(f"has a picture without alt text, {source[:80]}")
    if page.select(".traceback") or "Traceback (most recent call last)" in page.get_text():
        problems.append("shows a traceback")
    return _Page(ids, links, problems)


def _fetched(element: Tag) -> list[str]:
    """The addresses that an element makes a browser fetch."""
    urls = [element[name] for name in _SOURCES if element.get(name)]
    if element.name in _BY_HREF and not set(element.get("rel", ())) & _NAMES_ONLY:
        urls += [element[name] for name in ("href", "xlink:href") if element.get(name)]
    return urls + _css_urls(
        element.get("style", "") + (element.get_text() if element.name == "style" else "")
    )


def _dead_links(path: Path, pages: dict[Path, _Page], folder: Path) -> list[str]:
    problems = []
    for link in dict.fromkeys(pages[path].links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target = target / "index.html"
        anchor = unquote(parts.fragment)
        if not target.is_file() or folder not in target.parents:
            problems.append(f"links to {link}, which is not there")
        elif anchor and target in pages and anchor not in pages[target].ids:
            problems.append(f"links to {link}, a place that page does not have")
    return problems


def _css_urls(text: str) -> list[str]:
    return [first or second for first, second in _CSS_URL.findall(text)]
