"""Which stored runs stand for today's code, and what it takes for one to stand for code that changed nothing."""

import os
import shutil
import subprocess

import numpy as np
import pytest

import small_book
from tightrope.book import records
from tightrope.book.checkout import Stop
from tightrope.book.press import keys, pairs, vouching

# Records what the library says, without torch; `gauge` is written into a copy of the library.
MEASURES = """\
import os
from pathlib import Path
import numpy as np
import tightrope.gauge as gauge
from tightrope.book import records
from tightrope.book.checkout import Checkout
record = {"chapter": "01-first", "profile": profile, "seed": seed, "device": "cpu"}
record |= {"key": os.environ["TIGHTROPE_KEY"], "stored_key": os.environ["TIGHTROPE_STORED_KEY"]}
record["quantities"] = {"q": {"value": gauge.measure(seed), "n": 3}}
path = Checkout(Path.cwd().parent).record(profile, "01-first", partial=True)
records.write(path, record)
records.write_arrays(path.with_suffix(".npz"), {"q.all": np.arange(3.0)})"""

# The same with a size in each profile.
SIZED = """\
from types import SimpleNamespace
which = ("smoke", "quick", "paper").index(profile)
size = SimpleNamespace(sizes=lambda n: n[which]).sizes(n=(1, 2, 3))
""" + MEASURES.replace("measure(seed)", "measure(seed + size)")

GAUGE = "def measure(seed):\n    return seed + 0.5\n"


