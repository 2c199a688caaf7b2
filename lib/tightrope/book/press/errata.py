"""The page "Where the sources slip": every entry of slips.yml, with its counterexample and the number that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tightrope.book.claims import Table
from tightrope.book.slips import Slip
from tightrope.book.tables import measured

Record = Mapping[str, Any] | None


def page(slips: Sequence[Slip], tables: Mapping[str, Table], sources: Mapping[str, str]) -> str:
    """The page as MyST text, by source. tables: the chapters' runs. sources: names by key of the bibliography."""
    parts = []
    for source in dict.fromkeys(slip.source for slip in slips):
        mine = [slip for slip in slips if slip.source == source]
        parts += [f"## {sources.get(source, source)}", f"{{cite:t}}`{source}`: {_count(len(mine), 'slip')}."]
        for slip in mine:
            parts += _entry(slip, tables.get(slip.chapter))
    return "\n\n".join(parts) + "\n"


def _entry(slip: Slip, table: Table | None) -> list[str]:
    stale = " (stale)" if table and table.stale else ""
    runs = {f"stored run{stale}": table and table.stored, "this run": table and table.run}
    shown = [f"{name} {said}" for name, record in runs.items() if (said := numbers(slip, record))]
    what = f"{slip.measures[:1].upper()}{slip.measures[1:]}: " if slip.measures else ""
    return [
        f"### {slip.where[:1].upper()}{slip.where[1:]}",
        f"**Printed.** {slip.printed}",
        f"**Mended.** {slip.mended}",
        f"**Counterexample.** {slip.counterexample}",
        f"**Measured.** {what}{'; '.join(shown) or 'not run yet'}. {{ref}}`The cell that shows it <{slip.anchor}>`.",
    ]


def numbers(slip: Slip, record: Record) -> str:
    """The numbers of a run that show the failure; empty where it lacks one of them."""
    found = [((record or {}).get("quantities") or {}).get(name) for name in slip.quantity]
    if None in found:
        return ""
    return ", ".join(
        f"{measured(e['value'], e.get('interval'))} {e.get('unit') or ''}".rstrip() for e in found
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)
