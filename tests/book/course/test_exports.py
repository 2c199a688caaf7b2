"""Grades as tables that spreadsheets, Moodle and Canvas read back."""

import csv
import io
from pathlib import PurePosixPath

import pytest

import small_course
from small_course import STEM
from tightrope.book.checkout import Stop
from tightrope.book.course import assignments, exports
from tightrope.book.course.hands import Hands
from tightrope.book.course.marking import MISTAKEN, PASSED, Mark, Result
from tightrope.book.course.submissions import Handed

ODD = 'Möller, "Jo"'


def result(student: str, number: str, points: float) -> Result:
    why = PASSED if points else MISTAKEN
    marks = (
        Mark("double-test", "Doubling", 2, 2, PASSED),
        Mark(
            "total-test",
            "Adding",
            points,
            3,
            why,
            "" if points else "empty-sum",
            "" if points else "Zero, it is.",
        ),
    )
    return Result(student, number, student, f"{STEM}.ipynb", "key", marks, {"why": "Because."})


@pytest.fixture
def toy(tmp_path):
    assignment = assignments.load(small_course.make(tmp_path / "checkout"), STEM)
    graded = [result("Ann Lee", "4711", 3), result(ODD, "12", 0)]
    return assignment, graded, tmp_path / "out"


def rows(path) -> list[list[str]]:
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


def table(name: str, text: str) -> Handed:
    return Handed(PurePosixPath(name), lambda: text.encode("utf-8-sig"))


def test_tables_are_made_where_none_was_exported(toy):
    assignment, graded, out = toy
    hands = Hands(out / "by-hand.csv", assignment, graded)
    exports.write_all(out, assignment, graded, hands, [])
    head, ann, jo = rows(out / "grades.csv")
    assert head == ["student", "id", "file", "double-test", "total-test", "why", "total", "of", "said"]
    assert ann[:8] == ["Ann Lee", "4711", "01-toy.ipynb", "2", "3", "", "5", "6"]
    assert jo[0] == ODD
    assert jo[6] == "2"
    moodle = rows(out / "moodle.csv")
    assert moodle[0] == exports.MOODLE
    assert moodle[1][:2] == ["Participant 4711", "Ann Lee"]
    assert moodle[2][4:] == ["2", "6", "Adding: Zero, it is."]
    canvas = rows(out / "canvas.csv")
    assert canvas[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", STEM]
    assert canvas[1] == ["Points Possible", "", "", "", "", "6"]
    assert canvas[3] == [ODD, "12", "", "", "", "2"]


def test_exported_tables_are_filled_in(toy):
    assignment, graded, out = toy
    hands = Hands(out / "by-hand.csv", assignment, graded)
    moodle = (
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Last modified (submission),Feedback comments\r\n"
        "Participant 12,Jo Möller,jo@x.org,Submitted,,100.00,Monday,\r\n"
        "Participant 99,Nobody Here,no@x.org,No submission,-,100.00,,\r\n"
    )
    canvas = (
        "Student,ID,SIS User ID,SIS Login ID,Section,01-toy (55),Other (56)\r\n"
        "    Points Possible,,,,,6,10\r\n"
        '"Lee, Ann",900,s1,ann,A,,7\r\n'
        '"Else, Somebody",901,s2,else,A,,\r\n'
    )
    tables = [table("worksheet.csv", moodle), table("gradebook.csv", canvas), table("x.csv", "a;b")]
    exports.write_all(out, assignment, graded, hands, tables)
    head, jo, nobody = rows(out / "moodle.csv")
    assert head[5] == "Maximum Grade"
    assert jo == [
        "Participant 12",
        "Jo Möller",
        "jo@x.org",
        "Submitted",
        "2",
        "100.00",
        "Monday",
        "Adding: Zero, it is.",
    ]
    assert nobody[4] == "-"
    head, possible, ann, other = rows(out / "canvas.csv")
    assert head[5:] == ["01-toy (55)", "Other (56)"]
    assert possible[5] == "6"
    assert ann == ["Lee, Ann", "900", "s1", "ann", "A", "5", "7"]
    assert other[5] == ""


def test_points_by_hand_are_added_and_never_overwritten(toy):
    assignment, graded, out = toy
    path = out / "by-hand.csv"
    Hands(path, assignment, graded[:1])
    assert path.read_text() == "student,why,comment\nAnn Lee,,\n"
    path.write_text('student,why,comment\nAnn Lee,"0,5",Nearly.\n')
    hands = Hands(path, assignment, graded)
    assert hands.total("Ann Lee") == 0.5
    assert hands.comment("Ann Lee") == "Nearly."
    assert hands.points(ODD, "why") is None
    kept = list(csv.reader(io.StringIO(path.read_text())))
    assert kept == [["student", "why", "comment"], ["Ann Lee", "0,5", "Nearly."], [ODD, "", ""]]
    exports.write_all(out, assignment, graded, hands, [])
    assert rows(out / "grades.csv")[1][5:7] == ["0.5", "5.5"]
    for said in ("2", "-1", "good"):
        path.write_text(f"student,why,comment\nAnn Lee,{said},\n")
        with pytest.raises(Stop, match="the points of Ann Lee must be a number from 0 to 1, not"):
            Hands(path, assignment, graded)
