"""A book of two tiny chapters for the tests of the machinery: no torch, a second a chapter."""

import subprocess
import sys
from pathlib import Path

from tightrope.book.checkout import Checkout
from tightrope.book.press import pairs

HERE = Path(__file__).resolve().parents[1]

TOC = """\
format: jb-book
root: book/index
chapters:
  - file: book/01-first
  - file: book/02-second
  - file: book/scorecard
"""

HEADER = """\
---
jupytext:
  formats: ipynb,md:myst
  cell_metadata_filter: tags,mystnb,-all
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

"""

PARAMETERS = 'profile = "quick"\nseed = 0\ndevice = "auto"\nextra = 1'

# Counts its own executions, and says how it was executed.
COUNTS = """\
import os, sys
with open(f"ran-{name}.txt", "a") as log:
    log.write(f"{profile} {seed} {extra}\\n")
print("profile", profile, "seed", seed, "extra", extra)
print("threads", os.environ["OMP_NUM_THREADS"], "python", sys.executable)"""

FIGURE = """\
import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(3, 2))
ax.plot([0, 1], [0, 1]);"""


def cell(source: str, tags: str = "") -> str:
    tagged = f":tags: [{tags}]\n" if tags else ""
    return f"```{{code-cell}} ipython3\n{tagged}{source}\n```\n"


def figure(source: str, name: str) -> str:
    shown = f"  figure:\n    name: {name}\n    caption: A line.\n  image:\n    alt: A rising line.\n"
    options = f"---\nmystnb:\n{shown}---\n"
    return f"```{{code-cell}} ipython3\n{options}{source}\n```\n"


def chapter(name: str, *code: str) -> str:
    """The text of a chapter: a title, prose, the parameters, then the given cells (default: counting, a figure)."""
    cells = [cell(source) for source in code] or [cell(COUNTS), figure(FIGURE, f"fig-{name}")]
    start = [cell(PARAMETERS, "parameters"), cell(f'name = "{name}"')]
    return HEADER + "\n".join([f"# Chapter {name}", "Prose with $x^2$ in it.", *start, *cells])


def make(root: Path, **chapters: str) -> Checkout:
    """A checkout in `root`. chapters: first=..., second=... to use other texts."""
    book = root / "book"
    (book / "_static").mkdir(parents=True)
    for name in ("custom.css", "scroll.js", "favicon.svg", "not-drawn.svg"):
        (book / "_static" / name).write_bytes((HERE / "book" / "_static" / name).read_bytes())
    (book / "references.bib").write_text("")
    config = (HERE / "_config.yml").read_text()
    (root / "_config.yml").write_text(config)
    (root / "_toc.yml").write_text(TOC)
    (book / "index.md").write_text("# A small book\n\nBegin with {doc}`01-first`.\n")
    (book / "scorecard.md").write_text("# Scorecard\n\n% scorecard\n")
    (book / "01-first.md").write_text(chapters.get("first") or chapter("first"))
    (book / "02-second.md").write_text(chapters.get("second") or chapter("second"))
    checkout = Checkout(root)
    for stem in checkout.chapters():
        pairs.sync(checkout, stem)
    return checkout


def command(checkout: Checkout, *words: str, **options) -> subprocess.CompletedProcess:
    """`tightrope` in a process of its own, as a person would call it in that checkout."""
    return subprocess.run(
        [sys.executable, "-m", "tightrope", *words],
        cwd=checkout.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        **options,
    )


def ran(checkout: Checkout, name: str) -> list[str]:
    """One line for every time a counting chapter was executed: its profile, seed and `extra`."""
    log = checkout.book / f"ran-{name}.txt"
    return log.read_text().splitlines() if log.exists() else []


def page(checkout: Checkout, stem: str, out: Path | None = None) -> str:
    return ((out or checkout.build) / "_build" / "html" / "book" / f"{stem}.html").read_text()
