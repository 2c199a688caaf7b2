"""How much of a chapter's code is bookkeeping: `python tests/bookkeeping.py` prints a line a chapter.

A line is bookkeeping where its statement only records, formats or names units: a call of one of the words below
(without the lines on which the recorded value is computed), titles and units in literals, rows of a table that hold
names, functions that return formatted text, and loops and branches around nothing else. A sentence for the page counts
where its call begins; its further lines are prose, which is no code, unless they are f-strings with code in them. A
table's caption is a sentence, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext

BOOK = Path(__file__).parents[1] / "book"
RECORDS = {"record", "keep", "table"}  # whose second argument may compute
FORMATS = {"text", "Markdown", "Table", "number", "display", "print"}
COMPUTES = (ast.BinOp, ast.Compare, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.Call)
LONGEST = 25


@dataclass(frozen=True)
class Count:
    """One chapter's lines: of code, of bookkeeping among them; cells that are too long; formats typed by hand."""

    chapter: str
    lines: int
    bookkeeping: int
    long_cells: tuple[str, ...]
    formats: int

    @property
    def share(self) -> float:
        return self.bookkeeping / self.lines

    def __str__(self) -> str:
        long = ", ".join(self.long_cells) or "none"
        return (
            f"{self.chapter}: {self.lines} lines of code, {self.bookkeeping} bookkeeping ({self.share:.1%}), "
            f"{self.formats} formats by hand, cells over {LONGEST} lines: {long}"
        )


def chapters() -> list[Path]:
    return sorted(BOOK.glob("[0-9][0-9]-*.md"))


def count(path: Path) -> Count:
    """The counts of one chapter; the cells that every chapter begins with (library, parameters) do not count."""
    lines = kept = formats = 0
    long = []
    for cell in jupytext.read(path).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "parameters" in tags or "Finds the library" in cell.source:
            continue
        code = written(cell.source) - prose(cell.source)
        lines += len(code)
        kept += len(bookkeeping(cell.source) & code)
        formats += len(list(typed_formats(cell.source)))
        if len(code) > LONGEST and "figure" not in tags:
            long.append(f"{cell.source.strip().splitlines()[0][:40]}… ({len(code)})")
    return Count(path.stem, lines, kept, tuple(long), formats)


def written(source: str) -> set[int]:
    """The lines with something on them: neither blank nor closing brackets alone."""
    return {i for i, line in enumerate(source.splitlines(), 1) if line.strip(" )]},")}


def bookkeeping(source: str) -> set[int]:
    """The numbers of the lines that only record, format or name."""
    return set().union(*map(_of_statement, ast.parse(source).body))


def prose(source: str) -> set[int]:
    """The lines of sentences, a table's caption among them, after the one on which their call begins."""
    found = set()
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            said = call.args if _called(call) == "text" else []
            said = said + [given.value for given in call.keywords if given.arg == "caption"]
            found |= {
                i for text in said if isinstance(text, ast.Constant) for i in _lines(text) - {call.lineno}
            }
    return found


def typed_formats(source: str) -> Iterator[str]:
    """Every format written by hand: in f-strings and in the templates of run.text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            yield ast.unparse(node)
        if isinstance(node, ast.Call) and _called(node) == "text":
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield from re.findall(r"\{[\w.-]+:[^{}|]+\}", text.value)


def _of_statement(statement: ast.stmt) -> set[int]:
    match statement:
        case ast.For() | ast.If() | ast.With():
            body = statement.body + getattr(statement, "orelse", [])
            inside = set().union(*map(_of_statement, body))
            whole = inside >= set().union(*map(_lines, body))
            computed = isinstance(statement, ast.For) and _computes(statement.iter)
            return _lines(statement) - (_lines(statement.iter) if computed else set()) if whole else inside
        case ast.FunctionDef():
            returned = [node.value for node in ast.walk(statement) if isinstance(node, ast.Return)]
            return _lines(statement) if returned and all(map(_is_text, returned)) else set()
        case ast.Expr(ast.Call() as call) | ast.Assign(value=ast.Call() as call):
            return _of_call(call, statement)
        case ast.Assign() | ast.AugAssign() if _names(statement.value):
            return _lines(statement)
    return set()


def _of_call(call: ast.Call, statement: ast.stmt) -> set[int]:
    name = _called(call)
    if name in FORMATS:
        return _lines(statement)
    if name in RECORDS:
        values = [value for value in call.args[1:] if _computes(value)]
        return _lines(statement) - set().union(*map(_lines, values))
    if name in ("append", "extend") and not any(map(_computes, call.args)):
        return _lines(statement)
    return set()


def _called(call: ast.Call) -> str:
    """The name of what is called; a method of a figure's axes that is called as one of `run`'s is not that one."""
    match call.func:
        case ast.Attribute(attr="text", value=ast.Name(id=owner)) if owner != "run":
            return ""
        case ast.Attribute(attr="text", value=ast.Attribute() | ast.Subscript() | ast.Call()):
            return ""
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")


def _computes(value: ast.expr) -> bool:
    """Whether an expression does more than name a number, take it from where it lies, or make it Python's."""
    match value:
        case ast.Call(func=ast.Name(id="float" | "int" | "bool" | "len"), args=[inner]):
            return _computes(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="item" | "tolist"), args=[]):
            return _computes(inner)
        case ast.Call(func=ast.Attribute(value=ast.Dict(values=inner), attr="items"), args=[]):
            return any(map(_computes, inner))
        case (
            ast.Call(func=ast.Name(id="zip" | "enumerate"), args=inner)
            | ast.List(elts=inner)
            | ast.Tuple(elts=inner)
        ):
            return any(map(_computes, inner))
    return not _is_text(value) and any(isinstance(node, COMPUTES) for node in ast.walk(value))


def _is_text(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return _called(value) in FORMATS
    return isinstance(value, ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


def _names(value: ast.expr) -> bool:
    """Titles and units: text, or a list, tuple or dictionary of nothing else; also the empty list that rows go to."""
    match value:
        case ast.Dict():
            return bool(value.values) and all(map(_names, value.values))
        case ast.List() | ast.Tuple():
            return all(map(_names, value.elts))
    return _is_text(value)


def _lines(node: ast.AST) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))


if __name__ == "__main__":
    for chapter in chapters():
        print(count(chapter))
