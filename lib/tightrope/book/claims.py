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
our own has `own: true` and needs no source. No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import yaml

from tightrope.book import checkout as layout
from tightrope.book import records
from tightrope.book.records import Stored
from tightrope.book.tables import html, shown

REPRODUCED, NOT_REPRODUCED, NOT_RUN = "reproduced", "not reproduced", "not run"
_MARK = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", NOT_RUN: "–"}
_NUMBER, _NUMBERS, _TRUE = "a number", "two numbers [low, high]", "true"
_ABOVE = {"within": 0, "factor": 1}
_TESTS = {
    "within": "a number above 0",
    "factor": "a number above 1",
    "at_least": _NUMBER,
    "at_most": _NUMBER,
    "between": _NUMBERS,
    "increasing": _TRUE,
    "holds": _TRUE,
}


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yml; see the module's text."""

    id: str
    statement: str
    quantity: tuple[str, ...]
    chapter: str
    test: tuple[str, object]  # its name and its bound
    source: str = ""
    where: str = ""
    published: float | tuple[float, ...] | str = ""
    unit: str = ""
    explanation: str = ""
    own: bool = False


class Recorder(Protocol):
    """What `runs.start` returns: a run whose record can be had while it goes on."""

    def snapshot(self) -> dict: ...


Record = Mapping | Stored | Recorder | None


