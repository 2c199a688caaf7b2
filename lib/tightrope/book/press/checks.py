"""What has to hold before the book is shown to anybody: its built pages, and its files in git.

Every check returns a list of sentences, one a problem; an empty list is good news.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from tightrope.book.checkout import Checkout
from tightrope.book.press import pairs

# Elements that make a browser fetch something, with the attribute that says what.
_FETCHES = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
_NAMES_ONLY = {"canonical", "next", "prev", "author", "license", "help", "index", "search", "alternate"}
_CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
_FOREIGN = re.compile(r"^\s*(?:https?:|ftp:)?//", re.I)


def site(folder: Path) -> list[str]:
    """Problems of built pages: tracebacks, fetches from other hosts, dead links, pictures without alt text."""
    problems = []
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.relative_to(folder).parts:
            continue
        page = _page(path)
        name = path.relative_to(folder).as_posix()
        problems += [f"{name}: {problem}" for problem in (*page.problems, *_dead_links(path, page, folder))]
    for path in sorted(folder.rglob("*.css")):
        for url in _css_urls(path.read_text(errors="replace")):
            problems += (
                [f"{path.relative_to(folder).as_posix()}: fetches {url}"] if _FOREIGN.match(url) else []
            )
    return problems


def chapters(checkout: Checkout) -> list[str]:
    """Chapters whose two files differ, or whose notebook keeps outputs."""
    problems = []
    for chapter in checkout.chapters():
        text, notebook = checkout.text(chapter), checkout.notebook(chapter)
        if not notebook.is_file():
            problems.append(f"{notebook.name} is missing; run `make sync`.")
            continue
        if kept := pairs.stored_outputs(notebook):
            problems.append(f"{notebook.name} keeps outputs (cell {kept[0]}); run `make sync`.")
        found = pairs.difference(text, notebook)
        if found or notebook.read_text() != pairs.pair(pairs.read_text(text), chapter):
            why = f" ({found.splitlines()[0]})" if found else ""
            problems.append(f"{notebook.name} is not the pair of {text.name}{why}; run `make sync`.")
    known = set(checkout.chapters())
    for notebook in sorted(checkout.book.glob("*.ipynb")):
        if notebook.stem not in known:
            problems.append(f"{notebook.name} belongs to no chapter in _toc.yml; name it there or delete it.")
    return problems


def environment(checkout: Checkout) -> list[str]:
    """Ways in which environment.yml would give conda users something else than pyproject.toml gives pip users.

    The pins stand in pyproject.toml alone: conda brings Python and pip, pip installs the checkout's `book` extra.
    """
    project = tomllib.loads((checkout.root / "pyproject.toml").read_text())["project"]
    wanted = yaml.safe_load((checkout.root / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in wanted if isinstance(entry, str)]
    by_pip = [line for entry in wanted if isinstance(entry, dict) for line in entry.get("pip", [])]
    problems = []
    if "book" not in project["optional-dependencies"] or by_pip != ["-e .[book]"]:
        problems.append(f"environment.yml lets pip install {by_pip}; it has to be ['-e .[book]'] alone.")
    names = {re.split(r"[<>=! ]", entry)[0]: entry for entry in plain}
    if set(names) != {"python", "pip"}:
        problems.append(
            f"environment.yml takes {sorted(names)} from conda; it has to be python and pip alone."
        )
    given, needed = _version(names.get("python", "")), _version(project["requires-python"])
    if given < needed:
        problems.append(f"environment.yml takes {names.get('python')}; pyproject.toml wants {needed}.")
    return problems


class _Page(HTMLParser):
    """What one page says that a check wants to know."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.problems: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        fetched = [given[name] for name in _FETCHES.get(tag, ()) if given.get(name)]
        if tag == "link" and not set(given.get("rel", "").split()) & _NAMES_ONLY:
            fetched.append(given.get("href", ""))
        fetched += _css_urls(given.get("style", ""))
        self.problems += [f"fetches {url}" for url in fetched if _FOREIGN.match(url)]
        self.links += [url for url in fetched if not _FOREIGN.match(url) and " " not in url]
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self._alt(given)
        if "traceback" in given.get("class", "").split():
            self.problems.append("shows a traceback")
        self.in_style = tag == "style"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if "Traceback (most recent call last)" in data:
            self.problems.append("shows a traceback")
        if self.in_style:
            self.problems += [f"fetches {url}" for url in _css_urls(data) if _FOREIGN.match(url)]

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def _alt(self, given: dict[str, str]) -> None:
        source, alt = given.get("src", ""), given.get("alt", "").strip()
        # Without alt text Sphinx writes the file's address there, which says nothing to anybody.
        if not alt or alt == source or re.fullmatch(r"\S+\.(png|svg|jpe?g|gif|webp)", alt):
            self.problems.append(f"has a picture without alt text, {source[:80]}")


@cache
def _parsed(path: Path, stamp: int) -> _Page:
    page = _Page()
    page.feed(path.read_text(errors="replace"))
    page.close()
    return page


def _page(path: Path) -> _Page:
    return _parsed(path, path.stat().st_mtime_ns)


def _dead_links(path: Path, page: _Page, folder: Path) -> list[str]:
    problems = []
    for link in dict.fromkeys(page.links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
        if target.is_dir():
            target = target / "index.html"
        if not target.is_file() or folder.resolve() not in target.parents:
            problems.append(f"links to {link}, which is not there")
            continue
        anchor = unquote(parts.fragment) if target.suffix == ".html" else ""
        if anchor and anchor not in _page(target).ids:
            problems.append(f"links to {link}, a place that page does not have")
    return problems


def _css_urls(text: str) -> list[str]:
    return [first or second for first, second in _CSS_URL.findall(text)]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
