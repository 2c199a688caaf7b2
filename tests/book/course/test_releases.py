"""What students are given holds no solution, no hidden test and no rubric; what leaks is not released."""

import ast
import json
import re
import zipfile

import pytest

import small_course
from small_course import STEM, TEXT
from tightrope import __main__ as entry
from tightrope.book.checkout import Checkout, Failed, Stop, find_checkout
from tightrope.book.course import assignments, releases
from tightrope.book.course.assignments import MISCONCEPTION

BOOK = find_checkout()
STEMS = assignments.names(BOOK)


@pytest.fixture(scope="module", params=STEMS)
def assignment(request):
    return assignments.load(BOOK, request.param)


def test_there_are_assignments():
    assert STEMS


def test_the_toy_is_released_without_what_is_closed(tmp_path):
    checkout = small_course.make(tmp_path)
    folder = releases.make(checkout)
    names = ["01-toy.ipynb", "01-toy.zip", "all.zip"]
    assert sorted(p.name for p in (folder / "students").iterdir()) == names
    notebook = json.loads((folder / "students" / "01-toy.ipynb").read_text())
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    for secret in (
        "twice_of_it",
        "lost-sign",
        "empty-sum",
        "neutral element",
        "only instructors",
        "### BEGIN",
    ):
        assert secret not in text
    for open_to_all in (
        "raise NotImplementedError()",
        "YOUR ANSWER HERE",
        "twice two is four",
        "Some prose.",
    ):
        assert open_to_all in text
    ids = [c["metadata"]["nbgrader"]["grade_id"] for c in notebook["cells"] if "nbgrader" in c["metadata"]]
    assert ids == ["setup", "double", "double-test", "total", "total-test", "why"]
    with zipfile.ZipFile(folder / "students" / "all.zip") as archive:
        assert archive.read("01-toy.ipynb") == (folder / "students" / "01-toy.ipynb").read_bytes()
    guide = (folder / "for-instructors" / "guide.md").read_text()
    for said in (
        "neutral element",
        "What only instructors read",
        "`lost-sign`: the sign of a negative number was lost",
    ):
        assert said in guide
    before = (folder / "students" / "all.zip").read_bytes()
    assert releases.make(checkout) == folder
    assert (folder / "students" / "all.zip").read_bytes() == before


LEAKS = {
    "a solution in the prose": ("Some prose.", "Some prose: `twice_of_it = x + 1 * x`"),
    "a hidden test in a visible one": (
        'assert float(double(2)) == 4, "twice two is four"',
        'assert float(double(0.5)) == 1, "[whole-numbers]   only whole numbers were doubled"',
    ),
    "the rubric in the prose": ("Some prose.", small_course.RUBRIC + " Indeed."),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_release_that_leaks_is_refused_and_not_written(name, tmp_path):
    old, new = LEAKS[name]
    checkout = small_course.make(tmp_path)
    assignment = assignments.load(checkout, STEM)
    released = releases.to_json(releases.student_version(assignment))
    assert not assignment.leaks(released)
    leaking = releases.student_version(assignment)
    for cell in leaking.cells:
        cell.source = cell.source.replace(old, new)
    with pytest.raises(Failed, match="is not released: it still holds 1 line of its solutions"):
        releases.check(assignment, releases.to_json(leaking))
    html = f"<p>{new.replace('=', '<span>=</span>')}</p>"
    assert assignment.leaks(html)


def test_a_marker_that_is_left_is_a_leak(tmp_path):
    assignment = assignments.load(small_course.make(tmp_path), STEM)
    assert assignment.leaks("x = 1\n### BEGIN HIDDEN TESTS\n") == ["BEGINHIDDENTESTS"]


WRONG = {
    "two cells of one name": (
        '"grade_id": "total"',
        '"grade_id": "double"',
        "01-toy.md: Duplicate grade id: double.",
    ),
    "no end": ("    ### END SOLUTION", "", "01-toy.md: no end solution statement found"),
    "no points": (
        TEXT,
        small_course.HEADER + "# Nothing\n",
        "01-toy.md has no test cell that brings points.",
    ),
    "broken code": (
        "assert float(double(2)) == 4",
        "assert float(",
        "01-toy.md, cell double-test: ",
    ),
    "a solution in a test": (
        'assert float(double(2)) == 4, "twice two is four"',
        "### BEGIN SOLUTION\npass\n### END SOLUTION",
        "01-toy.md: Solution region detected in a non-solution cell",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_source_that_is_wrong_costs_one_sentence(name, tmp_path, capsys):
    old, new, sentence = WRONG[name]
    checkout = small_course.make(tmp_path, TEXT.replace(old, new))
    assert entry.main(["--root", str(checkout.root), "course"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1
    assert not (checkout.build / "course").exists()


def test_a_release_of_the_book_leaks_nothing(assignment):
    releases.check(assignment, releases.to_json(releases.student_version(assignment)))
    assert len(assignment.secrets) > 40


def test_no_chapter_holds_a_solution(assignment):
    for chapter in BOOK.chapters():
        text = BOOK.text(chapter).read_text("utf-8")
        squeezed = re.sub(r"\s+", "", text)
        assert not [line for line in assignment.secrets if len(line) >= 30 and line in squeezed]


def test_built_pages_and_the_wheel_s_folders_hold_none(assignment):
    built = BOOK.build / "_build" / "html"
    for page in [*built.rglob("*.html"), *built.rglob("*.ipynb"), *BOOK.package.rglob("*.py")]:
        leaked = [line for line in assignment.leaks(page.read_text("utf-8")) if len(line) >= 30]
        assert not leaked, page


def test_every_hidden_assertion_names_a_misconception(assignment):
    assert len(assignment.misconceptions) >= 4
    for cell in assignment.of("test"):
        asserts = [node for node in ast.walk(ast.parse(cell.hidden)) if isinstance(node, ast.Assert)]
        told = assignments.messages(cell.hidden)
        assert len(told) == len(asserts), cell.id
        assert all(MISCONCEPTION.fullmatch(message) for message in told), cell.id
        visible = {ast.dump(n.test) for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Assert)}
        assert not visible & {ast.dump(node.test) for node in asserts}, cell.id


def test_points_and_tasks_are_as_a_course_needs_them(assignment):
    tasks = {cell.title for cell in assignment.of("test")}
    assert 4 <= len(tasks) <= 7
    assert len(assignment.of("written")) == 1
    assert all(cell.source.strip() for cell in assignment.of("test"))  # a visible test for each


def test_the_checkout_of_the_tests_is_the_book():
    assert isinstance(BOOK, Checkout)
    with pytest.raises(Stop, match="There is no assignment 'x'"):
        assignments.find(BOOK, "x")
