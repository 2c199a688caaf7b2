"""A checkout with a tiny assignment, for the tests of the course kit: no torch, half a second a submission."""

import copy
import json
from pathlib import Path

from tightrope.book.checkout import Checkout
from tightrope.book.course import assignments, releases

STEM = "01-toy"
HEADER = """\
---
jupytext:
  formats: ipynb,md:myst
  text_representation: {extension: .md, format_name: myst}
kernelspec: {name: python3, display_name: Python 3, language: python}
---

"""


def code(source: str, name: str, solution: bool = False, points: float | None = None) -> str:
    grade = points is not None
    about = {
        "grade": grade,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
    }
    about |= {"task": False} | ({"points": points} if grade else {})
    return f"```{{code-cell}} ipython3\n---\nnbgrader: {json.dumps(about)}\n---\n{source}\n```\n"


def written(source: str, name: str, points: float) -> str:
    about = {"grade": True, "grade_id": name, "locked": False, "points": points, "schema_version": 3}
    return f"+++ {json.dumps({'nbgrader': about | {'solution': True, 'task': False}})}\n\n{source}\n"


GIVEN = "import numpy as np"
DOUBLE = """\
def double(x):
    ### BEGIN SOLUTION
    twice_of_it = x + 1 * x
    return twice_of_it
    ### END SOLUTION"""
DOUBLE_TEST = """\
assert float(double(2)) == 4, "twice two is four"
### BEGIN HIDDEN TESTS
assert float(double(-3)) != 6, "[lost-sign] the sign of a negative number was lost"
assert float(double(0.5)) == 1, "[whole-numbers] only whole numbers were doubled"
### END HIDDEN TESTS"""
TOTAL = """\
def total(xs):
    ### BEGIN SOLUTION
    return sum(xs, start=0)
    ### END SOLUTION"""
TOTAL_TEST = """\
assert float(total([1, 2])) == 3, "one and two are three"
### BEGIN HIDDEN TESTS
assert float(total([])) == 0, "[empty-sum] the sum of nothing is zero"
assert abs(float(total(list(range(10)))) - 45) < 1e-9, "[missed-one] one of the numbers was left out"
### END HIDDEN TESTS"""
RUBRIC = "One point for saying that addition has a neutral element."
TEXT = HEADER + "\n".join(
    [
        "# A toy\n\nSome prose.\n",
        code(GIVEN, "setup"),
        "## Doubling\n",
        code(DOUBLE, "double", solution=True),
        code(DOUBLE_TEST, "double-test", points=2),
        "## Adding\n",
        code(TOTAL, "total", solution=True),
        code(TOTAL_TEST, "total-test", points=3),
        "## Why?\n",
        written(RUBRIC, "why", 1),
        '+++ {"tags": ["instructor"]}\n\nWhat only instructors read about doubling.\n',
    ]
)
OTHER = TEXT.replace("# A toy", "# Another").replace("double", "triple").replace("total", "sums")
RIGHT = {"double": "def double(x):\n    return 2 * x", "total": "def total(xs):\n    return sum(xs)"}


def make(root: Path, text: str = TEXT, **others: str) -> Checkout:
    """A checkout in `root` whose only assignment, or whose first, is the toy."""
    folder = root / "book" / "assignments"
    folder.mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (root / "book" / "index.md").write_text("# A book\n")
    (folder / "guide.md").write_text("# For instructors\n")
    (folder / f"{STEM}.md").write_text(text)
    for stem, other in others.items():
        (folder / f"{stem}.md").write_text(other)
    return Checkout(root)


def released(checkout: Checkout, stem: str = STEM) -> dict:
    """A student's notebook, as JSON, each cell's source one string."""
    return releases.student_version(assignments.load(checkout, stem))


def filled(notebook: dict, **solutions: str) -> dict:
    """The notebook with these solutions in the cells of their grade_ids."""
    made = copy.deepcopy(notebook)
    for cell in made["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in solutions:
            cell["source"] = solutions[name]
    return made


def hand_in(folder: Path, student: str, notebook: dict | bytes) -> Path:
    path = folder / student / f"{STEM}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())
    return path
