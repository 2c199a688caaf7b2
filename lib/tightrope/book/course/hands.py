"""Points given by hand: `by-hand.csv`, a row a student, which an instructor fills in and a grading never overwrites."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tightrope.book.checkout import Stop, read, write
from tightrope.book.course.assignments import Assignment
from tightrope.book.course.marking import Result

COMMENT = "comment"


class Hands:
    """The points and comments of a file; students who are not in it yet are added to it.

    Stop: points that are no number, or outside of what the task gives.
    """

    def __init__(self, path: Path, assignment: Assignment, graded: list[Result]) -> None:
        self.cells = assignment.of("written")
        self.rows: dict[str, dict[str, str]] = {}
        if not self.cells:
            return
        columns = ["student", *(cell.id for cell in self.cells), COMMENT]
        text = read(path) if path.is_file() else ""
        for row in csv.DictReader(io.StringIO(text, newline="")):
            self.rows[row.get("student") or ""] = {name: row.get(name) or "" for name in columns}
        for name, row in self.rows.items():
            for cell in self.cells:
                _number(path, name, row[cell.id], cell.points)
        new = [r.student for r in graded if r.student not in self.rows]
        if new:
            self.rows |= {name: {**dict.fromkeys(columns, ""), "student": name} for name in new}
            made = io.StringIO(newline="")
            writer = csv.DictWriter(made, columns)
            writer.writeheader()
            writer.writerows(self.rows.values())
            write(path, made.getvalue())

    def points(self, student: str, cell: str) -> float | None:
        """What was given, None where nothing was yet."""
        said = self.rows.get(student, {}).get(cell, "").strip()
        return float(said.replace(",", ".")) if said else None

    def total(self, student: str) -> float:
        return sum(self.points(student, cell.id) or 0 for cell in self.cells)

    def comment(self, student: str) -> str:
        return self.rows.get(student, {}).get(COMMENT, "")


def _number(path: Path, student: str, said: str, most: float) -> None:
    try:
        if said.strip() and not 0 <= float(said.replace(",", ".")) <= most:
            raise ValueError
    except ValueError:
        raise Stop(
            f"{path}: the points of {student} must be a number from 0 to {most:g}, not {said!r}."
        ) from None
