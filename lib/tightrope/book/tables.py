"""Numbers as a person writes them, and small tables for pages: HTML that takes the page's colours and scrolls on a
phone, and text elsewhere. No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

ROUNDING = 1e-9  # what is smaller is an error of rounding, or stands for none
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def html(
    head: Sequence[str], rows: Sequence[Sequence[str]], kind: str, made: Sequence[str] = (), caption: str = ""
) -> str:
    """An HTML table of class `tightrope-<kind>`; head, rows and caption are HTML, `made` are rows with their tags."""
    titles = "".join(f'<th scope="col">{title}</th>' if title else "<td></td>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    lines += "".join(made)
    scrolls = (
        '<div class="tightrope-scroll" style="overflow-x:auto" tabindex="0" role="group" aria-label="Table">'
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    head_row = f"<thead><tr>{titles}</tr></thead>"
    return f'{scrolls}<table class="tightrope-{kind}">{above}{head_row}<tbody>{lines}</tbody></table></div>'


def inline(text: str) -> str:
    """Text as HTML, with `$...$` set as a formula, on a page and in a notebook.

    >>> inline("a < $b$")
    'a &lt; <span class="math notranslate nohighlight" role="math" aria-label="b">\\\\(b\\\\)</span>'
    """
    formula = r'<span class="math notranslate nohighlight" role="math" aria-label="\1">\\(\1\\)</span>'
    return re.sub(r"\$([^$]+)\$", formula, escape(text))


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
            cells = [escape(number(value, None)) for value in row]
            cells[self._column] = f"<strong>{cells[self._column]}</strong>"
            rows.append([f"<code>{escape(name)}</code>", *cells])
        return html(["size", *head], rows, "sizes")

    def __repr__(self) -> str:
        head = [f"[{p}]" if i == self._column else p for i, p in enumerate(self._profiles)]
        return aligned(
            [
                ["size", *head],
                *([name, *(number(value, None) for value in row)] for name, row in self._table.items()),
            ]
        )


@dataclass(frozen=True)
class Table:
    """Rows under a head, the first column naming the row; numbers and results as `number` writes them.

    `mark` is the index of a column to set in bold, such as this run's; None is a cell without a number. `caption`
    stands above the table, and on a page its number before it. In all texts `$...$` is a formula.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    mark: int | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"Every row of this table needs {len(self.head)} cells, one for each head.")

    def _repr_html_(self) -> str:
        return html(
            [self._bold(i, inline(h)) for i, h in enumerate(self.head)],
            [[self._bold(i, inline(_cell(c))) for i, c in enumerate(row)] for row in self.rows],
            "numbers",
            caption=inline(self.caption),
        )

    def _bold(self, column: int, text: str) -> str:
        return f"<strong>{text}</strong>" if column == self.mark else text

    def __repr__(self) -> str:
        lines = aligned([list(self.head), *([_cell(c) for c in row] for row in self.rows)])
        return f"{self.caption}\n{lines}" if self.caption else lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Text in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _cell(content: object) -> str:
    return "–" if content is None else number(content)


def number(value: object, digits: int | None = 3) -> str:
    """A number as a person writes it, to `digits` significant ones; None: as it was set (a size, a printed value).

    Yes and no for truth values, a list for a sequence, text as it is. An infinite length is a boundary not met.

    >>> number(12.36), number(102.04), number(5.1e-7), number(10_000), number(math.inf), number((0.5, 3), None)
    ('12.4', '102', '5.10·10⁻⁷', '10,000', 'not met', '0.5, 3')
    >>> number(1e-10, None), number(-2.5e20, None), number(30.0, None)
    ('10⁻¹⁰', '−2.5·10²⁰', '30')
    """
    if math.prod(getattr(value, "shape", (2,))) == 1:  # of numpy's or torch's, which this module does without
        value = value.item()
    if isinstance(value, tuple | list):
        return ", ".join(number(item, digits) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return raised(f"{value:,}")
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "not met" if value > 0 else "–"
    shown = 6 if digits is None else digits
    power = int(f"{value:.{shown - 1}e}".split("e")[1]) if value else 0
    if not value or 1e-3 <= abs(value) < 1e5:
        text = f"{value:,.{max(0, shown - 1 - power) if value else 0}f}"
    else:
        text = f"{value:.{shown - 1}e}"
    if digits is None and "." in text:
        text = re.sub(r"\.?0+(?=e|$)", "", text, count=1)
    return raised(text)


def raised(text: str) -> str:
    """5e-07 as 5·10⁻⁷, 1e-10 as 10⁻¹⁰, 0e+00 as 0, and -1 with a minus sign, for pages and terminals alike."""
    text = re.sub(r"^-?0(\.0*)?e[+-]\d+$", "0", text)
    text = re.sub(r"e([+-]\d+)$", lambda e: "·10" + str(int(e[1])).translate(_RAISED), text)
    return re.sub(r"^([+-]?)1·10", r"\g<1>10", text).replace("-", "−")


def measured(value: object, interval: Sequence[float] | None = None, dash: str = " to ") -> str:
    """A number with its interval in brackets, where the two ends are printed differently. What is nothing but
    rounding has one digit.

    >>> measured(2.5, (1, 3)), measured(0.99, (0.99, 0.9901)), measured(1.23e-15, (1e-16, 4e-15))
    ('2.50 (1 to 3)', '0.990', '10⁻¹⁵ (10⁻¹⁶ to 4·10⁻¹⁵)')
    """
    ends = tuple(interval or ())
    size = max(map(abs, (value, *ends)))
    said, *around = (number(part, 1 if size < ROUNDING else 3) for part in (value, *ends))
    return f"{said} ({dash.join(around)})" if len(set(around)) > 1 else said
