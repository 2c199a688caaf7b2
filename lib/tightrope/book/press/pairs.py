"""A chapter's two files, and the notebook made of today's text and kept outputs.

`NN-name.md` (MyST text) is the truth; `NN-name.ipynb` is its output-free pair, for Colab, Binder and Jupyter. Text
holds no cell ids, so they are `<stem>-<index>`: a pair made again is the same to the byte. The pair carries a digest
of what it said when it was made, so that words which somebody wrote into it are told from older words of the text.
"""

from __future__ import annotations

import ast
import codecs
import copy
import datetime
import json
import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from tightrope.book.checkout import Checkout, Stop, header, read, write, write_if_changed
from tightrope.book.code import cell_form, digest

if TYPE_CHECKING:
    from nbformat import NotebookNode

JUPYTEXT = {"formats": "ipynb,md:myst", "cell_metadata_filter": "tags,mystnb,nbgrader,-all"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_KEPT = ("tags", "mystnb", "nbgrader")  # of a cell's metadata; the rest is an editor's


def read_text(path: Path) -> NotebookNode:
    """A chapter's text as a notebook without outputs, cell ids `<stem>-<index>`."""
    try:
        return _named(copy.deepcopy(_parsed(read(path))), path.stem)
    except FileNotFoundError:
        raise Stop(f"There is no {path.name} in {path.parent}; write it.") from None
    except Exception as error:  # jupytext raises what its YAML and MyST readers raise
        raise Stop(f"{path.name} can't be read as MyST text: {' '.join(str(error).split())}.") from None


def read_notebook(path: Path) -> NotebookNode:
    """A notebook file, read and brought to nbformat 4.5."""
    import nbformat

    try:
        return nbformat.v4.upgrade(nbformat.reads(read(path), as_version=4))
    except (ValueError, KeyError, AttributeError, nbformat.reader.NotJSONError):
        raise Stop(f"{path} is not a notebook; move it away and run `make sync`.") from None


def to_json(notebook: NotebookNode) -> str:
    """The notebook as the text of its file."""
    import nbformat

    return nbformat.writes(notebook, version=4) + "\n"


def pair(notebook: NotebookNode, stem: str) -> str:
    """The text of the output-free .ipynb that goes with a chapter."""
    bare = _named(copy.deepcopy(notebook), stem)
    for cell in bare.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in _KEPT}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    bare.metadata = {k: v for k, v in bare.metadata.items() if k in ("jupytext", "kernelspec")}
    bare.metadata.setdefault("jupytext", {}).pop("notebook_metadata_filter", None)
    bare.metadata["synced"] = _digest(bare)
    return to_json(bare)


def difference(text: Path, notebook: Path) -> str | None:
    """Where a chapter's two files begin to say different things; None when they say the same."""
    one, other = _said(read_text(text)), _said(read_notebook(notebook))
    cells = enumerate(zip_longest(one, other))
    return next((f"from cell {i} on" for i, (a, b) in cells if a != b), None)


def sync(checkout: Checkout, chapter: str, source: str | None = None) -> str:
    """Make a chapter's two files say the same; returns in a few words what was done.

    source: "md" or "ipynb", the one that is right, whatever the other says: a copy of that one is kept. None: the
    text, unless somebody wrote words into the notebook that the text lacks; then Stop.
    """
    text, notebook = checkout.text(chapter), checkout.notebook(chapter)
    if source == "ipynb" and not notebook.exists():
        raise Stop(f"There is no {notebook.name} to take the text of {chapter} from.")
    differ = notebook.exists() and (not text.exists() or difference(text, notebook))
    written = differ and not _is_as_made(notebook)
    if source is None and written:
        raise Stop(
            f"{notebook.name} holds words that {text.name} lacks: `sync {chapter} --from ipynb` takes them, "
            f"`sync {chapter} --from md` keeps the text's."
        )
    said = "in step"
    if source == "ipynb" and differ:
        said = "text taken from the notebook" + _set_aside(checkout, text, notebook)
        write(text, _taken(text, read_notebook(notebook)))
    elif not notebook.exists() or differ:
        said = "notebook made from the text" + (_set_aside(checkout, notebook) if written else "")
    write_if_changed(notebook, pair(read_text(text), chapter))
    return said


def merge(text: NotebookNode, executed: NotebookNode) -> NotebookNode | None:
    """Today's text with the outputs of an execution; None when the code is not that of the execution.

    Prose, tags and comments come from the text. Cells match by position and by the form of their code.
    """
    ran = [c for c in executed.cells if c.cell_type == "code" and "injected-parameters" not in tags(c)]
    page = copy.deepcopy(text)
    cells = [c for c in page.cells if c.cell_type == "code"]
    matched = list(zip(cells, ran, strict=False))
    same = (a.source == b.source or cell_form(a.source) == cell_form(b.source) for a, b in matched)
    if len(cells) != len(ran) or not all(same):
        return None
    for cell, old in matched:
        cell.outputs, cell.execution_count = copy.deepcopy(old.outputs), old.execution_count
    return page


