import html.parser
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tightrope.book import claims, records, runs

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
    assert claims.verdict(one(**changes), record(**values)) == expected


def test_not_run_without_a_record_a_quantity_or_enough_samples(one):
    c = one()
    assert claims.verdict(c, None) == "not run"
    assert claims.verdict(c, record()) == "not run"
    assert claims.verdict(c, record("smoke", q=2.5)) == "not run"
    assert claims.verdict(c, record(chapter="02-other", q=2.5)) == "not run"
    assert claims.verdict(one(quantity=["q", "r"], test={"at_least": 0}), record(q=1)) == "not run"
    assert claims.verdict(c, record("paper", q=2.5)) == "reproduced"


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
    head, row = _Cells(table._repr_html_()).rows
    assert head[1] == "published"
    assert "stale, its code has changed since: 2026-01-02" in head[2]
    assert all("2026-01-02" in made and "seed 3" in made and "commit 0123456" in made for made in head[2:4])
    assert "quick" in head[3]
    assert row[0] == "Table 1 It is <so> | so.Because & why."
    assert row[1:] == [
        "2.5 ℓ2",
        "2.51",
        "2.90 (2.80 to 3.00)",
        "✗ not reproduced; at paper scale ✓ reproduced",
    ]
    assert "2.90 (2.80 to 3.00) | ✗ not reproduced; at paper scale ✓ reproduced" in repr(table)


def test_explanation_stands_only_where_something_failed(one, book):
    assert "Because" not in claims.table(record(q=2.5), claims=[one()])._repr_html_()
    assert "Because" not in repr(claims.table(record("smoke", q=9), claims=[one()]))
    assert "Because" in repr(claims.table(record(q=9), claims=[one()]))


def test_a_smoke_run_shows_its_numbers_and_says_that_it_judges_nothing(one, book):
    head, row = _Cells(claims.table(record("smoke", q=9), claims=[one()])._repr_html_()).rows
    assert "too small to judge" in head[3]
    assert row[3:] == ["9", "– not run"]


def test_scorecard_has_every_claim_once(one):
    first = one()
    second = one(
        id="c.d", chapter="02-other", own=True, source=None, where=None, published=None, test={"at_most": 1}
    )
    tables = {
        CHAPTER: claims.Table([first], record("paper", q=9), record(q=2.5), "it changed"),
        "02-other": claims.Table([second], None, None),
    }
    text = claims.scorecard(tables, {CHAPTER: "A title", "02-other": "Another"})
    count, *_ = text.split("\n\n")
    assert count == (
        "2 claims. Paper-scale runs: 0 reproduced, 1 not reproduced, 1 not run. "
        "These runs: 1 reproduced, 0 not reproduced, 1 not run."
    )
    assert text.index("## A title\n\n{doc}`01-synthetic-margins`") < text.index(
        "## Another\n\n{doc}`02-other`"
    )
    assert "Paper-scale run: stale, it changed: " in text
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {7}
    assert sum("{cite:t}`someone2020`, Table 1" in row[1] for row in rows) == 1
    assert sum(row[1].strip().startswith("ours: ") and row[2].strip() == "ours" for row in rows) == 1


def test_the_books_claims_are_right_and_say_what_they_take_from_where():
    book = claims.load(ROOT / "book" / "claims.yml")
    assert len({c.id for c in book}) == len(book)
    table1 = {
        c.quantity[0]: c.published for c in book if re.fullmatch(r"hmt\.table1\.\w+\.(p5|median|p95)", c.id)
    }
    source = {"u1": (1.74, 2.50, 3.22), "perp": (4.85, 12.36, 31.60), "orth": (30.68, 102.0, 229.5)}
    source["rand"] = (17.21, 27.90, 80.61)
    expected = {
        f"table1.{row}.{column}": value
        for row, values in source.items()
        for column, value in zip(("p5", "median", "p95"), values, strict=True)
    }
    assert table1 == expected
    for c in book:
        assert len(c.statement) > 20
        assert (
            c.own
            or c.rule[0] in ("holds", "at_most", "at_least", "increasing")
            or not isinstance(c.published, str)
        )


def test_reading_claims_needs_no_torch():
    code = "import sys; from tightrope.book import claims; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
