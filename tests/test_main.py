"""The command line: its help reads well, and what a person gets wrong costs one sentence."""

import subprocess
import sys

import pytest

import small_book
from tightrope import __main__ as entry

COMMANDS = ("book", "run", "runs", "vouch", "sync", "check", "scorecard", "course", "grade")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_book.make(tmp_path)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_reads_well(words, capsys):
    with pytest.raises(SystemExit) as stop:
        entry.main(words)
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for name in COMMANDS if len(words) == 1 else ():
        assert f"\n    {name} " in said
    assert max(map(len, said.splitlines())) < 110
    assert "None" not in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["book", "--profile", "fast"], "There is no profile 'fast'; the profiles are smoke, quick, paper."),
        (["book", "--chapters", "9"], "There is no chapter '9'; the chapters are 01-first, 02-second."),
        (["run", "2", "--set", "extra"], "--set takes name=value, not 'extra'."),
        (["run", "2", "--set", "more=1"], "02-second has no parameter 'more' to set; it has extra."),
        (["run", "--device", "gpu"], "There is no device 'gpu'; say auto, cpu, cuda or cuda:1."),
        (["run", "--jobs", "0"], "--jobs takes a number from 1 on, not 0."),
        (["check", "--site", "nowhere"], "There are no built pages in nowhere; run `make book`."),
        (
            ["scorecard", "--profile", "fast"],
            "There is no profile 'fast'; the profiles are smoke, quick, paper.",
        ),
    ],
)
def test_what_is_wrong_in_a_call_costs_one_sentence(words, sentence, checkout, capsys):
    assert entry.main(words) == 2
    assert capsys.readouterr().err == sentence + "\n"
    assert not (checkout.build / "executed").exists()


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        ("_toc.yml", "root: [", "_toc.yml is not valid YAML"),
        (
            "_toc.yml",
            "root: book/index\nchapters:\n- file: book/x\n",
            "_toc.yml names book/x, but there is no book/x.md",
        ),
        ("book/01-first.md", "---\njupytext: [\n---\n", "01-first.md can't be read as MyST text"),
        ("book/claims.yml", "- nothing", "laim"),
    ],
)
def test_a_file_that_is_wrong_costs_one_sentence(path, content, sentence, checkout, capsys):
    (checkout.root / path).write_text(content)
    assert entry.main(["scorecard"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_outside_a_checkout_it_says_so(tmp_path, capsys):
    assert entry.main(["--root", str(tmp_path), "book"]) == 2
    assert capsys.readouterr().err.startswith("No book here: run this inside a checkout")


def test_pairs_are_synced_and_checked(checkout, capsys):
    assert entry.main(["check"]) == 0
    assert capsys.readouterr().out == "All is well.\n"
    text = checkout.text("01-first")
    text.write_text(text.read_text().replace("Prose", "Words"))
    assert entry.main(["check"]) == 1
    assert capsys.readouterr().out.endswith("run `make sync`.\n1 problem.\n")
    assert entry.main(["sync", "1"]) == 0
    assert capsys.readouterr().out == "01-first: notebook made from the text\n"
    assert entry.main(["check"]) == 0


def test_the_scorecard_is_printed(checkout, capsys):
    assert entry.main(["scorecard"]) == 0
    assert capsys.readouterr().out == "No claims are listed yet.\n"


def test_a_disk_that_cannot_be_written_costs_one_sentence(checkout, capsys):
    checkout.build.write_text("a file where a folder should be")
    assert entry.main(["book"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(checkout.build) in said


def test_neither_the_package_nor_a_build_loads_torch():
    code = (
        "import sys, tightrope\n"
        "from tightrope import __main__\nfrom tightrope.book import claims\n"
        "from tightrope.book.press import checks, execute, keys, plans, site\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
