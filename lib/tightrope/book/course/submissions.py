"""What was handed in: who it is from, and what of it counts.

A folder or a zip of folders named by student, of flat files as learning platforms export them, of zips; nothing is
unpacked to disk. A student's cells are found by nbgrader's grade_id. What they defined in cells of their own is taken,
too; tests and locked cells are the source's, whatever became of them in the notebook.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tightrope._files import reason
from tightrope.book.checkout import Stop
from tightrope.book.course.assignments import Assignment

LARGEST = 20 * 2**20  # bytes of a notebook
DEEPEST = 2  # zips inside of zips
# Moodle: Name_123_assignsubmission_file_…, Canvas: namename_[LATE_]123_456_….
_MOODLE = re.compile(r"(?P<who>.+)_(?P<id>\d+)_assignsubmission_\w+?_(?P<rest>.*)")
_CANVAS = re.compile(r"(?P<who>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<rest>.+)")


@dataclass(frozen=True)
class Handed:
    """A file that was handed in: its path inside of the folder, and how it is read."""

    path: PurePosixPath
    read: Callable[[], bytes]
    time: float = 0.0


@dataclass(frozen=True)
class Submission:
    """All that a student handed in. place: the folder or file as the platform named it; id: the platform's number."""

    student: str
    id: str
    place: str
    files: tuple[Handed, ...]


@dataclass
class Paper:
    """What of a submission is graded: solutions and written answers by grade_id, definitions in cells of their own.

    problem: the sentence for a submission in which there is nothing to grade; notes: what else was noticed.
    """

    file: str = ""
    raw: bytes = b""
    solutions: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""


def collect(folder: Path, stem: str) -> tuple[list[Submission], list[Handed]]:
    """The submissions in a folder or a zip, by student, and the tables (.csv) that lie beside them.

    stem: the assignment's, which flat files may have in their names.
    """
    if not folder.exists():
        raise Stop(f"There is no {folder}; name the folder or the zip of submissions.")
    try:
        found = list(_files(folder))
    except OSError as error:
        raise Stop(f"{folder} can't be read: {reason(error)}.") from None
    if _wrapped([file.path for file in found]):
        found = [Handed(PurePosixPath(*file.path.parts[1:]), file.read, file.time) for file in found]
    by_student = defaultdict(list)
    tables = [file for file in found if len(file.path.parts) == 1 and file.path.suffix.lower() == ".csv"]
    for file in found:
        if file not in tables:
            by_student[_who(file.path, stem)].append(file)
    if not by_student:
        raise Stop(
            f"There is no submission in {folder}: it takes a folder, a notebook or a zip for each student."
        )
    submissions = [
        Submission(student, number, files[0].path.parts[0], tuple(files))
        for (student, number), files in sorted(by_student.items())
    ]
    return submissions, tables


def read(submission: Submission, assignment: Assignment, others: dict[str, set[str]]) -> Paper:
    """What of a submission is graded. others: the grade_ids of the other assignments, by stem."""
    papers = [_paper(file, assignment) for file in submission.files if file.path.suffix.lower() == ".ipynb"]
    if not papers:
        listed = ", ".join(file.path.name for file in submission.files[:3])
        broken = [p for file in submission.files if (p := _broken(file))]
        return Paper(
            file=listed, problem=broken[0] if broken else f"There is no notebook here, only {listed}."
        )
    known = {cell.id for cell in assignment.cells}
    times = [file.time for file in submission.files if file.path.suffix.lower() == ".ipynb"]
    _, _, k = max((len(known & _ids(p)), t, i) for i, (p, t) in enumerate(zip(papers, times, strict=True)))
    paper = papers[k]
    if len(papers) > 1:
        paper.notes.append(f"{len(papers)} notebooks were handed in; {paper.file} was graded.")
    if not paper.problem and not known & _ids(paper):
        for stem, ids in others.items():
            if ids & _foreign(paper.raw):
                paper.problem = f"This is assignment {stem}, not {assignment.stem}."
                return paper
        paper.notes.append(
            "No cell of this assignment is in the notebook; definitions in other cells were taken."
        )
        if not paper.own:
            paper.problem = "The notebook has neither a cell of this assignment nor any definition in it."
    return paper


def _wrapped(paths: list[PurePosixPath]) -> bool:
    """Whether all lies in one folder that is not a student's: several others lie in it."""
    top = {path.parts[0] for path in paths}
    below = {path.parts[1] for path in paths if len(path.parts) > 1}
    return len(top) == 1 and len(below) > 1 and any(len(path.parts) > 2 for path in paths)


def _files(folder: Path) -> Iterator[Handed]:
    if folder.is_file():
        yield from _within_zips(Handed(PurePosixPath(folder.name), folder.read_bytes), PurePosixPath(), 0)
        return
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not path.is_symlink() and not _unseen(inside):
            file = Handed(inside, path.read_bytes, path.stat().st_mtime)
            yield from _within_zips(file, inside.with_suffix(""), 0)


