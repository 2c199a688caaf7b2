"""The ledger of the whole book: counts, a forest plot, every claim in one list with filters, and both as files.

The plot shows each claim that has a positive published number: measured over published on a log axis, with its
interval, and what counts as reproduced as a band. A filter is a plain select: it works by keyboard and from the disk,
and without scripts everything is shown.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from tightrope.book import verdicts
from tightrope.book.claims import HEAD, Claim, Table
from tightrope.book.tables import html, number
from tightrope.book.verdicts import VERDICTS, judge

GROUPS = {
    "words": "the sources' words",
    "bound": "their words, bounds of ours",
    "identity": "true by construction",
    "own": "the book's own findings",
}
EDGE = 8.0  # the plot ends at a factor of this
WIDTH, HEIGHT = 240, 22
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
    drawn = [_forest_row(chapter, t, c, sources) for chapter, t, c in listed if _ratios(t, c)]
    parts = [
        f"{len(listed)} claims. Files of all of them: [CSV](_static/ledger.csv), [JSON](_static/ledger.json).",
        _raw(_counts(listed)),
        "Show only:",
        _raw(f'<form class="tightrope-filter">{filters}</form><script>{FILTER}</script>'),
        "## Measured over published",
        "A filled mark is the stored run, a hollow one this run, each with its interval; the band is what counts as "
        f"reproduced. The axis is logarithmic and ends at a factor of {number(EDGE, None)}.",
        _raw(html(["claim", _axis(), "verdict"], [], "forest", drawn)) if drawn else "None has been run yet.",
    ]
    for chapter, table in tables.items():
        rows = []
        for claim in table.claims:
            rows.append(_row(table, claim, sources, table.row(claim, _label(claim, sources))))
        stored, here = table.made()
        made = f"{{doc}}`{chapter}`. Stored run: {stored}. This run: {here}."
        parts += [f"## {titles[chapter]}", made, _raw(html(HEAD, [], "claims", rows))]
    return "\n\n".join(parts) + "\n"


def rows(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """One dictionary a claim and quantity, as the files hold them."""
    found = []
    for chapter, table in tables.items():
        for claim in table.claims:
            for i, quantity in enumerate(claim.quantity):
                printed = claim.published[i] if _many(claim) else claim.published
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
    from pybtex.richtext import Text

    found = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        people = [
            str(Text.from_latex(" ".join(p.prelast_names + p.last_names))) for p in entry.persons["author"]
        ]
        who = " and ".join(people) if len(people) < 3 else f"{people[0]} et al."
        found[key] = f"{who} {entry.fields.get('year', '')}".strip()
    return found


def _counts(listed: list[tuple[str, Table, Claim]]) -> str:
    lines = []
    for group, name in GROUPS.items():
        mine = [(table, claim) for _, table, claim in listed if ("own" if claim.own else claim.kind) == group]
        for kind, of in (("stored runs", "stored"), ("these runs", "run")):
            judged = [judge(claim, getattr(table, of)).kind for table, claim in mine]
            lines.append([f"{name}, {kind}", *(str(judged.count(v)) for v in VERDICTS)])
    return html(["", *(f"{verdicts.MARKS[v]} {v}" for v in VERDICTS)], lines, "numbers")


def _forest_row(chapter: str, table: Table, claim: Claim, sources: Mapping[str, str]) -> str:
    words = f'<a href="{chapter}.html">{escape(_label(claim, sources))}</a> {escape(claim.statement)}'
    bars = "".join(_bar(*ratio) for ratio in _ratios(table, claim))
    return _row(table, claim, sources, [words, bars, escape(table.cells(claim)[-1])])


def _ratios(table: Table, claim: Claim) -> list[tuple[str, Any, Any, tuple[float, float]]]:
    """(quantity, stored entry, this run's, band), divided by what was published; none where that can't be."""
    printed = claim.published if _many(claim) else (claim.published,) * len(claim.quantity)
    if claim.own or not all(isinstance(p, int | float) and p > 0 for p in printed):
        return []
    if claim.rule[0] in ("holds", "increasing"):
        return []
    found = []
    for name, p, (low, high) in zip(claim.quantity, printed, verdicts.ranges(claim), strict=True):
        entries = [((r or {}).get("quantities") or {}).get(name) for r in (table.stored, table.run)]
        entries = [
            entry and [v / p for v in (entry["value"], *(entry.get("interval") or ()))] for entry in entries
        ]
        if any(entries):
            found.append((name, *entries, (low / p, high / p)))
    return found


def _bar(name: str, stored: list[float] | None, here: list[float] | None, band: tuple[float, float]) -> str:
    low, high = map(_x, band)
    parts = [
        f'<rect class="band" x="{low:.1f}" y="2" width="{max(high - low, 1):.1f}" height="{HEIGHT - 4}"/>'
    ]
    parts.append(f'<line class="one" x1="{_x(1)}" x2="{_x(1)}" y1="0" y2="{HEIGHT}"/>')
    said = []
    for kind, y, entry in (("stored", 8, stored), ("here", 15, here)):
        if entry is None:
            continue
        value, *ends = entry
        if ends:
            parts.append(
                f'<line class="{kind}" x1="{_x(ends[0]):.1f}" x2="{_x(ends[1]):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle class="{kind}" cx="{_x(value):.1f}" cy="{y}" r="3.2"/>')
        said.append(
            f"{'stored run' if kind == 'stored' else 'this run'} {number(value)} of the published number"
        )
    label = escape(f"{name}: {', '.join(said)}; from {number(band[0])} to {number(band[1])} counts")
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'


def _axis() -> str:
    marks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    names = ["⅛", "¼", "½", "1", "2", "4", "8"]
    text = "".join(
        f'<text x="{_x(m):.1f}" y="14" text-anchor="middle">{n}</text>'
        for m, n in zip(marks, names, strict=True)
    )
    return f'<svg role="img" aria-label="measured over published" viewBox="0 0 {WIDTH} {HEIGHT}">{text}</svg>'


def _x(ratio: float) -> float:
    """Where a ratio stands; beyond the plot, at its edge."""
    at = math.log(min(max(ratio, 1 / EDGE), EDGE)) / math.log(EDGE) if ratio > 0 else -1.0
    return WIDTH / 2 + at * (WIDTH / 2 - 8)


def _row(table: Table, claim: Claim, sources: Mapping[str, str], cells: list[str]) -> str:
    marks = f'data-source="{escape(_source(claim, sources))}" data-verdict="{_verdict(table, claim)}"'
    return f"<tr {marks}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdict(table: Table, claim: Claim) -> str:
    """The stored run's where it says something, else this run's."""
    stored = judge(claim, table.stored).kind
    return stored if stored != verdicts.NOT_RUN else judge(claim, table.run).kind


def _source(claim: Claim, sources: Mapping[str, str]) -> str:
    return sources.get(claim.source, claim.source) or "ours"


def _label(claim: Claim, sources: Mapping[str, str]) -> str:
    return ", ".join(part for part in (_source(claim, sources), claim.where) if part) + ":"


def _many(claim: Claim) -> bool:
    return isinstance(claim.published, tuple) and len(claim.published) == len(claim.quantity)


def _select(name: str, values: list[str]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    return f'<label>{name} <select name="{name}"><option value="">all</option>{options}</select></label> '


def _raw(text: str) -> str:
    return "\n".join(["```{raw} html", text.strip(), "```"])
