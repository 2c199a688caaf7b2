"""Pictures of executed chapters on other pages: `![what it shows](run/01-synthetic-margins/fig-plane.png)`; and what
stands for the figures of a chapter that was not executed.

The name is the figure's (`mystnb: figure: name`) in its chapter, so the picture is always this run's.
"""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Callable

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

LINK = re.compile(r"!\[[^\]]*\]\((run/([\w-]+)/([\w-]+)\.png)\)")
BLANK = "_static/not-drawn.svg"
MISSING = "*This picture's chapter was not executed in this build.*"


def figure(page: NotebookNode, name: str) -> bytes | None:
    """The PNG that the cell with figure name `name` drew; None where it has no output (yet)."""
    for cell in page.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.get("outputs", []):
                if png := output.get("data", {}).get("image/png"):
                    return base64.b64decode(png)
    return None


def gather(text: str, page_of: Callable[[str], NotebookNode | None]) -> tuple[str, dict[str, bytes]]:
    """A page's text with its pictures of runs resolved, and the files it then needs, by their paths in it.

    page_of(chapter) gives that chapter's page, or None for a name that is no chapter. A picture that its
    chapter's page does not have is replaced by a sentence that says so.
    """
    files: dict[str, bytes] = {}

    def resolve(link: re.Match) -> str:
        path, chapter, name = link.groups()
        page = page_of(chapter)
        png = figure(page, name) if page is not None else None
        if png is None:
            return MISSING
        files[path] = png
        return link.group()

    return LINK.sub(resolve, text), files


def hold_places(page: NotebookNode) -> None:
    """Put a blank figure after each cell that names one: a text without outputs refers to its figures all the same."""
    cells = []
    for cell in page.cells:
        cells.append(cell)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            options = f":name: {figure['name']}\n:alt: Not drawn in this build."
            caption = textwrap.dedent(figure.get("caption", "")).strip()
            cells.append(
                new_markdown_cell(f"````{{figure}} {BLANK}\n{options}\n\n{caption}\n````", id=figure["name"])
            )
    page.cells = cells
