"""From executed chapters to the site: stage the sources, build them with warnings as errors, swap the site in.

`build/src` holds what Sphinx reads: the configuration and a copy of `book/` in which each chapter's pair is one
notebook, today's text with the kept outputs and today's verdicts. `build/work` is built into. Only a site that was
built without a warning and checked takes the place of `build/_build/html`.
"""

from __future__ import annotations

import copy
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from tightrope.book import claims, records, slips
from tightrope.book.checkout import Checkout, Failed, Stop, read, write, write_if_changed
from tightrope.book.code import digest
from tightrope.book.press import (
    checks,
    copies,
    errata,
    handouts,
    keys,
    ledger,
    pairs,
    pictures,
    plans,
    vouching,
)

NOT_EXECUTED = (
    ":::{{admonition}} Not executed in this build\n:class: note\n"
    "This page shows the text alone. `make book CHAPTERS={number}` runs it.\n:::"
)
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
SCORECARD = "% scorecard"
SLIPS = "% slips"
ASSIGNMENTS = "% assignments"


@dataclass(frozen=True)
class Outcome:
    """What a chapter's page is made of, read once.

    text: today's, with the outputs of the execution where there is one. notebook: that execution, None where none
    is of today's code. record: the numbers it recorded. claims: None where none are listed.
    """

    text: NotebookNode
    notebook: NotebookNode | None
    record: dict | None
    claims: claims.Table | None


def outcomes(checkout: Checkout, jobs: list[plans.Job]) -> dict[str, Outcome]:
    """What came of each chapter, by chapter, in the book's order. Stop: claims or a stored run that can't be read."""
    try:
        listed = claims.load(path) if (path := checkout.book / "claims.yml").is_file() else []
        found = {job.chapter: _outcome(checkout, job, listed) for job in jobs}
    except ValueError as error:
        raise Stop(str(error)) from None
    return {chapter: found[chapter] for chapter in checkout.chapters() if chapter in found}


def _outcome(checkout: Checkout, job: plans.Job, listed: list[claims.Claim]) -> Outcome:
    text, record = pairs.read_text(checkout.text(job.chapter)), None
    done = plans.finished(checkout, job.profile, job.chapter)
    page = pairs.merge(text, done) if done and done.metadata["tightrope"]["key"] == job.key else None
    if page is not None:
        record = plans.recorded(checkout, job.profile, job.chapter)
    own, table = [claim for claim in listed if claim.chapter == job.chapter], None
    if own:
        stored = records.stored(job.chapter, checkout)
        why = vouching.stale(checkout, job.chapter)
        table = claims.Table(own, stored and stored.record, record, why)
    return Outcome(page or text, done if page else None, record, table)


def publish(checkout: Checkout, jobs: list[plans.Job], out: Path | None = None) -> Path:
    """Build the site from finished executions; returns its first page.

    jobs: one a chapter, all of one profile. out: the folder to work in (`build`); the site is `<out>/_build/html`.
    Failed: what Sphinx or the checks complain about; the site that was there stays.
    """
    out = out or checkout.build
    source, site = out / "src", out / "_build" / "html"
    _recover(site)
    stage(checkout, outcomes(checkout, jobs), source)
    state = _state(source)
    kept = out / "site.json"
    if not ((site / "index.html").is_file() and kept.is_file() and read(kept) == state):
        built = build(source, out / "work")
        write(built / "index.html", _redirect(checkout.pages()[0]))
        copies.write_all(source, built)
        problems = checks.site(built)
        if problems:
            raise Failed("The built pages are not fit to publish:\n" + "\n".join(f"  {p}" for p in problems))
        kept.unlink(missing_ok=True)
        _swap(built, site)
        write(kept, state)
    return site / "index.html"


