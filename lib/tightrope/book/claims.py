"""What the sources claim, beside what was measured: read from book/claims.yml, judged by the numbers alone.

    - id: hmt.table1.u1.median
      source: ortizjimenez2020hold        # key in references.bib
      where: Table 1                      # the table, figure or section there
      statement: Half of the samples ...  # in our words
      published: 2.50                     # number, list of numbers, or text
      unit: ℓ2
      quantity: table1.u1.median          # what the chapter records; a list for several
      chapter: 01-synthetic-margins
      test: {within: 0.05}                # what counts as reproduced
      explanation: ...                    # shown where it was not

Tests: `within` (relative), `factor` (at most that many times off), `at_least`, `at_most`, `between: [a, b]`,
`increasing: true` (the quantities, in their order), `holds: true` (a quantity that is true or false). A claim of
our own has `own: true` and needs no source.

`table(run)` ends a chapter; on a page the press puts today's judgement in its place. No torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from tightrope.book import checkout as layout
from tightrope.book import records
from tightrope.book.tables import html, number

REPRODUCED, NOT_REPRODUCED, NOT_RUN = "reproduced", "not reproduced", "not run"
KIND = "claims"  # the tables' class on a page is `tightrope-claims`
_MARK = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", NOT_RUN: "–"}

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

    @property
    def rule(self) -> tuple[str, object]:
        """The test's name and its bound."""
        return next(iter(self.test.items()))

    def __post_init__(self) -> None:
        name, bound = self.rule if len(self.test) == 1 else ("", None)
        if name not in _TESTS or not _TESTS[name][1](bound):
            listed = ", ".join(f"{test}: {takes}" for test, (takes, _) in _TESTS.items())
            raise ValueError(f"test must be one of {{{listed}}}, not {self.test}")
        for key in () if self.own else ("source", "where", "published"):
            if getattr(self, key) in ("", ()):
                raise ValueError(f"{key} is missing: say who printed what, and where")
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
    path = path or layout.find_checkout().book / "claims.yml"
    try:
        return list(_read(layout.read(path)))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no {path}: the claims of the book are kept there.") from error
    except (yaml.YAMLError, layout.Stop) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split()).rstrip('.')}.") from error


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
            printed = claim.published
            each = isinstance(printed, tuple) and len(printed) == len(claim.quantity)
            found.add(printed[claim.quantity.index(name)] if each else printed)
    if not found:
        raise ValueError(f"book/claims.yml has no published number for {name!r}.")
    if len(found) > 1:
        raise ValueError(
            f"book/claims.yml has {len(found)} published numbers for {name!r}: name a claim by its id."
        )
    return found.pop()


def verdict(claim: Claim, record: Mapping | None) -> str:
    """'reproduced', 'not reproduced', or 'not run': no record, a quantity it lacks, or a smoke run (too small)."""
    if record is None or record["profile"] == "smoke" or record["chapter"] != claim.chapter:
        return NOT_RUN
    entries = [record["quantities"].get(name) for name in claim.quantity]
    if None in entries:
        return NOT_RUN
    return REPRODUCED if _passes(claim, [entry["value"] for entry in entries]) else NOT_REPRODUCED


@dataclass(frozen=True)
class Table:
    """Published | paper-scale run | this run | verdict, for one chapter. Shows itself as HTML or text.

    stored, run: records. stale: why the stored one no longer stands for its code, None where it does.
    """

    claims: list[Claim]
    stored: Mapping | None
    run: Mapping | None
    stale: str | None = None

    def _repr_html_(self) -> str:
        paper, here = map(escape, self.made())
        head = ["claim", "published", f"paper-scale run<br><small>{paper}</small>"]
        head += [f"this run<br><small>{here}</small>", "verdict"]
        rows = []
        for claim in self.claims:
            where = f"<strong>{escape(claim.where)}</strong> " if claim.where else ""
            why = f"<br><em>{escape(self.why(claim))}</em>" if self.why(claim) else ""
            rows.append([where + escape(claim.statement) + why, *map(escape, self.cells(claim))])
        return html(head, rows, KIND)

    def __repr__(self) -> str:
        paper, here = self.made()
        lines = [f"paper-scale run: {paper}", f"this run: {here}"]
        for claim in self.claims:
            published, paper, here, judged = self.cells(claim)
            lines.append(f"{claim.where}: {claim.statement}" if claim.where else claim.statement)
            lines.append(f"    published {published} | paper scale {paper} | this run {here} | {judged}")
            lines += [f"    {self.why(claim)}"] if self.why(claim) else []
        return "\n".join(lines)

    def made(self) -> tuple[str, str]:
        """How the two runs were made, for the heads of their columns."""
        paper, here = "none stored", "none"
        if self.stored is not None:
            paper = (f"stale, {self.stale}: " if self.stale else "") + _provenance(self.stored)
            if vouched := self.stored.get("vouched"):
                paper += f", vouched for at {vouched['commit'][:7]}"
        if self.run is not None:
            small = ", too small to judge" if self.run["profile"] == "smoke" else ""
            here = f"{self.run['profile']}{small}, {_provenance(self.run)}"
        return paper, here

    def cells(self, claim: Claim) -> list[str]:
        """Published, the paper-scale run's, this run's, and the verdict, as text."""
        ours = claim.own and claim.published == ""
        printed = "ours" if ours else f"{number(claim.published, None)} {claim.unit}".strip()
        here, paper = verdict(claim, self.run), verdict(claim, self.stored)
        judged = f"{_MARK[here]} {here}"
        if paper not in (here, NOT_RUN):
            judged += f"; at paper scale {_MARK[paper]} {paper}"
        return [printed, _measured(claim, self.stored), _measured(claim, self.run), judged]

    def why(self, claim: Claim) -> str:
        """The explanation of a claim that failed; the one that the row above has just given is not repeated."""
        if not claim.explanation or NOT_REPRODUCED not in map(
            partial(verdict, claim), (self.stored, self.run)
        ):
            return ""
        at = self.claims.index(claim)
        above = self.claims[at - 1] if at else claim
        repeated = at and above.explanation == claim.explanation and self.why(above)
        return "As above." if repeated else claim.explanation


