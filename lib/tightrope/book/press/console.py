"""What is seen while chapters run: cell k of n, the time, and how far a long cell is."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

LOG_EVERY = 5.0  # seconds between two lines about one chapter in a log, where its cell is another one
LOG_STILL = 30.0  # and where it is still the same


class Board:
    """A line now and then in a log; on a terminal one line that says where all chapters are."""

    def __init__(self, chapters: list[str], out: TextIO | None = None, clock=time.monotonic) -> None:
        self.out, self.clock = out or sys.stdout, clock
        self.live = self.out.isatty()
        self.width = max((len(c) for c in chapters), default=0)
        self.began: dict[str, float] = {}
        self.logged: dict[str, tuple[float, int]] = {}  # when, and at which cell
        self.now: dict[str, str] = {}

    def state(self, chapter: str, cell: int, cells: int, said: str) -> None:
        """A chapter is at cell `cell` of `cells`; 0 where it has not begun."""
        if not cell:
            return
        now = self.clock()
        began = self.began.setdefault(chapter, now)
        line = f"cell {cell}/{cells}  {clock(now - began)}" + (f"  {said}" if said else "")
        self.now[chapter] = line
        if self.live:
            parts = [f"{name.split('-')[0]}: {text}" for name, text in self.now.items()]
            self.out.write("\r\x1b[K" + " · ".join(parts)[: shutil.get_terminal_size().columns - 1])
            self.out.flush()
            return
        when, at = self.logged.get(chapter, (float("-inf"), 0))
        if now - when >= (LOG_EVERY if cell != at else LOG_STILL):
            self.logged[chapter] = now, cell
            self._print(chapter, line)

    def ended(self, chapter: str, ok: bool) -> None:
        """A chapter is done, or failed."""
        took = self.clock() - self.began.pop(chapter, self.clock())
        self.now.pop(chapter, None)
        self._print(chapter, f"{'done' if ok else 'failed'} after {clock(took)}")

    def _print(self, chapter: str, text: str) -> None:
        self.out.write(("\r\x1b[K" if self.live else "") + f"{chapter.ljust(self.width)}  {text}\n")
        self.out.flush()


def clock(seconds: float) -> str:
    """
    >>> clock(7), clock(67), clock(4000)
    ('0:07', '1:07', '1:06:40')
    """
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
