"""One line that says how far a long cell is, and leaves no trace on the page.

The line goes to the file named by `TIGHTROPE_PROGRESS` (which the process that executes the chapters
reads) when that is set, under the cell in a live notebook, to stderr when that is a terminal, and to the log
`tightrope` every ten seconds otherwise: `logging.getLogger("tightrope").setLevel("WARNING")` silences it.
Ground floor: no torch.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tightrope._files import replacing

T = TypeVar("T")

EVERY = 0.2  # seconds between two updates: nobody reads faster
LOG_EVERY = 10.0  # seconds between two lines in a log, where each one stays
_stack: list[str] = []  # one text for every `track` that is under way, the outermost first
_last = float("-inf")
_logged = time.monotonic()
_display: tuple[int, Any] = (-1, None)  # the cell that shows a line, and its handle


def report(text: str, *, now: bool = False) -> None:
    """Show `text` as the progress line, after those of the loops around it.

    At most five updates a second: the ones between are dropped, unless `now` is given.
    """
    _show([*_stack, text], now)


def track(iterable: Iterable[T], what: str, total: int | None = None, start: int = 0) -> Iterator[T]:
    """Yield the items of `iterable` and show `what 3/10, about 0:20 left` on the progress line.

    `total` is needed only where `len(iterable)` does not work; without either the line counts. `start` items
    were done before (a resumed loop): they count, but not in the estimate. Loops nest.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = start + len(iterable)
    depth, began = len(_stack), time.monotonic()
    try:
        for done, item in enumerate(iterable):
            _stack[depth:] = [_line(what, start + done, total, done, time.monotonic() - began)]
            _show(_stack)
            yield item
    finally:
        del _stack[depth:]
        _show(_stack, now=depth == 0)  # the last loop clears the line


def _line(what: str, before: int, total: int | None, done: int, seconds: float) -> str:
    count = f"{what} {before + 1}" + (f"/{total}" if total is not None else "")
    if not done or not total or total <= before:
        return count
    left = round(seconds / done * (total - before))
    hours, minutes = divmod(left // 60, 60)
    clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
    return f"{count}, about {clock} left"


def _show(parts: list[str], now: bool = False) -> None:
    global _last
    if not now and time.monotonic() - _last < EVERY:
        return
    _last = time.monotonic()
    text = " · ".join(part for part in parts if part).replace("\n", " ")
    path = os.environ.get("TIGHTROPE_PROGRESS")
    # A full disk or a closed terminal must not stop the work that the line is about.
    with contextlib.suppress(OSError, ValueError):
        if path:
            with replacing(path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        elif (shell := _notebook()) is not None:
            _under_cell(shell, text)
        elif sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif text:
            _log(text)


def _log(text: str) -> None:
    global _logged
    if _last - _logged >= LOG_EVERY:
        _logged = _last
        _logger().info(text)


@functools.cache
def _logger() -> logging.Logger:
    """Ours, with a handler and a level of its own unless the program has set up logging."""
    logger = logging.getLogger("tightrope")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False  # whoever sets up logging later has this line once
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    return logger


def _notebook() -> Any | None:
    """IPython's shell when a notebook's kernel runs this, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and hasattr(shell, "kernel") else None


def _under_cell(shell: Any, text: str) -> None:
    """One display a cell, rewritten; empty when the work is done."""
    global _display
    from IPython.display import Pretty, display

    count, handle = _display
    if count != shell.execution_count:
        if text:
            _display = shell.execution_count, display(Pretty(text), display_id=True)
    else:
        handle.update(Pretty(text))
