"""What is seen while chapters run: for each, cell k of n, the time, and how far a long cell is."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from typing import TextIO

LOG_EVERY = 5.0  # seconds between two lines about one chapter in a log, where its cell is another one
LOG_STILL = 30.0  # and where it is still the same


@dataclass
class _Row:
    began: float = 0.0
    cell: int = 0
    cells: int = 0
    said: str = ""
    ok: bool | None = None
    took: float = 0.0
    logged: float = float("-inf")
    logged_cell: int = -1


class Board:
    """The state of all chapters: rows that change in place on a terminal, a line now and then in a log."""

    def __init__(self, chapters: list[str], out: TextIO | None = None, clock=time.monotonic) -> None:
        self.out, self.clock = out or sys.stdout, clock
        self.live = self.out.isatty()
        self.width = max((len(c) for c in chapters), default=0)
        self.rows: dict[str, _Row] = {}
        self.drawn: list[str] = []

    def started(self, chapter: str) -> None:
        self.rows[chapter] = _Row(began=self.clock())

    def state(self, chapter: str, cell: int, cells: int, said: str) -> None:
        row = self.rows[chapter]
        row.cell, row.cells, row.said = cell, cells, said

    def ended(self, chapter: str, ok: bool) -> None:
        row = self.rows[chapter]
        row.ok, row.said, row.took = ok, "", self.clock() - row.began
        if not self.live:
            self._print(self._line(chapter, row))

    def show(self) -> None:
        """Bring what is seen up to date."""
        if self.live:
            self._draw()
            return
        for chapter, row in self.rows.items():
            waited = self.clock() - row.logged
            due = waited >= (LOG_EVERY if row.cell != row.logged_cell else LOG_STILL)
            if row.ok is None and row.cell and due:
                row.logged, row.logged_cell = self.clock(), row.cell
                self._print(self._line(chapter, row))

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self.live:
            self._draw()

    def _draw(self) -> None:
        columns = shutil.get_terminal_size().columns
        lines = [self._line(chapter, row)[: columns - 1] for chapter, row in self.rows.items()]
        if lines == self.drawn:
            return
        up = f"\x1b[{len(self.drawn)}A" if self.drawn else ""
        self.out.write(up + "".join(f"\r\x1b[K{line}\n" for line in lines))
        self.out.flush()
        self.drawn = lines

    def _print(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()

    def _line(self, chapter: str, row: _Row) -> str:
        name = chapter.ljust(self.width)
        if row.ok is not None:
            return f"{name}  {'done' if row.ok else 'failed'} after {clock(row.took)}"
        if not row.cell:
            return f"{name}  starting"
        line = f"{name}  cell {row.cell}/{row.cells}  {clock(self.clock() - row.began)}"
        return f"{line}  {row.said}" if row.said else line


def clock(seconds: float) -> str:
    """
    >>> clock(7), clock(67), clock(4000)
    ('0:07', '1:07', '1:06:40')
    """
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
