import functools
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

from tightrope import boxes, intervals, margins, nets, spectra, training
from tightrope.book import checkout as layout
from tightrope.book import kept, networks, records, runs
from tightrope.boundary.adversary import Adversary
from tightrope.fingerprint import fingerprint

CHAPTER = "01-synthetic-margins"
RECIPE = training.Recipe(epochs=2, batch=16, lr=0.05)


@pytest.fixture
def run(book):
    return runs.start(CHAPTER)


@pytest.fixture
def problem():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def build(seed):
    return nets.mlp(5, (8,), seed=seed)


@dataclass(frozen=True)
class Pair:
    left: torch.Tensor
    right: tuple


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        return self.fc(x)


# --- start and what it writes ----------------------------------------------------------------------------


def test_start_knows_profile_seed_and_device(run, book):
    assert (run.profile, run.seed) == ("quick", 0)
    assert run.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert layout.find_checkout().record("quick", CHAPTER, partial=True).is_file()


def test_start_takes_its_threads_from_the_environment(book, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
    try:
        runs.start(CHAPTER)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_run_outside_any_checkout_records_in_memory(tmp_path, monkeypatch):
    def nowhere():
        raise layout.Stop("no book")

    monkeypatch.setattr(layout, "find_checkout", nowhere)
    monkeypatch.chdir(tmp_path)
    run = runs.start("my-own")
    run.record("a", 1)
    run.keep("b", c=[1, 2])
    assert run.snapshot()["quantities"] == {"a": {"value": 1}}
    assert list(tmp_path.iterdir()) == []


def test_sizes_gives_this_profiles_values_and_marks_its_column(book):
    for profile, expected in zip(layout.PROFILES, (10, 1_000, 5_000), strict=True):
        size = runs.start(CHAPTER, profile).sizes(N=(10, 1_000, 5_000), S=((1,), (1, 3), (1, 3, 9)))
        assert expected == size.N
        text = repr(size)
        assert f"[{profile}]" in text
        assert "5,000" in text
    assert size.S == (1, 3, 9)
    with pytest.raises(AttributeError, match="the sizes are N, S"):
        _ = size.M
    record = records.read(layout.find_checkout().record("paper", CHAPTER, partial=True))
    assert record["sizes"] == {"N": "5,000", "S": "1, 3, 9"}


def test_record_keeps_numbers_and_replaces_by_id(run):
    run.record("a.b", torch.tensor(2.0), interval=(np.float64(1), 3), n=5, unit="l2", note="x")
    run.record("a.c", True)
    run.record("a.d", 1)
    run.record("a.d", np.float32(0.5))
    path = layout.find_checkout().record("quick", CHAPTER, partial=True)
    record = records.read(path)
    assert record["quantities"] == {
        "a.b": {"value": 2.0, "interval": [1.0, 3], "n": 5, "unit": "l2", "note": "x"},
        "a.c": {"value": True},
        "a.d": {"value": 0.5},
    }
    assert record == run.snapshot()
    assert {"python", "torch", "numpy", "tightrope"} <= record["versions"].keys()
    run.snapshot()["quantities"].clear()
    assert len(run.snapshot()["quantities"]) == 3


def test_record_says_which_commit_and_whether_it_was_changed(book):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *who, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert runs.start(CHAPTER).snapshot()["commit"] is None
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    record = runs.start(CHAPTER).snapshot()
    assert (record["commit"], record["dirty"]) == (git("rev-parse", "HEAD"), False)
    Path("_toc.yml").write_text("changed")
    assert runs.start(CHAPTER).snapshot()["dirty"] is True


def test_another_repository_around_the_checkout_is_not_its_commit(book):
    subprocess.run(["git", "init", "-q", str(book.parent)], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(
        ["git", "-C", str(book.parent), *who, "commit", "-q", "--allow-empty", "-m", "x"], check=True
    )
    record = runs.start(CHAPTER).snapshot()
    assert (record["commit"], record["dirty"]) == (None, None)


def test_keep_writes_small_arrays(run):
    run.keep("t", m=torch.arange(3), v=np.eye(2))
    run.keep("u", m=[1.5])
    path = layout.find_checkout().record("quick", CHAPTER, partial=True).with_suffix(".npz")
    arrays = records.read_arrays(path)
    assert set(arrays) == {"t.m", "t.v", "u.m"}
    assert np.array_equal(arrays["t.v"], np.eye(2))


def test_a_new_run_starts_with_an_empty_record(run):
    run.record("a", 1)
    runs.start(CHAPTER)
    record = records.read(layout.find_checkout().record("quick", CHAPTER, partial=True))
    assert record["quantities"] == {}


def test_progress_gives_all_items_and_tells_the_parent(monkeypatch, tmp_path):
    line = tmp_path / "line"
    monkeypatch.setenv("TIGHTROPE_PROGRESS", str(line))
    monkeypatch.setattr("tightrope.progress.EVERY", 0)
    seen = [(i, line.read_text()) for i in runs.progress(iter("ab"), "seed", total=2)]
    assert [i for i, _ in seen] == ["a", "b"]
    assert "seed 1/2" in seen[0][1]


def test_progress_is_silent_on_a_page(capfd):
    assert list(runs.progress(range(3), "seed")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


# --- stored runs ------------------------------------------------------------------------------------------


def store(book, **changes):
    run = runs.start(CHAPTER, "paper")
    run.record("a", 2.5)
    path = book / "book" / "runs" / f"{CHAPTER}.json"
    records.write(path, run.snapshot() | changes)
    records.write_arrays(path.with_suffix(".npz"), {"t.m": np.arange(3)})


def test_the_library_of_another_checkout_starts_no_run(book):
    (book / "lib" / "tightrope").mkdir(parents=True)
    with pytest.raises(layout.Stop, match="but this checkout has its own"):
        runs.start(CHAPTER)


def test_stored_run_comes_with_numbers_and_arrays(book):
    assert runs.stored(CHAPTER) is None
    store(book)
    stored = runs.stored("01")
    assert stored["a"] == 2.5
    assert stored.arrays["t.m"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no quantity 'b'"):
        stored["b"]


# --- the words of a chapter --------------------------------------------------------------------------------


def quantities(run):
    return run.snapshot()["quantities"]


def test_one_value_a_seed_records_median_and_range(run):
    r = run.record("a", [3.0, torch.tensor(1.0), 2.5], over="seeds", unit="ℓ2", note="x")
    assert (r.value, r.interval, r.n, r.kind) == (2.5, (1.0, 3.0), 3, "range")
    assert quantities(run)["a"] == {
        "value": 2.5, "interval": [1.0, 3.0], "n": 3, "unit": "ℓ2", "kind": "range", "note": "x"
    }  # fmt: skip
    assert run.record("b", range(1, 6), over="seeds").kind == "order statistics"


def test_one_value_an_image_records_its_median_or_its_share(run):
    r = run.record("a", torch.arange(1.0, 10.0), over="images")
    assert (r.value, r.interval, r.n, r.kind) == (5, (2, 8), 9, "order statistics")
    r = run.record("b", torch.tensor([True, False, True, True]), over="images")
    assert (r.value, r.n, r.kind) == (0.75, 4, "binomial")
    area = intervals.area(torch.zeros(5), torch.ones(7))
    assert run.record("c", area).interval == (1, 1)
    assert quantities(run)["c"]["n"] == 7
    with pytest.raises(ValueError, match="'seeds', 'images'"):
        run.record("d", [1, 2], over="digits")


def test_censored_values_are_counted_and_never_averaged(run):
    r = run.record("a", [1.0, 4.0, math.inf], over="seeds")
    assert str(r) == "4.00 (1.00–not met)"
    assert quantities(run)["a"] == {"value": 4, "interval": [1, 4], "n": 3, "kind": "range", "censored": 1}
    r = run.record("a", [1.0, math.inf], over="seeds")
    assert str(r) == "not met (1.00–not met)"
    assert "a" not in quantities(run)
    assert run.text("It is {a:.2f}.") == "It is not met."


def test_a_single_number_that_was_not_met_is_said_and_not_recorded(run):
    run.record("a", 1.0)
    for unmet in (math.inf, torch.tensor(math.inf), np.float64(math.inf)):
        assert str(run.record("a", unmet, unit="ℓ2")) == "not met"
        assert "a" not in quantities(run)
        assert run.text("It is {a:.2f}.") == "It is not met."
    table = run.table("{q}", lambda q: math.inf, q=["a"])
    assert "not met" in repr(table)
    for bad in (-math.inf, math.nan):
        with pytest.raises(ValueError, match="a is"):
            run.record("a", bad)
    with pytest.raises(ValueError, match="interval is inf"):
        run.record("a", 1.0, interval=(0, math.inf))


def test_n_counts_what_was_measured(run):
    assert run.record("a", [1, 2, math.inf], over="seeds", n=3).n == 3
    for value, over in (([1, 2, 3], "seeds"), (torch.ones(20), "images"), (intervals.share(1, 5), None)):
        with pytest.raises(ValueError, match=r"n of a counts what was measured, (3|20|5) values and not 7"):
            run.record("a", value, over=over, n=7)


def test_text_takes_recorded_numbers_and_nothing_else(run):
    run.record("growth.net-work", 0.1234, n=3, epoch=7)
    run.record("growth.net", [1, 2, 3], over="seeds", unit="ℓ2")
    run.record("e", 5.14e-7)
    run.record("holds", False)
    said = run.text(
        "N to {growth.net-work:.2f}; {growth.net}; {growth.net.n} of {growth.net.high} {growth.net.unit}."
    )
    assert said == "N to 0.12; 2.00 (1.00–3.00); 3 of 3.00 ℓ2."
    assert said._repr_markdown_() == said
    assert run.text(
        "{e:.0e} {e:1} {e} {holds:every|not every} {{x}} {growth.net-work:.1%} {growth.net-work.epoch}"
    ) == ("5·10⁻⁷ 5·10⁻⁷ 5.14·10⁻⁷ not every {x} 12.3% 7")
    assert run["holds"].value is False
    for unknown in ("{growth}", "{growth.net.nothing}"):
        with pytest.raises(ValueError, match="No number is recorded as 'growth"):
            run.text(unknown)


def test_a_table_records_its_grid_and_shows_it(run):
    table = run.table(
        "t.{a}{b}", lambda a, b: {"x": float(a), "why": None if a == 1 else math.inf}[b],
        columns="b", head="row", mark="x", a=[1, 2], b={"x": "ex", "why": "wy"}, n=4, unit="s",
    )  # fmt: skip
    assert repr(table) == "row  ex    wy\n1    1.00  –\n2    2.00  not met"
    assert "<strong>ex</strong>" in table._repr_html_()
    assert quantities(run) == {f"t.{a}x": {"value": a, "n": 4, "unit": "s"} for a in (1, 2)}
    with pytest.raises(ValueError, match="exactly the axes a, b"):
        run.table("t.{a}.{b}", lambda a: 1, a=[1])


def test_published_numbers_come_from_the_claims(run, book):
    claim = "- {id: %s, source: s, where: w, statement: s, published: %s, quantity: %s, chapter: %s, "
    claim += "test: {within: 1}}\n"
    text = claim % ("one", 2.50, "t.a", CHAPTER) + claim % ("two", "[1, 30.7]", "[x, t.b]", CHAPTER)
    (book / "book" / "claims.yml").write_text(text + claim % ("other", 9, "t.c", "02-frequency-margins"))
    assert run.published("t.b") == 30.7
    with pytest.raises(ValueError, match="no published number for"):
        run.published("t.c")
    table = run.table("t.{q}", lambda q: 1.0, published=True, q=["a", "c"])
    assert repr(table) == "   published  measured\na  2.5        1.00\nc  –          1.00"
    table = run.table("u.{q}", lambda q: 1.0, published="t.{q}", q=["a"])
    assert repr(table).endswith("a  2.5        1.00")


# --- results kept for a killed run ------------------------------------------------------------------------


CALLS = []  # a global, as in a notebook: what a kept function closes over is part of its key


def test_kept_computes_in_a_live_notebook_and_keeps_under_the_executor(book, monkeypatch):
    CALLS.clear()
    outside = 1

    def results():
        @runs.start(CHAPTER).kept
        def twice(x, times=2):
            CALLS.append(x)
            return {"x": torch.tensor(x * times + outside)}

        return [call["x"].item() for call in (twice(1), twice(2), twice(1, times=3), twice(x=1))]

    assert results() == results() == [3, 5, 4, 3]
    assert len(CALLS) == 8
    monkeypatch.setenv("TIGHTROPE_KEY", "k1")
    assert results() == results() == [3, 5, 4, 3]
    assert len(CALLS) == 8 + 3
    outside = 10
    assert results() == [12, 14, 13, 12]
    assert len(CALLS) == 8 + 6


def test_kept_functions_of_one_name_are_told_apart_by_their_text(run, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_KEY", "k")

    @run.kept
    def measure(i):
        return i + 1

    first = measure

    @run.kept
    def measure(i):
        return i + 2

    assert (first(0), measure(0), first(0)) == (1, 2, 1)
    assert measure.__name__ == "measure"


def test_what_is_kept_comes_back_as_it_was(run, monkeypatch, book):
    calls = []

    def compute():
        calls.append(1)
        return Pair(torch.arange(3.0), (1, None, "x", math.inf, np.eye(2)))

    def call(of):
        return of._kept("m", compute)

    assert call(run).left.tolist() == [0, 1, 2]
    assert len(calls) == 1
    assert not (book / "build" / "cells").exists()

    monkeypatch.setenv("TIGHTROPE_KEY", "k1")
    monkeypatch.setattr(kept, "_class", lambda name: Pair)  # which is a test's
    first, again = call(runs.start(CHAPTER)), call(runs.start(CHAPTER))
    assert len(calls) == 2
    assert torch.equal(first.left, again.left)
    assert again.right[:4] == (1, None, "x", math.inf)
    assert np.array_equal(again.right[4], np.eye(2))
    monkeypatch.setenv("TIGHTROPE_KEY", "k2")  # the code changed: another execution
    call(runs.start(CHAPTER))
    assert len(calls) == 3


def test_what_is_damaged_is_computed_anew(book, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_KEY", "k")
    runs.start(CHAPTER)._kept("m", lambda: torch.tensor(1))
    (path,) = (book / "build" / "cells" / "k").iterdir()
    for damage in (path.read_bytes()[:-3], b"", b"nonsense" * 9):
        path.write_bytes(damage)
        assert runs.start(CHAPTER)._kept("m", lambda: torch.tensor(2)).item() == 2
        assert kept.load(path).item() == 2


def test_an_interval_no_end_of_which_was_met_is_not_recorded(run):
    values = np.array([1.0, math.inf, math.inf])
    run.record("b", intervals.bootstrap(np.min, values, draws=50))
    assert "interval" not in run.snapshot()["quantities"]["b"]


def test_margins_survive_the_disk(tmp_path):
    m = margins.deepfool(build(0), torch.randn(4, 5), None)
    kept.save(tmp_path / "m", m)
    back = kept.load(tmp_path / "m")
    assert type(back) is margins.Margins
    assert all(torch.equal(getattr(back, name), getattr(m, name)) for name in ("norm", "found", "label"))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-3], lambda raw: raw[: len(raw) // 2], lambda raw: b""])
def test_half_a_file_is_a_miss(tmp_path, damage):
    path = tmp_path / "value"
    kept.save(path, {"x": torch.arange(100)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(kept.Miss):
        kept.load(path)


def test_a_file_names_no_code_to_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save(Hostile(), tmp_path / "value")
    with pytest.raises(kept.Miss):
        kept.load(tmp_path / "value")
    assert not (tmp_path / "made").exists()


def test_what_would_not_come_back_is_refused(tmp_path):
    for value in (lambda: 3, nn.Linear(2, 2), np.array(["a"]), object()):
        with pytest.raises(ValueError, match="cannot be kept"):
            kept.save(tmp_path / "value", value)
    assert list(tmp_path.iterdir()) == []


def test_a_view_is_kept_without_the_rest(tmp_path):
    kept.save(tmp_path / "value", [torch.zeros(1_000_000)[:5]])
    assert (tmp_path / "value").stat().st_size < 10_000
    assert torch.equal(kept.load(tmp_path / "value")[0], torch.zeros(5))


def test_fingerprint_is_of_content_and_type():
    x = torch.arange(6.0)
    same = [x, x.clone(), torch.arange(12.0)[:6], torch.stack([x, x], 1)[:, 0]]
    assert len({fingerprint(t) for t in same}) == 1
    others = [
        x,
        x.double(),
        x.view(2, 3),
        x + 1,
        x.numpy(),
        x.tolist(),
        tuple(x.tolist()),
        None,
        0,
        0.0,
        False,
    ]
    others += ["0", b"0", {"a": 1}, {"a": 2}, {"b": 1}, [1, [2]], [[1], 2], RECIPE, build(0), build(1), ()]
    assert len({fingerprint(t) for t in others}) == len(others)
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


# --- trained networks -------------------------------------------------------------------------------------


@pytest.fixture
def trainings(monkeypatch):
    """How often `training.fit` was called."""
    calls, fit = [], training.fit

    def counted(*given, **options):
        calls.append(1)
        return fit(*given, **options)

    monkeypatch.setattr(training, "fit", counted)
    return calls


def test_a_network_is_trained_once(run, problem, trainings, book):
    x, y = problem
    net, log = run.network(build, x, y, RECIPE)
    again, log_again = runs.start(CHAPTER).network(build, x, y, RECIPE)
    assert len(trainings) == 1
    assert log == log_again
    assert len(log.loss) == 2
    assert not again.training
    assert torch.equal(net(x), again(x))
    assert [p.suffix for p in (book / "build" / "networks").iterdir()] == [".pt"]
    by_hand = build(0)
    training.fit(by_hand, x, y, RECIPE, 0)
    assert torch.equal(by_hand(x), net(x))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"recipe": training.Recipe(epochs=2, batch=16, lr=0.06)},
        {"build": lambda seed: nets.mlp(5, (9,), seed=seed)},
        {"build": lambda seed: nets.mlp(5, (8,), seed=seed + 1)},
        {"build": lambda seed: nets.mlp(5, (8,), seed=seed).append(nn.Tanh())},
        {"x": "moved"},
        {"y": "flipped"},
        {"x_test": "given"},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_whatever_decides_a_training_decides_its_key(run, problem, trainings, change):
    x, y = problem
    given = {"build": build, "x": x, "y": y, "recipe": RECIPE}
    run.network(**given)
    made = {"moved": x + 1e-6, "flipped": 1 - y, "given": x}
    change = {k: made[v] if isinstance(v, str) else v for k, v in change.items()}
    if "x_test" in change:
        change["y_test"] = y
    run.network(**(given | change))
    assert len(trainings) == 2


PICTURE = (1, 4, 4)
LOW, HIGH = spectra.dct_windows(PICTURE, 2, 2)
FOE = Adversary(eps=0.3, steps=2, box=None, subspace=LOW, watch=(LOW, HIGH))


def test_a_field_of_the_adversary_is_part_of_the_key(run, trainings):
    """Every one of them, one after another, and none is the same as a training before."""
    x = torch.rand(32, *PICTURE, generator=torch.Generator().manual_seed(0))
    y = (x.sum((1, 2, 3)) > 8).long()
    make = lambda seed: nets.mlp(16, (4,), 2, seed=seed)
    others = {"eps": 0.4, "steps": 3, "step": 0.1, "random_start": False, "loss": "margin", "keep": "worst"}
    others |= {"projection": "dykstra", "subspace": HIGH, "watch": (HIGH, LOW)}
    foes = [FOE, *(replace(FOE, **{name: value}) for name, value in others.items())]
    foes += [Adversary(eps=0.3, steps=2), Adversary(eps=0.3, steps=2, norm="linf")]
    foes += [Adversary(eps=0.3, steps=2, box=box) for box in ((0.0, 2.0), boxes.Interval(0.0, 1.5))]
    # Each field is another's at least once.
    assert {f.name for f in fields(Adversary)} == {*others, "norm", "box"}
    logs = [run.network(make, x, y, replace(RECIPE, against=foe))[1] for foe in (None, *foes)]
    assert len(trainings) == 1 + len(foes)
    same = replace(FOE, subspace=spectra.dct_windows(PICTURE, 2, 2)[0])
    assert runs.start(CHAPTER).network(make, x, y, replace(RECIPE, against=same))[1] == logs[1]
    assert len(trainings) == 1 + len(foes)
    kept_outside = logs[1].perturbations[-1].energy[1]
    assert kept_outside.high < 1e-9 < logs[1].perturbations[-1].energy[0].median


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library to edit, whose code is that of the networks' keys."""
    package = tmp_path / "tightrope"
    shutil.copytree(Path(networks.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(networks, "__file__", str(package / "book" / "networks.py"))

    def edit(module, old, new):
        text = (package / module).read_text()
        assert old in text
        (package / module).write_text(text.replace(old, new, 1))
        networks._reached.cache_clear()

    networks._reached.cache_clear()
    yield edit
    networks._reached.cache_clear()


def test_the_code_of_an_adversary_is_part_of_the_key(library):
    keys = lambda: [
        networks._code(build(0), foe) for foe in (None, FOE, Adversary(eps=1.0, box=boxes.Flipped()))
    ]
    before = keys()
    assert len(set(before)) == 3
    library("boundary/adversary.py", '"""Adversarial', '"""Reworded: adversarial')
    library("boundary/attacks/pgd.py", '"""The last iterate', '"""Reworded: the last iterate')
    library("boundary/attacks/ddn.py", "shrink: float = 0.05", "shrink: float = 0.06")
    assert keys() == before
    library("boundary/attacks/pgd.py", "2.5 * self.radius(k)", "2.6 * self.radius(k)")
    steps = keys()
    assert [a == b for a, b in zip(before, steps, strict=True)] == [True, False, False]
    library("inputs/subspaces.py", "(self._a.like(x) @ (x", "(2 * self._a.like(x) @ (x")  # of a DCT window
    windows = keys()
    assert windows[1] != steps[1]
    library("inputs/dct.py", "return rows @ x @ cols", "return 2 * rows @ x @ cols")  # of a flip
    assert keys()[2] != windows[2]


def test_the_code_of_a_chapter_s_own_adversary_is_part_of_the_key(run):
    @dataclass(frozen=True)
    class Own:
        size: float
        watch: tuple = ()

        def check(self, x):
            pass

        def perturb(self, net, x, y, generator):
            return x + self.size

    first = Own(0.1)
    key = networks._code(build(0), first)
    assert key == networks._code(build(0), Own(0.1)) != networks._code(build(0), None)
    Own.perturb = lambda self, net, x, y, generator: x - self.size
    assert networks._code(build(0), first) not in (key, None)


def test_the_code_of_networks_and_training_is_part_of_the_key(library):
    key = lambda: networks._code(build(0))
    before = key()
    library("models/training.py", '"""', '"""Reworded. ')
    library("book/runs.py", "import copy", "import copy\nimport math as m")
    assert key() == before
    library("models/training.py", "loss.backward()", "(2 * loss).backward()")
    after = key()
    assert after != before
    library("models/layers.py", "return x.flatten(1)", "return x.flatten(1) * 2")
    assert key() not in (before, after)


def helper(monkeypatch, folder, name, text):
    """A module beside a chapter, as edited: imported anew."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return importlib.import_module(name)


OWN = """
import torch
from torch import nn
import scaling
from tightrope import nets

class Own(nn.Module):
    def __init__(self, scale=1.0, act=None):
        super().__init__()
        self.fc, self.scale, self.act = nn.Linear(5, 2), scale, act or scaling.same

    def forward(self, x):
        return self.act(scaling.scaled(self.fc(x), self.scale))
"""
SCALING = """
import sizes
def same(x):
    return x
def scaled(x, by):
    return x * by * sizes.FACTOR
"""


def key_of(monkeypatch, folder, own=OWN, scaling=SCALING, sizes="FACTOR = 2", **options):
    helper(monkeypatch, folder, "sizes", sizes)
    helper(monkeypatch, folder, "scaling", scaling)
    torch.manual_seed(0)
    return networks._code(helper(monkeypatch, folder, "own", own).Own(**options))


def test_what_a_networks_code_reaches_is_in_its_key(monkeypatch, tmp_path):
    key = lambda **change: key_of(monkeypatch, tmp_path / "beside", **change)
    first = key()
    assert first is not None
    assert key() == first
    assert key(scaling="# reworded\n" + SCALING) == first
    changed = [
        key(own=OWN.replace("self.act(", "-self.act(")),
        key(scaling=SCALING.replace("x * by", "x + by")),
        key(sizes="FACTOR = 3"),
        key(scale=2.0),
        key(act=torch.relu),
        key(act=lambda x: x + 1),
        key(act=lambda x: x + 2),
        key(act=lambda x: nets.mlp(2)(x)),
        key(act=functools.partial(torch.clamp, min=0)),
        key(act=nn.Tanh()),
    ]
    assert len({first, *changed}) == 1 + len(changed)
    assert None not in changed


def test_library_code_behind_a_networks_own_is_in_its_key(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(networks, "_reached", lambda names: seen.append(names) or "")
    key_of(monkeypatch, tmp_path / "beside", act=lambda x: nets.lenet()(x))
    assert {"tightrope.models.nets", "lenet", "tightrope.models.training.fit"} <= seen[0]


def test_a_network_is_trained_again_when_a_function_it_calls_has_changed(
    run, problem, trainings, monkeypatch, tmp_path
):
    x, y = problem

    def train():
        for name in ("sizes", "scaling"):
            sys.modules.pop(name, None)
        made = helper(monkeypatch, folder, "own", OWN)
        return run.network(lambda seed: made.Own(), x, y, RECIPE)[0](x)

    folder = tmp_path / "beside"
    key_of(monkeypatch, folder)
    first = train()
    assert torch.equal(train(), first)
    assert len(trainings) == 1
    (folder / "sizes.py").write_text("FACTOR = 2.5  # so that the file's size differs")
    assert not torch.equal(train(), first)
    assert len(trainings) == 2


def test_what_has_no_name_is_trained_each_time(run, problem, trainings):
    x, y = problem
    for _ in range(2):
        run.network(lambda seed: Own(), x, y, RECIPE)  # draws from torch's global generator, seeded around it
    assert len(trainings) == 1

    def unnamed(seed):
        net = Own()
        net.draw = torch.Generator()  # has a state that no key can follow
        return net

    for _ in range(2):
        run.network(unnamed, x, y, RECIPE)
    assert len(trainings) == 3


def test_hooks_are_part_of_what_a_network_does(problem):
    def hooked(hook):
        net = build(0)
        net[1].register_forward_hook(hook)
        return networks._code(net)

    add = lambda by: lambda module, args, out: out + by
    assert hooked(add(1)) == hooked(add(1))
    assert len({hooked(add(1)), hooked(add(2)), networks._code(build(0))}) == 3


def test_a_damaged_network_is_trained_again(run, problem, trainings, book):
    x, y = problem
    net, _ = run.network(build, x, y, RECIPE)
    (kept,) = (book / "build" / "networks").iterdir()
    for damage in (kept.read_bytes()[:-5], b""):
        kept.write_bytes(damage)
        again, _ = run.network(build, x, y, RECIPE)
        assert torch.equal(net(x), again(x))
    assert len(trainings) == 3


def test_a_killed_training_goes_on_from_its_checkpoint(run, problem, book, monkeypatch):
    x, y = problem
    whole, _ = run.network(build, x, y, RECIPE)
    (kept,) = (book / "build" / "networks").iterdir()
    kept.unlink()
    accuracy, fit, epochs = training.accuracy, training.fit, []

    def killed(*given, **options):
        def stop(epoch, net):
            raise KeyboardInterrupt

        return fit(*given, **options, on_epoch=stop)

    monkeypatch.setattr(training, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run.network(build, x, y, RECIPE)
    assert [p.suffix for p in (book / "build" / "networks").iterdir()] == [".checkpoint"]

    def resumed(*given, **options):
        return fit(*given, **options, on_epoch=lambda epoch, net: epochs.append(epoch))

    monkeypatch.setattr(training, "fit", resumed)
    again, log = run.network(build, x, y, RECIPE)
    assert epochs == [2]
    assert len(log.loss) == 2
    assert torch.equal(whole(x), again(x))
    assert [p.suffix for p in (book / "build" / "networks").iterdir()] == [".pt"]
    assert training.accuracy is accuracy


def test_where_networks_lie(run, problem, tmp_path, home, monkeypatch):
    x, y = problem
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path / "mine"))
    run.network(build, x, y, RECIPE)
    assert len(list((tmp_path / "mine").iterdir())) == 1

    def nowhere():
        raise layout.Stop("no book")

    monkeypatch.delenv("TIGHTROPE_CACHE")
    monkeypatch.setattr(layout, "find_checkout", nowhere)
    run.network(build, x, y, RECIPE)
    assert len(list((home / "networks").iterdir())) == 1


@pytest.mark.parametrize("under_executor", [False, True])
def test_a_cache_that_cannot_be_written_is_said_once(run, problem, monkeypatch, tmp_path, under_executor):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TIGHTROPE_CACHE", str(tmp_path / "file"))
    if under_executor:  # its page must not show what comes on stderr
        monkeypatch.setenv("TIGHTROPE_KEY", "k")
    x, y = problem
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            net, _ = run.network(build, x, y, RECIPE)
    assert net(x).shape == (64, 2)
    (said,) = run.snapshot()["warnings"]
    assert said.startswith("Trained networks cannot be kept in")
    assert [str(w.message) for w in told] == ([] if under_executor else [said])


# --- in a kernel --------------------------------------------------------------------------------------------


def test_in_a_notebook_the_sizes_are_a_table_and_stderr_stays_empty(book):
    cells = [
        f"from tightrope.book import runs\nrun = runs.start({CHAPTER!r}, 'smoke')",
        "size = run.sizes(N=(10, 20, 30))\nsize",
        "for i in runs.progress(range(3), 'seed'): run.record('a', i)\nsize.N",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    here = str(Path(runs.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": here, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "k",
    }
    kernel = book / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    client = NotebookClient(notebook, kernel_name="python3", timeout=120)
    client.create_kernel_manager().kernel_spec_manager.kernel_dirs = [str(kernel.parent)]
    client.execute(cwd=str(book), env=env)
    start, sizes, last = (cell.outputs for cell in notebook.cells)
    assert start == []
    (shown,) = sizes
    assert "<strong>10</strong>" in shown["data"]["text/html"]
    assert "[smoke]" in shown["data"]["text/plain"]
    line, value = last
    assert line["data"]["text/plain"] == ""  # the progress line, gone when the loop is done
    assert value["data"]["text/plain"] == "10"
