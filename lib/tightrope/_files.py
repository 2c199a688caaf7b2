"""Where things lie and how they are written. Ground floor: standard library only."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes `path`'s place when the block ends well.

    A process that dies meanwhile leaves `path` as it was; when the block raises, what was written is removed. Raises
    FileExistsError where a device or a pipe stands: it would be lost.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise FileExistsError(errno.EEXIST, "a device or a pipe stands there", str(path))
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


def reason(error: OSError) -> str:
    """The operating system's own words for `error`, ready for the middle of a sentence."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def user_cache() -> Path:
    """The folder in the reader's home that downloads and networks are kept in."""
    return Path.home() / ".cache" / "tightrope"


def modules(folder: str) -> list[str]:
    """The modules and packages that lie in a package's folder."""
    files = [p.stem for p in Path(folder).glob("*.py") if p.stem != "__init__"]
    return sorted([*files, *(p.parent.name for p in Path(folder).glob("*/__init__.py"))])
