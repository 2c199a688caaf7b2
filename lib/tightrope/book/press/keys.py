"""The two keys of a chapter.

The **execution key** covers all that its outputs depend on: the code cells, the library definitions that they reach
(see `code`), profile, seed, device kind and parameters, the versions of what computes and draws, and the content of
the data files it would read. Same key, and the same content of what else the run opened (see `execute`): the kept
outputs are right, nothing is run again. Two clones of one commit have the same key.

The **stored key** covers the measuring code alone. A stored run whose key is not today's is shown as stale.

Which modules count is decided by folder: `book/press` never, `book` in executions only, but for `book/networks`: a
recipe, a size or a seed there is part of the measurement.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tightrope import _files
from tightrope.book import code
from tightrope.book.checkout import PROFILES, Checkout, write

COMPUTES = ("torch", "numpy", "scipy", "torchvision", "matplotlib")


def execution_key(
    checkout: Checkout,
    cells: Iterable[Mapping],
    profile: str,
    seed: int,
    device: str,
    parameters: Mapping[str, object] | None = None,
) -> str:
    """The key of one execution of a chapter: "<what it runs>-<the data files it would read>".

    cells: the notebook's (`cell_type`, `source`, `metadata`). device: "cpu" or "cuda", see `device_kind`.
    """
    sources = [(cell["source"], _tags(cell)) for cell in cells if cell["cell_type"] == "code"]
    plain = [source for source, _ in sources]
    runs = code.digest(
        "execution 2",
        *(
            ("parameters" if "parameters" in tags else "") + code.cell_form(source)
            for source, tags in sources
        ),
        code.key(plain, checkout.package, lambda module: not module.startswith("book/press/")),
        json.dumps([profile, int(seed), device, dict(parameters or {})], sort_keys=True, default=str),
        *(f"{name} {installed(name)}" for name in COMPUTES),
    )
    return f"{runs}-{code.digest(*_data_files(checkout, plain))[:8]}"


def same_code(key: str, other: str) -> bool:
    """Whether two execution keys differ in the data files at most (a chapter may download some)."""
    return key.split("-")[0] == other.split("-")[0]


def stored_key(checkout: Checkout, cells: Iterable[Mapping], profile: str) -> str:
    """The key of a stored run of a profile: the code that measures, so neither what `figure` cells draw (what they
    define for others counts) nor the words of `run.text` and of captions, nor the sizes of another profile, nor the
    book's machinery."""
    kinds = [(c["source"], "figure" in _tags(c)) for c in cells if c["cell_type"] == "code"]
    sources = [*code.lent(kinds), *(source for source, draws in kinds if not draws)]
    return code.digest(
        "stored 5",
        *(code.cell_form(measuring(source, profile)) for source in sources),
        code.key(sources, checkout.package, code.measures),
    )


def device_kind(device: str) -> str:
    """What a device name will come to, `cpu` or `cuda`, found without loading torch."""
    if device != "auto":
        return device.split(":")[0]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    has_driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    return "cuda" if has_driver and not hidden and not torch_is_cpu_only() else "cpu"


def torch_is_cpu_only() -> bool:
    return "+cpu" in installed("torch")


@cache
def installed(package: str) -> str:
    """The version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _tags(cell: Mapping) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def measuring(source: str, profile: str) -> str:
    """The code of a cell without the words it prints, see `_words`, and with the sizes of one profile alone: of
    `run.sizes(N=(1, 2, 3))` one number."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        if name == "sizes":
            for size in call.keywords:
                row = size.value
                if isinstance(row, ast.Tuple | ast.List) and len(row.elts) == len(PROFILES):
                    size.value = row.elts[PROFILES.index(profile)]
        for words in _words(name, call):
            for part in ast.walk(words):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    part.value = ""
    return ast.unparse(tree)


def _words(name: str | None, call: ast.Call) -> list[ast.expr]:
    """What of a call's arguments is words for the reader: all of `run.text`'s, a table's caption and first title."""
    if name == "text":
        return [*call.args, *(given.value for given in call.keywords)]
    if name in ("table", "Table"):
        return [given.value for given in call.keywords if given.arg in ("caption", "head")]
    return []


def _data_files(checkout: Checkout, sources: Iterable[str]) -> list[str]:
    """What `data.load` would find now, by content, for the data sets that the cells and the book's networks name."""
    texts, networks = list(sources), checkout.package / "book" / "networks.py"
    if any(module == "book/networks" for module, _, _ in code.reached(texts, checkout.package)):
        texts.append(networks.read_text("utf-8"))
    words = set()
    for statement in (statement for text in texts for statement in code.statements(text)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= {word for word in node.value.split() if word.isidentifier()}
    given = os.environ.get("TIGHTROPE_DATA")
    folders = [Path(given)] if given else []
    folders += [_files.user_cache(), checkout.package / "inputs" / "samples"]
    found = []
    for word in sorted(words):
        path = next((f / f"{word}.npz" for f in folders if (f / f"{word}.npz").is_file()), None)
        if path is not None:
            found.append(f"{word} {_content(path, checkout.build / 'digests.json')}")
    return found


def _content(path: Path, memory: Path) -> str:
    """The digest of a large file, remembered by its size and date."""
    about = path.stat()
    now = [about.st_size, about.st_mtime_ns]
    try:
        known = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    if known.get(str(path), [None])[:-1] != now:
        with path.open("rb") as file:
            known[str(path)] = [*now, hashlib.file_digest(file, "sha256").hexdigest()[:20]]
        write(memory, json.dumps(known))
    return known[str(path)][-1]
