import csv
import html
import html.parser
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tightrope.book import bars, claims, records, runs, verdicts
from tightrope.book.press import ledger

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "01-synthetic-margins"


def claim(**changes):
    entry = {
        "id": "a.b",
        "source": "someone2020",
        "where": "Table 1",
        "statement": "It is <so> | so.",
        "published": 2.5,
        "quantity": "q",
        "chapter": CHAPTER,
        "test": {"within": 0.05},
        "explanation": "Because & why.",
    }
    return {k: v for k, v in (entry | changes).items() if v is not None}


@pytest.fixture
def one(tmp_path):
    """The claim that an entry of claims.yml gives."""

    def load(**changes):
        path = tmp_path / "claims.yml"
        path.write_text(yaml.safe_dump([claim(**changes)], allow_unicode=True))
        return claims.load(path)[0]

    return load


def record(profile="quick", chapter=CHAPTER, **values):
    return {
        "chapter": chapter,
        "profile": profile,
        "seed": 3,
        "device": "cpu",
        "date": "2026-01-02T03:04:05Z",
        "commit": "0123456789abcdef",
        "quantities": {name: {"value": value} for name, value in values.items()},
    }


@pytest.mark.parametrize(
    ("changes", "values", "reproduced"),
    [
        ({"test": {"within": 0.05}}, {"q": 2.61}, True),
        ({"test": {"within": 0.05}}, {"q": 2.63}, False),
        ({"test": {"within": 0.05}}, {"q": 2.37}, False),
        ({"test": {"within": 0.1}, "published": -2.0}, {"q": -2.1}, True),
        ({"test": {"within": 0.1}, "published": -2.0}, {"q": 2.0}, False),
        (
            {"test": {"within": 0.1}, "published": [1, 10], "quantity": ["q", "r"]},
            {"q": 1.05, "r": 9.5},
            True,
        ),
        (
            {"test": {"within": 0.1}, "published": [1, 10], "quantity": ["q", "r"]},
            {"q": 1.05, "r": 8.5},
            False,
        ),
        ({"test": {"factor": 2}}, {"q": 4.9}, True),
        ({"test": {"factor": 2}}, {"q": 1.2}, False),
        ({"test": {"factor": 2}}, {"q": -2.5}, False),
        ({"test": {"at_least": 1.0}, "published": "100 %"}, {"q": 1.0}, True),
        ({"test": {"at_least": 1.0}}, {"q": 0.999}, False),
        ({"test": {"at_most": 3}}, {"q": 3}, True),
        ({"test": {"at_most": 3}}, {"q": 3.01}, False),
        ({"test": {"between": [1, 2]}}, {"q": 1}, True),
        ({"test": {"between": [1, 2]}}, {"q": 2.1}, False),
        ({"test": {"increasing": True}, "quantity": ["q", "r", "s"]}, {"q": 1, "r": 2, "s": 3}, True),
        ({"test": {"increasing": True}, "quantity": ["q", "r", "s"]}, {"q": 1, "r": 2, "s": 2}, False),
        ({"test": {"holds": True}, "published": "yes"}, {"q": True}, True),
        ({"test": {"holds": True}, "published": "yes"}, {"q": False}, False),
        ({"test": {"holds": True}, "published": "yes"}, {"q": 1}, False),
    ],
)
def test_verdict(one, changes, values, reproduced):
    expected = "reproduced" if reproduced else "not reproduced"
    assert verdicts.judge(one(**changes), record(**values)).kind == expected


def measured(value, low, high, n=100, kind="order statistics"):
    here = record(q=value)
    here["quantities"]["q"] |= {"interval": [low, high], "n": n, "kind": kind}
    return here


