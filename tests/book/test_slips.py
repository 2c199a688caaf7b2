from pathlib import Path

import pytest
import yaml

from tightrope.book import claims, slips
from tightrope.book.press import errata, ledger

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "01-synthetic-margins"
BOOK = slips.load(ROOT / "book" / "slips.yml")


def slip(**changes):
    entry = {
        "id": "slip.a",
        "source": "someone2020",
        "where": "equation (3)",
        "chapter": CHAPTER,
        "anchor": "slip-a",
        "printed": "$1 = 2$.",
        "mended": "$1 < 2$.",
        "counterexample": "1 and 2.",
        "quantity": "slips.a",
    }
    return {k: v for k, v in (entry | changes).items() if v is not None}


@pytest.fixture
def load(tmp_path):
    """The slips that entries of slips.yml give."""

    def read(*entries):
        path = tmp_path / "slips.yml"
        path.write_text(yaml.safe_dump(list(entries)) if entries else "- nothing")
        return slips.load(path)

    return read


def test_one_quantity_or_several(load):
    assert load(slip())[0].quantity == ("slips.a",)
    assert load(slip(quantity=["q", "r"]))[0].quantity == ("q", "r")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mended": None}, "mended"),
        ({"printed": "  "}, "printed"),
        ({"quantity": None}, "quantity"),
        ({"quantity": []}, "quantity"),
        ({"quantity": "two words"}, "quantity"),
        ({"anchor": "(slip-a)="}, "anchor"),
        ({"chapter": "one"}, "chapter"),
        ({"note": "?"}, "note"),
    ],
)
def test_an_entry_that_is_wrong_is_named_in_one_sentence(load, changes, said):
    with pytest.raises(ValueError, match=said) as raised:
        load(slip(**changes))
    text = str(raised.value)
    assert text.startswith("Slip 'slip.a': ")
    assert "\n" not in text
    assert text.endswith(".")


def test_ids_and_anchors_name_one_slip_each(load):
    with pytest.raises(ValueError, match=r"'slip\.a': this id is used twice"):
        load(slip(), slip(anchor="slip-b"))
    with pytest.raises(ValueError, match=r"'slip\.b': its anchor is also that of 'slip\.a'"):
        load(slip(), slip(id="slip.b"))


def test_a_file_that_is_none_is_said_so(load, tmp_path):
    with pytest.raises(ValueError, match=r"Slip number 1 of slips\.yml"):
        load()
    with pytest.raises(FileNotFoundError, match="the slips of the book are kept there"):
        slips.load(tmp_path / "none.yml")


def record(**values):
    quantities = {name: {"value": value} for name, value in values.items()}
    return {"chapter": CHAPTER, "profile": "paper", "seed": 0, "device": "cpu", "quantities": quantities}


def test_the_page_says_what_each_run_measured(load):
    one, two = load(
        slip(quantity=["q", "r"], measures="how far"), slip(id="slip.b", anchor="slip-b", source="other1999")
    )
    stored, here = record(q=1.5, r=True), record(q=2.5, r=False)
    stored["quantities"]["q"] |= {"interval": [1, 2], "unit": "ℓ2"}
    table = claims.Table([], stored, here, stale="its code has changed since")
    page = errata.page([one, two], {CHAPTER: table}, {"someone2020": "Someone 2020"})
    assert "**Measured.** How far: stored run (stale) 1.50 (1 to 2) ℓ2, yes; this run 2.50, no." in page
    assert "**Measured.** not run yet" in page
    assert "{ref}`The cell that shows it <slip-a>`" in page
    assert "not run yet" in page  # of the other quantity there is nothing
    assert page.index("## Someone 2020") < page.index("### Equation (3)") < page.index("## other1999")


@pytest.mark.parametrize("entry", BOOK, ids=lambda s: s.id)
def test_a_chapter_shows_each_of_its_slips_in_the_folded_section(entry):
    text = (ROOT / "book" / f"{entry.chapter}.md").read_text()
    assert entry.measures, "say what the number beside it is"
    section = text.index("\n## Where the source slips\n")
    assert text.count(f"({entry.anchor})=\n") == 1
    at = text.index(f"({entry.anchor})=\n")
    end = text.find("\n## ", section + 1)
    assert section < at < end
    assert "```{code-cell}" in text[at:end]
    assert entry.source in ledger.names(ROOT / "book" / "references.bib")
