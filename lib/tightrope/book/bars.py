"""Measured over published, drawn: one small bar a quantity, on a log axis, with its interval and what counts. SVG that
takes the page's colours. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tightrope.book import verdicts
from tightrope.book.statements import Claim
from tightrope.book.tables import number

EDGE = 8.0  # the axis ends at a factor of this
WIDTH, HEIGHT = 240, 22
TICKS = {1 / 8: "⅛", 1 / 4: "¼", 1 / 2: "½", 1: "1", 2: "2", 4: "4", 8: "8"}
_NAMES = {"stored": "stored run", "here": "this run"}

Record = Mapping[str, Any] | None
# A quantity, what the stored run and this one have of it (value, low, high; None where nothing), what counts.
Ratio = tuple[str, dict[str, list[float]], tuple[float, float]]


def ratios(claim: Claim, stored: Record, here: Record) -> list[Ratio]:
    """Everything about a claim divided by what was published; nothing where that is no positive number."""
    if not all(isinstance(p, int | float) and p > 0 for p in claim.printed):
        return []
    if claim.rule[0] in ("holds", "increasing"):
        return []
    found = []
    for name, p, (low, high) in zip(claim.quantity, claim.printed, verdicts.ranges(claim), strict=True):
        entries = {
            k: ((r or {}).get("quantities") or {}).get(name) for k, r in (("stored", stored), ("here", here))
        }
        parts = {
            k: [v / p for v in (e["value"], *(e.get("interval") or ()))] for k, e in entries.items() if e
        }
        if parts:
            found.append((name, parts, (low / p, high / p)))
    return found


def drawn(claim: Claim, stored: Record, here: Record) -> str:
    """The bars of a claim, one under the other: the stored run filled, this run hollow."""
    return "".join(map(_bar, ratios(claim, stored, here)))


def named(claim: Claim, stored: Record, here: Record) -> str:
    """The same, each with its quantity's name before it where there are several, over an axis of its own for phones."""
    found = ratios(claim, stored, here)
    of = dict(zip(claim.quantity, labels(claim.quantity), strict=True))
    lines = "".join(_line(of[ratio[0]] if len(claim.quantity) > 1 else "", _bar(ratio)) for ratio in found)
    scale = axis().replace('role="img"', 'aria-hidden="true"')  # it is read once, in the table's head
    return lines + _line("", scale, "tightrope-line tightrope-scale")


def labels(quantities: Sequence[str]) -> list[str]:
    """What tells quantities apart: their names without the parts that all of them begin or end with.

    >>> labels(["table1.raw.u1.p5", "table1.raw.perp.p5"]), labels(["rise"])
    (['u1', 'perp'], ['rise'])
    """
    parts = [name.split(".") for name in quantities]
    shortest = min(map(len, parts)) - 1
    first = next((i for i in range(shortest) if len({p[i] for p in parts}) > 1), shortest)
    last = next((i for i in range(shortest - first) if len({p[-1 - i] for p in parts}) > 1), shortest - first)
    return [".".join(p[first : len(p) - last]) for p in parts]


def head() -> str:
    """The axis over a column of named bars."""
    return _line("", axis())


def axis() -> str:
    """The axis, for the head of a column of bars."""
    text = "".join(f'<text x="{x(m):.1f}" y="14" text-anchor="middle">{t}</text>' for m, t in TICKS.items())
    return _svg("measured over published", text)


def x(ratio: float) -> float:
    """Where a ratio stands; beyond the axis, at its edge."""
    at = math.log(min(max(ratio, 1 / EDGE), EDGE)) / math.log(EDGE) if ratio > 0 else -1.0
    return WIDTH / 2 + at * (WIDTH / 2 - 8)


def _bar(ratio: Ratio) -> str:
    name, parts, band = ratio
    low, high = map(x, band)
    shapes = (
        f'<rect class="band" x="{low:.1f}" y="2" width="{max(high - low, 1):.1f}" height="{HEIGHT - 4}"/>'
    )
    shapes += f'<line class="one" x1="{x(1)}" x2="{x(1)}" y1="0" y2="{HEIGHT}"/>'
    said = []
    for (kind, (value, *ends)), y in zip(parts.items(), (8, 15) if len(parts) > 1 else (11,), strict=True):
        if ends:
            shapes += f'<line class="{kind}" x1="{x(ends[0]):.1f}" x2="{x(ends[1]):.1f}" y1="{y}" y2="{y}"/>'
        shapes += f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y}" r="3.2"/>'
        said.append(f"{_NAMES[kind]} {number(value)} times the published number")
    return _svg(f"{name}: {', '.join(said)}; from {number(band[0])} to {number(band[1])} counts", shapes)


def _line(name: str, svg: str, kind: str = "tightrope-line") -> str:
    return f'<div class="{kind}"><small>{escape(name)}</small>{svg}</div>'


def _svg(label: str, shapes: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    label = escape(label)
    return f'<svg class="tightrope-bar" role="img" aria-label="{label}" {size}><title>{label}</title>{shapes}</svg>'
