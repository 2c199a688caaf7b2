"""What a chapter's outputs depend on, as a key: the chapter runs again when the key is another one.

A chapter reaches library code by name. Starting from its code cells, names are followed through imports to
top-level definitions, and on to the definitions that those name. Each counts by its syntax tree without
docstrings: comments, docstrings and layout never change a key. A name that can't be followed counts as its
whole module.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, field
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
    return form(tree.body) + (";" if _ends_silenced(source) else "")


def reached(
    cells: Iterable[str], package: Path, without: frozenset[str] = frozenset()
) -> list[tuple[str, str, str]]:
    """The library definitions that code cells reach: sorted (module, form, names bound).

    cells: sources. package: the library's folder. without: module names that are not followed.
    """
    library = _Library(package, without)
    chapter = _Source("", [tree for cell in cells for tree in statements(cell)], library)
    todo = [ref for statement in chapter.statements for ref in chapter.references(statement)]
    seen: set[tuple[str, str | None]] = set()
    found: set[tuple[str, str, str]] = set()
    while todo:
        ref = todo.pop()
        if ref in seen:
            continue
        seen.add(ref)
        module, name = ref
        source = library.module(module)
        if source is None:
            continue
        todo += source.aliases.get(name, ())  # a name that the module itself imports
        for statement in source.behind(name):
            text, names, references = source.described(statement)
            found.add((module, text, names))
            todo += references
    return sorted(found)


def code_key(cells: Iterable[str], package: Path, without: frozenset[str] = frozenset()) -> str:
    """A key of the library code that code cells reach (the cells themselves are not part of it)."""
    return digest(*(f"{module} {text}" for module, text, _ in reached(cells, package, without)))


@dataclass
class _Source:
    """One module (or the chapter's cells): its top-level statements, what they bind, what its names mean."""

    name: str
    statements: list[ast.stmt]
    library: _Library
    binds: dict[str, list[ast.stmt]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)  # run on import for their effect
    aliases: dict[str, set[tuple[str, str | None]]] = field(default_factory=dict)
    known: dict[ast.stmt, tuple[str, str, list[tuple[str, str | None]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for statement in self.statements:
            for node in ast.walk(statement):
                self._read_import(node)
        for statement in self.statements:
            names = _bound_names(statement)
            for name in names:
                self.binds.setdefault(name, []).append(statement)
            if not names or self._registers(statement):
                self.always.append(statement)

    def behind(self, name: str | None) -> list[ast.stmt]:
        """The statements that make a name what it is; all of them for None or a name not bound here."""
        if name is None or (name not in self.binds and name not in self.aliases):
            return self.statements
        return [*self.binds.get(name, []), *self.always]

    def described(self, statement: ast.stmt) -> tuple[str, str, list[tuple[str, str | None]]]:
        """A statement's form, the names it binds and its references."""
        if statement not in self.known:
            names = " ".join(sorted(_bound_names(statement)))
            self.known[statement] = form(statement), names, self.references(statement)
        return self.known[statement]

    def references(self, statement: ast.AST) -> list[tuple[str, str | None]]:
        """(module, name) pairs that a statement names; name None stands for the whole module."""
        found: list[tuple[str, str | None]] = []

        def visit(node: ast.AST) -> None:
            if isinstance(node, ast.Attribute):
                modules = self._as_modules(node.value)
                for module in modules:
                    inner = f"{module}.{node.attr}"
                    found.append((inner, None) if self.library.has(inner) else (module, node.attr))
                if modules:
                    return
            elif isinstance(node, ast.Name):
                found.extend(self.aliases.get(node.id, ()))
                if self.name and node.id in self.binds:
                    found.append((self.name, node.id))
            elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                module = self._absolute(node)
                found.append((module, None))
            for child in ast.iter_child_nodes(node):
                visit(child)

        visit(statement)
        return found

    def _as_modules(self, node: ast.AST) -> set[str]:
        """The library modules that an expression like `tightrope.data` stands for."""
        if isinstance(node, ast.Name):
            return {module for module, name in self.aliases.get(node.id, ()) if name is None}
        if isinstance(node, ast.Attribute):
            inner = {f"{module}.{node.attr}" for module in self._as_modules(node.value)}
            return {module for module in inner if self.library.has(module)}
        return set()

    def _read_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if self.library.owns(alias.name):
                    target = alias.name if alias.asname else alias.name.split(".")[0]
                    self._alias(alias.asname or target, target, None)
        elif isinstance(node, ast.ImportFrom):
            module = self._absolute(node)
            for alias in node.names if self.library.owns(module) else ():
                inner = f"{module}.{alias.name}"
                target = (inner, None) if self.library.has(inner) else (module, alias.name)
                self._alias(alias.asname or alias.name, *target)

    def _alias(self, local: str, module: str, name: str | None) -> None:
        self.aliases.setdefault(local, set()).add((module, name))

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        base = self.name.split(".")
        base = base[: len(base) - node.level + (1 if self.library.is_package(self.name) else 0)]
        return ".".join([*base, *([node.module] if node.module else [])])

    def _registers(self, statement: ast.stmt) -> bool:
        """Whether a statement acts on import beyond the names it binds: such a one counts with its module."""
        if isinstance(statement, _DEFINITION):
            return any(self.references(d) for d in statement.decorator_list)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return any(alias.name == "*" for alias in statement.names)
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        simple = isinstance(statement, ast.Assign | ast.AnnAssign) and all(
            not isinstance(n, ast.Attribute | ast.Subscript) for t in targets if t for n in ast.walk(t)
        )
        return not simple


class _Library:
    """The package's modules, as they are on disk now."""

    def __init__(
        self, package: Path, without: frozenset[str] = frozenset(), files: frozenset[Path] | None = None
    ) -> None:
        self.package, self.root, self.without = package, package.name, without
        self.files = frozenset(package.rglob("*.py")) if files is None else files

    def owns(self, module: str) -> bool:
        return module.split(".")[0] == self.root

    def path(self, module: str) -> Path:
        folder = self.package.joinpath(*module.split(".")[1:])
        own = folder / "__init__.py"
        return own if own in self.files else folder.with_suffix(".py")

    def is_package(self, module: str) -> bool:
        return self.owns(module) and self.path(module).name == "__init__.py"

    def has(self, module: str) -> bool:
        return self.owns(module) and self.path(module) in self.files

    def module(self, module: str) -> _Source | None:
        if module.split(".")[-1] in self.without or not self.has(module):
            return None
        return _parsed(self.package, self.files, module, self.path(module).read_text())


@lru_cache(maxsize=512)
def _parsed(package: Path, files: frozenset[Path], module: str, text: str) -> _Source:
    """A module of a package that has these files. Kept: a process asks for several keys of the same library."""
    return _Source(module, _without_docstring(ast.parse(text, module).body), _Library(package, files=files))


def _bound_names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, _DEFINITION):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in statement.names}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr) and is_text(first.value)
    return body[1:] if is_docstring else body


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def statements(cell: str) -> list[ast.stmt]:
    """The statements of a cell without magics and shell lines; a cell that can't be read has none."""
    lines = [line for line in cell.splitlines() if not line.lstrip().startswith(("%", "!"))]
    try:
        return ast.parse("\n".join(lines)).body
    except SyntaxError:
        return []


def _ends_silenced(source: str) -> bool:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last = [t for t in tokens if t.type != tokenize.COMMENT and t.string.strip()][-1:]
    return bool(last) and last[0].string == ";"
