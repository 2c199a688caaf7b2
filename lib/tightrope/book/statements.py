"""What the sources claim, in our words, with what they printed: read from book/claims.yml.

    - id: hmt.table1.u1.median
      source: ortizjimenez2020hold        # key in references.bib
      where: Table 1                      # the table, figure or section there
      statement: Half of the samples ...  # in our words
      published: 2.50                     # number, list of numbers, or text
      unit: ℓ2
      quantity: table1.u1.median          # what the chapter records; a list for several
      chapter: 01-synthetic-margins
      test: {within: 0.05}                # what counts as reproduced
      kind: words                         # whose rule that is: words, bound, identity
      because: ...                        # kind bound: why this bound, in one line
      explanation: ...                    # shown where it was not reproduced

Tests: `within` (relative), `factor` (at most that many times off), `at_least`, `at_most`, `between: [a, b]`,
`increasing: true` (the quantities, in their order), `holds: true` (a quantity that is true or false).
Kinds: the source's `words`, judged as said; a `bound` of ours on what it says without a number; an `identity`, true by
construction: a test, not a reproduction. A finding of our own has `own: true`, needs no source, and is counted apart.

How a claim is judged: `verdicts`. How it is shown: `claims`. No torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tightrope.book import checkout as layout
from tightrope.book import entries, records

Number = int | float
Id = Annotated[str, Meta(pattern=f"^{records.ID.pattern}$")]
Text = Annotated[str, Meta(pattern=r"\S")]

# What each test takes, as a sentence and as a condition.
_TESTS = {
    "within": ("a number above 0", lambda bound: _is_number(bound) and bound > 0),
    "factor": ("a number above 1", lambda bound: _is_number(bound) and bound > 1),
    "at_least": ("a number", lambda bound: _is_number(bound)),
    "at_most": ("a number", lambda bound: _is_number(bound)),
    "between": ("two numbers [low, high]", lambda bound: _is_interval(bound)),
    "increasing": ("true", lambda bound: bound is True),
    "holds": ("true", lambda bound: bound is True),
}


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of claims.yml; see the module's text."""

    id: Id
    statement: Text
    quantity: Annotated[tuple[Id, ...], Meta(min_length=1)]
    chapter: Annotated[str, Meta(pattern=r"^\d\d-[\w-]+$")]
    test: dict[str, object]
    source: str = ""
    where: str = ""
    published: Number | tuple[Number, ...] | str = ""
    unit: str = ""
    explanation: str = ""
    own: bool = False
    kind: Literal["words", "bound", "identity"] = "words"
    because: str = ""

    @property
    def rule(self) -> tuple[str, object]:
        """The test's name and its bound."""
        return next(iter(self.test.items()))

    @property
    def printed(self) -> tuple[Number | str, ...]:
        """What was published of each quantity: one number each, or the same of all."""
        each = isinstance(self.published, tuple) and len(self.published) == len(self.quantity)
        return self.published if each else (self.published,) * len(self.quantity)

    def __post_init__(self) -> None:
        name, bound = self.rule if len(self.test) == 1 else ("", None)
        if name not in _TESTS or not _TESTS[name][1](bound):
            listed = ", ".join(f"{test}: {takes}" for test, (takes, _) in _TESTS.items())
            raise ValueError(f"test must be one of {{{listed}}}, not {self.test}")
        for key in () if self.own else ("source", "where", "published"):
            if getattr(self, key) in ("", ()):
                raise ValueError(f"{key} is missing: say who printed what, and where")
        if self.kind == "bound" and not self.because.strip():
            raise ValueError("because is missing: a bound of ours is argued for in one line")
        numbers = self.published if isinstance(self.published, tuple) else (self.published,)
        if not isinstance(self.published, str) and not all(map(_is_number, numbers)):
            raise ValueError("published must be a finite number, a list of them, or a text")
        if name in ("within", "factor"):
            if isinstance(self.published, str) or 0 in numbers:
                raise ValueError(f"the test {name} compares with a published number other than 0")
            if isinstance(self.published, tuple) and len(numbers) != len(self.quantity):
                raise ValueError(f"{len(numbers)} published numbers for {len(self.quantity)} quantities")
        if name == "increasing" and len(self.quantity) < 2:
            raise ValueError("the test increasing needs two quantities or more")


def load(path: Path | None = None) -> list[Claim]:
    """All claims, in the file's order. Raises ValueError, naming the claim, for an entry that is not right."""
    return entries.load(path or layout.shelf() / "claims.yml", Claim, "claim", lists=("quantity",))


def published(name: str, chapter: str | None = None) -> Number | tuple[Number, ...]:
    """What a source printed, by a claim's id or by the id of a quantity that a claim is about.

    chapter: whose quantity, where two chapters record one of that name. Raises ValueError where no number was
    printed for it, or more than one.
    """
    found = set()
    for claim in load():
        if isinstance(claim.published, str) or chapter not in (None, claim.chapter):
            continue
        if claim.id == name:
            return claim.published
        if name in claim.quantity:
            found.add(claim.printed[claim.quantity.index(name)])
    if not found:
        raise ValueError(f"book/claims.yml has no published number for {name!r}.")
    if len(found) > 1:
        raise ValueError(
            f"book/claims.yml has {len(found)} published numbers for {name!r}: name a claim by its id."
        )
    return found.pop()


def _is_number(thing: object) -> bool:
    return isinstance(thing, Number) and not isinstance(thing, bool) and math.isfinite(thing)


def _is_interval(thing: object) -> bool:
    return (
        isinstance(thing, list) and len(thing) == 2 and all(map(_is_number, thing)) and thing[0] <= thing[1]
    )