def git(root, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *words], check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A small book with a library of its own and a stored run of its first commit."""
    root = tmp_path.resolve() / "checkout"
    checkout = small_book.make(root, first=small_book.chapter("first", MEASURES))
    ignored = shutil.ignore_patterns("__pycache__", "samples")
    shutil.copytree(small_book.HERE / "lib" / "tightrope", root / "lib" / "tightrope", ignore=ignored)
    gauge(checkout, GAUGE)
    (root / ".gitignore").write_text("build/\n__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "start")
    store(checkout, stored_key=vouching_key(checkout), commit=git(root, "rev-parse", "HEAD"))
    return checkout


def gauge(checkout, code: str) -> None:
    (checkout.package / "gauge.py").write_text(code)


def store(checkout, **changes) -> None:
    numbers = {"q": {"value": 7.5, "n": 3, "met": 3}}
    record = {"chapter": "01-first", "profile": "paper", "seed": 7, "device": "cpu", "quantities": numbers}
    records.write(checkout.stored("01-first"), record | {"dirty": False} | changes)


def vouching_key(checkout) -> str:
    return keys.stored_key(checkout, pairs.read_text(checkout.text("01-first")).cells, "paper")


def commit(checkout) -> str:
    git(checkout.root, "commit", "-qam", "change")
    return git(checkout.root, "rev-parse", "HEAD")


def call(checkout, *words: str) -> tuple[int, str]:
    """The command with the checkout's own library: its exit status, and what it said."""
    environment = os.environ | {"PYTHONPATH": str(checkout.package.parent)}
    done = small_book.command(checkout, *words, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_a_stored_run_is_stale_when_the_measuring_code_changed(checkout):
    text = checkout.text("01-first")
    assert vouching.stale(checkout, "02-second") is None  # none is stored
    assert vouching.stale(checkout, "01-first") is None
    text.write_text(text.read_text().replace("Prose", "Other words"))
    assert vouching.stale(checkout, "01-first") is None
    assert call(checkout, "runs") == (0, "01-first  fresh\n")
    gauge(checkout, GAUGE.replace("0.5", "1.5"))
    assert vouching.stale(checkout, "01-first") == "its code has changed since"
    start = git(checkout.root, "rev-parse", "HEAD")[:9]
    why = f"its code has changed since (since {start}: gauge.measure)"
    assert call(checkout, "runs") == (1, f"01-first  stale: {why}\n")
    store(checkout, profile="huge")
    assert vouching.stale(checkout, "01-first") == "its profile huge is no longer there"


def test_a_run_is_vouched_for_where_no_number_moved(checkout):
    gauge(checkout, GAUGE.replace("(seed)", "(seed, *, scale=1)").replace("seed +", "scale * seed +"))
    now = commit(checkout)
    before = records.read(checkout.stored("01-first"))
    assert call(checkout, "vouch", "1")[0] == 0
    record = records.read(checkout.stored("01-first"))
    assert record["stored_key"] == vouching_key(checkout)
    assert record["vouched"]["commit"] == now
    assert record["commit"] == before["commit"]
    assert record["quantities"] == before["quantities"]
    assert not (checkout.build / "executed").exists()  # the reader's own runs stay as they are
    assert git(checkout.root, "worktree", "list").count("\n") == 0
    said = f"vouched for at {now[:9]}, {record['vouched']['date']}"
    assert call(checkout, "runs") == (0, f"01-first  {said}\n")
    again = f"The stored run of 01-first is {said}; there is nothing to vouch for.\n"
    assert call(checkout, "vouch", "1") == (2, again)


def test_sizes_of_smaller_profiles_may_have_changed(checkout, monkeypatch):
    """Both commits are run with today's, so that only the code that measures can move a number."""
    monkeypatch.setattr(vouching, "COMPARED", ("smoke",))
    text = checkout.text("01-first")
    text.write_text(text.read_text().replace(MEASURES, SIZED))
    start = commit(checkout)
    store(checkout, stored_key=vouching_key(checkout), commit=start)
    text.write_text(text.read_text().replace("n=(1, 2, 3)", "n=(4, 2, 3)"))
    gauge(checkout, "def measure(seed):\n    return 0.5 + seed\n")
    commit(checkout)
    assert vouching.stale(checkout, "01-first")
    assert vouching.vouch(checkout, "01-first") == []
    assert vouching.stale(checkout, "01-first") is None


def test_a_run_whose_numbers_moved_stays_stale_and_they_are_listed(checkout):
    gauge(checkout, GAUGE.replace("0.5", "0.25"))
    commit(checkout)
    before = checkout.stored("01-first").read_bytes()
    status, said = call(checkout, "vouch", "1")
    assert status == 1
    assert "smoke: q: value 7.5, n 3 → value 7.25, n 3\n" in said
    assert checkout.stored("01-first").read_bytes() == before
    assert vouching.stale(checkout, "01-first")


def test_what_cannot_be_vouched_for_costs_one_sentence(checkout):
    with pytest.raises(Stop, match=r"^No run of 02-second is stored, so there is nothing to vouch for\.$"):
        vouching.vouch(checkout, "02-second")
    gauge(checkout, GAUGE.replace("0.5", "1.5"))
    with pytest.raises(Stop, match=r"^lib or 01-first\.md has changes that are not committed: commit them"):
        vouching.vouch(checkout, "01-first")
    commit(checkout)
    store(checkout, dirty=True, commit="0" * 40)
    with pytest.raises(Stop, match=r"was not made at a commit: run it again and store it\.$"):
        vouching.vouch(checkout, "01-first")
    store(checkout, commit="0" * 40)
    with pytest.raises(Stop, match="git worktree failed"):
        vouching.vouch(checkout, "01-first")


def test_every_number_and_array_counts():
    def run(quantities, **arrays):
        return records.Stored({"quantities": quantities}, arrays)

    def moved(one, other):
        return list(vouching._moved(one, other))

    a = run({"q": {"value": 1.0, "interval": [0, 2]}}, x=np.array([1.0, float("nan")]))
    assert moved(a, a) == []
    assert moved(a, run({"q": {"value": 1.0, "interval": [0, 3]}}, **a.arrays)) != []
    assert moved(a, run({"r": {"value": 1.0}} | a.record["quantities"], **a.arrays)) == [
        "r: not recorded → value 1.0"
    ]
    assert moved(a, run(a.record["quantities"])) == ["array x"]
    assert moved(a, run(a.record["quantities"], x=a.arrays["x"] + 1e-12)) == ["array x"]