def table(run: object, claims: Iterable[Claim] | None = None) -> Table:
    """The claims of a run's chapter beside its stored paper-scale run and this run (`runs.Run`, or its record)."""
    record = run if isinstance(run, Mapping) else run.snapshot()
    chapter = record["chapter"]
    own = [claim for claim in (load() if claims is None else claims) if claim.chapter == chapter]
    if not own:
        raise ValueError(f"book/claims.yml has no claim of chapter {chapter!r}.")
    # Under the executor the site makes this table anew: a stored run that is not read is no input of the chapter.
    stored = None if os.environ.get("TIGHTROPE_KEY") else records.stored(chapter)
    return Table(own, stored and stored.record, record)


def scorecard(tables: Mapping[str, Table], titles: Mapping[str, str]) -> str:
    """Every claim as MyST text: a count, then one table a chapter. tables, titles: by chapter."""

    def count(kind: str) -> str:
        judged = [verdict(claim, getattr(table, kind)) for table in tables.values() for claim in table.claims]
        return ", ".join(f"{judged.count(v)} {v}" for v in (REPRODUCED, NOT_REPRODUCED, NOT_RUN))

    total = sum(len(table.claims) for table in tables.values())
    parts = [f"{total} claims. Paper-scale runs: {count('stored')}. These runs: {count('run')}."]
    for chapter, table in tables.items():
        rows = [["claim", "published", "paper-scale run", "this run", "verdict"], ["---"] * 5]
        for claim in table.claims:
            source = f"{{cite:t}}`{claim.source}`" if claim.source else "ours"
            words = f"{source}, {claim.where}: " if claim.where else f"{source}: "
            words += claim.statement + (f" *{why}*" if (why := table.why(claim)) else "")
            rows.append([words, *table.cells(claim)])
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        paper, here = table.made()
        grid = "\n".join(["```{table}", f":class: tightrope-{KIND}", "", *lines, "```"])
        made = f"{{doc}}`{chapter}`. Paper-scale run: {paper}. This run: {here}."
        parts += [f"## {titles[chapter]}", made, grid]
    return "\n\n".join(parts) + "\n"


def _passes(claim: Claim, values: list[float]) -> bool:
    test, bound = claim.rule
    published = claim.published if isinstance(claim.published, tuple) else (claim.published,) * len(values)
    match test:
        case "within":
            return all(abs(v - p) <= bound * abs(p) for v, p in zip(values, published, strict=True))
        case "factor":
            return all(1 / bound <= v / p <= bound for v, p in zip(values, published, strict=True))
        case "at_least":
            return all(v >= bound for v in values)
        case "at_most":
            return all(v <= bound for v in values)
        case "between":
            return all(bound[0] <= v <= bound[1] for v in values)
        case "increasing":
            return all(a < b for a, b in pairwise(values))
        case _:  # holds
            return all(v is True for v in values)


@lru_cache(maxsize=4)
def _read(text: str) -> tuple[Claim, ...]:
    entries = yaml.load(text, layout.YAML)
    if not isinstance(entries, list):
        raise ValueError("claims.yml must be a list of claims, each beginning with '- id:'.")
    claims: dict[str, Claim] = {}
    for position, entry in enumerate(entries, 1):
        which = f"Claim number {position} of claims.yml"
        if isinstance(entry, dict):
            which = f"Claim {entry['id']!r}" if entry.get("id") else which
            quantity = entry.get("quantity")
            entry = entry | {"quantity": quantity if isinstance(quantity, list) else [quantity]}
        try:
            claim = msgspec.convert(entry, Claim)
        except msgspec.ValidationError as error:
            raise ValueError(f"{which}: {error}.") from None
        if claim.id in claims:
            raise ValueError(f"{which}: this id is used twice; give one of the two another.")
        claims[claim.id] = claim
    return tuple(claims.values())


def _is_number(thing: object) -> bool:
    return isinstance(thing, Number) and not isinstance(thing, bool) and math.isfinite(thing)


def _is_interval(thing: object) -> bool:
    return (
        isinstance(thing, list) and len(thing) == 2 and all(map(_is_number, thing)) and thing[0] <= thing[1]
    )


def _measured(claim: Claim, record: Mapping | None) -> str:
    entries = [record["quantities"].get(name) for name in claim.quantity] if record is not None else [None]
    if None in entries:
        return NOT_RUN
    numbers = []
    for entry in entries:
        low, high = entry.get("interval", (0, 0))
        around = f" ({number(low)} to {number(high)})" if low < high else ""
        numbers.append(number(entry["value"]) + around)
    return ", ".join(numbers)


def _provenance(record: Mapping) -> str:
    commit = str(record.get("commit") or "")[:7]
    changed = " with changes" if commit and record.get("dirty") else ""
    parts = [
        str(record.get("date", ""))[:10],
        record.get("device_name") or record["device"],
        f"seed {record['seed']}",
        f"commit {commit}{changed}" if commit else "",
    ]
    return ", ".join(part for part in parts if part)
