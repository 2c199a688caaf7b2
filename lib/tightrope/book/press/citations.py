"""A Sphinx extension: in the list of references an entry is called by authors and year, as it is where it is cited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle

STYLE = "authors_and_year"  # `bibtex_default_style` in _config.yml


def setup(app) -> dict:
    register_plugin("pybtex.style.formatting", STYLE, _Style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def name(entry: Entry) -> str:
    """Authors and year of an entry, "Ortiz-Jiménez et al. 2020"."""
    people = [str(Text.from_latex(" ".join(p.prelast_names + p.last_names))) for p in entry.persons["author"]]
    who = " and ".join(people) if len(people) < 3 else f"{people[0]} et al."
    return f"{who} {entry.fields.get('year', '')}".strip()


class AuthorsAndYear(BaseLabelStyle):
    """Labels of entries: their names, with a letter after a name that two have."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        names = [name(entry) for entry in sorted_entries]
        seen: Counter[str] = Counter()
        for one in names:
            seen[one] += 1
            yield one + (chr(ord("a") + seen[one] - 1) if names.count(one) > 1 else "")


class _Style(Style):
    default_label_style = AuthorsAndYear
    default_sorting_style = "author_year_title"
