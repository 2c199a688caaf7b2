"""Where the sources slip: what is printed and cannot be meant, read from book/slips.yml.

    - id: slip.hmt.root
      source: ortizjimenez2020hold        # key in references.bib
      where: Section 3.1                  # in the source
      chapter: 01-synthetic-margins
      anchor: slip-hmt-root               # a target `(slip-hmt-root)=` before the text and the cell that show it
      printed: ...                        # what stands there, in our words
      mended: ...                         # what is true, one sentence
      counterexample: ...                 # a small case, one line, its numbers written out
      quantity: slips.hmt-root            # what the chapter records beside the cell; a list for several
      measures: ...                       # what that number is, a phrase set before it

Texts are MyST, maths in `$...$`. No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from tightrope.book import checkout as layout
from tightrope.book import entries
from tightrope.book.statements import Id, Text


class Slip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of slips.yml; see the module's text."""

    id: Id
    source: Text
    where: Text
    chapter: Annotated[str, Meta(pattern=r"^\d\d-[\w-]+$")]
    anchor: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    printed: Text
    mended: Text
    counterexample: Text
    quantity: Annotated[tuple[Id, ...], Meta(min_length=1)]
    measures: str = ""


def load(path: Path | None = None) -> list[Slip]:
    """All slips, in the file's order. Raises ValueError, naming the slip, for an entry that is not right."""
    slips = entries.load(path or layout.shelf() / "slips.yml", Slip, "slip", lists=("quantity",))
    anchors: dict[str, str] = {}
    for slip in slips:
        if slip.anchor in anchors:
            raise ValueError(
                f"Slip {slip.id!r}: its anchor is also that of {anchors[slip.anchor]!r}; give it another."
            )
        anchors[slip.anchor] = slip.id
    return slips
