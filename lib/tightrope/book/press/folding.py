"""A Sphinx extension: a chapter's section "Where the source slips" is folded, text and cells together. A link to a
place inside opens it: browsers unfold what holds the place they are sent to.
"""

from __future__ import annotations

from docutils import nodes

TITLE = "Where the source slips"
SUMMARY = "What is printed, what is true instead, and the cells that show it"


def setup(app) -> dict:
    app.connect("doctree-resolved", _fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fold(app, doctree: nodes.document, page: str) -> None:
    for section in doctree.findall(nodes.section):
        title, *inside = section.children
        if title.astext() == TITLE:
            start = f'<details class="tightrope-folded"><summary>{SUMMARY}</summary>'
            raw = [nodes.raw("", text, format="html") for text in (start, "</details>")]
            section.children = []
            section.extend([title, raw[0], *inside, raw[1]])
