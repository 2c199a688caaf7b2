"""From answers to marks: which cells are run, and what a student is told about each test.

A student reads points, the name of a misconception and its sentence. Nothing of a hidden test reaches them: its own
messages are passed on where they are plain strings of the source, of every other error only its type.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import msgspec

from tightrope.book.course.assignments import MISCONCEPTION, Assignment, Cell, messages
from tightrope.book.course.sessions import Answer, Limits, Step
from tightrope.book.course.submissions import Paper
from tightrope.book.course.without import SENTENCE

# Why a test gave no points, from the best to the worst.
PASSED, MISTAKEN, FAILED, UNSOLVED, BROKEN = (
    "passed",
    "misconception",
    "visible test",
    "unsolved",
    "did not run",
)


class Mark(msgspec.Struct, frozen=True):
    """A test's points. why: one of the above; name, says: a misconception's name, and the sentence for the student."""

    cell: str
    title: str
    points: float
    out_of: float
    why: str
    name: str = ""
    says: str = ""


class Result(msgspec.Struct, frozen=True):
    """What is kept of a graded submission. key: of all that it depends on; written: the answers to grade by hand, by
    grade_id; seconds: what its cells took; the rest as in `Submission` and `Paper`."""

    student: str
    id: str
    place: str
    file: str
    key: str
    marks: tuple[Mark, ...]
    written: dict[str, str]
    notes: tuple[str, ...] = ()
    problem: str = ""
    seconds: float = 0.0

    @property
    def points(self) -> float:
        return sum(mark.points for mark in self.marks)


def steps(assignment: Assignment, paper: Paper) -> list[Step]:
    """The cells to run: the source's, a student's solutions in place of its own."""
    own = [Step("student", "", source) for source in paper.own]
    todo = []
    for cell in assignment.cells:
        if cell.kind == "given":
            todo.append(Step("given", cell.id, cell.source))
        elif cell.kind == "solution":
            todo, own = [*todo, *own], []
            if cell.id in paper.solutions:
                todo.append(Step("student", cell.id, paper.solutions[cell.id]))
        elif cell.kind == "test":
            todo.append(Step("visible", cell.id, cell.source))
            todo += [Step("hidden", cell.id, cell.hidden)] if cell.hidden else []
    return todo


def judge(assignment: Assignment, done: Sequence[tuple[Step, Answer]], limits: Limits) -> list[Mark]:
    """A mark a test, from the steps and their answers."""
    marks, near = [], []
    previous = ""
    for cell in assignment.cells:
        if cell.kind == "solution":
            near = [*near, cell] if previous == "solution" else [cell]
        if cell.kind == "test":
            why, name, says = _verdict(cell, near, done, limits)
            points = cell.points if why == PASSED else 0
            marks.append(Mark(cell.id, cell.title, points, cell.points, why, name, says))
        if cell.kind in ("solution", "test"):
            previous = cell.kind
    return marks


def _verdict(
    cell: Cell, near: list[Cell], done: Sequence[tuple[Step, Answer]], limits: Limits
) -> tuple[str, str, str]:
    answers = {(step.kind, step.cell): answer for step, answer in done if step.cell}
    visible, hidden = answers[("visible", cell.id)], answers.get(("hidden", cell.id), Answer(ok=True))
    if visible.ok and hidden.ok:
        return PASSED, "", ""
    failed = hidden if visible.ok else visible
    if failed.changed:
        listed = ", ".join(failed.changed)
        return (
            BROKEN,
            "changed-tools",
            f"{listed} had been changed when this test began or ended.",
        )
    if failed.end:
        return BROKEN, "", _ending(failed, limits, "This test")
    asserted = failed.error == "AssertionError"
    if not asserted or not visible.ok:  # a cell that is not there, or stopped, is the reason
        for solution in near:
            if ("student", solution.id) not in answers:
                if failed.error == "NameError":
                    return UNSOLVED, "", f"The cell {solution.id} is not in the notebook."
            elif (why := _stopped(answers[("student", solution.id)], solution.id, limits))[0]:
                return why[0], "", why[1]
    if failed.error == "NotImplementedError":
        return UNSOLVED, "", "Not solved yet."
    if not visible.ok:
        if asserted and failed.says in [" ".join(m.split()) for m in messages(cell.source)]:
            return FAILED, "", f"The visible test: {failed.says}."
        said = f"{failed.error}: {failed.says}" if failed.says else failed.error
        return FAILED if asserted else BROKEN, "", f"The visible test stopped with {said}."
    if asserted and (
        SENTENCE.fullmatch(failed.says) or failed.says in [" ".join(m.split()) for m in messages(cell.hidden)]
    ):
        named = MISCONCEPTION.fullmatch(failed.says)
        return MISTAKEN, named["name"] if named else "", (named["says"] if named else failed.says) + "."
    known = isinstance(getattr(builtins, failed.error, None), type)
    what = failed.error if known else "an error"
    return BROKEN, "", f"Your code stopped with {what} on an input that the visible test does not have."


def _stopped(answer: Answer, name: str, limits: Limits) -> tuple[str, str]:
    """Why a solution cell did not run to its end, and the sentence; "" where it did."""
    if answer.ok:
        return "", ""
    if answer.end:
        return BROKEN, _ending(answer, limits, f"The cell {name}")
    if answer.error == "NotImplementedError":
        return UNSOLVED, "Not solved yet."
    said = f"{answer.error}: {answer.says}" if answer.says else answer.error
    return BROKEN, f"The cell {name} stopped with {said}{f' (line {answer.line})' if answer.line else ''}."


def _ending(answer: Answer, limits: Limits, what: str) -> str:
    if answer.end == "time":
        return f"{what} ran for longer than {limits.cell:.0f} s and was stopped."
    if answer.end == "wall":
        return f"{what} was not run: the whole notebook took longer than {limits.wall:.0f} s."
    return f"{what} ended Python itself: it was killed or told to leave, or took more memory than there is."
