"""Pictures of executed chapters on other pages: `![what it shows](run/01-synthetic-margins/fig-plane.png)`.

The name is the figure's (`mystnb: figure: name`) in its chapter, so the picture is always this run's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from nbformat import NotebookNode

LINK = re.compile(r"!\[[^\]]*\]\((run/([\w-]+)/([\w-]+)\.png)\)")
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
