"""Whether the stored runs still stand for their code, and how one comes to stand for code that changed nothing.

A stored run is fresh while the code that measures is the record's (`stored_key`). Vouching executes the chapter at
the record's commit and at today's, small and both with today's small sizes, and compares every number; where all are
equal, the record takes today's key and says so.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from nbformat import NotebookNode

from tightrope.book import code, records
from tightrope.book.checkout import PROFILES, Checkout, Failed, Stop, read, write
from tightrope.book.press import keys, pairs

COMPARED = ("smoke", "quick")
LISTED = 8  # changed definitions that are named


def stale(checkout: Checkout, chapter: str) -> str | None:
    """Why a chapter's stored run no longer stands for its code; None where it does, or where none is stored."""
    record = _stored(checkout, chapter)
    if record is None:
        return None
    if record["profile"] not in PROFILES:
        return f"its profile {record['profile']} is no longer there"
    return None if _key(checkout, record) == record.get("stored_key") else "its code has changed since"


def state(checkout: Checkout, chapter: str) -> str:
    """A stored run in a few words: "fresh", "vouched for at <commit>, <date>" or "stale: <why>"."""
    record = _stored(checkout, chapter)
    if why := stale(checkout, chapter):
        changed = _changed(checkout, chapter, record)
        return f"stale: {why}" + (f" ({changed})" if changed else "")
    vouched = record.get("vouched")
    return f"vouched for at {vouched['commit'][:9]}, {vouched['date']}" if vouched else "fresh"


def vouch(checkout: Checkout, chapter: str) -> list[str]:
    """Execute a chapter at its stored run's commit and at today's, and compare; returns what moved, one line each.

    Nothing moved: the stored record takes today's key and names today's commit. Stop: there is nothing to vouch
    for, or no commit to compare with. Failed: the chapter can't be executed at one of the two.
    """
    record = _stored(checkout, chapter)
    if record is None:
        raise Stop(f"No run of {chapter} is stored, so there is nothing to vouch for.")
    if not stale(checkout, chapter):
        raise Stop(
            f"The stored run of {chapter} is {state(checkout, chapter)}; there is nothing to vouch for."
        )
    then, now = record.get("commit"), _git(checkout.root, "rev-parse", "HEAD")
    if not then or record.get("dirty"):
        raise Stop(f"The stored run of {chapter} was not made at a commit: run it again and store it.")
    if Path(_git(checkout.root, "rev-parse", "--show-toplevel")).resolve() != checkout.root.resolve():
        raise Stop(f"{checkout.root} is not the top of its git repository: vouch in a clone of the book.")
    if _git(checkout.root, "status", "--porcelain", "--", "lib", str(checkout.text(chapter))):
        raise Stop(f"lib or {chapter}.md has changes that are not committed: commit them, then vouch.")
    with _tree(checkout, then) as before, _tree(checkout, now) as after:
        _lend_sizes(chapter, after, before, record["profile"])
        for profile in COMPARED:
            runs = [_executed(tree, chapter, profile, record["seed"]) for tree in (before, after)]
            if moved := [f"{profile}: {line}" for line in _moved(*runs)]:
                return moved
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    kept = {"stored_key": _key(checkout, record), "vouched": {"commit": now, "date": today}}
    records.write(checkout.stored(chapter), record | kept)
    return []


def _stored(checkout: Checkout, chapter: str) -> dict | None:
    path = checkout.stored(chapter)
    try:
        return records.read(path) if path.is_file() else None
    except ValueError as error:
        raise Stop(str(error)) from None


def _key(checkout: Checkout, record: dict) -> str:
    cells = pairs.read_text(checkout.text(record["chapter"])).cells
    return keys.stored_key(checkout, cells, record["profile"])


def _changed(checkout: Checkout, chapter: str, record: dict) -> str:
    """The cells and definitions that are not what they were at a commit; empty where git can't say."""
    commit, profile = str(record.get("commit")), record["profile"]
    try:
        with _tree(checkout, commit) as tree:
            before, now = (_measuring(where, chapter, profile) for where in (tree, checkout))
    except Stop:
        return ""
    names = sorted({(before | now)[form] for form in before.keys() ^ now.keys()})
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"since {commit[:9]}: {', '.join(names[:LISTED])}{more}" if names else ""


