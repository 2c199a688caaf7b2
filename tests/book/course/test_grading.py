"""A grading from the outside: what is refused, what is kept, what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import small_course
from small_course import RIGHT, STEM, TEXT
from tightrope import __main__ as entry
from tightrope.book.checkout import Stop
from tightrope.book.course import grading
from tightrope.book.course.sessions import Limits

ODD = 'Möller, "Jo" & <b>Söhne'
FORGOT = "def double(x):\n    return 2 * abs(x)"


@pytest.fixture
def toy(tmp_path):
    checkout = small_course.make(tmp_path / "checkout")
    return checkout, small_course.released(checkout), tmp_path / "in"


def kept(folder) -> dict[str, dict]:
    found = [json.loads(p.read_bytes()) for p in (folder / "results").glob("*.json") if p.stem != "first"]
    return {result["student"]: result for result in found}


def points(result: dict) -> list[float]:
    return [mark["points"] for mark in result["marks"]]


def test_a_class_is_graded_and_only_what_changed_again(toy, tmp_path, capsys):
    checkout, notebook, folder = toy
    small_course.hand_in(folder, ODD, small_course.filled(notebook, **RIGHT))
    small_course.hand_in(folder, "forgetful", small_course.filled(notebook, **RIGHT | {"double": FORGOT}))
    small_course.hand_in(folder, "untouched", notebook)
    small_course.hand_in(folder, "broken", b"\x00\xff not a notebook")
    tampered = small_course.filled(notebook, double=FORGOT, total=RIGHT["total"])
    for cell in tampered["cells"]:
        about = cell["metadata"].get("nbgrader", {})
        if about.get("grade_id", "").endswith("-test"):
            cell["source"], about["points"] = "assert True", 999
    tampered["metadata"]["kernelspec"]["name"] = "no-such-kernel"
    small_course.hand_in(folder, "tampered", tampered)
    own = {"cell_type": "code", "metadata": {}, "source": "def half(x):\n    return x / 2"}
    lean = small_course.filled(notebook, double="double = lambda x: 4 * half(x)", total=RIGHT["total"])
    small_course.hand_in(folder, "leans on a helper", lean | {"cells": [*lean["cells"], own]})
    bare = small_course.filled(notebook, **RIGHT)
    small_course.hand_in(folder, "stripped", bare | {"cells": [c | {"metadata": {}} for c in bare["cells"]]})
    words = ["--root", str(checkout.root), "grade", str(folder), "--jobs", "2"]
    assert entry.main(words) == 0
    assert capsys.readouterr().out.startswith("Everything is graded. Open file://")
    out = tmp_path / "in-graded"
    graded = kept(out)
    assert points(graded[ODD]) == [2, 3]
    assert points(graded["forgetful"]) == [0, 3]
    assert graded["forgetful"]["marks"][0]["name"] == "lost-sign"
    assert points(graded["untouched"]) == [0, 0]
    assert {mark["says"] for mark in graded["untouched"]["marks"]} == {"Not solved yet."}
    assert graded["broken"]["problem"] == "01-toy.ipynb is not a notebook."
    assert points(graded["tampered"]) == [0, 3]
    assert points(graded["leans on a helper"]) == [2, 3]
    assert points(graded["stripped"]) == [2, 3]

    feedback = (out / "feedback" / "forgetful.html").read_text()
    assert "lost-sign" in feedback
    assert "the sign of a negative number was lost" in feedback
    assert "double(-3)" not in feedback
    report = (out / "report.html").read_text()
    assert "Isolated by" in report or "NOT ISOLATED" in report
    assert report.index("olated") < report.index("A toy (01-toy)</h1>")
    assert "<b>S" not in report
    assert (out / "feedback" / f"{ODD}.html").is_file()

    stamps = {p: p.stat().st_mtime_ns for p in (out / "results").glob("*.json")}
    small_course.hand_in(folder, "forgetful", small_course.filled(notebook, **RIGHT))
    (folder / "broken" / f"{STEM}.ipynb").unlink()
    began = time.monotonic()
    assert entry.main(words) == 0
    assert time.monotonic() - began < 60
    changed = [json.loads(p.read_bytes())["student"] for p, t in stamps.items() if p.stat().st_mtime_ns != t]
    assert changed == ["forgetful"]
    assert not (out / "feedback" / "broken.html").exists()
    text = (out / "grades.csv").read_text("utf-8-sig")
    assert '"forgetful","","01-toy.ipynb","2","3","","5","6",""' in text
    assert "broken" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "There is no nowhere; name the folder or the zip of submissions."),
        (["in", "--assignment", "9"], "There is no assignment '9'; the assignments are 01-toy."),
        (["in", "--jobs", "0"], "--jobs takes a number from 1 on, not 0."),
        (["in"], "There is no submission in in: it takes a folder, a notebook or a zip for each student."),
    ],
)
def test_what_is_wrong_in_a_call_costs_one_sentence(words, sentence, toy, tmp_path, monkeypatch, capsys):
    checkout, *_ = toy
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert entry.main(["--root", str(checkout.root), "grade", *words]) == 2
    assert capsys.readouterr().err == sentence + "\n"
    assert not (tmp_path / "in-graded").exists()


def test_of_several_assignments_one_is_named(tmp_path):
    checkout = small_course.make(tmp_path / "checkout", **{"02-other": small_course.OTHER})
    with pytest.raises(Stop, match="Say which assignment this is, with --assignment: 01-toy, 02-other"):
        grading.grade(checkout, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "import numpy as np",
            "import no_such_package",
            r"the cell setup of 01-toy does not run \(ModuleNotFoundError: No module named 'no_such_package'\)",
        ),
        (
            "    return sum(xs, start=0)",
            "    return 0",
            "the instructor's own version of 01-toy fails total-test: The visible test: one and two are three",
        ),
        (
            small_course.DOUBLE_TEST,
            "pass",
            "the untouched release of 01-toy passes double-test",
        ),
    ],
)
def test_an_environment_in_which_nothing_can_be_right_grades_nobody(old, new, sentence, tmp_path):
    checkout = small_course.make(tmp_path / "checkout", TEXT.replace(old, new))
    notebook = small_course.released(checkout)
    small_course.hand_in(tmp_path / "in", "ann", notebook)
    with pytest.raises(Stop, match=f"Nothing was graded: {sentence}"):
        grading.grade(checkout, tmp_path / "in")
    assert not (tmp_path / "in-graded" / "grades.csv").exists()


def test_a_second_grading_of_the_same_folder_waits_for_no_one(toy, tmp_path):
    checkout, notebook, folder = toy
    small_course.hand_in(folder, "ann", notebook)
    with (
        grading._alone(tmp_path / "in-graded"),
        pytest.raises(Stop, match=r"Another grading writes to .*in-graded; wait until it ends"),
    ):
        grading.grade(checkout, folder)


@pytest.mark.long
def test_a_submission_that_takes_too_long_keeps_what_it_had(toy, tmp_path):
    checkout, notebook, folder = toy
    slow = {"double": RIGHT["double"], "total": "import time\ntime.sleep(300)\n" + RIGHT["total"]}
    small_course.hand_in(folder, "slow", small_course.filled(notebook, **slow))
    grading.grade(checkout, folder, limits=Limits(cell=60, wall=4))
    (slow,) = kept(tmp_path / "in-graded").values()
    assert points(slow) == [2, 0]
    assert "longer than" in slow["marks"][1]["says"]


@pytest.mark.long
def test_a_kill_loses_nothing_that_was_graded_and_leaves_no_process(toy, tmp_path):
    checkout, notebook, folder = toy
    for k in range(6):
        sleepy = {
            "double": RIGHT["double"],
            "total": f"import time\ntime.sleep({0 if k < 2 else 5})\n" + RIGHT["total"],
        }
        small_course.hand_in(folder, f"student {k}", small_course.filled(notebook, **sleepy))
    words = [
        sys.executable,
        "-m",
        "tightrope",
        "--root",
        str(checkout.root),
        "grade",
        str(folder),
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    out = tmp_path / "in-graded"
    try:
        end = time.monotonic() + 120
        while len(done := kept(out)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert 2 <= len(done) < 6
    assert not (out / "grades.csv").exists()
    stamps = {p: p.stat().st_mtime_ns for p in (out / "results").glob("*.json")}
    grading.grade(checkout, folder, jobs=2)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert [points(result) for result in kept(out).values()] == [[2, 3]] * 6
    assert not (out / ".scratch").exists()
