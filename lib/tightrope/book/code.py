"""What code cells, or a definition, depend on in the library: the *identifier rule*.

A cell or a definition depends on every top-level definition whose **name** it mentions, in the modules that its own
module imports, directly or not. There is nothing to resolve: no scope, no alias, no lazy door can lead it astray. It
counts too much where two things share a name, never too little (`tests/book/test_trace.py` runs the chapters under a
profiler and holds what ran against it).

A definition counts by its syntax tree without docstrings: comments, docstrings and layout never change a key.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def digest(*parts: str | bytes) -> str:
    """A short content hash of the parts, order and boundaries included."""
    h = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "big") + raw)
    return h.hexdigest()[:20]


def form(node: object) -> str:
    """A syntax tree as text: equal for equal code, whatever its comments, docstrings and layout."""
    if isinstance(node, list):
        return "[" + ",".join(form(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment") or value is None or value == []:
            continue
        if name == "body" and isinstance(node, _DEFINITION):
            value = _without_docstring(value)
        parts.append(f"{name}={form(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def cell_form(source: str) -> str:
    """The form of one code cell. A last `;` counts (it silences the output); magics stay as they are.

    >>> cell_form("x = 1  # one") == cell_form("x  =  1")
    True
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source.strip()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last = [t.string for t in tokens if t.type != tokenize.COMMENT and t.string.strip()][-1:]
    return form(tree.body) + (";" if last == [";"] else "")


def statements(cell: str) -> list[ast.stmt]:
    """The statements of a cell without magics and shell lines; a cell that can't be read has none."""
    lines = [line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))]
    try:
        return ast.parse("\n".join(lines)).body
    except SyntaxError:
        return []


BESIDE = "book/course/"  # a room that no chapter's code calls; names that happen to be equal would lead there


def reached(cells: Iterable[str], package: Path) -> list[tuple[str, str, str]]:
    """The library's definitions that code cells depend on: sorted (module, names bound, form).

    cells: sources. package: the library's folder. A module is named by its path there, "inputs/data".
    """
    library = _library(
        package, tuple((path, path.read_text("utf-8")) for path in sorted(package.rglob("*.py")))
    )
    top = _Module("", [statement for cell in cells for statement in statements(cell)], library.keys())
    todo: list[tuple[_Module, frozenset[str]]] = [
        (top, frozenset().union(*(d.mentions for d in top.definitions)))
    ]
    seen: set[tuple[str, str]] = set()
    found: set[tuple[str, str, str]] = set()
    while todo:
        module, names = todo.pop()
        for stem in module.sees(library):
            inside = library[stem]
            if inside.path.startswith(BESIDE):
                continue
            for name in names & inside.by_name.keys() | {""}:  # "": what the import itself does
                if (stem, name) in seen:
                    continue
                seen.add((stem, name))
                for definition in inside.by_name.get(name, ()):
                    found.add((inside.path, " ".join(sorted(definition.names)), definition.form))
                    todo.append((inside, definition.mentions))
    return sorted(found)


def lent(cells: Iterable[tuple[str, bool]]) -> list[str]:
    """What cells that only draw lend to those that measure: the statements whose names a later one of these reads.

    cells: in their order (source, whether it draws). A statement counts whole, and so do those that it reads from.
    """
    wanted: set[str] = set()
    found = []
    for statement, draws in reversed([(s, draws) for source, draws in cells for s in statements(source)]):
        bound = _binds(statement)
        if draws and not bound & wanted:
            continue
        if draws:
            found.append(ast.unparse(statement))
        wanted = (wanted - bound) | _reads(statement)
    return found[::-1]


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement binds or writes into (`found[key] = 1`); of a loop only the latter, for what it runs
    over and its own helpers are rarely meant for others."""
    written = {
        node.value.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Subscript | ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
    }
    return written if isinstance(statement, ast.For | ast.While) else written | _read(statement).names


def _reads(statement: ast.stmt) -> set[str]:
    """The names that a statement reads and does not bind on the way, as arguments or what a loop runs over."""
    inside = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.arg):
            inside.add(node.arg)
        elif isinstance(node, ast.For | ast.comprehension):
            inside |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    names = (n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return {n.id for n in names} - inside


def key(cells: Iterable[str], package: Path, counts: Callable[[str], bool] = lambda module: True) -> str:
    """A key of the library code that code cells depend on (the cells themselves are not part of it).

    counts: which modules do ("inputs/data"). The others are followed all the same: what they use may count.
    """
    return digest(*(f"{module} {text}" for module, _, text in reached(cells, package) if counts(module)))


def measures(module: str) -> bool:
    """Whether a module ("inputs/data") takes part in a measurement."""
    return module == "book/networks" or not module.startswith("book/")


@dataclass(frozen=True)
class _Definition:
    """A top-level statement: the names it binds, its form, and every identifier in it."""

    names: frozenset[str]
    form: str
    mentions: frozenset[str]


class _Module:
    """A module of the library, or a chapter's cells (stem and path "")."""

    def __init__(self, path: str, body: list[ast.stmt], stems: Iterable[str]) -> None:
        self.path, self.stem = path, _stem(path)
        self.definitions = [_read(statement) for statement in body]
        self.by_name: dict[str, list[_Definition]] = {}
        for definition, statement in zip(self.definitions, body, strict=True):
            for name in definition.names or {""}:
                self.by_name.setdefault(name, []).append(definition)
            if isinstance(statement, _DEFINITION) and statement.decorator_list:  # it may register itself
                self.by_name.setdefault("", []).append(definition)
        imported = {part for statement in body for part in _imported(statement)}
        # `import tightrope` alone gives every module as an attribute of it.
        mentioned = (
            frozenset().union(*(d.mentions for d in self.definitions)) if "tightrope" in imported else set()
        )
        self.imports = (imported | mentioned) & set(stems) - {self.stem}
        self._seen: frozenset[str] | None = None

    def sees(self, library: dict[str, _Module]) -> frozenset[str]:
        """The stems of the modules it imports, directly or not, and its own."""
        if self._seen is None:
            todo, found = [*self.imports, *({self.stem} & library.keys())], set()
            while todo:
                stem = todo.pop()
                if stem not in found:
                    found.add(stem)
                    todo += library[stem].imports
            self._seen = frozenset(found)
        return self._seen


@lru_cache(maxsize=8)
def _library(package: Path, sources: tuple[tuple[Path, str], ...]) -> dict[str, _Module]:
    paths = {
        path: path.relative_to(package).with_suffix("").as_posix().removesuffix("/__init__")
        for path, _ in sources
    }
    stems = [_stem(path) for path in paths.values()]
    return {_stem(paths[path]): _Module(paths[path], _body(text), stems) for path, text in sources}


def _stem(path: str) -> str:
    """
    >>> _stem("inputs/data"), _stem("boundary/attacks"), _stem("__init__")
    ('data', 'attacks', 'tightrope')
    """
    return "tightrope" if path == "__init__" else path.rsplit("/", 1)[-1]


def _body(text: str) -> list[ast.stmt]:
    return _without_docstring(ast.parse(text).body)


def _read(statement: ast.stmt) -> _Definition:
    if isinstance(statement, _DEFINITION):
        names = {statement.name}
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        names = {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    else:
        names = {
            n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
    return _Definition(frozenset(names), form(statement), frozenset(_mentioned(statement)))


def _mentioned(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node)


def _imported(statement: ast.AST) -> Iterator[str]:
    """Every word of every import in a statement: with unique stems, one that names a module is that module."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (getattr(node, "module", None) or "").split(".")
            for alias in node.names:
                yield from alias.name.split(".")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if documented else body
