"""A copy of each chapter's notebook that reads well outside of the site, in JupyterLab, in Colab, on GitHub: what only
Sphinx understands is plain Markdown there, with the numbers that the built pages gave to figures, equations and
theorems. The download button and the launch buttons lead to these copies.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from tightrope.book.checkout import YAML, read, write
from tightrope.book.press import ledger, pairs

_DIRECTIVE = re.compile(r"(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<title>.*)")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_OPTION = re.compile(r":([\w-]+):[ \t]*(.*)")
_ROLE = re.compile(r"(?<!`)\{(?P<name>[a-z][\w:]*)\}(?P<ticks>`+)(?P<text>.+?)(?P=ticks)", re.S)
_EQUATION = re.compile(r"\n?[ \t]*\$\$[ \t]*\((?P<label>[\w-]+)\)[ \t]*$", re.M)
_LINK = re.compile(r"\]\((?P<page>[\w-]+)(?P<anchor>#[\w-]+)?\)")
_UNSEEN = re.compile(r"\([\w-]+\)=|%( .*)?")  # targets and comments
_TITLED = re.compile(r"(?P<title>.*?)\s*<(?P<target>[^<>]+)>", re.S)
_HIDDEN = {"hide-input", "hide-cell", "remove-cell", "remove-input"}


@dataclass
class Names:
    """What the built pages call things.

    site: where they will lie, "" where nobody knows. titles: of pages. numbers: "Fig. 1.2" by label. pages: which page
    holds a label. sources: authors with year, and an address, by key of the bibliography.
    """

    site: str = ""
    titles: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)

    def link(self, text: str, page: str, anchor: str = "") -> str:
        return f"[{text}]({self.site}book/{page}.html{anchor})" if self.site else text


def write_all(source: Path, built: Path) -> None:
    """Put the copies where the download buttons of built pages look for them. source: what they were built from."""
    names = collected(source, built)
    for notebook in sorted(source.rglob("*.ipynb")):
        copied = copy(pairs.read_notebook(notebook), notebook.stem, names)
        write(built / "_sources" / notebook.relative_to(source), pairs.to_json(copied))


def collected(source: Path, built: Path) -> Names:
    """The names of everything on built pages."""
    config = yaml.load(read(source / "_config.yml"), YAML)
    names = Names(site=(config.get("html") or {}).get("baseurl", ""))
    for path in sorted((built / "book").glob("*.html")):
        page = BeautifulSoup(path.read_bytes(), "html.parser", from_encoding="utf-8")
        if heading := page.select_one("article h1"):
            for mark in heading.select(".section-number, .headerlink"):
                mark.decompose()
            names.titles[path.stem] = heading.get_text().strip()
        for element in page.select("article [id]"):
            names.pages[element["id"].removeprefix("equation-")] = path.stem
        for element in page.select("article :is(figure, div.admonition, div.math)[id]"):
            if number := element.select_one(".caption-number, .eqno"):
                text = "".join(number.find_all(string=True, recursive=False)).strip()
                names.numbers[element["id"].removeprefix("equation-")] = text
        for link in page.select("article a.reference.internal[href*='#']"):
            names.numbers.setdefault(link["href"].partition("#")[2], link.get_text().strip())
    bibliography = source / "book" / "references.bib"
    if bibliography.is_file():
        addresses = ledger.addresses(bibliography)
        names.sources = {key: (said, addresses[key]) for key, said in ledger.names(bibliography).items()}
    return names


def copy(notebook: NotebookNode, page: str, names: Names) -> NotebookNode:
    """The notebook in plain Markdown: its code and outputs are as they were, its figures have their captions."""
    cells = []
    for cell in notebook.cells:
        tags = set(pairs.tags(cell))
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, page, names)
        hidden = {"source_hidden": bool(tags & _HIDDEN), "outputs_hidden": "hide-output" in tags}
        cell.metadata = {"jupyter": {k: v for k, v in hidden.items() if v}} if any(hidden.values()) else {}
        cells.append(cell)
        if cell.cell_type == "code" and cell.outputs and figure.get("caption"):
            number = names.numbers.get(figure.get("name", ""), "")
            caption = plain(textwrap.dedent(figure["caption"]).strip(), page, names)
            said = f"**{number}.** {caption}" if number else caption
            cells.append(new_markdown_cell(said, id=f"{cell.id}-caption"[-64:]))
    notebook.cells = cells
    notebook.metadata = {"kernelspec": dict(pairs.KERNEL), "language_info": {"name": "python"}}
    if names.site:
        whole = names.link(names.titles.get(page, page), page)
        pairs.insert_below_title(notebook, f"*A copy to run. Its page on the site: {whole}.*")
    return notebook


def plain(text: str, page: str, names: Names) -> str:
    """MyST text of a page as plain Markdown."""
    lines = iter(text.split("\n"))
    blocks: list[str] = []
    prose: list[str] = []

    def flush() -> None:
        blocks.append(_prose("\n".join(prose), page, names))
        prose.clear()

    for line in lines:
        if opened := _DIRECTIVE.fullmatch(line.strip()):
            flush()
            body = list(_until(lines, opened["fence"]))
            blocks.append(_directive(opened["name"], opened["title"], body, page, names))
        elif opened := _FENCE.match(line.strip()):
            flush()
            blocks.append("\n".join([line, *_until(lines, opened[1]), opened[1]]))
        elif not _UNSEEN.fullmatch(line):
            prose.append(line)
    flush()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(blocks)).strip("\n")


def _until(lines: Iterator[str], fence: str) -> Iterator[str]:
    """The lines up to the end of a block that `fence` began."""
    for line in lines:
        closing = line.strip()
        if len(closing) >= len(fence) and set(closing) == {fence[0]}:
            return
        yield line


def _directive(name: str, title: str, body: list[str], page: str, names: Names) -> str:
    options: dict[str, str] = {}
    while body and (option := _OPTION.fullmatch(body[0])):
        options[option[1]] = option[2]
        body = body[1:]
    inside = plain("\n".join(body), page, names)
    title, kind = _prose(title, page, names), name.removeprefix("prf:")
    number = names.numbers.get(options.get("label", ""), "")
    match kind:
        case "math":
            return f"\n$$\n{inside}\n$$\n"
        case "div":
            return f"\n{inside}\n"
        case "figure":  # a place that is held
            return f"\n*{inside}*\n"
        case "solution":
            of = names.numbers.get(title, "the exercise")
            return _folded(f"Solution of {of}", inside)
        case "dropdown":
            return _folded(title, inside)
        case "proof":
            return f"\n*Proof.* {inside}\n"
        case "admonition" | "note" | "tip" | "hint" | "important" | "warning" | "seealso":
            said = f"**{title or kind.capitalize()}**\n\n{inside}"
            quoted = "\n".join(f"> {line}".rstrip() for line in said.split("\n"))
            return f"\n{said if _broken_maths(inside) else quoted}\n"
    said = number or kind.replace("-", " ").capitalize()
    return f"\n**{said}{f' ({title})' if title else ''}.**\n\n{inside}\n"


def _broken_maths(text: str) -> bool:
    """Whether a formula runs over a line's end: in a quotation Jupyter would take the next line's mark for a part."""
    return any(line.count("$") % 2 or "$$" in line for line in text.split("\n"))


def _folded(title: str, inside: str) -> str:
    return f"\n<details>\n<summary>{title}</summary>\n\n{inside}\n\n</details>\n"


def _prose(text: str, page: str, names: Names) -> str:
    text = _EQUATION.sub(lambda m: _tagged(names.numbers.get(m["label"], "")), text)
    text = _ROLE.sub(lambda m: _role(m["name"], m["text"], page, names), text)
    known = lambda m: m["page"] in names.titles
    return _LINK.sub(
        lambda m: (
            f"]({names.site}book/{m['page']}.html{m['anchor'] or ''})" if known(m) and names.site else m[0]
        ),
        text,
    )


def _tagged(number: str) -> str:
    tag = number.strip("()")
    return f" \\tag{{{tag}}}\n$$" if tag else "\n$$"


def _role(name: str, text: str, page: str, names: Names) -> str:
    titled = _TITLED.fullmatch(text)
    title, target = (titled["title"], titled["target"]) if titled else ("", text)
    match name:
        case "math":
            return f"${text}$"
        case "cite" | "cite:p" | "cite:t":
            return _cited([key.strip() for key in text.split(",")], name == "cite:t", names)
        case "doc":
            stem = target.rsplit("/", 1)[-1]
            return names.link(title or names.titles.get(stem, stem), stem)
        case "numref" | "ref" | "eq" | "prf:ref":
            said = title or names.numbers.get(target) or target
            at = names.pages.get(target, page)
            anchor = f"#equation-{target}" if name == "eq" else f"#{target}"
            return said if at == page else names.link(said, at, anchor)
    if name.startswith("py:"):
        at = names.pages.get(target)
        said = f"`{title or target}`"
        return names.link(said, at, f"#{target}") if at else said
    return title or text


def _cited(keys: list[str], in_text: bool, names: Names) -> str:
    said = []
    for key in keys:
        text, address = names.sources.get(key, (key, ""))
        text = re.sub(r" (\d{4})$", r" (\1)", text) if in_text else text
        said.append(f"[{text}]({address})" if address else text)
    return ", ".join(said) if in_text else f"({'; '.join(said)})"