@pytest.mark.parametrize(
    ("test", "interval", "kind"),
    [
        ({"within": 0.1}, (2.3, 2.7), "reproduced"),
        ({"within": 0.1}, (2.2, 2.7), "undecided"),
        ({"within": 0.1}, (2.3, 2.8), "undecided"),
        ({"within": 0.01}, (2.2, 2.8), "undecided"),
        ({"within": 0.1}, (2.76, 2.8), "not reproduced"),
        ({"at_least": 2.4}, (2.4, 9), "reproduced"),
        ({"at_least": 2.4}, (2.39, 9), "undecided"),
        ({"at_least": 2.4}, (2.3, 2.39), "not reproduced"),
        ({"at_most": 2.4}, (2.3, 2.41), "undecided"),
        ({"factor": 2}, (1.25, 5), "reproduced"),
        ({"factor": 2}, (1.2, 5), "undecided"),
        ({"between": [2, 3]}, (1.9, 2.9), "undecided"),
    ],
)
def test_the_whole_interval_is_judged(one, test, interval, kind):
    value = sum(interval) / 2
    assert verdicts.judge(one(test=test), measured(value, *interval)).kind == kind


def test_order_is_judged_by_intervals_too(one):
    c = one(test={"increasing": True}, quantity=["q", "r"], published="grows")

    def kind(a, b):
        here = record(q=sum(a) / 2, r=sum(b) / 2)
        for name, interval in (("q", a), ("r", b)):
            here["quantities"][name]["interval"] = list(interval)
        return verdicts.judge(c, here).kind

    assert kind((1, 2), (2.1, 3)) == "reproduced"
    assert kind((1, 2), (1.9, 3)) == "undecided"
    assert kind((2, 3), (1, 2)) == "not reproduced"


def test_what_was_not_met_has_no_upper_end(one):
    here = measured(2.5, 2.4, 2.6)
    here["quantities"]["q"]["censored"] = 3
    assert verdicts.judge(one(test={"at_most": 3}), here).kind == "undecided"
    assert verdicts.judge(one(test={"at_least": 2}), here).kind == "reproduced"


def test_an_undecided_verdict_says_how_many_would_decide(one):
    c = one(test={"at_least": 2.4})
    n = verdicts.judge(c, measured(2.5, 2.3, 2.7)).n
    assert n == 400  # the interval reaches twice as far as the edge: four times the samples
    half = (2.7 - 2.3) / 2 / (n / 100) ** 0.5
    assert verdicts.judge(c, measured(2.5, 2.5 - half, 2.5 + half, n)).kind == "reproduced"
    assert verdicts.judge(c, measured(2.5, 2.3, 2.7, kind="range")).n is None
    assert verdicts.judge(c, measured(2.4, 2.3, 2.7)).n is None  # stands on the edge
    assert "(n of about 400 in place of 100 would decide)" in verdicts.judge(
        c, measured(2.5, 2.3, 2.7)
    ).words(c)


def test_what_is_ours_or_true_by_construction_holds(one):
    yes, no = record(q=2.5), record(q=9)
    for c in (one(own=True), one(kind="identity")):
        assert verdicts.judge(c, yes).words(c) == "✓ holds"
        assert verdicts.judge(c, no).words(c) == "✗ does not hold"
    assert verdicts.judge(one(), yes).words(one()) == "✓ reproduced"


def test_a_bound_of_ours_is_argued_for(one):
    with pytest.raises(ValueError, match="because is missing"):
        one(kind="bound")
    shown = claims.table(record(q=2.5), claims=[one(kind="bound", because="A tenth is what seeds move.")])
    folded = "<summary>why this bound</summary>A tenth is what seeds move.</details>"
    assert folded in shown._repr_html_()
    assert "Why this bound: A tenth is what seeds move." in repr(shown)
    with pytest.raises(ValueError, match="kind"):
        one(kind="guess")


def test_a_rule_that_changed_since_the_stored_run_is_shown_as_such(one, book):
    stored = record("paper", q=2.5) | {"rules": {"a.b": verdicts.kept(one())}}
    changed = "Judged by another rule than when the stored run was made."
    assert changed not in repr(claims.Table([one()], stored, None))
    assert changed in repr(claims.Table([one(test={"within": 0.5})], stored, None))
    assert changed in repr(claims.Table([one(quantity="r")], stored, None))
    assert changed not in repr(claims.Table([one(id="new.one")], stored, None))
    assert changed in repr(claims.Table([one(published=2.6)], stored, None))
    free = one(test={"between": [2, 3]}, published="2 to 3")  # judged by the range, whatever was printed
    kept = {"rules": {"a.b": verdicts.kept(free) | {"published": [2, 3]}}}
    assert changed not in repr(claims.Table([free], stored | kept, None))


