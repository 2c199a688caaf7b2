"""Execute code cells under a profiler: which definitions of the library ran. `python -m tests.trace < cells.json`."""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
import threading
from pathlib import Path

import tightrope

PACKAGE = Path(tightrope.__file__).parent


def definitions(seen: set[tuple[str, int]]) -> set[tuple[str, str]]:
    """(module, top-level name) of functions by file and first line; a module's own body has no name."""
    found = set()
    for file in {file for file, _ in seen}:
        module = Path(file).relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        for node in ast.parse(Path(file).read_text("utf-8")).body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if any(f == file and first <= line <= node.end_lineno for f, line in seen):
                names = [getattr(node, "name", None)]
                if isinstance(node, ast.Assign):
                    names = [
                        n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)
                    ]
                found |= {(module, name) for name in names if name}
    return found


def run(cells: list[str]) -> set[tuple[str, str]]:
    """Execute the cells, in this process, as a notebook would."""
    from IPython.core.interactiveshell import InteractiveShell

    seen: set[tuple[str, int]] = set()
    prefix = str(PACKAGE) + os.sep

    def look(frame, event, argument) -> None:
        code = frame.f_code
        # A function, not the body of a class or module, which only defines.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(prefix):
            seen.add((code.co_filename, code.co_firstlineno))

    shell = InteractiveShell.instance()
    for cell in cells:
        threading.setprofile(look)
        sys.setprofile(look)
        outcome = shell.run_cell(cell, silent=True)
        sys.setprofile(None)
        outcome.raise_error()
    return definitions(seen)


if __name__ == "__main__":
    given = sys.stdin.read()
    sys.stdout, out = sys.stderr, sys.stdout
    json.dump(sorted(run(json.loads(given))), out)
