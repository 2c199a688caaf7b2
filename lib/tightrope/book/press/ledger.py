"""The ledger of the whole book: counts, what did not reproduce, a forest plot, every claim in one list with filters,
and both as files.

The plot shows each claim that has a positive published number: measured over published on a log axis, with its
interval, and what counts as reproduced as a band. A filter is a plain select: it works by keyboard and from the disk,
and without scripts everything is shown.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from tightrope.book import bars, verdicts
from tightrope.book.claims import HEAD, Claim, Table
from tightrope.book.tables import html, number
from tightrope.book.verdicts import VERDICTS, judge

GROUPS = {
    "words": "the sources' words",
    "bound": "their words, bounds of ours",
    "identity": "true by construction",
    "own": "the book's own findings",
}
GROUPS_TOLD = (
    "*The sources' words* are judged as printed. Where they say how without saying how much, *a bound of ours* makes a "
    "number of it. What is *true by construction* tests the code. *The book's own findings* are claimed by no source."
)
FILTER = """
for (const box of document.querySelectorAll(".tightrope-filter select"))
  box.addEventListener("change", () => {
    const wanted = [...document.querySelectorAll(".tightrope-filter select")].filter((b) => b.value);
    for (const row of document.querySelectorAll("tr[data-verdict]"))
      row.hidden = wanted.some((b) => row.dataset[b.name] !== b.value);
  });
"""


def page(tables: Mapping[str, Table], titles: Mapping[str, str], sources: Mapping[str, str]) -> str:
    """The scorecard's page as MyST text. tables, titles: by chapter. sources: names by key of the bibliography."""
    listed = [(chapter, table, claim) for chapter, table in tables.items() for claim in table.claims]
    filters = _select("source", sorted({_source(c, sources) for *_, c in listed}))
    filters += _select("verdict", [v for v in VERDICTS if any(_verdict(t, c) == v for _, t, c in listed)])
    drawn = [
        _forest_row(chapter, t, c, sources)
        for chapter, t, c in listed
        if not c.own and bars.ratios(c, t.stored, t.run)
    ]
    parts = [
        f"{len(listed)} claims. Files of all of them: [CSV](_static/ledger.csv), [JSON](_static/ledger.json).",
        _raw(_counts(listed)),
        GROUPS_TOLD,
        *_failures(listed, sources),
        _raw(f'<form class="tightrope-filter">Show only: {filters}</form><script>{FILTER}</script>'),
        "## Measured over published",
        "All claims of the sources with a printed number above 0: 1 is where it was reproduced to the digit. A filled "
        "mark is the stored run, a hollow one this run, each with its interval; the band is what counts as reproduced. "
        f"The axis is logarithmic and ends at a factor of {number(bars.EDGE, None)}.",
        _raw(html(["claim", bars.head(), "verdict"], [], "forest", drawn))
        if drawn
        else "None has been run yet.",
    ]
    for chapter, table in tables.items():
        rows = []
        for claim in table.claims:
            cells = table.row(claim, _label(claim, sources))
            rows.append(_row(table, claim, sources, cells, f' id="{_place(claim)}"'))
        stored, here = table.made()
        made = f"{{doc}}`The chapter <{chapter}>`. Stored run: {stored}. This run: {here}."
        parts += [f"## {titles[chapter]}", made, _raw(html(HEAD, [], "claims", rows))]
    return "\n\n".join(parts) + "\n"