def test_not_run_without_a_record_a_quantity_or_enough_samples(one):
    def kind(claim, record):
        return verdicts.judge(claim, record).kind

    c = one()
    assert kind(c, None) == "not run"
    assert kind(c, record()) == "not run"
    assert kind(c, record("smoke", q=2.5)) == "not run"
    assert kind(c, record(chapter="02-other", q=2.5)) == "not run"
    assert kind(one(quantity=["q", "r"], test={"at_least": 0}), record(q=1)) == "not run"
    assert kind(c, record("paper", q=2.5)) == "reproduced"


def test_a_table_takes_a_run_that_goes_on(one, book):
    run = runs.start(CHAPTER)
    run.record("q", 2.5)
    assert claims.table(run, [one()]).cells(one())[2:] == ["2.50", "✓ reproduced"]


def test_what_a_source_printed_is_found_by_claim_and_by_quantity(book):
    entries = [
        claim(id="a.b", quantity=["q", "r"], published=[1.5, 2]),
        claim(id="a.c", quantity="q", published=7, chapter="02-other", test={"at_least": 0}),
        claim(id="a.d", quantity="s", published="more", test={"at_least": 0}),
        claim(id="a.e", quantity="t", published=[0.2, 0.3], test={"between": [0.2, 0.3]}),
    ]
    (book / "book" / "claims.yml").write_text(yaml.safe_dump(entries))
    assert claims.published("a.b") == (1.5, 2)
    assert claims.published("r") == 2
    assert claims.published("q", CHAPTER) == 1.5
    assert claims.published("a.c") == 7
    assert claims.published("t") == (0.2, 0.3)  # one number in a range
    with pytest.raises(ValueError, match="2 published numbers for 'q': name a claim by its id"):
        claims.published("q")
    with pytest.raises(ValueError, match="no published number for 's'"):
        claims.published("s")


