"""The assignments as the page for teachers offers them: a table, and what students get, zipped.

A reader who only builds the book lacks what releases are made with; the page then says how they are made.
"""

from __future__ import annotations

from importlib.util import find_spec

from tightrope.book.checkout import Checkout
from tightrope.book.course import assignments, releases

FOLDER = "_static/assignments"
ABSENT = "`make course` makes the assignments' notebooks; this site was built without them."


def page(checkout: Checkout) -> tuple[str, dict[str, bytes]]:
    """The list as MyST text, and the files that it links, by their place beside the page. Failed: a release leaks."""
    if find_spec("nbgrader") is None or not assignments.names(checkout):
        return ABSENT, {}
    known = [assignments.load(checkout, stem) for stem in assignments.names(checkout)]
    made = releases.handouts(known).items()  # of notebooks themselves Sphinx would make pages
    files = {f"{FOLDER}/{name}": content for name, content in made if name.endswith(".zip")}
    rows = [
        f"| {int(assignments.number(one.stem))} | [{one.title}]({FOLDER}/{one.stem}.zip) | "
        f"{len({cell.title for cell in one.of('test')})} | {one.automatic:g} + {one.by_hand:g} |"
        for one in known
    ]
    head = ["| chapter | notebook | tasks | points |", "|---|---|---|---|"]
    whole = f"[All of them in one zip]({FOLDER}/all.zip). Points: by tests + by hand."
    return "\n".join([*head, *rows, "", whole]), files
