"""From executed chapters to a site: what is staged, what is refused, what stays as it was."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import small_book
from tightrope.book import records
from tightrope.book.checkout import Checkout
from tightrope.book.press import checks, pairs, plans, site

TABLE = """\
from tightrope.book.tables import Table
Table(["$x$"], [[1.0]], caption="One.")"""

CLAIMS = """\
- id: a.b
  own: true
  statement: It is at least so much.
  quantity: q
  chapter: 01-first
  test: {at_least: 1}
"""

SLIPS = """\
- id: slip.a
  source: someone2020
  where: line 1
  chapter: 01-first
  anchor: here
  printed: It is 1.
  mended: It is 2.
  counterexample: It is 2.
  quantity: q
"""

# Records a number without torch, and shows the claims as a chapter does.
JUDGES = """\
import json
import os
from pathlib import Path
from tightrope.book import claims, records
from tightrope.book.checkout import Checkout
record = {"chapter": "01-first", "profile": profile, "seed": seed, "device": "cpu", "quantities": {"q": {"value": 2}}}
record |= {"key": os.environ["TIGHTROPE_KEY"], "stored_key": os.environ["TIGHTROPE_STORED_KEY"]}
records.write(Checkout(Path.cwd().parent).record(profile, "01-first", partial=True), record)
claims.table(record)"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Checkout:
    """A small book, executed and built once."""
    figure = small_book.figure(small_book.FIGURE, "fig-first")
    first = small_book.chapter("first", small_book.COUNTS, JUDGES, TABLE, TABLE) + "\n" + figure
    checkout = small_book.make(tmp_path_factory.mktemp("built"), first=first)
    (checkout.book / "claims.yml").write_text(CLAIMS)
    done = small_book.command(checkout, "book")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"The book is built. Open {(checkout.build / '_build/html/index.html').as_uri()}"
    )
    return checkout


@pytest.fixture
def checkout(built, tmp_path) -> Checkout:
    """A copy of it, to change."""
    shutil.copytree(built.root, tmp_path / "book")
    return Checkout(tmp_path / "book")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def pages(checkout: Checkout) -> dict[str, bytes]:
    folder = checkout.build / "_build" / "html"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.html")}


def staged(checkout: Checkout, jobs: list | None = None) -> dict[str, str]:
    """What Sphinx would read, by path."""
    source = checkout.build / "staged"
    jobs = jobs or plans.plan(checkout, checkout.chapters())
    site.stage(checkout, site.outcomes(checkout, jobs), source)
    files = [p for p in source.rglob("*") if p.suffix in (".md", ".ipynb", ".yml", ".json")]
    return {p.relative_to(source).as_posix(): p.read_text() for p in files}


