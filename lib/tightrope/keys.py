"""The two keys of a chapter.

The **execution key** covers all that its outputs depend on: the code cells, the library definitions that they
reach (see `reach`), profile, seed, device kind and parameters, the versions of torch and numpy, its claims,
its stored run and the data files it would read. Same key: the kept outputs are right, nothing is run again.

The **stored key** covers the measuring code alone. A stored run whose key is not today's is shown as stale.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from . import _files
from .layout import PROFILES, YAML, Checkout
from .reach import cell_form, code_key, digest, is_text, statements

# What executes and publishes chapters leaves no trace in their outputs.
MACHINERY = frozenset(
    {"__main__", "checks", "console", "execute", "keys", "layout", "notebooks", "offline"}
    | {"progress", "publish", "reach", "runner"}
)
# Bookkeeping and presentation can't change a measured number: a stored run outlives them.
TOP_FLOOR = MACHINERY | {"cache", "claims", "figures", "networks", "records", "runs", "tables"}


def execution_key(
    checkout: Checkout,
    chapter: str,
    cells: Iterable[Mapping],
    profile: str,
    seed: int,
    device: str,
    parameters: Mapping[str, object] | None = None,
) -> str:
    """The key of one execution of a chapter: "<what it runs>-<the data files it would read>".

    cells: the notebook's (`cell_type`, `source`, `metadata`). device: "cpu" or "cuda", see `device_kind`.
    """
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    sources = [cell["source"] for cell in code]
    marks = ["parameters" if "parameters" in _tags(cell) else "" for cell in code]
    runs = digest(
        "execution 1",
        *(mark + cell_form(source) for mark, source in zip(marks, sources, strict=True)),
        code_key(sources, checkout.package, MACHINERY),
        json.dumps([profile, int(seed), device, dict(parameters or {})], sort_keys=True, default=str),
        *(f"{name} {_version(name)}" for name in ("torch", "numpy")),
        _claims(checkout, chapter),
        *(_content(checkout.stored(chapter).with_suffix(suffix)) for suffix in (".json", ".npz")),
    )
    return f"{runs}-{digest(*_data_files(sources, checkout.package))[:8]}"


def same_code(key: str, other: str) -> bool:
    """Whether two execution keys differ in the data files at most (a chapter may download some)."""
    return key.split("-")[0] == other.split("-")[0]


def stored_key(checkout: Checkout, cells: Iterable[Mapping], profile: str) -> str:
    """The key of a stored run of a profile: the code that measures, so neither `figure` cells nor the top floor, nor
    the sizes of another profile."""
    sources = [c["source"] for c in cells if c["cell_type"] == "code" and "figure" not in _tags(c)]
    return digest(
        "stored 2",
        *(cell_form(_sized(source, profile)) for source in sources),
        code_key(sources, checkout.package, TOP_FLOOR),
    )


def _sized(source: str, profile: str) -> str:
    """The code of a cell with the sizes of one profile alone: of `run.sizes(N=(1, 2, 3))` one number."""
    if ".sizes(" not in source:
        return source
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "sizes":
            for size in call.keywords:
                row = size.value
                if isinstance(row, ast.Tuple | ast.List) and len(row.elts) == len(PROFILES):
                    size.value = row.elts[PROFILES.index(profile)]
    return ast.unparse(tree)


def device_kind(device: str) -> str:
    """What a device name will come to, `cpu` or `cuda`, found without loading torch."""
    if device != "auto":
        return device.split(":")[0]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    has_driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    return "cuda" if has_driver and not hidden and not torch_is_cpu_only() else "cpu"


def torch_is_cpu_only() -> bool:
    return "+cpu" in _version("torch")


def _tags(cell: Mapping) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _claims(checkout: Checkout, chapter: str) -> str:
    """The claims of one chapter, as data: another chapter's claims, and comments, don't count."""
    path = checkout.book / "claims.yml"
    if not path.is_file():
        return ""
    try:
        entries = yaml.load(path.read_text(), YAML)
    except yaml.YAMLError:
        return path.read_text()  # `claims.load` will say what is wrong with it
    if isinstance(entries, dict):
        entries = list(entries.values()) if "claims" not in entries else entries["claims"]
    own = [e for e in entries or [] if isinstance(e, dict) and str(e.get("chapter", chapter)) == chapter]
    return json.dumps(own, sort_keys=True, default=str)


def _data_files(sources: Iterable[str], package: Path) -> list[str]:
    """Which files would answer `data.load(name)` for names the cells mention: another file, other numbers."""
    names = set()
    for source in sources:
        for statement in statements(source):
            names |= {node.value for node in ast.walk(statement) if is_text(node)}
    given = os.environ.get("TIGHTROPE_DATA")
    folders = [Path(given)] if given else []
    folders += [_files.user_cache(), package / "samples"]
    found = []
    for name in sorted(n for n in names if n.replace("_", "").isalnum() and len(n) < 40):
        for folder in folders:
            for path in sorted(folder.glob(f"{name}.*")):
                state = path.stat()
                found.append(f"{folder.name}/{path.name} {state.st_size} {state.st_mtime_ns}")
    return found


def toolchain() -> list[str]:
    """The packages that turn sources into pages, with their versions, and the local extension's own code."""
    packages = (
        "jupyter-book",
        "sphinx",
        "sphinx-book-theme",
        "sphinx-mathjax-offline",
        "sphinx-proof",
        "myst-nb",
    )
    return [f"{name} {_version(name)}" for name in packages] + [
        _content(Path(__file__).with_name("offline.py")).hex()
    ]
