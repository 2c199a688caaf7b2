"""The rooms: imports only go down, no circle, no private name of another room, unique stems, names written once."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tightrope

PACKAGE = Path(tightrope.__file__).parent
# Each floor may import from those below it (and from itself); rooms on one floor do not import each other.
FLOORS = (
    {""},
    {"inputs"},
    {"models"},
    {"boundary", "features", "paths"},
    {"book"},
    {"book/course"},
    {"book/press"},
    {"top"},
)
TOP = {"__init__", "__main__", "report"}


def path_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


MODULES = {path_of(file): ast.parse(file.read_text("utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """
    >>> room("inputs/data"), room("boundary/attacks/pgd"), room("book/press/keys"), room("seeds"), room("book")
    ('inputs', 'boundary', 'book/press', '', 'book')
    """
    if module in TOP:
        return "top"
    rooms = [r for floor in FLOORS for r in floor if r and (module == r or module.startswith(f"{r}/"))]
    return max(rooms, key=len, default="")


def arrows() -> list[tuple[str, str, str]]:
    """(module, module it imports from, name taken), over every import of the package in itself."""
    found = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not node.level or module in ("__init__", "boundary/attacks"), (
                    f"{module}: a relative import"
                )
                parts = (node.module or "").split(".")
                if node.level or parts[0] != "tightrope":
                    continue
                for name in (alias.name for alias in node.names):
                    inner = "/".join([*parts[1:], name])
                    target = inner if inner in MODULES else "/".join(parts[1:]) or "__init__"
                    found.append((module, target, name))
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("tightrope") for alias in node.names), module
    return found


def test_imports_only_go_down():
    floor = {r: i for i, rooms in enumerate(FLOORS) for r in rooms}
    wrong = []
    for module, target, name in arrows():
        a, b = room(module), room(target)
        version = (target, name) == ("__init__", "__version__")
        if a != b and floor[a] <= floor[b] and not version:
            wrong.append(f"{module} -> {target}")
    assert not wrong


def test_no_circle_inside_or_between_rooms():
    sorter = TopologicalSorter()
    for module, target, _ in arrows():
        if target != module and target != "__init__":
            sorter.add(module, target)
    sorter.prepare()  # raises CycleError


def test_no_room_takes_another_s_private_name():
    taken = [f"{m} takes {n} of {t}" for m, t, n in arrows() if n.startswith("_") and room(m) != room(t)]
    assert [t for t in taken if not t.endswith(("_files of _files", "__version__ of __init__"))] == []


def test_every_stem_names_one_module():
    stems = [module.rsplit("/", 1)[-1] for module in MODULES]
    assert len(set(stems)) == len(stems)


def test_public_names_are_the_door_s_and_each_opens():
    door = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    named = {a.asname for node in door.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(dir(tightrope)) == named
    for name in named:
        assert getattr(tightrope, name).__name__.endswith(f".{name}")
    with pytest.raises(AttributeError):
        tightrope.nothing  # noqa: B018


def test_the_library_measures_without_the_book():
    """A user's import loads no machinery and nothing of the `book` extra, and costs little beside torch."""
    code = (
        "import sys, torch\n"
        "from tightrope import attacks, data, margins, nets, spectra, training\n"
        "m = margins.deepfool(nets.mlp(4, (3,), 2), torch.rand(2, 4)).norm\n"
        "heavy = {'matplotlib', 'IPython', 'papermill', 'jupytext', 'nbformat', 'msgspec', 'yaml', 'torchvision'}\n"
        "loaded = {n.split('.')[0] for n in sys.modules} & heavy\n"
        "book = [n for n in sys.modules if n.startswith('tightrope.book')]\n"
        "assert not loaded and not book, (loaded, book)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_users_ten_lines_are_clean_to_a_type_checker():
    lines = Path(__file__).parent / "typed" / "users_ten_lines.py"
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--pythonpath",
        sys.executable,
        "--level",
        "error",
        str(lines),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
