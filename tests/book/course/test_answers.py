"""Every assignment of the book: right answers by several ways score full, wrong ones what they should, and by name.

`answers_NN.py` holds them; the instructor's own version and the untouched release are graded first by every grading.
"""

import importlib
import json

import pytest

import small_course
from tightrope.book.checkout import find_checkout
from tightrope.book.course import assignments, grading, releases
from tightrope.book.course.marking import FAILED, MISTAKEN, PASSED, UNSOLVED

BOOK = find_checkout()
STEMS = assignments.names(BOOK)


def answers(stem: str):
    return importlib.import_module(f"answers_{assignments.number(stem)}")


@pytest.mark.parametrize("stem", STEMS)
def test_there_are_two_right_ways_and_four_mistakes(stem):
    listed = answers(stem)
    assert len(listed.RIGHT) >= 2
    assert len(listed.WRONG) >= 4
    named = {name for _, expected in listed.WRONG.values() for name in expected.values()}
    assert len(named & assignments.load(BOOK, stem).misconceptions.keys()) >= 4


@pytest.mark.parametrize("share", ["quick", pytest.param("all", marks=pytest.mark.long)])
@pytest.mark.parametrize("stem", STEMS)
def test_answers_score_what_they_should(stem, share, tmp_path):
    listed = answers(stem)
    assignment = assignments.load(BOOK, stem)
    expected = {name: {} for name in listed.RIGHT} | {name: said for name, (_, said) in listed.WRONG.items()}
    cells = listed.RIGHT | {name: given for name, (given, _) in listed.WRONG.items()}
    wanted = listed.QUICK if share == "quick" else tuple(expected)
    notebook = releases.student_version(assignment)
    for name in wanted:
        filled = small_course.filled(notebook, **cells[name])
        small_course.hand_in(tmp_path / "in", name, filled)
    grading.grade(BOOK, tmp_path / "in", stem, tmp_path / "out")
    graded = [
        json.loads(p.read_bytes()) for p in (tmp_path / "out" / "results").glob("*.json") if p.stem != "first"
    ]
    assert sorted(result["student"] for result in graded) == sorted(wanted)
    for result in graded:
        assert called(result) == expected[result["student"]], result["student"]
        for mark in result["marks"]:
            assert mark["points"] == (mark["out_of"] if mark["why"] == PASSED else 0)


def called(result: dict) -> dict[str, str]:
    """What each test that gave no points calls the mistake."""
    short = {FAILED: "visible", UNSOLVED: "unsolved"}
    return {
        mark["cell"]: mark["name"] if mark["why"] == MISTAKEN else short.get(mark["why"], mark["says"])
        for mark in result["marks"]
        if mark["why"] != PASSED
    }