def load(path: Path | None = None) -> list[Claim]:
    """All claims, in the file's order. Raises ValueError, naming the claim, for an entry that is not right."""
    path = path or layout.find_checkout().book / "claims.yml"
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), layout.YAML)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no {path}: the claims of the book are kept there.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path} must be a list of claims, each beginning with '- id:'.")
    claims = [_claim(entry, i) for i, entry in enumerate(entries, 1)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ValueError(f"Claim {claim.id}: this id is used twice; give one of the two another.")
        seen.add(claim.id)
    return claims


def verdict(claim: Claim, record: Record) -> str:
    """'reproduced', 'not reproduced', or 'not run': no record, a quantity it lacks, or a smoke run (too small)."""
    record = _as_record(record)
    if record is None or record["profile"] == "smoke" or record["chapter"] != claim.chapter:
        return NOT_RUN
    entries = [records.quantity(record, name) for name in claim.quantity]
    if any(entry is None for entry in entries):
        return NOT_RUN
    values = [entry["value"] for entry in entries]
    return REPRODUCED if _passes(claim, values) else NOT_REPRODUCED


@dataclass(frozen=True)
class Table:
    """Published | paper-scale run | this run | verdict, for one chapter. Shows itself as HTML or text."""

    claims: list[Claim]
    stored: Stored | None
    run: dict | None

    def _repr_html_(self) -> str:
        paper, here = (escape(made) for made in (_of_stored(self.stored), _of_run(self.run)))
        head = ["claim", "published", f"paper-scale run<br><small>{paper}</small>"]
        head += [f"this run<br><small>{here}</small>", "verdict"]
        rows = []
        for claim in self.claims:
            words = escape(claim.statement)
            if claim.where:
                words = f"<strong>{escape(claim.where)}</strong> {words}"
            if why := self.why(claim):
                words += f"<br><em>{escape(why)}</em>"
            rows.append([words, *map(escape, self.cells(claim))])
        return html(head, rows, "claims")

    def __repr__(self) -> str:
        lines = [f"paper-scale run: {_of_stored(self.stored)}", f"this run: {_of_run(self.run)}"]
        for claim in self.claims:
            published, paper, here, judged = self.cells(claim)
            lines.append(f"{claim.where}: {claim.statement}" if claim.where else claim.statement)
            lines.append(f"    published {published} | paper scale {paper} | this run {here} | {judged}")
            if why := self.why(claim):
                lines.append(f"    {why}")
        return "\n".join(lines)

    def cells(self, claim: Claim) -> list[str]:
        """Published, the paper-scale run's, this run's, and the verdict, as text."""
        return [
            _published(claim),
            _measured(claim, self.stored),
            _measured(claim, self.run),
            _both_verdicts(claim, self.stored, self.run),
        ]

    def why(self, claim: Claim) -> str:
        """The explanation of a claim that failed; the one that the row above has just given is not repeated."""
        failed = NOT_REPRODUCED in (verdict(claim, self.stored), verdict(claim, self.run))
        if not failed or not claim.explanation:
            return ""
        above = self.claims[self.claims.index(claim) - 1] if self.claims.index(claim) else None
        if above is not None and above.explanation == claim.explanation and self.why(above):
            return "As above."
        return claim.explanation


def table(run: Record = None, chapter: str | None = None, claims: Iterable[Claim] | None = None) -> Table:
    """The claims of a chapter (default: the run's) beside its stored paper-scale run and this run."""
    record = _as_record(run)
    if chapter is None:
        if record is None:
            raise ValueError("claims.table needs a run or the name of a chapter.")
        chapter = record["chapter"]
    own = [claim for claim in (load() if claims is None else claims) if claim.chapter == chapter]
    if not own:
        raise ValueError(f"book/claims.yml has no claim of chapter {chapter!r}.")
    return Table(own, records.stored(chapter), record)


def scorecard(
    runs: Mapping[str, Record],
    stored: Mapping[str, Record],
    claims: Iterable[Claim] | None = None,
    titles: Mapping[str, str] | None = None,
) -> str:
    """Every claim as MyST text: a count, then one table a chapter. runs, stored: by chapter; either may lack it.

    titles: the chapters' headings, by chapter.
    """
    claims = list(load() if claims is None else claims)
    chapters = list(dict.fromkeys(claim.chapter for claim in claims))
    parts = [_count(claims, runs, stored)]
    for chapter in chapters:
        run, paper = _as_record(runs.get(chapter)), stored.get(chapter)
        beside = Table([claim for claim in claims if claim.chapter == chapter], paper, run)
        rows = [["claim", "published", "paper-scale run", "this run", "verdict"], ["---"] * 5]
        for claim in beside.claims:
            source = f"{{cite:t}}`{claim.source}`" if claim.source else "ours"
            words = f"{source}, {claim.where}: " if claim.where else f"{source}: "
            words += claim.statement + (f" *{why}*" if (why := beside.why(claim)) else "")
            rows.append([words, *beside.cells(claim)])
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        made = f"Paper-scale run: {_of_stored(paper)}. This run: {_of_run(run)}."
        title = (titles or {}).get(chapter, chapter)
        table = "\n".join(["```{table}", ":class: tightrope-claims", "", *lines, "```"])
        parts += [f"## {title}", f"{{doc}}`{chapter}`. {made}", table]
    return "\n\n".join(parts) + "\n"


def _count(claims: list[Claim], runs: Mapping[str, Record], stored: Mapping[str, Record]) -> str:
    def of(kind: Mapping) -> str:
        judged = [verdict(claim, kind.get(claim.chapter)) for claim in claims]
        return ", ".join(f"{judged.count(v)} {v}" for v in (REPRODUCED, NOT_REPRODUCED, NOT_RUN))

    return f"{len(claims)} claims. Paper-scale runs: {of(stored)}. These runs: {of(runs)}."


def _as_record(thing: Record) -> Mapping | None:
    if thing is None or isinstance(thing, Mapping):
        return thing
    if isinstance(thing, Stored):
        return thing.record
    return thing.snapshot()


def _passes(claim: Claim, values: list[float]) -> bool:
    test, bound = claim.test
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


def _claim(entry: object, position: int) -> Claim:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ValueError(f"Claim number {position} of claims.yml has no id: begin it with '- id: name'.")
    name = entry["id"]
    if not records.ID.fullmatch(name):
        raise ValueError(f"Claim {name!r}: an id is words joined by dots, like hmt.table1.u1.median.")

    def wrong(what: str) -> ValueError:
        return ValueError(f"Claim {name}: {what}.")

    known = {f.name for f in fields(Claim)}
    if unknown := sorted(map(str, entry.keys() - known)):
        raise wrong(f"unknown entry {', '.join(unknown)}; the known ones are {', '.join(sorted(known))}")
    own = entry.get("own", False)
    if not isinstance(own, bool):
        raise wrong("own is true or false")
    texts = {"statement": True, "chapter": True, "source": not own, "where": not own}
    for key in ("statement", "chapter", "source", "where", "unit", "explanation"):
        value = entry.get(key, "")
        if not isinstance(value, str) or (texts.get(key) and not value.strip()):
            raise wrong(f"{key} must be a text")
    if not re.fullmatch(r"\d\d-[\w-]+", entry["chapter"]):
        raise wrong(f"chapter is a file's name like 01-synthetic-margins, not {entry['chapter']!r}")
    quantity = entry.get("quantity")
    quantity = tuple(quantity) if isinstance(quantity, list) else (quantity,)
    if not quantity or not all(isinstance(q, str) and records.ID.fullmatch(q) for q in quantity):
        raise wrong("quantity must be the id of a recorded number, or a list of them")
    published = entry.get("published", "")
    published = tuple(published) if isinstance(published, list) else published
    numbers = published if isinstance(published, tuple) else (published,)
    if not (isinstance(published, str) or (numbers and all(map(_is_number, numbers)))):
        raise wrong("published must be a finite number, a list of them, or a text")
    if not own and published == "":
        raise wrong("published is missing: say what the source printed")
    test = _test(entry.get("test"), wrong)
    if test[0] in ("within", "factor"):
        if isinstance(published, str) or 0 in numbers:
            raise wrong(f"the test {test[0]} compares with a published number other than 0")
        if isinstance(published, tuple) and len(published) != len(quantity):
            raise wrong(f"{len(published)} published numbers for {len(quantity)} quantities")
    if test[0] == "increasing" and len(quantity) < 2:
        raise wrong("the test increasing needs two quantities or more")
    return Claim(**(entry | {"quantity": quantity, "published": published, "test": test}))


def _test(test: object, wrong: type[ValueError]) -> tuple[str, object]:
    if not isinstance(test, dict) or len(test) != 1 or next(iter(test)) not in _TESTS:
        raise wrong(f"test must be one of {', '.join(_TESTS)}, like {{within: 0.05}}")
    ((name, bound),) = test.items()
    wanted = _TESTS[name]
    if wanted == _NUMBERS:
        right = (
            isinstance(bound, list)
            and len(bound) == 2
            and all(map(_is_number, bound))
            and bound[0] <= bound[1]
        )
        bound = tuple(bound) if right else bound
    else:
        right = _is_number(bound) if wanted != _TRUE else bound is True
        right = right and bound > _ABOVE.get(name, -math.inf)
    if not right:
        raise wrong(f"the test {name} takes {wanted}, not {bound!r}")
    return name, bound


def _is_number(thing: object) -> bool:
    return isinstance(thing, int | float) and not isinstance(thing, bool) and math.isfinite(thing)


def _published(claim: Claim) -> str:
    if claim.own and claim.published == "":
        return "ours"
    return f"{shown(claim.published)} {claim.unit}".strip()


def _measured(claim: Claim, record: Record) -> str:
    record = _as_record(record)
    entries = [records.quantity(record, name) for name in claim.quantity] if record is not None else [None]
    if any(entry is None for entry in entries):
        return NOT_RUN
    numbers = []
    for entry in entries:
        low, high = entry.get("interval", (0, 0))
        around = f" ({shown(low)} to {shown(high)})" if low < high else ""
        numbers.append(shown(entry["value"]) + around)
    return ", ".join(numbers)


def _both_verdicts(claim: Claim, stored: Record, run: Record) -> str:
    """This run's verdict; the paper-scale run's as well where the two differ."""
    here, paper = verdict(claim, run), verdict(claim, stored)
    shown = f"{_MARK[here]} {here}"
    return shown if paper in (here, NOT_RUN) else f"{shown}; at paper scale {_MARK[paper]} {paper}"


def _of_stored(stored: Record) -> str:
    if stored is None:
        return "none stored"
    record = _as_record(stored)
    stale = stored.stale if isinstance(stored, Stored) else record.get("stale")
    return ("stale, its code has changed since: " if stale else "") + _provenance(record)


def _of_run(record: Mapping | None) -> str:
    if record is None:
        return "none"
    small = ", too small to judge" if record["profile"] == "smoke" else ""
    return f"{record['profile']}{small}, {_provenance(record)}"


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
