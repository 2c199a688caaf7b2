"""Grades as tables: `grades.csv`, a Moodle worksheet, columns for Canvas.

A worksheet or gradebook that was exported by the platform and lies beside the submissions is filled in: its rows and
columns stay, and students are found by the platform's numbers, else by name. Otherwise tables of that form are made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from tightrope.book.checkout import write
from tightrope.book.course.assignments import Assignment
from tightrope.book.course.hands import Hands
from tightrope.book.course.marking import PASSED, Result
from tightrope.book.course.submissions import Handed

MOODLE = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum grade", "Feedback comments"]
CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]


def write_all(
    out: Path, assignment: Assignment, graded: list[Result], hands: Hands, tables: list[Handed]
) -> None:
    """Write grades.csv, moodle.csv and canvas.csv."""
    given = [_table(file) for file in tables]
    worksheet = next((t for t in given if t and {"Identifier", "Grade"} <= set(t[0])), None)
    gradebook = next((t for t in given if t and t[0][:2] == CANVAS[:2]), None)
    write(out / "grades.csv", _text(grades(assignment, graded, hands)))
    write(out / "moodle.csv", _text(moodle(assignment, graded, hands, worksheet)))
    write(out / "canvas.csv", _text(canvas(assignment, graded, hands, gradebook)))


def grades(assignment: Assignment, graded: list[Result], hands: Hands) -> list[list]:
    """A header, then a row a student: points by task, by hand and in all, and what there is to say."""
    tests, written = assignment.of("test"), assignment.of("written")
    ids = [cell.id for cell in (*tests, *written)]
    rows = [["student", "id", "file", *ids, "total", "of", "said"]]
    for result in graded:
        by_test = {mark.cell: mark.points for mark in result.marks}
        points = [by_test.get(cell.id, 0) for cell in tests]
        points += [hands.points(result.student, cell.id) for cell in written]
        said = " ".join([result.problem, *result.notes]).strip()
        whole = assignment.automatic + assignment.by_hand
        row = [
            result.student,
            result.id,
            result.file,
            *map(_plain, points),
            _total(result, hands),
            _plain(whole),
        ]
        rows.append([*row, said])
    return rows


def moodle(
    assignment: Assignment, graded: list[Result], hands: Hands, worksheet: list[list[str]] | None = None
) -> list[list]:
    """A Moodle grading worksheet; one that Moodle exported has its grades and comments filled in."""
    whole = _plain(assignment.automatic + assignment.by_hand)
    if worksheet is None:
        rows = [MOODLE]
        for r in graded:
            who = f"Participant {r.id}" if r.id else ""
            rows.append([who, r.student, "", "", _total(r, hands), whole, comment(r, hands)])
        return rows
    head, *rows = worksheet
    number, name = head.index("Identifier"), head.index("Full name") if "Full name" in head else None
    find = _finder(graded, lambda row: row[number].removeprefix("Participant "), lambda row: row[name or 0])
    filled = [head]
    for row in rows:
        row = [*row, *[""] * (len(head) - len(row))]
        if result := find(row):
            row[head.index("Grade")] = _total(result, hands)
            if "Feedback comments" in head:
                row[head.index("Feedback comments")] = comment(result, hands)
        filled.append(row)
    return filled


def canvas(
    assignment: Assignment, graded: list[Result], hands: Hands, gradebook: list[list[str]] | None = None
) -> list[list]:
    """Columns for Canvas; a gradebook that Canvas exported keeps its students and gets the assignment's column."""
    whole = _plain(assignment.automatic + assignment.by_hand)
    if gradebook is None:
        rows = [[*CANVAS, assignment.stem], ["Points Possible", "", "", "", "", whole]]
        return rows + [[r.student, r.id, "", "", "", _total(r, hands)] for r in graded]
    head, *rows = gradebook
    column = next((i for i, name in enumerate(head) if name.startswith(assignment.stem)), None)
    if column is None:
        column, head = len(head), [*head, assignment.stem]
    find = _finder(graded, lambda row: row[1], lambda row: row[0])
    filled = [head]
    for row in rows:
        row = [*row, *[""] * (len(head) - len(row))]
        if row[0].strip() == "Points Possible":
            row[column] = row[column] or whole
        elif result := find(row):
            row[column] = _total(result, hands)
        filled.append(row)
    return filled


def comment(result: Result, hands: Hands) -> str:
    """What a student is told, in one line."""
    said = [result.problem] if result.problem else []
    said += [f"{mark.title}: {mark.says}" for mark in result.marks if mark.why != PASSED]
    return " ".join([*said, hands.comment(result.student)]).strip()


def _finder(
    graded: list[Result], number: Callable[[list[str]], str], name: Callable[[list[str]], str]
) -> Callable[[list[str]], Result | None]:
    """Finds a row's student by the platform's number, else by name as it, or as Canvas in its files, writes it."""
    by_id = {r.id: r for r in graded if r.id}
    by_name = {_letters(r.student): r for r in graded}

    def find(row: list[str]) -> Result | None:
        last, comma, first = name(row).partition(",")
        spellings = [name(row), f"{first} {last}"] if comma else [name(row)]
        found = (by_name.get(_letters(spelling)) for spelling in spellings)
        return by_id.get(number(row).strip()) or next((r for r in found if r), None)

    return find


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _total(result: Result, hands: Hands) -> str:
    return _plain(result.points + hands.total(result.student))


def _plain(points: float | None) -> str:
    return "" if points is None else f"{points:g}"


def _table(file: Handed) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(file.read().decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _text(rows: list[list]) -> bytes:
    """As spreadsheets read it: with a byte-order mark, every field that is text quoted."""
    made = io.StringIO(newline="")
    csv.writer(made, quoting=csv.QUOTE_ALL).writerows(rows)
    return made.getvalue().encode("utf-8-sig")
