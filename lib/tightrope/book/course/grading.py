"""Grades a folder of submissions: each in a process of its own, each result kept as soon as it is there.

The instructor's own version and the untouched release go first, through the same runner: unless they score all and
nothing, no submission is graded. A result is kept under a key of all that it depends on, so that a grading that was
killed goes on from where it was, and a second one grades what changed.
"""

from __future__ import annotations

import hashlib
import platform
import queue
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import msgspec
from filelock import FileLock, Timeout

from tightrope import progress
from tightrope.book.checkout import Checkout, Stop, write
from tightrope.book.course import assignments, exports, pages, releases, sandbox, submissions
from tightrope.book.course.assignments import Assignment
from tightrope.book.course.hands import Hands
from tightrope.book.course.marking import PASSED, Result, judge, steps
from tightrope.book.course.sessions import Limits, Sessions
from tightrope.book.course.submissions import Handed, Paper, Submission
from tightrope.book.processors import cores

SLOWER = 5  # times as long as the instructor's slowest cell a submission's may take, where that is more than the limit


def grade(
    checkout: Checkout,
    folder: Path,
    wanted: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    limits: Limits | None = None,
    ways: Sequence[str] = sandbox.WAYS,
) -> Path:
    """Grade what is in a folder or a zip; returns the report's path.

    wanted: the assignment, by number or name; out: where results go (default: `<folder>-graded` beside it); jobs:
    submissions at a time (default: one a core); ways: of isolation, the first that holds is taken. Stop: what has to be
    put right before anything is graded.
    """
    if jobs is not None and jobs < 1:
        raise Stop(f"--jobs takes a number from 1 on, not {jobs}.")
    assignment = assignments.find(checkout, wanted)
    handed, tables = submissions.collect(folder, assignment.stem)
    out = out or folder.resolve().with_name(f"{folder.resolve().stem}-graded")
    with _alone(out) as scratch:
        hidden = [checkout.book, checkout.root / "tests", folder, out]
        box = sandbox.best(checkout, hidden, scratch, ways)
        sessions = Sessions(box, limits or Limits())
        try:
            about = _about(checkout, assignment, box, sessions.limits)
            sessions.limits = _first(assignment, out, about, sessions)
            graded = _graded(checkout, assignment, handed, out, sessions, jobs or cores(), about)
        finally:
            sessions.close()
        hands = Hands(out / "by-hand.csv", assignment, graded)
        exports.write_all(out, assignment, graded, hands, tables)
        pages.write_all(out, assignment, graded, hands, f"{box.sentence()} {sessions.limits.sentence()}")
    return out / "report.html"


def _graded(
    checkout: Checkout,
    assignment: Assignment,
    handed: list[Submission],
    out: Path,
    sessions: Sessions,
    jobs: int,
    about: str,
) -> list[Result]:
    """A result a submission, kept ones among them."""
    others = {
        stem: {cell.id for cell in assignments.load(checkout, stem).cells}
        for stem in assignments.names(checkout)
        if stem != assignment.stem
    }
    papers = {one: submissions.read(one, assignment, others) for one in handed}
    keys = {one: _digest(about, papers[one].raw, papers[one].problem) for one in handed}
    kept = {one: _kept(_place(out, one), keys[one]) for one in handed}
    todo = [one for one in handed if kept[one] is None]
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(jobs):
        slots.put(slot)

    def one_graded(one: Submission) -> None:
        slot = slots.get()
        try:
            result = _one(assignment, one, papers[one], keys[one], sessions, slot)
            if not sessions.closed.is_set():
                write(_place(out, one), msgspec.json.encode(result))
                kept[one] = result
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one_graded, one) for one in todo]
        try:
            done = as_completed(waiting)
            for future in progress.track(done, "submission", len(handed), start=len(handed) - len(todo)):
                future.result()
        except BaseException:
            sessions.close()
            for future in waiting:
                future.cancel()
            raise
    return [kept[one] for one in handed]


