"""Who a file is from and what of it counts, as platforms and people hand notebooks in."""

import io
import json
import zipfile
from pathlib import PurePosixPath

import pytest

import small_course
from small_course import RIGHT, STEM
from tightrope.book.checkout import Stop
from tightrope.book.course import assignments, submissions
from tightrope.book.course.submissions import Handed


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    checkout = small_course.make(tmp_path_factory.mktemp("toy"))
    return assignments.load(checkout, STEM), small_course.released(checkout)


def zipped(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def lay(folder, files: dict[str, bytes]):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def whose(folder) -> dict[str, str]:
    found, _ = submissions.collect(folder, STEM)
    return {one.student: one.id for one in found}


def paper(toy, cells=None, raw: bytes | None = None, others=None, name: str = "a.ipynb"):
    assignment, notebook = toy
    raw = json.dumps(notebook | {"cells": cells}).encode() if raw is None else raw
    one = submissions.Submission("a", "", "a", (Handed(PurePosixPath(name), lambda: raw),))
    return submissions.read(one, assignment, others or {})


def test_names_come_from_folders_files_and_platforms(tmp_path):
    note = b"{}"
    lay(
        tmp_path,
        {
            "Ann Lee/01-toy.ipynb": note,
            'Möller, "Jo"/anything (1).ipynb': note,
            "Ben Ode_4711_assignsubmission_file_/01-toy.ipynb": note,
            "odecid_LATE_77_1234_01-toy-2.ipynb": note,
            "dora-01-toy (3).ipynb": note,
            "01-toy.ipynb": note,
            "eve.zip": zipped(**{"deep/er/01-toy.ipynb": note, "__MACOSX/x.ipynb": note}),
            "gus/archive.zip": zipped(**{"01-toy.ipynb": note}),
            "fay/.ipynb_checkpoints/01-toy-checkpoint.ipynb": note,
            "fay/report.pdf": b"%PDF",
            "gradebook.csv": b"Student,ID",
            ".DS_Store": b"",
        },
    )
    everyone = {
        "Ann Lee": "",
        'Möller, "Jo"': "",
        "Ben Ode": "4711",
        "odecid": "77",
        "dora": "",
        "01-toy": "",
        "eve": "",
        "gus": "",
        "fay": "",
    }
    assert whose(tmp_path) == everyone
    _, tables = submissions.collect(tmp_path, STEM)
    assert [table.path.name for table in tables] == ["gradebook.csv"]
    whole = tmp_path.with_name("whole.zip")
    with zipfile.ZipFile(whole, "w") as archive:
        for path in sorted(tmp_path.rglob("*")):
            if path.is_file():
                archive.write(path, "submissions" / path.relative_to(tmp_path))
    found = whose(whole)
    assert {"Ann Lee", "Ben Ode", 'Möller, "Jo"'} <= found.keys()


def test_a_zip_never_reaches_outside_of_itself(tmp_path):
    lay(tmp_path, {"ann.zip": zipped(**{"../../etc/x.ipynb": b"{}", "/etc/y.ipynb": b"{}"})})
    (one,), _ = submissions.collect(tmp_path, STEM)
    assert one.student == "ann"
    assert all(".." not in file.path.parts for file in one.files)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "There is no submission in"),
        ({"grades.csv": b"a,b"}, "There is no submission in"),
    ],
)
def test_a_folder_without_submissions_is_refused(files, sentence, tmp_path):
    with pytest.raises(Stop, match=sentence):
        submissions.collect(lay(tmp_path, files), STEM)
    with pytest.raises(Stop, match=r"There is no .*nowhere"):
        submissions.collect(tmp_path / "nowhere", STEM)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "a.ipynb is empty."),
        (b" \n", "a.ipynb is empty."),
        (b"def double(x): pass", "a.ipynb is not a notebook."),
        (b"\x89PNG\r\n\x00\xff", "a.ipynb is not a notebook."),
        (b"[" * 100_000, "a.ipynb is not a notebook."),
        (b'{"cells": 3}', "a.ipynb is not a notebook."),
        (b"{}" + b" " * (submissions.LARGEST + 1), "a.ipynb is larger than 20 MB; clear its outputs."),
        (
            b'{"cells": [7, {"source": 3, "metadata": []}]}',
            "The notebook has neither a cell of this assignment nor any definition in it.",
        ),
    ],
)
def test_what_is_no_notebook_costs_one_sentence(raw, sentence, toy):
    assert paper(toy, raw=raw).problem == sentence


