"""A Sphinx extension: what the theme and docutils leave out for readers who listen, or who have a keyboard alone."""

from __future__ import annotations

from pathlib import Path

# What is written, and what it has to be: the first column lies outside of any landmark; a bibliography's roles are
# older than the standard that screen readers follow now.
_MENDED = {
    '<div class="bd-sidebar-primary bd-sidebar">': (
        '<div class="bd-sidebar-primary bd-sidebar" role="complementary" aria-label="The book">'
    ),
    'role="doc-biblioentry"': 'role="listitem"',
}


def setup(app) -> dict:
    app.connect("build-finished", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mend(app, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text("utf-8")
        mended = text
        for old, new in _MENDED.items():
            mended = mended.replace(old, new)
        if mended != text:
            path.write_text(mended, "utf-8")
