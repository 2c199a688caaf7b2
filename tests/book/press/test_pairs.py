"""The two files of a chapter, and today's text with kept outputs."""

import json

import nbformat
import pytest

import small_book
from tightrope import __main__ as entry
from tightrope.book import checkout as layout
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


def change(path, source="1 + 1", metadata=None):
    """Write into the last cell of a notebook, and run it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = source
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="left over")]
    notebook.cells[-1].execution_count = 3
    nbformat.write(notebook, path)


def edit(path, old: str, new: str):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_drift_and_outputs_are_found(checkout):
    change(checkout.notebook("01-first"))
    problems = checks.chapters(checkout)
    assert any("keeps outputs" in problem for problem in problems)
    assert any("is not the pair of 01-first.md (from cell 4 on)" in problem for problem in problems)
    checkout.notebook("02-second").unlink()
    assert any("02-second.ipynb is missing" in problem for problem in checks.chapters(checkout))
    (checkout.book / "07-stray.ipynb").write_text("{}")
    assert any("07-stray.ipynb belongs to no chapter" in problem for problem in checks.chapters(checkout))


@pytest.mark.parametrize(
    ("box", "closed"),
    [
        (":::{note}\nOne.\n:::", True),
        (":::{note}\nOne.", False),
        ("::::{a}\n:::{b}\n:::\n::::", True),
        ("```{a}\nOne.", False),
    ],
)
def test_a_box_that_stays_open_is_found(box, closed, checkout):
    text = checkout.text("01-first")
    text.write_text(text.read_text() + f"\n{box}\n\nText behind it.\n")
    pairs.sync(checkout, "01-first")
    found = [problem for problem in checks.chapters(checkout) if "not closed" in problem]
    assert len(found) == (not closed)


def test_the_text_is_the_truth(checkout):
    edit(checkout.text("01-first"), "Prose", "The words of today")
    assert pairs.sync(checkout, "01-first") == "notebook made from the text"
    assert "The words of today" in checkout.notebook("01-first").read_text()
    assert not (checkout.build / "before-sync").exists()  # older words of the text are no loss


@pytest.mark.parametrize("both", [False, True], ids=["notebook edited", "both edited"])
@pytest.mark.parametrize("source", ["md", "ipynb"])
def test_words_of_the_notebooks_own_are_replaced_by_a_choice_alone_and_kept(both, source, checkout, capsys):
    text, notebook = checkout.text("01-first"), checkout.notebook("01-first")
    change(notebook, "words = 1")
    if both:
        edit(text, "Prose", "New prose")
    before = {path.suffix: path.read_bytes() for path in (text, notebook)}
    edit(checkout.text("02-second"), "Prose", "More prose")
    assert entry.main(["--root", str(checkout.root), "sync"]) == 2
    said = capsys.readouterr()
    assert "`sync 01-first --from ipynb` takes them, `sync 01-first --from md` keeps the text's." in said.err
    assert said.err.count("\n") == 1
    assert said.out == "02-second: notebook made from the text\n"  # the others are made all the same
    assert {path.suffix: path.read_bytes() for path in (text, notebook)} == before

    assert entry.main(["--root", str(checkout.root), "sync", "1", "--from", source]) == 0
    said = capsys.readouterr().out
    kept = {path.suffix: path for path in (checkout.build / "before-sync").iterdir()}
    # A notebook can hold what no text can, a pasted picture: it is kept in either case.
    assert kept.keys() == ({".ipynb"} if source == "md" else {".md", ".ipynb"})
    for suffix, path in kept.items():
        assert str(path.relative_to(checkout.root)) in said
        assert path.read_bytes() == before[suffix]
    assert ("words = 1" in text.read_text()) == (source == "ipynb")
    assert pairs.sync(checkout, "01-first") == "in step"
    assert checks.chapters(checkout) == []


def test_a_notebook_without_a_digest_is_taken_for_somebodys_work(checkout):
    notebook = checkout.notebook("01-first")
    edit(notebook, '"synced"', '"other"')
    assert pairs.sync(checkout, "01-first") == "in step"
    edit(notebook, '"synced"', '"other"')
    edit(checkout.text("01-first"), "Prose", "New prose")
    with pytest.raises(Stop, match="holds words"):
        pairs.sync(checkout, "01-first")


def saved_by_colab(path):
    """Save a notebook as Colab does that was opened and closed."""
    notebook = json.loads(path.read_text())
    notebook["metadata"] = {
        "colab": {"provenance": []},
        "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook["cells"]):
        cell["metadata"] |= {"id": f"x{i}", "colab": {"base_uri": "https://localhost:8080/"}, "outputId": "1"}
        cell["source"] = "".join(cell["source"]) + "\n"
        del cell["id"]
    empty = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].append(empty)
    path.write_text(json.dumps(notebook | {"nbformat_minor": 0}))


LOOSE = """\
# Title


