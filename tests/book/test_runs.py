import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

from tightrope import margins, nets, training
from tightrope.book import checkout as layout
from tightrope.book import kept, networks, records, runs

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
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    try:
        runs.start(CHAPTER)
        assert torch.get_num_threads() == 2
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


def test_spread():
    s = runs.spread([3, torch.tensor(1.0), 2.5])
    assert (s.median, s.interval, s.n) == (2.5, (1.0, 3.0), 3)


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


def test_stored_run_comes_with_numbers_and_arrays(book):
    assert runs.stored(CHAPTER) is None
    store(book)
    stored = runs.stored("01")
    assert stored["a"] == 2.5
    assert stored.arrays["t.m"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no quantity 'b'"):
        stored["b"]


# --- results kept for a killed run ------------------------------------------------------------------------


def test_cached_computes_in_a_live_notebook_and_keeps_under_the_executor(run, monkeypatch, book):
    calls = []

    def compute():
        calls.append(1)
        return Pair(torch.arange(3.0), (1, None, "x", math.inf, np.eye(2)))

    assert run.cached("m", compute).left.tolist() == [0, 1, 2]
    assert len(calls) == 1
    assert not (book / "build" / "cells").exists()

    monkeypatch.setenv("TIGHTROPE_KEY", "k1")
    monkeypatch.setattr(kept, "_is_ours", lambda module: True)  # Pair is a test's
    first = runs.start(CHAPTER).cached("m", compute)
    again = runs.start(CHAPTER).cached("m", compute)
    assert len(calls) == 2
    assert torch.equal(first.left, again.left)
    assert again.right[:4] == (1, None, "x", math.inf)
    assert np.array_equal(again.right[4], np.eye(2))
    monkeypatch.setenv("TIGHTROPE_KEY", "k2")  # the code changed: another execution
    runs.start(CHAPTER).cached("m", compute)
    assert len(calls) == 3


def test_cached_tells_calls_apart(book, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_KEY", "k")

    def results():
        run = runs.start(CHAPTER)
        by_part = [run.cached("m", lambda i=i: {"i": torch.tensor(i)}, i)["i"].item() for i in range(3)]
        by_order = [run.cached("n", lambda i=i: torch.tensor(10 + i)).item() for i in range(3)]
        return by_part, by_order

    assert results() == results() == ([0, 1, 2], [10, 11, 12])


def test_cached_computes_anew_what_is_damaged(book, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_KEY", "k")
    runs.start(CHAPTER).cached("m", lambda: torch.tensor(1))
    (path,) = (book / "build" / "cells" / "k").iterdir()
    for damage in (path.read_bytes()[:-3], b"", b"nonsense" * 9):
        path.write_bytes(damage)
        assert runs.start(CHAPTER).cached("m", lambda: torch.tensor(2)).item() == 2
        assert kept.load(path).item() == 2


def test_margins_survive_the_disk(tmp_path):
    m = margins.deepfool(build(0), torch.randn(4, 5), None)
    kept.save(tmp_path / "m", m)
    back = kept.load(tmp_path / "m")
    assert type(back) is margins.Margins
    assert all(torch.equal(getattr(back, name), getattr(m, name)) for name in ("norm", "found", "label"))


def test_fingerprint_is_of_content_and_type():
    x = torch.arange(6.0)
    same = [x, x.clone(), torch.arange(12.0)[:6], torch.stack([x, x], 1)[:, 0]]
    assert len({kept.fingerprint(t) for t in same}) == 1
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
    assert len({kept.fingerprint(t) for t in others}) == len(others)
    assert kept.fingerprint("ab", "c") != kept.fingerprint("a", "bc")


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
    assert [p.suffix for p in (book / "build" / "networks").iterdir()] == [".safetensors"]
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


def test_the_code_of_networks_and_training_is_part_of_the_key(tmp_path, monkeypatch):
    import shutil

    package = tmp_path / "tightrope"
    shutil.copytree(Path(networks.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(networks, "__file__", str(package / "book" / "networks.py"))

    def key():
        networks._reached.cache_clear()
        return networks._code(build(0))

    def edit(module, old, new):
        text = (package / module).read_text()
        assert old in text
        (package / module).write_text(text.replace(old, new, 1))

    before = key()
    edit("models/training.py", '"""', '"""Reworded. ')
    edit("book/runs.py", "import copy", "import copy\nimport math as m")
    assert key() == before
    edit("models/training.py", "loss.backward()", "(2 * loss).backward()")
    after = key()
    assert after != before
    edit("models/layers.py", "return x.flatten(1)", "return x.flatten(1) * 2")
    assert key() not in (before, after)
    networks._reached.cache_clear()


def test_a_network_class_of_the_chapter_counts_by_its_source(run, problem, trainings):
    x, y = problem
    for _ in range(2):
        run.network(Own, x, y, RECIPE)  # takes no seed: torch's global generator is seeded around it
    assert len(trainings) == 1
    made = {"nn": nn, "__name__": "made"}
    exec("class Unseen(nn.Linear):\n    pass", made)  # no source to read: nothing would show that it changed
    for _ in range(2):
        run.network(lambda seed: made["Unseen"](5, 2), x, y, RECIPE)
    assert len(trainings) == 3


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
    assert [p.suffix for p in (book / "build" / "networks").iterdir()] == [".safetensors"]
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