class _Cells(html.parser.HTMLParser):
    """The text of a table's rows; fails on tags left open."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not {"bgcolor", "color"} & dict(attrs).keys()
        assert "color" not in dict(attrs).get("style", "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_table_shows_published_stored_this_run_and_verdict(one, book):
    vouched = {"vouched": {"commit": "fedcba9876543210", "date": "2026-03-04"}}
    records.write(book / "book" / "runs" / f"{CHAPTER}.json", record("paper", q=2.51) | vouched)
    here = record(q=2.9)
    here["quantities"]["q"]["interval"] = [2.8, 3.0]
    table = claims.table(here, claims=[one(unit="ℓ2")])
    assert table.made()[0].endswith("commit 0123456, vouched for at fedcba9")
    assert "stale" not in table.made()[0]
    table = replace(table, stale="its code has changed since")
    shown = table._repr_html_()
    head, row = _Cells(shown).rows
    assert tuple(head) == claims.HEAD
    for made in table.made():
        assert "2026-01-02" in made
        assert "seed 3, commit 0123456" in made
        assert made in html.unescape(shown)
    assert table.made()[0].startswith("stale, its code has changed since: paper, 2026-01-02")
    assert table.made()[1].startswith("quick, ")
    assert row[0] == "Table 1 It is <so> | so.Because & why."
    assert row[1:] == [
        "2.5 ℓ2",
        "2.51",
        "2.90 (2.80 to 3.00)",
        "✗ not reproduced; stored run ✓ reproducedasked: within 5 %",
    ]
    said = "this run 2.90 (2.80 to 3.00) | ✗ not reproduced; stored run ✓ reproduced (asked: within 5 %)"
    assert said in repr(table)


def test_explanation_stands_only_where_something_failed(one, book):
    assert "Because" not in claims.table(record(q=2.5), claims=[one()])._repr_html_()
    assert "Because" not in repr(claims.table(record("smoke", q=9), claims=[one()]))
    assert "Because" in repr(claims.table(record(q=9), claims=[one()]))


def test_a_smoke_run_shows_its_numbers_and_says_that_it_judges_nothing(one, book):
    table = claims.table(record("smoke", q=9), claims=[one()])
    assert "too small to judge" in table.made()[1]
    assert table.cells(one())[2:] == ["9", "– not run"]


@pytest.fixture
def tables(one):
    second = one(
        id="c.d", chapter="02-other", own=True, source=None, where=None, published=None, test={"at_most": 1}
    )
    third = one(id="e.f", chapter="02-other", quantity=["q", "r"], published=[1, 2], test={"within": 0.5})
    here = record(q=2.5)
    here["quantities"]["q"]["interval"] = [2.4, 2.6]
    return {
        CHAPTER: claims.Table([one()], record("paper", q=9), here, "it changed"),
        "02-other": claims.Table([second, third], None, record(chapter="02-other", q=1.2, r=40)),
    }


def test_the_scorecard_has_every_claim_and_a_plot_of_those_with_a_ratio(tables):
    text = ledger.page(tables, {CHAPTER: "A title", "02-other": "Another"}, {"someone2020": "Someone 2020"})
    assert text.startswith("3 claims.")
    chapter = "## {}\n\n{{doc}}`The chapter <{}>`. Stored run: "
    first = text.index(chapter.format("A title", CHAPTER))
    assert first < text.index(chapter.format("Another", "02-other"))
    assert "Stored run: stale, it changed: paper, " in text
    counts, plot, *lists = (_Cells(raw) for raw in re.findall(r"```{raw} html\n(<div.*?)\n```", text, re.S))
    by_group = {row[0]: row[1:] for row in counts.rows}
    assert by_group["the sources' words"] == ["0 (1)", "1 (1)", "0 (0)", "1 (0)"]
    assert by_group["the book's own findings"] == ["0 (0)", "0 (1)", "0 (0)", "1 (0)"]
    assert len(plot.rows) == 3  # a head, and the two claims with a published number
    assert [len(rows.rows) for rows in lists] == [2, 3]
    assert text.count("<svg") == 1 + 3 + 2  # the axis, a bar a quantity, and on a phone an axis a claim
    assert 'data-verdict="not reproduced"' in text
    assert 'data-source="ours"' in text
    assert text.count('data-source="Someone 2020"') == 4
    failed = text[text.index("## What did not reproduce") : text.index("## Measured over published")]
    assert re.findall(r'<a href="#([^"]+)"', failed) == ["claim-a-b", "claim-c-d", "claim-e-f"]
    assert all(text.count(f' id="claim-{name}"') == 1 for name in ("a-b", "c-d", "e-f"))
    passes = {CHAPTER: claims.Table([tables[CHAPTER].claims[0]], None, record(q=2.5))}
    assert "did not reproduce" not in ledger.page(passes, {CHAPTER: "A title"}, {})


def test_many_numbers_are_drawn_and_read_aloud(one):
    names = ["q", "r", "s", "t"]
    c = one(quantity=names, published=[1, 2, 4, 8], test={"factor": 2})
    table = claims.Table([c], None, record(q=1, r=2, s=2, t=64))
    shown = table._repr_html_()
    assert shown.count("<svg") == 4
    assert "<summary>4 numbers</summary>q: 1<br>r: 2<br>s: 4<br>t: 8</details>" in shown
    assert 'aria-label="s: this run 0.500 times the published number; from 0.500 to 2.00 counts"' in shown
    assert "1, 2, 4, 8" in repr(table)


def test_many_numbers_that_cannot_be_drawn_are_folded(one):
    names = list("qrstu")
    c = one(quantity=names, published="grows", test={"at_least": 0})
    row = claims.Table([c], None, record(**dict.fromkeys(names, 1.5))).row(c, "")
    assert row[1] == "grows"
    assert row[2] == "not run"
    assert "<summary>5 numbers</summary>1.50, 1.50, 1.50, 1.50, 1.50</details>" in row[3]
    assert "<details" not in "".join(claims.Table([one()], None, record(q=1.5)).row(one(), "")[1:])


def test_a_bar_carries_what_tells_its_quantity_apart(one):
    c = one(quantity=["t.u1.p5", "t.perp.p5"], published=[1, 2], test={"factor": 2})
    shown = bars.named(c, None, record(**{"t.u1.p5": 1, "t.perp.p5": 2}))
    assert "<small>u1</small><svg" in shown
    assert "<small>perp</small><svg" in shown
    assert bars.labels(["a", "a.b"]) == ["a", "a.b"]
    assert bars.labels(["a.b", "a.b"]) == ["b", "b"]


def test_a_device_of_an_earlier_record_is_named_as_today(one):
    here = record(q=2.5) | {"device_name": "x86_64 CPU, 1 thread(s)"}
    assert "x86_64 CPU, 1 thread, seed 3" in claims.Table([one()], here, None).made()[0]
    here["device_name"] = "x86_64 CPU, 12 thread(s)"
    assert "x86_64 CPU, 12 threads, seed 3" in claims.Table([one()], here, None).made()[0]


def test_a_ratio_beyond_the_plot_stands_at_its_edge():
    assert bars.x(1) == bars.WIDTH / 2
    assert bars.x(1e9) == bars.x(bars.EDGE) < bars.WIDTH
    assert bars.x(-1) == bars.x(0) == bars.x(1e-9) > 0
    assert bars.x(2) - bars.x(1) == pytest.approx(bars.x(1) - bars.x(0.5))


def test_the_files_hold_one_row_a_quantity(tables):
    files = ledger.files(tables)
    rows = json.loads(files["ledger.json"])
    assert [row["id"] for row in rows] == ["a.b", "c.d", "e.f", "e.f"]
    assert rows[0]["run_value"] == 2.5
    assert (rows[0]["run_low"], rows[0]["run_high"]) == (2.4, 2.6)
    assert rows[3] | {"published": 2, "run_value": 40, "run_verdict": "not reproduced"} == rows[3]
    read = list(csv.DictReader(io.StringIO(files["ledger.csv"])))
    assert [row["statement"] for row in read] == [row["statement"] for row in rows]
    assert ledger.files({})["ledger.csv"] == ""


def test_what_can_be_linked_is_linked():
    from pybtex.database import parse_file

    entries = parse_file(str(ROOT / "book" / "references.bib")).entries
    bare = {key for key, entry in entries.items() if not {"doi", "eprint", "url"} & entry.fields.keys()}
    assert bare == {"bell2023neighborhoods", "li2024feature"}  # a thesis and a talk


def test_sources_are_named_as_a_reader_knows_them():
    names = ledger.names(ROOT / "book" / "references.bib")
    assert names["ortizjimenez2020hold"] == "Ortiz-Jiménez et al. 2020"
    assert names["bell2023neighborhoods"].startswith("Bell 20")
    assert names["athalye2018obfuscated"] == "Athalye et al. 2018"
    cited = {c.source for c in claims.load(ROOT / "book" / "claims.yml") if not c.own}
    assert cited <= names.keys()


def test_entries_of_one_name_get_letters():
    from pybtex.database import Entry, Person

    from tightrope.book.press.citations import AuthorsAndYear

    entries = [Entry("misc", {"year": y}, {"author": [Person("Bell, B.")]}) for y in ("2022", "2023", "2023")]
    assert list(AuthorsAndYear().format_labels(entries)) == ["Bell 2022", "Bell 2023a", "Bell 2023b"]


def test_the_books_claims_are_right_and_say_what_they_take_from_where():
    book = claims.load(ROOT / "book" / "claims.yml")
    assert len({c.id for c in book}) == len(book)
    source = {"u1": (1.74, 2.50, 3.22), "perp": (4.85, 12.36, 31.60), "orth": (30.68, 102.0, 229.5)}
    source["rand"] = (17.21, 27.90, 80.61)
    expected = {
        f"{row}.{column}": value
        for row, values in source.items()
        for column, value in zip(("p5", "median", "p95"), values, strict=True)
    }
    for c in (c for c in book if c.id in ("hmt.table1", "hmt.table1.raw")):
        where = [name.removeprefix("table1.").removeprefix("raw.") for name in c.quantity]
        assert dict(zip(where, c.published, strict=True)) == expected
    for c in book:
        assert len(c.statement) > 20
        assert (
            c.own
            or c.rule[0] in ("holds", "at_most", "at_least", "between", "increasing")
            or not isinstance(c.published, str)
        )


def test_reading_claims_needs_no_torch():
    code = "import sys; from tightrope.book.press import ledger; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
