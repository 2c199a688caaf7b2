"""What students and instructors are given, in `build/course`.

students/           the notebooks without solutions, hidden tests and rubrics; each zipped, and all in `all.zip`
for-instructors/    the guide, and the notebooks with everything in them: never published

nbgrader's own steps clear a notebook; what comes out is searched for every line that had to go before it is written.
"""

from __future__ import annotations

import copy
import io
import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tightrope.book.checkout import Checkout, Failed, Stop, read, write
from tightrope.book.course import assignments
from tightrope.book.course.assignments import Assignment

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def make(checkout: Checkout) -> Path:
    """Write everything of all assignments; returns the folder. Failed: a release holds what no student may see."""
    known = [assignments.load(checkout, stem) for stem in assignments.names(checkout)]
    if not known:
        raise Stop("There is no assignment in book/assignments.")
    folder = checkout.build / "course"
    for name, content in handouts(known).items():
        write(folder / "students" / name, content)
    instructors = folder / "for-instructors"
    for one in known:
        write(instructors / f"{one.stem}.ipynb", to_json(whole(one)))
    write(instructors / "guide.md", guide(checkout, known))
    return folder


def handouts(known: list[Assignment]) -> dict[str, bytes]:
    """What students get, by file name. Failed: a release holds what no student may see."""
    released = {f"{one.stem}.ipynb": to_json(student_version(one)) for one in known}
    for one in known:
        check(one, released[f"{one.stem}.ipynb"])
    zips = {f"{Path(name).stem}.zip": _zipped({name: text}) for name, text in released.items()}
    return {name: text.encode() for name, text in released.items()} | zips | {"all.zip": _zipped(released)}


def student_version(assignment: Assignment) -> NotebookNode:
    """The notebook that a student gets. Stop: nbgrader's objection to the source."""
    from nbgrader import preprocessors as steps
    from nbgrader.nbgraderformat import ValidationError

    notebook = whole(assignment)
    notebook.cells = [cell for cell in notebook.cells if "instructor" not in cell.metadata.get("tags", [])]
    order = ("LockCells", "ClearSolutions", "ClearOutput", "CheckCellMetadata")
    order += ("ClearHiddenTests", "ClearMarkScheme", "ComputeChecksums", "CheckCellMetadata")
    try:
        for name in order:
            step = getattr(steps, name)()
            step.log.setLevel(logging.CRITICAL)  # what it logs it raises, too
            notebook, _ = step.preprocess(notebook, {})
    except (RuntimeError, ValidationError) as error:
        raise Stop(f"{assignment.stem}.md: {' '.join(str(error).split())}") from None
    return notebook


def whole(assignment: Assignment) -> NotebookNode:
    """The notebook with solutions and hidden tests: the instructor's own version."""
    notebook = copy.deepcopy(assignment.notebook)
    notebook.metadata = {
        "kernelspec": dict(KERNEL),
        "language_info": {"name": "python"},
        "tightrope": {"assignment": assignment.stem},
    }
    return notebook


def check(assignment: Assignment, released: str) -> None:
    """Failed: a line of a release that no student may see."""
    if leaked := assignment.leaks(released):
        raise Failed(
            f"{assignment.stem} is not released: it still holds {len(leaked)} line{'s' * (len(leaked) > 1)} of its "
            f"solutions, hidden tests or rubrics, such as {leaked[0][:60]!r}."
        )


def guide(checkout: Checkout, known: list[Assignment]) -> str:
    """The instructor's guide: `book/assignments/guide.md`, then each assignment's tasks, mistakes and rubrics."""
    return (
        "\n\n".join([read(checkout.book / "assignments" / "guide.md").strip(), *map(_chapter, known)]) + "\n"
    )


def to_json(notebook: NotebookNode) -> str:
    import nbformat

    return nbformat.writes(notebook, version=4) + "\n"


def _chapter(assignment: Assignment) -> str:
    graded = [cell for cell in assignment.cells if cell.points]
    lines = [f"## {assignments.number(assignment.stem)} {assignment.title}", ""]
    lines += [f"{assignment.automatic:g} points by tests, {assignment.by_hand:g} by hand.", ""]
    lines += ["| cell | task | points |", "|---|---|---|"]
    lines += [f"| `{c.id}` | {c.title} | {c.points:g}{' by hand' * (c.kind == 'written')} |" for c in graded]
    lines += ["", "### Common mistakes, and what each one's test says", ""]
    lines += [f"- `{name}`: {says}" for name, says in assignment.misconceptions.items()]
    for cell in assignment.of("written"):
        lines += ["", f"### To grade by hand: {cell.title}", "", cell.source.strip()]
    closed = [c.source for c in assignment.notebook.cells if "instructor" in c.metadata.get("tags", [])]
    return "\n".join([*lines, *(f"\n{source.strip()}" for source in closed)])


def _zipped(files: dict[str, str]) -> bytes:
    """A zip of text files, the same bytes every time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return made.getvalue()