def test_the_site_holds_every_page_its_outputs_and_its_maths(built):
    page = small_book.page(built, "01-first")
    assert "profile quick seed 0 extra 1" in page
    assert "extra 1" in small_book.page(built, "02-second")
    assert "run-strip" in page
    assert 'alt="A rising line."' in page
    assert "injected-parameters" not in page
    assert re.findall(r'<caption><span class="caption-number">([^<]*) </span>One', page) == [
        "Table 1.1",
        "Table 1.2",
    ]
    folder = built.build / "_build" / "html"
    assert (folder / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 1_000_000
    assert "url=book/index.html" in (folder / "index.html").read_text()
    assert checks.site(folder) == []
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 12e6


def test_an_unchanged_book_is_neither_executed_nor_built_again(checkout):
    again = small_book.command(checkout, "book")
    assert "01-first  unchanged" in again.stdout
    index = checkout.build / "_build" / "html" / "index.html"
    stamp = index.stat().st_mtime_ns
    small_book.command(checkout, "book")
    assert index.stat().st_mtime_ns == stamp


def test_claims_are_judged_when_the_site_is_made(checkout):
    jobs = plans.plan(checkout, checkout.chapters())
    before = staged(checkout, jobs)
    assert "✓ holds" in before["book/01-first.ipynb"]
    assert "<td>2</td><td>✓ holds<br>" in before["book/scorecard.md"]
    assert json.loads(before["book/_static/ledger.json"])[0]["run_value"] == 2
    edit(checkout.book / "claims.yml", "at_least: 1", "at_least: 3")
    records.write(
        checkout.stored("01-first"),
        {
            "chapter": "01-first",
            "profile": "paper",
            "seed": 7,
            "device": "cpu",
            "quantities": {"q": {"value": 4}},
        },
    )
    now = staged(checkout, jobs)
    for page in (now["book/01-first.ipynb"], now["book/scorecard.md"]):
        assert "✗ does not hold; stored run ✓ holds" in page
        assert "stale, its code has changed since: paper, cpu, seed 7" in page
    assert len(small_book.ran(checkout, "first")) == 1


def test_prose_takes_its_place_beside_kept_outputs_and_a_site_elsewhere_leaves_the_readers_alone(
    checkout, tmp_path
):
    before = pages(checkout)
    edit(checkout.text("01-first"), "Prose with", "Quite other words with")
    done = small_book.command(checkout, "book", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    page = small_book.page(checkout, "01-first", tmp_path / "out")
    assert "Quite other words with" in page
    assert "profile quick seed 0 extra 1" in page
    assert len(small_book.ran(checkout, "first")) == 1
    assert "01-first.ipynb says something else than 01-first.md, which was used" in done.stdout
    assert "Prose with" in checkout.notebook("01-first").read_text()
    assert pages(checkout) == before


def test_a_subset_leaves_the_other_pages_as_they_were(checkout):
    done = small_book.command(checkout, "book", "--chapters", "2", "--seed", "4", "--profile", "smoke")
    assert done.returncode == 0, done.stderr
    assert "profile smoke seed 4" in small_book.page(checkout, "02-second")
    first = small_book.page(checkout, "01-first")
    assert "profile quick seed 0" in first
    assert "Not executed" not in first
    assert small_book.ran(checkout, "first") == ["quick 0 1"]


def test_a_page_that_was_never_executed_says_so_and_shows_no_outputs(checkout):
    edit(checkout.text("01-first"), "import os, sys", "import sys, os")
    edit(checkout.text("01-first"), "Prose with", "{numref}`fig-first` below. Prose with")
    done = small_book.command(checkout, "book", "--chapters", "2")
    assert done.returncode == 0, done.stderr
    first = small_book.page(checkout, "01-first")
    assert "Not executed in this build" in first
    assert 'href="#fig-first"' in first
    assert "Not drawn in this build." in first
    assert "A line." in first
    assert "make book CHAPTERS=01" in re.sub("<[^>]+>", "", first)
    assert "profile quick seed 0" not in first


def test_the_copy_to_download_is_plain_and_has_the_same_code(built):
    copied = built.build / "_build" / "html" / "_sources" / "book" / "01-first.ipynb"
    page, pair = (pairs.read_notebook(path) for path in (copied, built.notebook("01-first")))
    code = lambda notebook: [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code(page) == code(pair)
    assert "jupytext" not in page.metadata
    prose = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    assert re.search(r"\*\*Fig\. [\d.]+\.\*\* A line\.", prose)
    assert "{div}" not in prose


def test_slips_are_shown_with_their_numbers_and_a_wrong_file_costs_one_sentence(checkout):
    slips = checkout.book / "slips.yml"
    slips.write_text(SLIPS)
    cited = "@misc{someone2020, author = {One, Some}, title = {It}, year = {2020}}\n"
    (checkout.book / "references.bib").write_text(cited)
    edit(checkout.book / "index.md", "Begin with", "% slips\n\n```{bibliography}\n```\n\nBegin with")
    edit(checkout.text("01-first"), "Prose with", "## Where the source slips\n\n(here)=\nProse with")
    done = small_book.command(checkout, "book")
    assert done.returncode == 0, done.stderr
    page = small_book.page(checkout, "index")
    assert "this run 2." in page
    assert 'href="01-first.html#here"' in page
    assert '<details class="tightrope-folded">' in small_book.page(checkout, "01-first")
    assert len(small_book.ran(checkout, "first")) == 1
    slips.write_text(SLIPS.replace("  mended: It is 2.\n", ""))
    done = small_book.command(checkout, "book")
    assert done.returncode == 2
    assert done.stderr.startswith("Slip 'slip.a': ")
    assert done.stderr.count("\n") == 1


FLAWS = {
    "unbuildable": {
        "See {doc}`nowhere`.": "unknown document",
        "See {numref}`fig-nowhere`.": "fig-nowhere",
        "See [this](#nowhere).": "nowhere",
    },
    "unfit": {
        "```{figure} _static/favicon.svg\n```": "picture without alt text",
        "![Far](https://example.org/x.png)": "fetches https://example.org/x.png",
        '<script src="//example.org/x.js"></script>': "fetches //example.org/x.js",
        'See <a href="nowhere.html">it</a>.': "links to nowhere.html, which is not there",
    },
}


@pytest.mark.parametrize("flaws", FLAWS)
def test_a_page_with_flaws_is_not_published(flaws, checkout):
    before = pages(checkout)
    with open(checkout.book / "index.md", "a") as index:
        index.write("\n" + "\n\n".join(FLAWS[flaws]) + "\n")
    for _ in range(
        2 if flaws == "unfit" else 1
    ):  # the second time as well: nothing remembers the page as built
        done = small_book.command(checkout, "book")
        assert done.returncode == 1
        for sentence in FLAWS[flaws].values():
            assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert pages(checkout) == before


@pytest.mark.parametrize("bad", ["raise ValueError('wrong')", "import sys\nprint('noise', file=sys.stderr)"])
def test_a_chapter_that_fails_or_writes_to_stderr_is_not_published(bad, checkout):
    before = pages(checkout)
    edit(checkout.text("01-first"), "import os, sys", f"import os, sys\n{bad}")
    done = small_book.command(checkout, "book")
    assert done.returncode == 1
    assert "01-first" in done.stderr
    assert pages(checkout) == before


def test_a_swap_that_was_cut_short_is_made_good(checkout):
    html = checkout.build / "_build" / "html"
    before = pages(checkout)
    os.rename(html, html.with_name(".html.old"))  # killed between the two renames
    done = small_book.command(checkout, "book")
    assert done.returncode == 0, done.stderr
    assert pages(checkout) == before


def test_what_is_staged_is_the_books_and_only_what_changed_is_touched(checkout):
    source = checkout.build / "staged"
    before = staged(checkout)
    assert "book/01-first.md" not in before  # the notebook stands for the pair
    stamps = {p: p.stat().st_mtime_ns for p in source.rglob("*") if p.is_file()}
    (source / "book" / "stray.md").write_text("")
    edit(checkout.book / "index.md", "Begin with", "Start with")
    assert staged(checkout).keys() == before.keys()
    now = {p: p.stat().st_mtime_ns for p in source.rglob("*") if p.is_file()}
    assert {p.name for p in now if now[p] != stamps.get(p)} == {"index.md"}
    edit(checkout.root / "_toc.yml", "  - file: book/02-second\n", "")
    assert before.keys() - staged(checkout).keys() == {"book/02-second.ipynb"}


ABOUT = {
    "profile": "quick",
    "device": "cpu",
    "seed": 0,
    "seconds": 151.2,
    "date": "2026-01-02",
    "parameters": {},
}


def test_the_strip_says_how_a_page_was_made():
    assert site.run_strip(ABOUT, {}) == (
        ":::{div} run-strip\n**This run** quick profile · cpu · 2 min 31 s · seed 0 · 2026-01-02\n:::"
    )
    record = {
        "device_name": "Some GPU",
        "date": "2026-01-03T10:00:00Z",
        "commit": "0123456789abcdef",
        "dirty": True,
    }
    record |= {"sizes": {"seeds": 3}, "versions": {"torch": "2.13.0"}}
    assert site.run_strip(ABOUT | {"seconds": 4, "parameters": {"extra": 2}}, record).split("\n")[1] == (
        "**This run** quick profile · Some GPU · 4 s · seeds 0 to 2 · 2026-01-03"
        " · commit `012345678` with changes · torch 2.13.0 · `extra=2`"
    )


def _flaws(tmp_path: Path, body: str) -> list[str]:
    (tmp_path / "other.html").write_text('<p id="here">.</p>')
    (tmp_path / "a.html").write_text(f'<html><link rel="canonical" href="https://example.org/">{body}</html>')
    return checks.site(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<link rel="preconnect" href="//example.org">',
        '<img alt="A" src="HTTPS://example.org/a.png">',
        '<iframe src="http://example.org/"></iframe>',
        '<p style="background: url(https://example.org/a.png)">',
        "<style>@import '//example.org/a.css';</style>",
        '<img src="data:image/png;base64,AA==">',
        '<img alt="_images/a.png" src="data:image/png;base64,AA==">',
        '<a href="missing.html">x</a>',
        '<a href="../outside.html">x</a>',
        '<a href="other.html#nowhere">x</a>',
        '<a href="#nowhere">x</a>',
        '<script src="missing.js"></script>',
        "<pre>Traceback (most recent call last)</pre>",
        '<div class="output traceback">x</div>',
    ],
)
def test_a_flaw_in_a_page_is_found(body, tmp_path):
    assert len(_flaws(tmp_path, body)) == 1


@pytest.mark.parametrize(
    "body",
    [
        '<a href="https://example.org/">x</a><a href="mailto:a@example.org">x</a>',
        '<a href="other.html#here">x</a><a id="b" href="#b">x</a><a href="other.html?q=1">x</a>',
        '<img alt="A rising line." src="data:image/png;base64,AA==">',
    ],
)
def test_a_good_page_has_no_flaw(body, tmp_path):
    assert _flaws(tmp_path, body) == []


def test_a_stylesheet_that_fetches_is_found(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text('@font-face { src: url("https://example.org/f.woff2") }')
    assert checks.site(tmp_path) == ["_static/a.css: fetches https://example.org/f.woff2"]
