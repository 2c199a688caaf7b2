"""An assignment's source, `book/assignments/NN-name.md`: a MyST notebook whose cells carry nbgrader's metadata.

    given      code cells that are locked and bring no points: imports, data, helpers
    solution   code cells that a student fills in, between `### BEGIN SOLUTION` and `### END SOLUTION`
    test       code cells that bring points: what is visible, and `### BEGIN HIDDEN TESTS` … `### END HIDDEN TESTS`
    written    Markdown cells that a person grades; in the source they hold the rubric

Prose and code without nbgrader's metadata is for reading and is never graded; a cell tagged `instructor` goes into the
instructor's guide alone. An assertion of a hidden test names the misconception it is for: `"[name] sentence"`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

from tightrope.book.checkout import Checkout, Stop, read

if TYPE_CHECKING:
    from nbformat import NotebookNode

MISCONCEPTION = re.compile(r"\[(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)\] (?P<says>.+)", re.S)
_HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?^[ \t]*### END HIDDEN TESTS[^\n]*\n?", re.S | re.M)
_SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION.*?^[ \t]*### END SOLUTION[^\n]*\n?", re.S | re.M)
TELLING = 16  # characters, without blanks: a shorter line of a solution may stand elsewhere by chance


@dataclass(frozen=True)
class Cell:
    """A cell that grading looks at. kind: "given", "solution", "test" or "written"; points: 0 but for the last two.

    source: its visible part; hidden: the hidden tests; title: the heading it stands below; id: nbgrader's grade_id.
    """

    id: str
    kind: str
    source: str
    hidden: str = ""
    points: float = 0
    title: str = ""


@dataclass(frozen=True)
class Assignment:
    """An assignment: `stem` is its name, 01-subspace-deepfool; `text` the whole source."""

    stem: str
    text: str
    notebook: NotebookNode

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(_cells(self.notebook))

    def of(self, kind: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == kind]

    @cached_property
    def automatic(self) -> float:
        """The points that the tests give."""
        return sum(cell.points for cell in self.of("test"))

    @cached_property
    def by_hand(self) -> float:
        """The points that a person gives."""
        return sum(cell.points for cell in self.of("written"))

    @property
    def title(self) -> str:
        first = next((c.source for c in self.notebook.cells if c.cell_type == "markdown"), "")
        found = re.search(r"^# +(.+?) *$", first, re.M)
        return found[1] if found else self.stem

    @cached_property
    def misconceptions(self) -> dict[str, str]:
        """What the hidden tests name, each with its sentence."""
        found = {}
        for cell in self.of("test"):
            for message in messages(cell.hidden):
                if named := MISCONCEPTION.fullmatch(message):
                    found[named["name"]] = named["says"]
        return found

    @cached_property
    def secrets(self) -> frozenset[str]:
        """Lines that no student may see, without blanks: of solutions, hidden tests, rubrics, instructor's cells."""
        hidden, shown = [], []
        for cell in self.notebook.cells:
            closed = "instructor" in cell.metadata.get("tags", []) or _kind(cell) == "written"
            parts = [m[0] for p in (_HIDDEN, _SOLUTION) for m in p.finditer(cell.source)]
            hidden += [cell.source] if closed else parts
            shown += [] if closed else [_SOLUTION.sub("", _HIDDEN.sub("", cell.source))]
        seen = _squeezed("\n".join(shown))
        lines = {_squeezed(line) for part in hidden for line in part.splitlines() if not _marker(line)}
        return frozenset(line for line in lines if len(line) >= TELLING and line not in seen)

    def leaks(self, text: str) -> list[str]:
        """Lines of `secrets` that a text holds, and markers of solutions and hidden tests that are left in it.

        The text may be a notebook's JSON, a page's HTML or code.
        """
        plain = _squeezed(text)
        tagless = _squeezed(unescape(re.sub(r"<[^<>]*>", "", text))) if "</" in text else plain
        escaped = {line: _squeezed(line.replace("\\", "\\\\").replace('"', '\\"')) for line in self.secrets}
        found = [line for line in self.secrets if line in tagless or escaped[line] in plain]
        markers = ("BEGINSOLUTION", "BEGINHIDDENTESTS", "BEGINMARKSCHEME")
        return sorted(found) + [mark for mark in markers if mark in plain]


def names(checkout: Checkout) -> list[str]:
    """The assignments' stems, in order."""
    return sorted(p.stem for p in (checkout.book / "assignments").glob("[0-9][0-9]-*.md"))


def load(checkout: Checkout, stem: str) -> Assignment:
    """An assignment's source, read and checked. Stop: what is wrong with it, in one sentence."""
    import jupytext
    from nbgrader.nbgraderformat import MetadataValidator, ValidationError

    path = checkout.book / "assignments" / f"{stem}.md"
    text = read(path)
    try:
        notebook = jupytext.reads(text, fmt="md:myst")
        MetadataValidator().validate_nb(notebook)
    except ValidationError as error:
        raise Stop(f"{path.name}: {' '.join(str(error).split())}.") from None
    except Exception as error:  # jupytext raises what its YAML and MyST readers raise
        raise Stop(f"{path.name} can't be read as MyST text: {' '.join(str(error).split())}.") from None
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{stem}-{i}"[-64:]
    assignment = Assignment(stem, text, notebook)
    if not assignment.automatic:
        raise Stop(f"{path.name} has no test cell that brings points.")
    for cell in assignment.of("test"):
        try:
            ast.parse(cell.source), ast.parse(cell.hidden)
        except SyntaxError as error:
            raise Stop(f"{path.name}, cell {cell.id}: {error.msg} in line {error.lineno}.") from None
    return assignment


def messages(code: str) -> list[str]:
    """The messages of the assertions in a piece of code that are plain strings, in order."""
    found = [node.msg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    return [msg.value for msg in found if isinstance(msg, ast.Constant) and isinstance(msg.value, str)]


def solved(source: str) -> str:
    """A solution cell's code with the solution alone, without its markers."""
    return "\n".join(line for line in source.splitlines() if not _marker(line))


def _cells(notebook: NotebookNode) -> Iterator[Cell]:
    title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^##+ +(.+?) *$", cell.source, re.M):
                title = heading
        if kind := _kind(cell):
            about, parts = cell.metadata["nbgrader"], _HIDDEN.findall(cell.source)
            hidden = "\n".join(line for part in parts for line in part.splitlines() if not _marker(line))
            points = about["points"] if about["grade"] else 0
            yield Cell(about["grade_id"], kind, _HIDDEN.sub("", cell.source), hidden, points, title)


def _kind(cell: NotebookNode) -> str:
    about = cell.metadata.get("nbgrader")
    if not about:
        return ""
    if cell.cell_type == "markdown":
        return "written" if about["grade"] else ""
    return "test" if about["grade"] else "solution" if about["solution"] else "given"


def _marker(line: str) -> bool:
    return bool(re.match(r"\s*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)", line))


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def find(checkout: Checkout, wanted: str | None) -> Assignment:
    """The assignment of a number or a name; where there is one alone it need not be named."""
    known = names(checkout)
    if not known:
        raise Stop("There is no assignment in book/assignments.")
    found = Checkout.match(wanted, known) if wanted else known
    if not found:
        raise Stop(f"There is no assignment {wanted!r}; the assignments are {', '.join(known)}.")
    if len(found) > 1:
        raise Stop(f"Say which assignment this is, with --assignment: {', '.join(known)}.")
    return load(checkout, found[0])


def number(stem: str) -> str:
    return Path(stem).name.partition("-")[0]