def title(notebook: NotebookNode) -> str:
    """The first heading; empty where there is none."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+?) *$", text, flags=re.M)
    return found.group(1) if found else ""


def insert_below_title(notebook: NotebookNode, markdown: str) -> None:
    """Put a block of MyST right under the first heading (at the top where there is none)."""
    from nbformat.v4 import new_markdown_cell

    first = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    heading = first and re.search(r"^# .*$", first.source, flags=re.M)
    if heading:
        end = heading.end()
        first.source = f"{first.source[:end]}\n\n{markdown}\n{first.source[end:]}"
    else:
        notebook.cells.insert(0, new_markdown_cell(markdown, id="strip"))


def tags(cell: Mapping) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def parameters(notebook: NotebookNode) -> dict[str, object]:
    """What a chapter's parameters cell sets: names and defaults (as code where they are no literals)."""
    found: dict[str, object] = {}
    marked = [c.source for c in notebook.cells if c.cell_type == "code" and "parameters" in tags(c)]
    for statement in ast.parse("\n".join(marked)).body:
        for target in getattr(statement, "targets", [getattr(statement, "target", None)]):
            if isinstance(target, ast.Name) and getattr(statement, "value", None) is not None:
                try:
                    found[target.id] = ast.literal_eval(statement.value)
                except ValueError:
                    found[target.id] = ast.unparse(statement.value)
    return found


@lru_cache(maxsize=32)
def _parsed(text: str) -> NotebookNode:
    """Kept: one build asks for a chapter's text several times, and reading it takes a tenth of a second."""
    import jupytext

    return jupytext.reads(text, fmt="md:myst")


def _named(notebook: NotebookNode, stem: str) -> NotebookNode:
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{stem}-{i}"[-64:]
    return notebook


def _said(notebook: NotebookNode) -> list[tuple]:
    """What a notebook says, cell by cell, without what an editor adds when it saves: ids, outputs, empty cells."""
    return [_key(cell) for cell in notebook.cells if cell.source.strip() or tags(cell)]


def _key(cell: NotebookNode) -> tuple:
    marks = {k: cell.metadata[k] for k in _KEPT if cell.metadata.get(k)}
    return cell.cell_type, cell.source.strip("\n"), json.dumps(marks, sort_keys=True)


def _digest(notebook: NotebookNode) -> str:
    return digest(*map(repr, _said(notebook)))


def _is_as_made(notebook: Path) -> bool:
    """Whether a pair says what it said when it was made of the text."""
    found = read_notebook(notebook)
    return found.metadata.get("synced") == _digest(found)


def _set_aside(checkout: Checkout, *paths: Path) -> str:
    """Keep copies of files that are about to be replaced; returns where, for the end of a sentence."""
    stamp, kept = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f"), []
    for path in filter(Path.exists, paths):
        kept.append(checkout.build / "before-sync" / f"{path.stem}.{stamp}{path.suffix}")
        write(kept[-1], path.read_bytes())
    listed = ", ".join(path.relative_to(checkout.root).as_posix() for path in kept)
    return f" (as it was before: {listed})"


def _taken(path: Path, notebook: NotebookNode) -> bytes:
    """The notebook as text; header and cells of the text that was there stay to the byte where they say the same."""
    import jupytext

    notebook.metadata.setdefault("jupytext", {}).update(JUPYTEXT)
    notebook.metadata |= {
        "kernelspec": KERNEL,
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    written = jupytext.writes(notebook, fmt="md:myst")
    if not path.exists():
        return written.encode()
    was, raw = read(path), path.read_bytes()
    old, new = _pieces(was), _pieces(written)
    matcher = SequenceMatcher(None, [key for key, _ in old], [key for key, _ in new], autojunk=False)
    made, seam = header(was), False
    for what, i, j, k, m in matcher.get_opcodes():
        added = [
            (key, piece) for key, piece in new[k:m] if key[1] or key[2] != "{}"
        ]  # no editor's empty cells
        for _, piece in old[i:j] if what == "equal" else added:
            seam = seam or what != "equal"
            made = made.rstrip("\n") + "\n\n" + piece.lstrip("\n") if seam else made + piece
            seam = what != "equal"
        seam = seam or what == "delete"
    made = made.rstrip("\n") + was[len(was.rstrip("\n")) :]
    if _said(_parsed(made)) != _said(notebook):
        made = header(was) + written.removeprefix(header(written))
    made = made.replace("\n", "\r\n") if b"\r\n" in raw else made
    return made.encode("utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-8")


def _pieces(text: str) -> list[tuple[tuple, str]]:
    """A text cut at its cells, header aside: what each says (and whether it is prose after prose), and its lines."""
    from jupytext.myst import myst_to_notebook

    notebook = myst_to_notebook(text, add_source_map=True)
    lines, cells = text.splitlines(keepends=True), notebook.cells
    starts, keys = [], []
    for i, (cell, line) in enumerate(zip(cells, notebook.metadata["source_map"], strict=True)):
        prose = cell.cell_type == "markdown"
        starts.append(line - (not prose or lines[line - 1].startswith("+++")))
        keys.append((*_key(cell), prose and i > 0 and cells[i - 1].cell_type == "markdown"))
    starts[:1] = [header(text).count("\n")] if starts else []
    ends = [*starts[1:], len(lines)]
    return [(key, "".join(lines[a:b])) for key, a, b in zip(keys, starts, ends, strict=True)]
