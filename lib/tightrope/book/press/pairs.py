"""A chapter's two files, and the notebook made of today's text and kept outputs.

`NN-name.md` (MyST text) is the truth; `NN-name.ipynb` is its output-free pair, for Colab, Binder and Jupyter.
Text holds no cell ids, so they are `<stem>-<index>`: a pair made again is the same to the byte.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tightrope.book.checkout import Checkout, Stop, write, write_if_changed
from tightrope.book.code import cell_form

if TYPE_CHECKING:
    from nbformat import NotebookNode

JUPYTEXT = {"formats": "ipynb,md:myst", "cell_metadata_filter": "tags,mystnb,nbgrader,-all"}


def read_text(path: Path) -> NotebookNode:
    """A chapter's text as a notebook without outputs, cell ids `<stem>-<index>`."""
    import jupytext

    try:
        return _named(jupytext.reads(path.read_text(), fmt="md:myst"), path.stem)
    except FileNotFoundError:
        raise Stop(f"There is no {path.name} in {path.parent}; write it, or run `make sync`.") from None
    except Exception as error:  # jupytext raises what its YAML and MyST readers raise
        raise Stop(f"{path.name} can't be read as MyST text: {' '.join(str(error).split())}.") from None


def read_notebook(path: Path) -> NotebookNode:
    """A notebook file, read and brought to nbformat 4.5."""
    import nbformat

    try:
        notebook = nbformat.v4.upgrade(nbformat.reads(path.read_text(), as_version=4))
    except (ValueError, KeyError, AttributeError, nbformat.reader.NotJSONError):
        raise Stop(f"{path} is not a notebook; delete it and run `make sync`.") from None
    return notebook


def to_json(notebook: NotebookNode) -> str:
    """The notebook as the text of its file."""
    import nbformat

    return nbformat.writes(notebook, version=4) + "\n"


def pair(notebook: NotebookNode, stem: str) -> str:
    """The text of the output-free .ipynb that goes with a chapter."""
    bare = _named(copy.deepcopy(notebook), stem)
    for cell in bare.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb", "nbgrader")}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    bare.metadata = {k: v for k, v in bare.metadata.items() if k in ("jupytext", "kernelspec")}
    bare.metadata.setdefault("jupytext", {}).pop("notebook_metadata_filter", None)
    bare.nbformat, bare.nbformat_minor = 4, 5
    return to_json(bare)


def difference(text: Path, notebook: Path) -> str | None:
    """How a chapter's two files differ, outputs aside; None when they say the same."""
    from jupytext.compare import NotebookDifference, compare_notebooks

    try:
        compare_notebooks(
            _named(read_notebook(notebook), text.stem),
            read_text(text),
            fmt="md:myst",
            raise_on_first_difference=True,
            compare_outputs=False,
        )
    except NotebookDifference as found:
        return str(found)
    return None


def stored_outputs(notebook: Path) -> list[int]:
    """The indices of cells that keep outputs or execution counts in a file meant for git."""
    cells = read_notebook(notebook).cells
    return [
        i
        for i, c in enumerate(cells)
        if c.cell_type == "code" and (c.outputs or c.execution_count is not None)
    ]


def sync(checkout: Checkout, chapter: str, source: str | None = None) -> str:
    """Make a chapter's two files say the same; returns in a few words what was done.

    source: "md" or "ipynb", the one that is right. None: the one that was changed since the last commit; the
    newer one where both were; the text where neither was, or the notebook was never committed.
    """
    text, notebook = checkout.text(chapter), checkout.notebook(chapter)
    if source is None:
        if not notebook.exists():
            source = "md"
        else:
            source = "md" if difference(text, notebook) is None else _changed(checkout, text, notebook)
    if source == "ipynb":
        import jupytext

        if not notebook.exists():
            raise Stop(f"There is no {notebook.name} to take the text of {chapter} from.")
        taken = read_notebook(notebook)
        taken.metadata.setdefault("jupytext", {}).update(JUPYTEXT)
        written = jupytext.writes(taken, fmt="md:myst")
        if text.exists():
            written = _header(text.read_text()) + written.removeprefix(_header(written))
            kept = checkout.build / "before-sync" / text.name
            write(kept, text.read_bytes())  # the one step here that could lose somebody's words
        write_if_changed(text, written)
    changed = write_if_changed(notebook, pair(read_text(text), chapter))
    if source == "ipynb":
        return "text taken from the notebook (as it was before: build/before-sync)"
    return "notebook made from the text" if changed else "in step"


def merge(text: NotebookNode, executed: NotebookNode) -> NotebookNode | None:
    """Today's text with the outputs of an execution; None when the code is not that of the execution.

    Prose, tags and comments come from the text. Cells match by position and by the form of their code.
    """
    ran = [c for c in executed.cells if c.cell_type == "code" and "injected-parameters" not in tags(c)]
    cells = [c for c in text.cells if c.cell_type == "code"]
    if [cell_form(c.source) for c in ran] != [cell_form(c.source) for c in cells]:
        return None
    page = copy.deepcopy(text)
    for cell, old in zip([c for c in page.cells if c.cell_type == "code"], ran, strict=True):
        cell.outputs, cell.execution_count = copy.deepcopy(old.outputs), old.execution_count
    return page


def title(notebook: NotebookNode) -> str:
    """The first heading; empty where there is none."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+?) *$", text, flags=re.M)
    return found.group(1) if found else ""


def insert_below_title(notebook: NotebookNode, markdown: str) -> None:
    """Put a block of MyST right under the first heading (at the top where there is none)."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        lines = cell.source.split("\n")
        for i, line in enumerate(lines):
            if line.startswith("# "):
                cell.source = "\n".join([*lines[: i + 1], "", markdown, "", *lines[i + 1 :]])
                return
        break
    import nbformat

    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(markdown, id="strip"))


def tags(cell: Mapping) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def parameters(notebook: NotebookNode) -> dict[str, object]:
    """What a chapter's parameters cell sets: names and defaults (as code where they are no literals)."""
    found: dict[str, object] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in tags(cell):
            for name, value in _assignments(cell.source):
                found[name] = value
    return found


def _assignments(source: str) -> Iterator[tuple[str, object]]:
    for statement in ast.parse(source).body:
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        )
        for target in targets:
            if isinstance(target, ast.Name) and getattr(statement, "value", None) is not None:
                try:
                    yield target.id, ast.literal_eval(statement.value)
                except ValueError:
                    yield target.id, ast.unparse(statement.value)


def _named(notebook: NotebookNode, stem: str) -> NotebookNode:
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{stem}-{i}"[-64:]
    return notebook


def _header(text: str) -> str:
    """The YAML block on top of a chapter's text."""
    found = re.match(r"---\n.*?\n---\n", text, re.S)
    return found.group() if found else ""


def _changed(checkout: Checkout, text: Path, notebook: Path) -> str:
    since = _uncommitted(checkout.root)
    changed = [path for path in (text, notebook) if os.path.relpath(path, checkout.root) in since]
    if len(changed) == 2:
        changed = [max(changed, key=lambda path: path.stat().st_mtime)]
    return "ipynb" if changed == [notebook] else "md"


@cache
def _uncommitted(root: Path) -> frozenset[str]:
    """The committed files of a checkout that were changed since; none where git does not answer.

    A file that git does not know may be older than everything, so it is not among them.
    """
    command = ["git", "-C", str(root), "diff", "--name-only", "-z", "--no-renames", "--relative", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(filter(None, done.stdout.split("\0")))
