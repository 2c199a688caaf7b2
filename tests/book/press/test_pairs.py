"""The two files of a chapter, and today's text with kept outputs."""

import json
import os
import subprocess

import nbformat
import pytest

import small_book
from tightrope.book.checkout import Stop
from tightrope.book.press import checks, pairs


@pytest.fixture
def checkout(tmp_path):
    return small_book.make(tmp_path)


def test_a_pair_is_made_to_the_byte_and_holds_no_outputs(checkout):
    notebook = checkout.notebook("01-first")
    first = notebook.read_bytes()
    assert [c["id"] for c in json.loads(first)["cells"]] == [f"01-first-{i}" for i in range(5)]
    nbformat.validate(nbformat.reads(first.decode(), as_version=4))
    notebook.unlink()
    assert pairs.sync(checkout, "01-first") == "notebook made from the text"
    assert notebook.read_bytes() == first
    assert pairs.sync(checkout, "01-first") == "in step"
    assert checks.chapters(checkout) == []


def test_captions_alt_text_and_tags_survive_the_way_there_and_back(checkout):
    text = checkout.text("01-first")
    before = text.read_text()
    pairs.sync(checkout, "01-first", source="ipynb")
    again = pairs.read_text(text)
    assert "alt: A rising line." in text.read_text()
    assert "name: fig-first" in text.read_text()
    assert pairs.tags(again.cells[1]) == ["parameters"]
    assert [c.source for c in again.cells] == [c.source for c in _read(before).cells]


def _read(text: str):
    import jupytext

    return jupytext.reads(text, fmt="md:myst")


def _change_notebook(checkout, source: str) -> None:
    path = checkout.notebook("01-first")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = source
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="left over")]
    notebook.cells[-1].execution_count = 3
    nbformat.write(notebook, path)


def test_drift_and_outputs_are_found(checkout):
    _change_notebook(checkout, "1 + 1")
    problems = checks.chapters(checkout)
    assert any("keeps outputs" in problem for problem in problems)
    assert any("is not the pair of 01-first.md" in problem for problem in problems)
    checkout.notebook("02-second").unlink()
    assert any("02-second.ipynb is missing" in problem for problem in checks.chapters(checkout))
    (checkout.book / "07-stray.ipynb").write_text("{}")
    assert any("07-stray.ipynb belongs to no chapter" in problem for problem in checks.chapters(checkout))


TAKEN = "text taken from the notebook (as it was before: build/before-sync)"


def _commit(checkout, *paths: str) -> None:
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", checkout.root, *who, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", *(paths or ["."]))
    git("commit", "-qm", "start")
    pairs._uncommitted.cache_clear()


def test_a_notebook_that_was_never_committed_does_not_replace_the_text(checkout):
    text = checkout.text("01-first")
    text.write_text(text.read_text().replace("Prose", "The words of today"))
    before = text.read_bytes()
    _commit(checkout, "book/01-first.md")
    os.utime(text, (1, 1))
    assert pairs.sync(checkout, "01-first") == "notebook made from the text"
    assert text.read_bytes() == before
    assert "The words of today" in checkout.notebook("01-first").read_text()


def test_a_text_that_is_replaced_is_kept_and_its_header_stays(checkout):
    text = checkout.text("01-first")
    before = text.read_text()
    _change_notebook(checkout, "1 + 1")
    assert pairs.sync(checkout, "01-first", source="ipynb") == TAKEN
    assert (checkout.build / "before-sync" / "01-first.md").read_text() == before
    assert text.read_text().startswith(small_book.HEADER.rstrip())


def test_sync_takes_the_side_that_was_changed(checkout):
    _commit(checkout)
    _change_notebook(checkout, "1 + 1")
    assert pairs.sync(checkout, "01-first") == TAKEN
    assert "1 + 1" in checkout.text("01-first").read_text()
    assert checks.chapters(checkout) == []

    # Both changed since the commit: the newer one is right.
    pairs._uncommitted.cache_clear()
    text = checkout.text("01-first")
    text.write_text(text.read_text().replace("1 + 1", "2 + 2"))
    os.utime(checkout.notebook("01-first"), (1, 1))
    assert pairs.sync(checkout, "01-first") == "notebook made from the text"
    assert "2 + 2" in checkout.notebook("01-first").read_text()


def test_sync_takes_the_text_where_nothing_tells(checkout):
    _change_notebook(checkout, "1 + 1")
    assert pairs.sync(checkout, "01-first") == "notebook made from the text"
    assert "1 + 1" not in checkout.notebook("01-first").read_text()


def _executed(checkout):
    text = pairs.read_text(checkout.text("01-first"))
    injected = nbformat.v4.new_code_cell("seed = 7", metadata={"tags": ["injected-parameters"]})
    done = pairs.read_text(checkout.text("01-first"))
    done.cells.insert(2, injected)
    for i, cell in enumerate(c for c in done.cells if c.cell_type == "code"):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {i}")]
    return text, done


def test_outputs_go_to_todays_text(checkout):
    text, done = _executed(checkout)
    text.cells[0].source = text.cells[0].source.replace("Prose", "New words")
    text.cells[1].source += "  # a comment"
    text.cells.insert(1, nbformat.v4.new_markdown_cell("More."))
    page = pairs.merge(text, done)
    assert "New words" in page.cells[0].source
    code = [c for c in page.cells if c.cell_type == "code"]
    assert [c.outputs[0].text for c in code] == ["output 0", "output 2", "output 3", "output 4"]
    assert code[0].source.endswith("# a comment")
    assert not any("injected" in str(c.metadata) for c in page.cells)


def test_outputs_never_go_to_other_code(checkout):
    text, done = _executed(checkout)
    text.cells[-1].source = "1 + 1"
    assert pairs.merge(text, done) is None
    text, done = _executed(checkout)
    del text.cells[-1]
    assert pairs.merge(text, done) is None


def test_a_block_goes_below_the_title(checkout):
    notebook = pairs.read_text(checkout.text("01-first"))
    pairs.insert_below_title(notebook, "HERE")
    assert notebook.cells[0].source.startswith("# Chapter first\n\nHERE\n\n")
    bare = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    pairs.insert_below_title(bare, "HERE")
    assert bare.cells[0].source == "HERE"


def test_parameters_are_read_from_their_cell(checkout):
    found = pairs.parameters(pairs.read_text(checkout.text("01-first")))
    assert found == {"profile": "quick", "seed": 0, "device": "auto", "extra": 1}


def test_damaged_files_get_one_sentence(checkout):
    checkout.notebook("01-first").write_text("{ not json")
    with pytest.raises(Stop, match=r"is not a notebook; delete it and run `make sync`\.$"):
        pairs.sync(checkout, "01-first")
    checkout.text("01-first").write_text("---\njupytext: [\n---\n")
    with pytest.raises(Stop, match=r"01-first\.md can't be read as MyST text"):
        pairs.read_text(checkout.text("01-first"))