def rows(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """One dictionary a claim and quantity, as the files hold them."""
    found = []
    for chapter, table in tables.items():
        for claim in table.claims:
            for i, quantity in enumerate(claim.quantity):
                printed = claim.printed[i]
                row = {"id": claim.id, "chapter": chapter, "source": claim.source, "where": claim.where}
                row |= {"statement": claim.statement, "kind": "own" if claim.own else claim.kind}
                row |= {"published": printed, "unit": claim.unit, "quantity": quantity}
                for name, record in (("stored", table.stored), ("run", table.run)):
                    entry = ((record or {}).get("quantities") or {}).get(quantity, {})
                    low, high = entry.get("interval") or (None, None)
                    row |= {f"{name}_value": entry.get("value"), f"{name}_low": low, f"{name}_high": high}
                    row |= {f"{name}_n": entry.get("n"), f"{name}_interval": entry.get("kind")}
                    row |= {f"{name}_verdict": judge(claim, record).kind}
                found.append(row | {"rule": verdicts.rule(claim), "because": claim.because})
    return found


def files(tables: Mapping[str, Table]) -> dict[str, str]:
    """The ledger as CSV and JSON, by name."""
    found = rows(tables)
    text = io.StringIO()
    if found:
        writer = csv.DictWriter(text, found[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return {
        "ledger.csv": text.getvalue(),
        "ledger.json": json.dumps(found, indent=1, ensure_ascii=False) + "\n",
    }


def names(bibliography: Path) -> dict[str, str]:
    """Authors and year by key, "Ortiz-Jiménez et al. 2020"."""
    from pybtex.database import parse_file  # the pages' citations are read with it

    from tightrope.book.press import citations

    return {key: citations.name(entry) for key, entry in parse_file(str(bibliography)).entries.items()}


def addresses(bibliography: Path) -> dict[str, str]:
    """Where each entry can be read, by key: its DOI, its preprint or its address; empty where none is listed."""
    from pybtex.database import parse_file

    found = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        doi, eprint = entry.fields.get("doi"), entry.fields.get("eprint")
        preprint = f"https://arxiv.org/abs/{eprint}" if eprint else ""
        found[key] = f"https://doi.org/{doi}" if doi else preprint or entry.fields.get("url", "")
    return found


def _counts(listed: list[tuple[str, Table, Claim]]) -> str:
    lines = []
    for group, name in GROUPS.items():
        mine = [(table, claim) for _, table, claim in listed if ("own" if claim.own else claim.kind) == group]
        stored, here = (
            [judge(c, r).kind for c, r in runs]
            for runs in ([(c, t.stored) for t, c in mine], [(c, t.run) for t, c in mine])
        )
        lines.append([name, *(f"{stored.count(v)} ({here.count(v)})" for v in VERDICTS)])
    return html(
        ["stored runs (these runs)", *(f"{verdicts.MARKS[v]} {v}" for v in VERDICTS)], lines, "counts"
    )


def _failures(listed: list[tuple[str, Table, Claim]], sources: Mapping[str, str]) -> list[str]:
    """What did not reproduce, one line each, linked to its row; nothing where everything did."""
    lines = []
    for _, table, claim in listed:
        if _verdict(table, claim) == verdicts.NOT_REPRODUCED:
            words = escape(re.split(r"(?<=[.:]) (?=[A-Z])| \(", claim.statement)[0].rstrip(".:"))
            label = escape(_label(claim, sources))
            lines.append(f'<li><a href="#{_place(claim)}">{label}</a> {words}.</li>')
    text = "The stored run's verdict where it has one, else this run's. Each line leads to its numbers."
    return ["## What did not reproduce", text, _raw(f"<ul>{''.join(lines)}</ul>")] if lines else []


def _forest_row(chapter: str, table: Table, claim: Claim, sources: Mapping[str, str]) -> str:
    words = f'<a href="{chapter}.html">{escape(_label(claim, sources))}</a> {escape(claim.statement)}'
    drawn = bars.named(claim, table.stored, table.run)
    return _row(table, claim, sources, [words, drawn, escape(table.cells(claim)[-1])])


def _row(table: Table, claim: Claim, sources: Mapping[str, str], cells: list[str], place: str = "") -> str:
    marks = f'data-source="{escape(_source(claim, sources))}" data-verdict="{_verdict(table, claim)}"'
    return f"<tr {marks}{place}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _place(claim: Claim) -> str:
    return "claim-" + claim.id.replace(".", "-")


def _verdict(table: Table, claim: Claim) -> str:
    """The stored run's where it says something, else this run's."""
    stored = judge(claim, table.stored).kind
    return stored if stored != verdicts.NOT_RUN else judge(claim, table.run).kind


def _source(claim: Claim, sources: Mapping[str, str]) -> str:
    return sources.get(claim.source, claim.source) or "ours"


def _label(claim: Claim, sources: Mapping[str, str]) -> str:
    return ", ".join(part for part in (_source(claim, sources), claim.where) if part) + ":"


def _select(name: str, values: list[str]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    return f'<label>{name} <select name="{name}"><option value="">all</option>{options}</select></label> '


def _raw(text: str) -> str:
    return "\n".join(["```{raw} html", text.strip(), "```"])
