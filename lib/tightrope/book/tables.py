"""Small tables for pages: HTML that takes the page's colours and scrolls on a phone, and text elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


def html(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str) -> str:
    """An HTML table of class `tightrope-<kind>`; head and rows are HTML."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="tightrope-scroll" style="overflow-x:auto"><table class="tightrope-{kind}">'
        f"<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


class Sizes:
    """The sizes of every profile: this profile's as attributes, all of them as a table where it is displayed."""

    def __init__(self, table: Mapping[str, Sequence[object]], profiles: Sequence[str], profile: str) -> None:
        self._table, self._profiles, self._column = dict(table), profiles, list(profiles).index(profile)

    def __getattr__(self, name: str) -> Any:
        table = self.__dict__.get("_table", {})
        if name not in table:
            raise AttributeError(f"There is no size {name!r}; the sizes are {', '.join(table)}.")
        return table[name][self._column]

    def _repr_html_(self) -> str:
        head = [p + " (this run)" * (i == self._column) for i, p in enumerate(self._profiles)]
        rows = []
        for name, row in self._table.items():
            cells = [escape(shown(value)) for value in row]
            cells[self._column] = f"<strong>{cells[self._column]}</strong>"
            rows.append([f"<code>{escape(name)}</code>", *cells])
        return html(["size", *head], rows, "sizes")

    def __repr__(self) -> str:
        head = [f"[{p}]" if i == self._column else p for i, p in enumerate(self._profiles)]
        return aligned([["size", *head], *([name, *map(shown, row)] for name, row in self._table.items())])


@dataclass(frozen=True)
class Table:
    """Rows under a head, the first column naming the row; numbers as `number` writes them.

    `mark` is the index of a column to set in bold, such as this run's.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    mark: int | None = None

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"Every row of this table needs {len(self.head)} cells, one for each head.")

    def _repr_html_(self) -> str:
        return html(
            [self._bold(i, escape(h)) for i, h in enumerate(self.head)],
            [[self._bold(i, escape(number(c))) for i, c in enumerate(row)] for row in self.rows],
            "numbers",
        )

    def _bold(self, column: int, text: str) -> str:
        return f"<strong>{text}</strong>" if column == self.mark else text

    def __repr__(self) -> str:
        return aligned([list(self.head), *([number(c) for c in row] for row in self.rows)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Text in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def number(value: object, digits: int = 3) -> str:
    """A number to `digits` significant ones, as a person would write it; infinity is a boundary out of reach.

    >>> number(12.36), number(102.04), number(5.1e-7), number(10_000), number(float("inf"))
    ('12.4', '102', '5.10e-07', '10,000', 'not met')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not met" if value > 0 else "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{places}f}"


def shown(value: object) -> str:
    """A number, text or sequence as a reader likes to see it.

    >>> shown((1_000, 0.5, 4.123456))
    '1,000, 0.5, 4.123'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(shown, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
