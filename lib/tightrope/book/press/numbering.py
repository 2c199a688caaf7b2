"""A Sphinx extension: a chapter has the number of its file, `04-low-rank-features` is chapter 4, also while chapters
before it are still to be written. Sections, figures, equations and theorems follow.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector  # counts for _toc.yml


def setup(app) -> dict:
    app.connect("builder-inited", _wrap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _wrap(app) -> None:
    counted = Collector.assign_section_numbers
    if getattr(counted, "by_file", False):
        return

    def assign_section_numbers(self, env) -> list[str]:
        changed = counted(self, env)
        for page, numbers in env.toc_secnumbers.items():
            name = re.match(r"(?:.*/)?(\d+)-", page)
            if name and numbers:
                _renumber(env, page, int(name[1]))
        return changed

    assign_section_numbers.by_file = True
    Collector.assign_section_numbers = assign_section_numbers


def _renumber(env, page: str, chapter: int) -> None:
    numbers = env.toc_secnumbers[page]
    for anchor, number in numbers.items():
        numbers[anchor] = (chapter, *number[1:])
    for node in [env.titles[page], *env.tocs[page].findall(nodes.reference)]:
        if node.get("secnumber"):
            node["secnumber"] = [chapter, *node["secnumber"][1:]]
