"""The claims of a chapter beside what was measured: published, a stored run, this run, the rule and the verdict.

`claims.table(run)` ends a chapter; on a page the press puts today's judgement in its place. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tightrope.book import bars, records, verdicts
from tightrope.book.statements import Claim, load, published
from tightrope.book.tables import html, measured, number
from tightrope.book.verdicts import NOT_REPRODUCED, NOT_RUN, judge

__all__ = ["KIND", "Claim", "Table", "load", "published", "table"]

KIND = "claims"  # the tables' class on a page is `tightrope-claims`
FEW = 3  # so many numbers are read; more are drawn where a number was published for each,
SOME = 4  # and folded where they can't be drawn and are more than that
HEAD = ("claim", "published", "stored run", "this run", "verdict")


@dataclass(frozen=True)
class Table:
    """Published | stored run | this run | verdict and rule, for one chapter. Shows itself as HTML or text.

    stored, run: records. stale: why the stored one no longer stands for its code, None where it does.
    """

    claims: list[Claim]
    stored: Mapping[str, Any] | None
    run: Mapping[str, Any] | None
    stale: str | None = None

    def _repr_html_(self) -> str:
        rows = []
        for claim in self.claims:
            rows.append(self.row(claim, claim.where))
        runs = "".join(
            f"<p>{name}: {escape(how)}.</p>" for name, how in zip(HEAD[2:4], self.made(), strict=True)
        )
        runs = (
            f'<details class="tightrope-made"><summary>How the two runs were made</summary>{runs}</details>'
        )
        return html(HEAD, rows, KIND) + runs

    def row(self, claim: Claim, where: str) -> list[str]:
        """The cells of a claim's row, as HTML; `where` names its place in the source."""
        words = f"<strong>{escape(where)}</strong> " if where else ""
        words += escape(claim.statement)
        words += "".join(f"<br><em>{escape(note)}</em>" for note in self.notes(claim))
        if claim.kind == "bound":
            words += _folded("why this bound", escape(claim.because))
        *numbers, judged = map(escape, self.cells(claim))
        many = f"{len(claim.quantity)} numbers"
        if len(claim.quantity) > FEW and bars.ratios(claim, self.stored, self.run):
            of = [bars.drawn(claim, *runs) for runs in ((self.stored, None), (None, self.run))]
            named = zip(bars.labels(claim.quantity), claim.printed, strict=True)
            printed = "<br>".join(escape(f"{name}: {number(p, None)}") for name, p in named)
            numbers = [_folded(many, printed), *(bar or NOT_RUN for bar in of)]
        elif len(claim.quantity) > SOME:
            numbers[1:] = [cell if cell == NOT_RUN else _folded(many, cell) for cell in numbers[1:]]
        return [words, *numbers, f"{judged}<br><small>asked: {escape(verdicts.rule(claim))}</small>"]

    def __repr__(self) -> str:
        lines = [f"{name}: {how}" for name, how in zip(HEAD[2:4], self.made(), strict=True)]
        for claim in self.claims:
            lines.append(f"{claim.where}: {claim.statement}" if claim.where else claim.statement)
            *numbers, judged = self.cells(claim)
            cells = [f"{name} {cell}" for name, cell in zip(HEAD[1:4], numbers, strict=True)]
            lines.append("    " + " | ".join([*cells, f"{judged} (asked: {verdicts.rule(claim)})"]))
            lines += [f"    Why this bound: {claim.because}"] if claim.kind == "bound" else []
            lines += [f"    {note}" for note in self.notes(claim)]
        return "\n".join(lines)

    def made(self) -> tuple[str, str]:
        """How the stored run and this one were made."""
        paper, here = "none", "none"
        if self.stored is not None:
            paper = (f"stale, {self.stale}: " if self.stale else "") + f"{self.stored['profile']}, "
            paper += _provenance(self.stored)
            if vouched := self.stored.get("vouched"):
                paper += f", vouched for at {vouched['commit'][:7]}"
        if self.run is not None:
            small = ", too small to judge" if self.run["profile"] == "smoke" else ""
            here = f"{self.run['profile']}{small}, {_provenance(self.run)}"
        return paper, here

    def cells(self, claim: Claim) -> list[str]:
        """Published, the stored run's, this run's, and the verdict, as text."""
        ours = claim.own and claim.published == ""
        printed = "–" if ours else f"{number(claim.published, None)} {claim.unit}".strip()
        here, stored = judge(claim, self.run), judge(claim, self.stored)
        judged = here.words(claim)
        if stored.kind not in (here.kind, NOT_RUN):
            judged += f"; stored run {stored.words(claim)}"
        return [printed, *(_numbers(claim, record) for record in (self.stored, self.run)), judged]

    def notes(self, claim: Claim) -> list[str]:
        """What stands under a claim: what kind it is, whether its rule changed since, why it was not reproduced."""
        notes = ["An identity: it tests the code."] if claim.kind == "identity" else []
        notes += ["Judged by another rule than when the stored run was made."] if self.moved(claim) else []
        return notes + ([why] if (why := self.why(claim)) else [])

    def moved(self, claim: Claim) -> bool:
        """Whether the rule is another one than the stored run keeps."""
        then = (self.stored or {}).get("rules", {}).get(claim.id)
        now = verdicts.kept(claim)
        compares = claim.rule[0] in ("within", "factor")  # with what was published
        if then is not None and not compares:
            then = then | {"published": now["published"]}
        return then is not None and then != now

    def why(self, claim: Claim) -> str:
        """The explanation of a claim that failed."""
        failed = [judge(claim, record).kind == NOT_REPRODUCED for record in (self.stored, self.run)]
        return claim.explanation if any(failed) else ""


def table(run: object, claims: Iterable[Claim] | None = None) -> Table:
    """The claims of a run's chapter beside its stored run and this run (`runs.Run`, or its record)."""
    record = run if isinstance(run, Mapping) else run.snapshot()
    chapter = record["chapter"]
    own = [claim for claim in (load() if claims is None else claims) if claim.chapter == chapter]
    if not own:
        raise ValueError(f"book/claims.yml has no claim of chapter {chapter!r}.")
    # Under the executor the site makes this table anew: a stored run that is not read is no input of the chapter.
    stored = None if os.environ.get("TIGHTROPE_KEY") else records.stored(chapter)
    return Table(own, stored and stored.record, record)


def _folded(summary: str, content: str) -> str:
    return f'<details class="tightrope-why"><summary>{summary}</summary>{content}</details>'


def _numbers(claim: Claim, record: Mapping[str, Any] | None) -> str:
    entries = [record["quantities"].get(name) for name in claim.quantity] if record is not None else [None]
    if None in entries:
        return NOT_RUN
    return ", ".join(measured(entry["value"], entry.get("interval")) for entry in entries)


def _provenance(record: Mapping[str, Any]) -> str:
    commit = str(record.get("commit") or "")[:7]
    changed = " with changes" if commit and record.get("dirty") else ""
    parts = [
        str(record.get("date", ""))[:10],
        records.machine(record),
        f"seed {record['seed']}",
        f"commit {commit}{changed}" if commit else "",
    ]
    return ", ".join(part for part in parts if part)
