"""What the instructor's guide tells to type works as it is typed, and a release works in a folder of its own."""

import csv
import os
import re
import subprocess
import sys
import tomllib

import pytest

import small_course
from tightrope.book.checkout import find_checkout
from tightrope.book.course import assignments, releases

BOOK = find_checkout()
STEMS = assignments.names(BOOK)

pytestmark = pytest.mark.book


def typed(command: str) -> str:
    """A line of the guide, in the checkout: what it said."""
    done = subprocess.run(
        ["sh", "-ec", command], cwd=BOOK.root, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_guide_s_commands_release_and_grade_an_assignment(tmp_path):
    guide = (BOOK.book / "assignments" / "guide.md").read_text("utf-8")
    release, grade = re.findall(r"^```sh\n(.*?)^```", guide, re.S | re.M)
    assert "build/course/students" in typed(release)
    assignment = assignments.load(BOOK, STEMS[0])
    notebook = releases.student_version(assignment)
    released = BOOK.build / "course" / "students" / f"{assignment.stem}.ipynb"
    assert released.read_text("utf-8") == releases.to_json(notebook)
    solutions = {cell.id: assignments.solved(cell.source) for cell in assignment.of("solution")}
    small_course.hand_in(tmp_path / "submissions", "Ann Lee", small_course.filled(notebook, **solutions))
    assert grade.count("submissions") == 1
    typed(grade.replace("=submissions", f"='{tmp_path}/submissions'"))
    with (tmp_path / "submissions-graded" / "grades.csv").open(encoding="utf-8-sig", newline="") as table:
        (row,) = csv.DictReader(table)
    assert row["student"] == "Ann Lee"
    assert f"{assignment.automatic:g}" in row.values()
    assert "Ann Lee" in (tmp_path / "submissions-graded" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("stem", STEMS)
def test_a_release_alone_runs_up_to_its_first_unsolved_task(stem, tmp_path):
    assignment = assignments.load(BOOK, stem)
    cells = [cell for cell in releases.student_version(assignment).cells if cell.cell_type == "code"]
    tested = next(i for i, c in enumerate(cells) if c.metadata.get("nbgrader", {}).get("grade"))
    code = "\n".join([*(c.source for c in cells[:tested]), "print('up to here')", cells[tested].source])
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TIGHTROPE_DATA")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "up to here" in done.stdout, done.stderr
    assert "NotImplementedError" in done.stderr


@pytest.mark.parametrize("stem", STEMS)
def test_a_release_names_where_the_library_is(stem):
    source = tomllib.loads((BOOK.root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
    first = next(
        c for c in releases.student_version(assignments.load(BOOK, stem)).cells if c.cell_type == "code"
    )
    assert f"tightrope @ git+{source}" in first.source