def _measuring(tree: Checkout, chapter: str, profile: str) -> dict[str, str]:
    """What a stored run of a chapter depends on in a tree: {a cell's or definition's form: its name}."""
    sources = [cell.source for cell in _code(tree, chapter) if "figure" not in pairs.tags(cell)]
    forms = [code.cell_form(keys.measuring(source, profile)) for source in sources]
    parts = {form: f"cell {i}" for i, form in enumerate(forms, 1)}
    found = [part for part in code.reached(sources, tree.package) if code.measures(part[0])]
    return parts | {f"{module} {form}": f"{module}.{names}" for module, names, form in found}


@contextmanager
def _tree(checkout: Checkout, commit: str) -> Iterator[Checkout]:
    """The book as it was at a commit, in a folder of its own that goes away again."""
    with tempfile.TemporaryDirectory(prefix="tightrope-vouch-") as folder:
        root = Path(folder).resolve() / "book"
        _git(checkout.root, "worktree", "add", "--detach", "--force", str(root), commit)
        try:
            yield Checkout(root)
        finally:
            _git(checkout.root, "worktree", "remove", "--force", str(root))


def _code(tree: Checkout, chapter: str) -> list[NotebookNode]:
    return [cell for cell in pairs.read_text(tree.text(chapter)).cells if cell.cell_type == "code"]


def _lend_sizes(chapter: str, lender: Checkout, to: Checkout, profile: str) -> None:
    """Give a tree's text another's cells of sizes where they ask the same of the stored profile: what the smaller
    ones ask may have changed."""
    sized = (cell.source for cell in _code(lender, chapter) if ".sizes(" in cell.source)
    asked = {keys.measuring(source, profile): source for source in sized}
    text = read(to.text(chapter))
    for cell in _code(to, chapter):
        text = text.replace(cell.source, asked.get(keys.measuring(cell.source, profile), cell.source))
    write(to.text(chapter), text)


def _executed(tree: Checkout, chapter: str, profile: str, seed: int) -> records.Stored:
    """What a chapter records, executed in a tree by that tree's own library."""
    print(f"{chapter}  {profile} at {_git(tree.root, 'rev-parse', '--short', 'HEAD')}", flush=True)
    environment = dict(os.environ)
    if (tree.root / "lib").is_dir():
        environment["PYTHONPATH"] = str(tree.root / "lib")
    command = [
        sys.executable,
        "-P",
        "-m",
        "tightrope",
        "run",
        chapter,
        "--profile",
        profile,
        "--seed",
        str(seed),
    ]
    done = subprocess.run(
        command,
        cwd=tree.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    path = tree.record(profile, chapter)
    if done.returncode or not path.is_file():
        said = done.stderr.strip() or "it recorded no numbers"
        raise Failed(
            f"{chapter} can't be compared: its {profile} run at one of the two commits failed.\n{said}"
        )
    return records.Stored(records.read(path), records.read_arrays(path.with_suffix(".npz")))


def _moved(before: records.Stored, after: records.Stored) -> Iterator[str]:
    """The recorded numbers that differ between two runs, and those that one of them lacks."""
    old, new = before.record["quantities"], after.record["quantities"]
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name}: {_said(old.get(name))} → {_said(new.get(name))}"
    for name in sorted(before.arrays.keys() | after.arrays.keys()):
        if not _same(before.arrays.get(name), after.arrays.get(name)):
            yield f"array {name}"


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    there = a is not None and b is not None and a.dtype == b.dtype
    return there and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _said(entry: dict | None) -> str:
    return ", ".join(f"{k} {v!r}" for k, v in entry.items()) if entry else "not recorded"


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, encoding="utf-8")
    except OSError as error:
        raise Stop(f"git is needed for this, and can't be started ({error.strerror}).") from None
    if done.returncode:
        raise Stop(f"git {words[0]} failed in {root}: {' '.join(done.stderr.split())}.")
    return done.stdout.strip()
