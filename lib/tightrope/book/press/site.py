"""From executed chapters to the site: stage the sources, build them with warnings as errors, swap the site in.

`build/src` holds what Sphinx reads: the configuration and a copy of `book/` in which each chapter's pair is one
notebook, today's text with the kept outputs. `build/work` is built into. Only a site that was built without a
warning and checked takes the place of `build/_build/html`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from nbformat import NotebookNode

from tightrope.book.checkout import Checkout, Failed, Stop, write, write_if_changed
from tightrope.book.code import digest
from tightrope.book.press import checks, execute, keys, pairs, pictures

NOT_EXECUTED = (
    ":::{admonition} Not executed in this build\n:class: note\n"
    "This page shows the text alone. `make book CHAPTERS={number}` runs it.\n:::"
)
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
SCORECARD = "% scorecard"


def publish(checkout: Checkout, jobs: list[execute.Job], out: Path | None = None) -> Path:
    """Build the site from finished executions; returns its first page.

    jobs: one a chapter, all of one profile. out: the folder to work in (`build`); the site is `<out>/_build/html`.
    Failed: what Sphinx or the checks complain about; the site that was there stays.
    """
    out = out or checkout.build
    source, site = out / "src", out / "_build" / "html"
    _recover(site)
    stage(checkout, jobs, source)
    state = _state(source)
    kept = out / "site.json"
    if not ((site / "index.html").is_file() and kept.is_file() and kept.read_text() == state):
        built = build(source, out / "work")
        write(built / "index.html", _redirect(checkout.pages()[0]))
        problems = checks.site(built)
        if problems:
            raise Failed("The built pages are not fit to publish:\n" + "\n".join(f"  {p}" for p in problems))
        kept.unlink(missing_ok=True)
        _swap(built, site)
        write(kept, state)
    return site / "index.html"


def stage(checkout: Checkout, jobs: list[execute.Job], source: Path) -> None:
    """Make `source` hold what Sphinx reads; files that are right already are not touched."""
    by_chapter = {job.chapter: job for job in jobs}

    def drawn(chapter: str) -> NotebookNode | None:
        return _page(by_chapter[chapter])[0] if chapter in by_chapter else None

    wanted = {Path(name): (checkout.root / name).read_bytes() for name in ("_config.yml", "_toc.yml")}
    pages = set(checkout.pages())
    for path in sorted(checkout.book.rglob("*")):
        name = path.relative_to(checkout.root)
        page = name.with_suffix("").as_posix()
        skipped = path.suffix in (".md", ".ipynb", ".npz") and page not in pages
        if path.is_dir() or skipped or any(part.startswith(".") for part in name.parts):
            continue
        if path.stem in by_chapter and page in pages:
            if path.suffix == ".md":
                wanted[name.with_suffix(".ipynb")] = chapter_page(by_chapter[path.stem]).encode()
        elif path.suffix == ".md":
            text, files = pictures.gather(_plain_page(checkout, jobs, path), drawn)
            wanted[name] = text.encode()
            wanted |= {name.parent / file: png for file, png in files.items()}
        elif path.suffix != ".ipynb":
            wanted[name] = path.read_bytes()
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(source) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        write_if_changed(source / name, content)


def chapter_page(job: execute.Job) -> str:
    """The notebook that a chapter's page is made from, as text."""
    page, done = _page(job)
    if done is None:
        number = re.match(r"\d*", job.chapter).group() or job.chapter
        strip = NOT_EXECUTED.replace("{number}", number)
        pictures.hold_places(page)
    else:
        record = execute.recorded(job.checkout, job.profile, job.chapter)
        strip = run_strip(done.metadata["tightrope"], record or {})
    pairs.insert_below_title(page, strip)
    page.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return pairs.to_json(page)