Prose of two lines,
with a trailing blank.\x20

+++ {"tags": ["aside"]}

More.
```{code-cell}
:tags: [hide-input]

x = 1
```
```{code-cell}
y = 2
```

+++

The end.


"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_a_text_keeps_its_bytes_wherever_the_notebook_says_the_same(ends, mark, checkout):
    text, notebook = checkout.text("01-first"), checkout.notebook("01-first")
    top = small_book.HEADER.replace("jupytext:", "title: A page\njupytext:")
    before = mark + (top + LOOSE).replace("\n", ends).encode()
    text.write_bytes(before)
    pairs.sync(checkout, "01-first")
    saved_by_colab(notebook)
    assert pairs.difference(text, notebook) is None
    pairs.sync(checkout, "01-first", "ipynb")
    assert text.read_bytes() == before

    saved_by_colab(notebook)
    edit(notebook, "y = 2", "y = 3")
    pairs.sync(checkout, "01-first", "ipynb")
    cells = [(c.cell_type, c.source) for c in pairs.read_text(text).cells]
    assert cells[3] == ("code", "y = 3")
    now, was = text.read_bytes().decode("utf-8").split(ends), before.decode("utf-8").split(ends)
    at = was.index("y = 2")
    assert now[: at - 1] == was[: at - 1]  # up to the fence of the cell that changed
    assert now[-6:] == was[-6:]
    assert checks.chapters(checkout) == []


def test_cells_put_in_taken_out_and_moved_arrive_in_the_text(checkout):
    text, notebook = checkout.text("01-first"), checkout.notebook("01-first")
    found = nbformat.read(notebook, as_version=4)
    first, *last = (nbformat.v4.new_markdown_cell(words) for words in ("Above.", "One.", "Two."))
    found.cells = [first, *found.cells[:2], *found.cells[3:], *last]
    nbformat.write(found, notebook)
    pairs.sync(checkout, "01-first", "ipynb")
    assert [c.source for c in pairs.read_text(text).cells] == [c.source for c in found.cells]
    assert text.read_text().startswith(small_book.HEADER)
    captioned = pairs.read_text(text).cells[4].metadata["mystnb"]
    assert captioned["image"]["alt"] == "A rising line."


HEADERS = {
    "mark": lambda text: "\ufeff" + text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "title first": lambda text: text.replace("jupytext:", "title: My chapter\njupytext:", 1),
    "kernel first": lambda text: (
        "---\nkernelspec: {name: python3, display_name: P}\n"
        + text[4:].split("kernelspec")[0]
        + "---\n"
        + text.split("---\n", 2)[2]
    ),
    "dots": lambda text: "---\n" + text.split("---\n", 2)[1] + "...\n" + text.split("---\n", 2)[2],
}


@pytest.mark.parametrize("changed", HEADERS)
def test_a_chapter_is_one_however_its_header_is_written(changed, checkout):
    text = checkout.text("01-first")
    cells = [c.source for c in pairs.read_text(text).cells]
    text.write_bytes(HEADERS[changed](text.read_text()).encode())
    assert checkout.chapters() == ["01-first", "02-second"]
    assert [c.source for c in pairs.read_text(text).cells] == cells
    assert pairs.sync(checkout, "01-first") == "in step"


def test_a_plain_page_is_no_chapter(checkout):
    page = checkout.book / "page.md"
    for words in ("# Words\n", "---\ntitle: Words\n---\n", "---\njust a rule above\n\njupytext: no\n", ""):
        page.write_text(words)
        assert not layout.is_notebook_text(page)


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
    with pytest.raises(Stop, match=r"is not a notebook; move it away and run `make sync`\.$"):
        pairs.sync(checkout, "01-first")
    checkout.text("01-first").write_text("---\njupytext: [\n---\n")
    with pytest.raises(Stop, match=r"01-first\.md can't be read as MyST text"):
        pairs.read_text(checkout.text("01-first"))
    checkout.text("01-first").write_bytes("# Märchen".encode("latin-1"))
    with pytest.raises(Stop, match=r"01-first\.md is not UTF-8 text; save it as UTF-8\.$"):
        checkout.chapters()
