"""Where things lie in a checkout (pages, chapters, executions, records), and how files are written.

book/NN-name.md, .ipynb            the pair in git
book/runs/NN-name.json, .npz       the stored (paper-scale) run in git
                                   both, claims.yml and slips.yml also go into the wheel, see `shelf`
build/executed/<profile>/          notebooks with outputs; NN-name.partial.ipynb while one runs
build/records/<profile>/           the numbers of those runs, same rule
build/src, build/work, build/_build/html   staged sources, the site being built, the site
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tightrope._files import replacing

PROFILES = ("smoke", "quick", "paper")
# libyaml's is ten times as fast; not every PyYAML has it.
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Stop(Exception):
    """Something the person at the keyboard can put right; its text is the one sentence to print."""

    status = 2  # what a command exits with


class Failed(Stop):
    """A chapter or a build that went wrong by itself; its text says where, and what was said last."""

    status = 1


def read(path: Path) -> str:
    """A text file as UTF-8, whatever the locale: without a byte-order mark, its lines ended by one newline each."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Stop(f"{path} is not UTF-8 text; save it as UTF-8.") from None


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a run after a kill, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, content: str | bytes) -> bool:
    """`write`, but leave a file that already says so alone (and its date, which Sphinx looks at)."""
    raw = content.encode() if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == raw:
        return False
    write(path, raw)
    return True


@dataclass(frozen=True)
class Checkout:
    """One checkout of the book."""

    root: Path

    @property
    def book(self) -> Path:
        return self.root / "book"

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def package(self) -> Path:
        """The library's source: the checkout's own, or the installed one."""
        own = self.root / "lib" / "tightrope"
        return own if own.is_dir() else Path(__file__).parents[1]

    def pages(self) -> list[str]:
        """The pages `_toc.yml` names, in reading order, without extension: `book/index`, ..."""
        path = self.root / "_toc.yml"
        try:
            toc = yaml.load(read(path), YAML)
        except yaml.YAMLError as error:
            raise Stop(f"_toc.yml is not valid YAML: {' '.join(str(error).split())}.") from None
        pages = list(_named_files(toc))
        for page in pages:
            if not (self.root / f"{page}.md").is_file():
                raise Stop(f"_toc.yml names {page}, but there is no {page}.md; write it or drop the line.")
        return pages

    def chapters(self) -> list[str]:
        """The pages that are executed: those whose text is a notebook. Stems: `01-synthetic-margins`, ..."""
        return [Path(page).name for page in self.pages() if is_notebook_text(self.root / f"{page}.md")]

    def find(self, wanted: Iterable[str] | None) -> list[str]:
        """Chapters by name or number ("01", "1", "01-synthetic-margins"); none given: all of them.

        >>> Checkout.match("1", ["01-synthetic-margins", "05-persistence"])
        ['01-synthetic-margins']
        """
        known = self.chapters()
        if not wanted:
            return known
        chosen = []
        for name in wanted:
            found = self.match(name, known)
            if not found:
                raise Stop(
                    f"There is no chapter {name!r}; the chapters are {', '.join(known) or 'none yet'}."
                )
            chosen += found
        return [stem for stem in known if stem in chosen]

    @staticmethod
    def match(name: str, known: list[str]) -> list[str]:
        name = Path(name).name.removesuffix(".md").removesuffix(".ipynb")
        if re.fullmatch(r"\d+", name):
            return [stem for stem in known if re.match(rf"0*{int(name)}-", stem)]
        return [stem for stem in known if stem == name]

    def text(self, chapter: str) -> Path:
        return self.book / f"{chapter}.md"

    def notebook(self, chapter: str) -> Path:
        return self.book / f"{chapter}.ipynb"

    def executed(self, profile: str, chapter: str, partial: bool = False) -> Path:
        return self.build / "executed" / profile / f"{chapter}{'.partial' if partial else ''}.ipynb"

    def record(self, profile: str, chapter: str, partial: bool = False) -> Path:
        """The JSON of a run; its arrays lie beside it with the suffix .npz."""
        return self.build / "records" / profile / f"{chapter}{'.partial' if partial else ''}.json"

    def stored(self, chapter: str) -> Path:
        return self.book / "runs" / f"{chapter}.json"

    def require_own_library(self) -> None:
        """Stop unless the library that runs is this checkout's: another one's numbers would be recorded as its own."""
        running = Path(__file__).resolve().parents[1]
        if self.package.resolve() != running:
            raise Stop(
                f"The library that runs is {running}, but this checkout has its own, {self.package}: "
                f"use its .venv, or set PYTHONPATH={self.package.parent}."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One build at a time in a checkout; a second one stops at once. Let go when the process ends."""
        from filelock import FileLock, Timeout

        self.build.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.build / ".lock", timeout=0):
                yield
        except Timeout:
            raise Stop(
                "Another build is at work in this checkout; wait until it ends, then try again."
            ) from None


def header(text: str) -> str:
    """The YAML block on top of a page, with its fences; empty where there is none."""
    found = re.match(r"---[ \t]*\n.*?^(---|\.\.\.)[ \t]*(\n|\Z)", text, re.S | re.M)
    return found.group() if found else ""


def is_notebook_text(path: Path) -> bool:
    """Whether a page is a chapter, a MyST text notebook paired with an .ipynb, rather than a plain page."""
    try:
        said = next(yaml.load_all(header(read(path)), YAML), None)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise Stop(f"{path.name} can't be read as MyST text: its header is not valid YAML ({why}).") from None
    return isinstance(said, dict) and "jupytext" in said


def find_checkout(start: Path | None = None) -> Checkout:
    """The checkout around a folder (default: the working directory, then the one this package runs from)."""
    places = [start] if start else [Path.cwd(), Path(__file__)]
    for place in places:
        for folder in [place.resolve(), *place.resolve().parents]:
            if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
                return Checkout(folder)
    raise Stop("No book here: run this inside a checkout, the folder that holds _toc.yml and book/.")


def shelf() -> Path:
    """The folder of `claims.yml`, `slips.yml` and `runs/`: the checkout's `book`, else what came with the package."""
    try:
        return find_checkout().book
    except Stop:
        packed = Path(__file__).parent / "shelf"
        if packed.is_dir():
            return packed
        raise


def _named_files(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file"):
                yield str(value)
            else:
                yield from _named_files(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named_files(value)
