"""A Sphinx extension: the library's docstrings on a page.

They are written to be read in a terminal and an editor: prose, names in single backticks, aligned lists of fields, code
set in. Here they become what docutils wants, so that nobody has to write for it.
"""

from __future__ import annotations

import re
from itertools import zip_longest

ALIGNED = re.compile(r"\S {2,}\S|^\s*>>> ")
SPECIAL = re.compile(r"(\*\w[^*]*\w\*)|([\\*|_])")


def setup(app) -> dict:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", lambda app, what, name, thing, options, lines: rewrite(lines))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(lines: list[str]) -> None:
    """Turn the lines of a docstring into reStructuredText, in place."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))]
    lines[:] = [line for block in blocks for line in ("", *_block(block))]


def _block(block: list[str]) -> list[str]:
    set_in = all(line.startswith("    ") for line in block)
    if set_in or any(ALIGNED.search(line) for line in block):
        return ["::", "", *(f"    {line}" for line in block)]
    items = [i for i, line in enumerate(block) if line.startswith("- ")]
    if items and items[0]:  # docutils wants a blank line before a list
        return [*_block(block[: items[0]]), "", *_block(block[items[0] :])]
    if items:
        return [_prose(line if line.startswith("- ") else f"  {line.strip()}") for line in block]
    return [_prose(line.strip()) for line in block]


def _prose(line: str) -> str:
    """Names in single backticks as code, *titles* as they are, and no other markup."""
    parts = re.split(r"`([^`]+)`", line)
    plain = (SPECIAL.sub(lambda m: m[1] or f"\\{m[2]}", part) for part in parts[::2])
    return "".join(
        p
        for pair in zip_longest(plain, (f"\\ ``{part}``\\ " for part in parts[1::2]), fillvalue="")
        for p in pair
    )