def stage(checkout: Checkout, chapters: Mapping[str, Outcome], source: Path) -> None:
    """Make `source` hold what Sphinx reads; files that are right already are not touched."""
    wanted = {Path(name): (checkout.root / name).read_bytes() for name in ("_config.yml", "_toc.yml")}
    drawn = {chapter: outcome.text for chapter, outcome in chapters.items()}
    for page in map(Path, checkout.pages()):
        if page.name in chapters:
            wanted[page.with_suffix(".ipynb")] = chapter_page(page.name, chapters[page.name]).encode()
            continue
        text = read(checkout.root / f"{page}.md")
        if SLIPS in text.split("\n"):
            text = text.replace(SLIPS, errata_page(checkout, chapters))
        if SCORECARD in text.split("\n"):
            text = text.replace(SCORECARD, scorecard(checkout, chapters))
            for name, content in ledger.files(judged(chapters)).items():
                wanted[page.parent / "_static" / name] = content.encode()
        if ASSIGNMENTS in text.split("\n"):
            listed, notebooks = handouts.page(checkout)
            text = text.replace(ASSIGNMENTS, listed)
            wanted |= {page.parent / name: content for name, content in notebooks.items()}
        text, files = pictures.gather(text, drawn.get)
        wanted[page.with_suffix(".md")] = text.encode()
        wanted |= {page.parent / file: png for file, png in files.items()}
    for path in checkout.book.rglob("*"):
        name = path.relative_to(checkout.root)
        beside = path.suffix not in (".md", ".ipynb", ".npz") and path.is_file()
        if beside and not any(part.startswith(".") for part in name.parts):
            wanted[name] = path.read_bytes()
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(source) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        write_if_changed(source / name, content)


def chapter_page(chapter: str, outcome: Outcome) -> str:
    """The notebook that a chapter's page is made from, as text."""
    page = copy.deepcopy(outcome.text)
    if outcome.notebook is None:
        strip = NOT_EXECUTED.format(number=re.match(r"\d*", chapter).group() or chapter)
        pictures.hold_places(page)
    else:
        strip = run_strip(outcome.notebook.metadata["tightrope"], outcome.record or {})
        _judge(page, outcome.claims)
        _number_tables(page, chapter)
    pairs.insert_below_title(page, strip)
    page.metadata["kernelspec"] = dict(pairs.KERNEL)
    return pairs.to_json(page)


def _judge(page: NotebookNode, table: claims.Table | None) -> None:
    """Put today's claims table where the execution displayed its own."""
    mark = f'class="tightrope-{claims.KIND}"'
    shown = {"text/html": table._repr_html_(), "text/plain": repr(table)} if table else {}
    for cell in page.cells:
        for output in cell.get("outputs", []):
            if mark in output.get("data", {}).get("text/html", ""):
                output["data"] = shown or {"text/plain": "No claims are listed for this chapter."}


def _number_tables(page: NotebookNode, chapter: str) -> None:
    """Put "Table 4.2" before the captions, in their order on the page."""
    number = itertools.count(1)
    first = int(re.match(r"\d*", chapter).group() or 0)

    def numbered(_: re.Match) -> str:
        return f'<caption><span class="caption-number">Table {first}.{next(number)} </span>'

    for cell in page.cells:
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = re.sub("<caption>", numbered, html)


def run_strip(about: dict, record: dict) -> str:
    """One line about a run, for the top of its page: how it was run, on what, when, from which code.

    about: what the executor noted; record: the chapter's own, or {}.
    """
    minutes, seconds = divmod(round(about["seconds"]), 60)
    seed, seeds = about["seed"], record.get("sizes", {}).get("seeds", 1)
    parts = [
        f"**This run** {about['profile']} profile",
        records.machine(record) or str(about["device"]),
        f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s",
        f"seeds {seed} to {seed + seeds - 1}" if isinstance(seeds, int) and seeds > 1 else f"seed {seed}",
        str(record.get("date") or about["date"])[:10],
    ]
    if record.get("commit"):
        parts.append(f"commit `{record['commit'][:9]}`{' with changes' if record.get('dirty') else ''}")
    if torch := record.get("versions", {}).get("torch"):
        parts.append(f"torch {torch}")
    parts += [f"`{name}={value!r}`" for name, value in about["parameters"].items()]
    return ":::{div} run-strip\n" + " · ".join(parts) + "\n:::"