def _one(
    assignment: Assignment, one: Submission, paper: Paper, key: str, sessions: Sessions, slot: int
) -> Result:
    """Grade a submission. One with a problem scores nothing, and its sentence says why."""
    marks, seconds = [], 0.0
    if not paper.problem:
        todo = steps(assignment, paper)
        answers = sessions.run(todo, slot)
        marks = judge(assignment, list(zip(todo, answers, strict=True)), sessions.limits)
        seconds = sum(answer.seconds for answer in answers)
    return Result(
        student=one.student,
        id=one.id,
        place=one.place,
        file=paper.file,
        key=key,
        marks=tuple(marks),
        written=paper.written,
        notes=tuple(paper.notes),
        problem=paper.problem,
        seconds=round(seconds, 2),
    )


def _first(assignment: Assignment, out: Path, about: str, sessions: Sessions) -> Limits:
    """Run the instructor's version and the untouched release. Stop: they do not score all and nothing.

    Returns the limits for submissions: on a slow machine a cell may take `SLOWER` times as long as the instructor's.
    """
    place = out / "results" / "first.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = msgspec.json.decode(place.read_bytes())
        if kept["about"] == about:
            return _widened(sessions.limits, kept["slowest"])
    wide = _widened(sessions.limits, sessions.limits.cell)
    slowest = 0.0
    for notebook, wanted in (
        (releases.whole(assignment), True),
        (releases.student_version(assignment), False),
    ):
        file = Handed(PurePosixPath("x.ipynb"), lambda n=notebook: releases.to_json(n).encode())
        paper = submissions.read(Submission("", "", "", (file,)), assignment, {})
        todo = steps(assignment, paper)
        answers = sessions.run(todo, 0, wide)
        for step, answer in zip(todo, answers, strict=True):
            if step.kind != "given":  # those begin with imports, which have time of their own
                slowest = max(slowest, answer.seconds)
            elif not answer.ok:
                said = f"{answer.error}: {answer.says}" if answer.error else "Python ended"
                raise Stop(
                    f"Nothing was graded: the cell {step.cell} of {assignment.stem} does not run ({said})."
                )
        for mark in judge(assignment, list(zip(todo, answers, strict=True)), wide):
            if (mark.why == PASSED) != wanted:
                whose = "the instructor's own version" if wanted else "the untouched release"
                said = f"fails {mark.cell}: {mark.says}" if wanted else f"passes {mark.cell}."
                raise Stop(f"Nothing was graded: {whose} of {assignment.stem} {said}")
    write(place, msgspec.json.encode({"about": about, "slowest": slowest}))
    return _widened(sessions.limits, slowest)


def _widened(limits: Limits, slowest: float) -> Limits:
    cell = max(limits.cell, SLOWER * slowest)
    return replace(limits, cell=cell, wall=limits.wall * cell / limits.cell)


def _about(checkout: Checkout, assignment: Assignment, box: sandbox.Sandbox, limits: Limits) -> str:
    """A digest of all that every result depends on."""
    code = [path.read_bytes() for path in sorted(checkout.package.rglob("*.py"))]
    versions = (platform.python_version(), *(version(name) for name in ("torch", "numpy", "ipython")))
    return _digest(*code, assignment.text, box.way, repr(limits), *versions)


def _digest(*parts: str | bytes) -> str:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        made.update(len(raw).to_bytes(8, "big") + raw)
    return made.hexdigest()


def _place(out: Path, one: Submission) -> Path:
    return out / "results" / f"{_digest(one.student, one.id)}.json"


def _kept(path: Path, key: str) -> Result | None:
    """The result of an earlier grading, if nothing that it depends on has changed."""
    with suppress(OSError, msgspec.DecodeError):
        result = msgspec.json.decode(path.read_bytes(), type=Result)
        return result if result.key == key else None
    return None


@contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """Let one grading at a time write to a folder, and give it an empty scratch folder there."""
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / ".scratch"
    try:
        with FileLock(out / ".lock", timeout=0):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except Timeout:
        raise Stop(f"Another grading writes to {out}; wait until it ends, then try again.") from None