def _within_zips(file: Handed, below: PurePosixPath, depth: int) -> Iterator[Handed]:
    """A file as it is; of a zip what lies in it, as if it lay in the folder `below`."""
    if file.path.suffix.lower() != ".zip" or depth == DEEPEST:
        yield file
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.read()))
        entries = [e for e in archive.infolist() if not e.is_dir() and not _unseen(PurePosixPath(e.filename))]
    except (zipfile.BadZipFile, OSError, RuntimeError):
        yield file
        return
    if not entries:
        yield file
    for entry in entries:
        inside = below / PurePosixPath(
            *(p for p in PurePosixPath(entry.filename).parts if p not in ("/", ".."))
        )
        read = lambda entry=entry: _unpacked(archive, entry)
        stamp = float("".join(f"{n:02}" for n in entry.date_time))
        yield from _within_zips(Handed(inside, read, stamp), inside.with_suffix(""), depth + 1)


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as stream:
        return stream.read(LARGEST + 1)


def _unseen(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _who(path: PurePosixPath, stem: str) -> tuple[str, str]:
    """The student that a path belongs to, and the platform's number of theirs.

    >>> _who(PurePosixPath("Ann Ä, x_42_assignsubmission_file_/a.ipynb"), "01-a")
    ('Ann Ä, x', '42')
    >>> _who(PurePosixPath("leeann_LATE_77_1234_01-a-1.ipynb"), "01-a")
    ('leeann', '77')
    >>> _who(PurePosixPath("lee-01-a (1).ipynb"), "01-a")
    ('lee', '')
    """
    name = path.parts[0] if len(path.parts) > 1 else re.sub(r" ?\(\d+\)$", "", path.stem)
    if found := _MOODLE.fullmatch(name) or _CANVAS.fullmatch(name if len(path.parts) > 1 else path.name):
        return found["who"], found["id"]
    if len(path.parts) == 1:
        name = name.replace(stem, "").strip(" _-") or name
    return name, ""


def _broken(file: Handed) -> str:
    """Why a file that is no notebook holds none."""
    if file.path.suffix.lower() == ".zip":
        return f"{file.path.name} can't be opened as a zip file, or is empty."
    return ""


def _paper(file: Handed, assignment: Assignment) -> Paper:
    name = file.path.name
    try:
        raw = file.read()
    except (OSError, RuntimeError, zipfile.BadZipFile):
        return Paper(file=name, problem=f"{name} can't be read.")
    paper = Paper(file=name, raw=raw)
    if not raw.strip():
        paper.problem = f"{name} is empty."
    elif len(raw) > LARGEST:
        paper.problem = f"{name} is larger than {LARGEST >> 20} MB; clear its outputs."
    elif (cells := _cells(raw)) is None:
        paper.problem = f"{name} is not a notebook."
    else:
        _sort(paper, cells, assignment)
    return paper


def _sort(paper: Paper, cells: list[dict], assignment: Assignment) -> None:
    kinds = {cell.id: cell.kind for cell in assignment.cells}
    seen: set[str] = set()
    for cell in cells:
        name = _grade_id(cell)
        kind = kinds.get(name)
        if name in seen and kind in ("solution", "written"):
            paper.notes.append(f"The cell {name} is there more than once; the first one counts.")
        elif kind == "solution":
            paper.solutions[name] = _source(cell)
        elif kind == "written":
            paper.written[name] = _source(cell)
        elif kind is None and cell.get("cell_type") == "code":
            paper.own += _definitions(_source(cell))
        seen.add(name)
    for cell in assignment.cells:
        if cell.id not in seen and cell.kind != "given":
            what = "its tests were run all the same" if cell.kind == "test" else "it is not in the notebook"
            paper.notes.append(f"The cell {cell.id} was deleted or renamed: {what}.")


def _definitions(source: str) -> list[str]:
    """The functions, classes and imports at the top of a cell, one by one: what a later cell may lean on."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return [ast.unparse(node) for node in tree.body if isinstance(node, kinds)]


def _cells(raw: bytes) -> list[dict] | None:
    try:
        notebook = json.loads(raw.decode("utf-8-sig"))
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else None


def _grade_id(cell: dict) -> str:
    about = cell.get("metadata")
    about = about.get("nbgrader") if isinstance(about, dict) else None
    name = about.get("grade_id") if isinstance(about, dict) else None
    return name if isinstance(name, str) else ""


def _source(cell: dict) -> str:
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def _ids(paper: Paper) -> set[str]:
    return {*paper.solutions, *paper.written}


def _foreign(raw: bytes) -> set[str]:
    return {_grade_id(cell) for cell in _cells(raw) or []} - {""}