def scorecard(checkout: Checkout, chapters: Mapping[str, Outcome]) -> str:
    """Every claim beside what was measured, as MyST text."""
    tables = judged(chapters)
    titles = {chapter: pairs.title(chapters[chapter].text) or chapter for chapter in tables}
    return ledger.page(tables, titles, _sources(checkout)) if tables else "No claims are listed yet."


def errata_page(checkout: Checkout, chapters: Mapping[str, Outcome]) -> str:
    """Every slip of the sources, as MyST text. Stop: slips that can't be read."""
    path = checkout.book / "slips.yml"
    try:
        listed = slips.load(path) if path.is_file() else []
    except ValueError as error:
        raise Stop(str(error)) from None
    return errata.page(listed, judged(chapters), _sources(checkout)) if listed else "No slips are listed yet."


def _sources(checkout: Checkout) -> dict[str, str]:
    listed = checkout.book / "references.bib"
    return ledger.names(listed) if listed.is_file() else {}


def judged(chapters: Mapping[str, Outcome]) -> dict[str, claims.Table]:
    """The claims' tables, of the chapters that have claims."""
    return {chapter: outcome.claims for chapter, outcome in chapters.items() if outcome.claims}


def build(source: Path, work: Path) -> Path:
    """Build staged sources with Sphinx, warnings as errors; returns the folder of the pages.

    Always from nothing: it takes seconds, and Sphinx's memory of an earlier build can hide warnings, show old
    titles in another page's sidebar, and hold half a page after a kill.
    """
    shutil.rmtree(work, ignore_errors=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(source), "--path-output", str(work)]
    done = subprocess.run(
        [*command, "-q", "-W", "-n", "--keep-going"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
    )
    if done.returncode:
        said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
        said = said.replace(f"{source.resolve()}{os.sep}", "").replace(f"{source}{os.sep}", "")
        lines = [line for line in said.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|rror:", line)]
        relevant = "\n".join(f"  {line}" for line in (lines or said.splitlines()[-20:]))
        raise Failed(f"The pages could not be built without a warning:\n{relevant}")
    return work / "_build" / "html"


def _state(source: Path) -> str:
    files = sorted(p for p in source.rglob("*") if p.is_file())
    parts = [f"{p.relative_to(source).as_posix()} {digest(p.read_bytes())}" for p in files]
    return digest(*toolchain(), *parts)


def toolchain() -> list[str]:
    """The packages that turn sources into pages, with their versions, and our own code that does."""
    packages = (
        "jupyter-book",
        "sphinx",
        "sphinx-book-theme",
        "sphinx-mathjax-offline",
        "sphinx-proof",
        "myst-nb",
    )
    local = [
        Path(__file__).with_name(f"{name}.py").read_text("utf-8")
        for name in ("aria", "citations", "copies", "folding", "numbering", "offline", "reference")
    ]
    return [*(f"{name} {keys.installed(name)}" for name in packages), *local]


def _redirect(page: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Walking the Tightrope</title>'
        f'<meta http-equiv="refresh" content="0; url={page}.html"></head>'
        f'<body><a href="{page}.html">Walking the Tightrope</a></body></html>\n'
    )


def _swap(built: Path, site: Path) -> None:
    """Put a copy of the built pages in the place of the site: for a reader it is the old or the new one."""
    new, old = site.with_name(".html.new"), site.with_name(".html.old")
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(built, new)
    if site.exists():
        os.replace(site, old)
    os.replace(new, site)
    shutil.rmtree(old, ignore_errors=True)


def _recover(site: Path) -> None:
    """Bring the old site back where a swap was cut short between its two renames."""
    old = site.with_name(".html.old")
    if old.is_dir() and not site.exists():
        os.replace(old, site)
