"""Starts a chapter's kernel: `python -P -m tightrope.book.press.kernel -f CONNECTION_FILE`, by its own kernelspec.

What C code prints goes to the job's log, and every file that the chapter reads is noted with its content, so that the
chapter runs again when one of them is another (see `execute`). Standard library only until the kernel starts.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable
from importlib.util import source_from_cache
from pathlib import Path

# What belongs to no chapter: the interpreter, the system, caches of the user's.
_ELSEWHERE = {
    sys.prefix,
    sys.base_prefix,
    sys.exec_prefix,
    *sysconfig.get_paths().values(),
    site.getuserbase(),
}
_ELSEWHERE |= {"/usr", "/lib", "/etc", "/proc", "/sys", "/dev", "/run", tempfile.gettempdir()}
_ELSEWHERE |= {str(Path.home() / name) for name in (".cache", ".config", ".local", ".ipython", ".jupyter")}


def content(path: str | os.PathLike) -> str:
    """A digest of a file as a chapter sees it: line ends don't count; "missing" where it is not there."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read().replace(b"\r\n", b"\n")).hexdigest()[:20]
    except OSError:
        return "missing"


class Reading:
    """An audit hook that notes every file opened to be read, once, as a line "path<TAB>digest" of `log`.

    root: the checkout; paths inside it are noted relative to it. skipped: folders and files that are no input, or
    are part of the chapter's key already. What the chapter wrote itself before it read it is no input either.
    """

    def __init__(self, log: Path, root: Path, skipped: Iterable[Path]) -> None:
        self.root = os.path.realpath(root)
        self.elsewhere = [os.path.realpath(path) for path in _ELSEWHERE if path]
        self.skipped = [os.path.realpath(path) for path in skipped]
        self.skipped += [  # an environment inside the checkout, say
            path for path in self.elsewhere if path != self.root and _within(path, [self.root])
        ]
        self.seen: set[str] = set()
        self.noting = (
            threading.local()
        )  # a digest opens the file too, and other threads open theirs meanwhile
        log.parent.mkdir(parents=True, exist_ok=True)
        self.out = log.open("a", encoding="utf-8", buffering=1)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event != "open" or hasattr(self.noting, "now") or isinstance(arguments[0], int | None):
            return
        path, mode, flags = arguments
        path = os.path.realpath(os.fsdecode(path))
        if path.endswith(".pyc") and "__pycache__" in path:
            path = source_from_cache(path)
        if path in self.seen:
            return
        if isinstance(mode, str):
            reads, replaces = not set(mode) & set("wax"), set(mode) & set("wx")
        else:
            reads, replaces = not flags & (os.O_WRONLY | os.O_RDWR), flags & (os.O_TRUNC | os.O_EXCL)
        if reads or replaces:
            self.seen.add(path)
        if reads:
            self.noting.now = True
            try:
                self._note(path)
            finally:
                del self.noting.now

    def _note(self, path: str) -> None:
        inside = _within(path, [self.root])
        installed = ".egg-info" in path or ".dist-info" in path  # who is installed is asked at every start
        if installed or _within(path, self.skipped) or not os.path.isfile(path):
            return
        if inside or not _within(path, self.elsewhere):
            name = os.path.relpath(path, self.root) if inside else path
            self.out.write(f"{Path(name).as_posix()}\t{content(path)}\n")


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip(os.sep) + os.sep) for place in places)


def main() -> None:
    """Become the kernel of the job that the environment describes."""
    root, log = Path(os.environ["TIGHTROPE_ROOT"]), os.environ["TIGHTROPE_LOG"]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(root / "book")
    sys.dont_write_bytecode = (
        True  # a helper edited within the second of its last run would be read as it was then
    )
    sys.path.append(str(root / "book"))  # what lies beside a chapter can be imported, and shadows nothing
    library = Path(__file__).parents[2]
    data = [os.environ.get("TIGHTROPE_DATA"), os.environ.get("TIGHTROPE_CACHE")]
    sets = [p for folder in data[:1] if folder for p in Path(folder).glob("*.npz")]
    skipped = [
        root / name for name in ("build", ".venv", ".git", "book/claims.yml", "_toc.yml", "_config.yml")
    ]
    skipped += [library, *sets, *(Path(folder) for folder in data[1:] if folder)]
    skipped += [root / "book" / f"{os.environ['TIGHTROPE_CHAPTER']}{suffix}" for suffix in (".md", ".ipynb")]
    sys.addaudithook(Reading(Path(os.environ["TIGHTROPE_OPENED"]), root, skipped))

    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