def _page(job: execute.Job) -> tuple[NotebookNode, NotebookNode | None]:
    """Today's text with the outputs of the finished execution, and that; without outputs, and None, if none fits."""
    text = pairs.read_text(job.checkout.text(job.chapter))
    done = execute.finished(job.checkout, job.profile, job.chapter)
    if done is not None and done.metadata["tightrope"]["key"] == job.key:
        page = pairs.merge(text, done)
        if page is not None:
            return page, done
    return text, None


def run_strip(about: dict, record: dict) -> str:
    """One line about a run, for the top of its page: how it was run, on what, when, from which code.

    about: what the executor noted; record: the chapter's own, or {}.
    """
    minutes, seconds = divmod(round(about["seconds"]), 60)
    device = record.get("device_name") or record.get("device") or about["device"]
    seed, seeds = about["seed"], record.get("sizes", {}).get("seeds", 1)
    parts = [
        f"**This run** {about['profile']} profile",
        str(device),
        f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s",
        f"seeds {seed} to {seed + seeds - 1}" if isinstance(seeds, int) and seeds > 1 else f"seed {seed}",
        str(record.get("date") or about["date"])[:10],
    ]
    if record.get("commit"):
        parts.append(f"commit `{record['commit'][:9]}`{' with changes' if record.get('dirty') else ''}")
    versions = record.get("versions", {})
    if "torch" in versions:
        parts.append(f"torch {versions['torch']}")
    parts += [f"`{name}={value!r}`" for name, value in about["parameters"].items()]
    return ":::{div} run-strip\n" + " · ".join(parts) + "\n:::"


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
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
    )
    if done.returncode:
        said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
        said = said.replace(f"{source.resolve()}{os.sep}", "").replace(f"{source}{os.sep}", "")
        raise Failed(f"The pages could not be built without a warning:\n{_relevant(said)}")
    return work / "_build" / "html"


def finished_records(jobs: list[execute.Job]) -> dict[str, dict]:
    """The records of the executions that are finished and of today's code: {chapter: record}."""
    found = {
        job.chapter: execute.recorded(job.checkout, job.profile, job.chapter) for job in jobs if job.is_done()
    }
    return {chapter: record for chapter, record in found.items() if record}


def scorecard(checkout: Checkout, jobs: list[execute.Job]) -> str:
    """Every claim beside what was measured, as MyST text."""
    listed = checkout.book / "claims.yml"
    if not listed.is_file():
        return "No claims are listed yet."
    from tightrope.book import claims, records

    try:
        stored = {job.chapter: records.stored(job.chapter, checkout) for job in jobs}
        kept = {chapter: run for chapter, run in stored.items() if run}
        shown = [claim for claim in claims.load(listed) if claim.chapter in {job.chapter for job in jobs}]
        titles = {job.chapter: pairs.title(pairs.read_text(checkout.text(job.chapter))) for job in jobs}
        return claims.scorecard(finished_records(jobs), kept, shown, titles)
    except ValueError as error:
        raise Stop(str(error)) from None


def _plain_page(checkout: Checkout, jobs: list[execute.Job], path: Path) -> str:
    lines = path.read_text().split("\n")
    if SCORECARD in lines:
        lines[lines.index(SCORECARD)] = scorecard(checkout, jobs)
    return "\n".join(lines)


def _state(source: Path) -> str:
    files = sorted(p for p in source.rglob("*") if p.is_file())
    parts = [f"{p.relative_to(source).as_posix()} {digest(p.read_bytes())}" for p in files]
    return digest(*toolchain(), *parts)


def toolchain() -> list[str]:
    """The packages that turn sources into pages, with their versions, and the local extension's own code."""
    packages = (
        "jupyter-book",
        "sphinx",
        "sphinx-book-theme",
        "sphinx-mathjax-offline",
        "sphinx-proof",
        "myst-nb",
    )
    local = Path(__file__).with_name("offline.py").read_text("utf-8")
    return [*(f"{name} {keys.installed(name)}" for name in packages), local]


def _relevant(said: str) -> str:
    lines = [line for line in said.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|rror:", line)]
    return "\n".join(f"  {line}" for line in (lines or said.splitlines()[-20:]))


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