def test_files_that_are_no_notebook_are_named(toy):
    assert paper(toy, raw=b"%PDF", name="a.pdf").problem == "There is no notebook here, only a.pdf."
    broken = paper(toy, raw=b"PK not a zip", name="a.zip").problem
    assert broken == "a.zip can't be opened as a zip file, or is empty."


def test_another_assignment_is_named(toy, tmp_path):
    checkout = small_course.make(tmp_path, **{"02-other": small_course.OTHER})
    other = assignments.load(checkout, "02-other")
    raw = json.dumps(small_course.released(checkout, "02-other")).encode()
    said = paper(toy, raw=raw, others={"02-other": {cell.id for cell in other.cells} - {"setup", "why"}})
    assert said.problem == ""  # its written answer has the same name here
    lone = {c.id for c in other.cells}
    cells = [
        c for c in json.loads(raw)["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") != "why"
    ]
    said = paper(toy, raw=json.dumps({"cells": cells}).encode(), others={"02-other": lone})
    assert said.problem == "This is assignment 02-other, not 01-toy."


def test_cells_are_found_by_name_and_the_first_of_two_counts(toy):
    _, notebook = toy
    cells = small_course.filled(notebook, **RIGHT)["cells"]
    plain = paper(toy, cells)
    assert plain.solutions == RIGHT
    assert not plain.notes
    at = next(i for i, c in enumerate(cells) if c["source"] == RIGHT["double"])
    twice = paper(toy, [*cells[: at + 1], cells[at] | {"source": "def double(x): pass"}, *cells[at + 1 :]])
    assert twice.solutions == RIGHT
    assert twice.notes == ["The cell double is there more than once; the first one counts."]
    lines = paper(toy, [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in cells])
    assert lines.solutions == RIGHT


def test_deleted_and_renamed_cells_are_said(toy):
    _, notebook = toy
    cells = small_course.filled(notebook, **RIGHT)["cells"]
    named = {c["metadata"].get("nbgrader", {}).get("grade_id"): c for c in cells}
    without = paper(toy, [c for c in cells if c not in (named["double"], named["total-test"])])
    assert without.solutions == {"total": RIGHT["total"]}
    assert without.notes == [
        "The cell double was deleted or renamed: it is not in the notebook.",
        "The cell total-test was deleted or renamed: its tests were run all the same.",
    ]
    renamed = json.loads(json.dumps(cells).replace('"grade_id": "double"', '"grade_id": "mine"'))
    assert paper(toy, renamed).own == ["def double(x):\n    return 2 * x"]


def test_definitions_in_cells_of_ones_own_are_taken_and_nothing_else(toy):
    _, notebook = toy
    own = {
        "cell_type": "code",
        "metadata": {},
        "source": "import math\nprint(1)\nhalf = 1/2\ndef helper(x):\n    return x",
    }
    broken = own | {"source": "def helper(x"}
    found = paper(toy, [own, broken, *notebook["cells"]])
    assert found.own == ["import math", "def helper(x):\n    return x"]
    stripped = [c | {"metadata": {}} for c in small_course.filled(notebook, **RIGHT)["cells"]]
    lost = paper(toy, stripped)
    assert not lost.problem
    assert [RIGHT["double"] in lost.own, RIGHT["total"] in lost.own] == [True, True]
    assert "No cell of this assignment is in the notebook" in lost.notes[-1]


def test_of_several_notebooks_the_assignment_s_is_taken(toy):
    assignment, notebook = toy
    right = json.dumps(small_course.filled(notebook, **RIGHT)).encode()
    files = [Handed(PurePosixPath("a/notes.ipynb"), lambda: b'{"cells": []}', 9.0)]
    files += [Handed(PurePosixPath("a/old.ipynb"), lambda: json.dumps(notebook).encode(), 1.0)]
    files += [Handed(PurePosixPath("a/new.ipynb"), lambda: right, 2.0)]
    read = submissions.read(submissions.Submission("a", "", "a", tuple(files)), assignment, {})
    assert read.solutions == RIGHT
    assert read.notes == ["3 notebooks were handed in; new.ipynb was graded."]
