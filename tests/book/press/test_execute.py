"""Chapters executed in processes of their own: what they get, how they fail, and that a kill leaves nothing wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

import small_book
from tightrope.book.checkout import Failed, Stop
from tightrope.book.press import console, execute, keys, runner

RECORDS = """\
import os
from pathlib import Path
from tightrope.book import records
from tightrope.book.checkout import Checkout
record = {"chapter": "01-first", "profile": profile, "seed": seed, "device": "cpu", "quantities": {}}
record |= {"key": os.environ["TIGHTROPE_KEY"], "stored_key": os.environ["TIGHTROPE_STORED_KEY"]}
path = Checkout(Path.cwd().parent).record(profile, "01-first", partial=True)
records.write(path, record | {"sizes": {"seeds": 3}, "commit": "0123456789abcdef", "dirty": True})"""


def run(checkout, *chapters: str, workers: int | None = None, **options) -> list[execute.Job]:
    jobs = runner.plan(checkout, checkout.find(chapters), **options)
    runner.run([job for job in jobs if not job.is_done()], workers)
    return jobs


def text_outputs(checkout, stem: str, profile: str = "quick") -> str:
    notebook = nbformat.read(checkout.executed(profile, stem), as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.get("text", "") for o in outputs)


def test_a_chapter_gets_its_parameters_one_thread_and_this_interpreter(tmp_path):
    checkout = small_book.make(tmp_path)
    run(checkout, "1", profile="smoke", seed=5, parameters={"extra": "more"})
    said = text_outputs(checkout, "01-first", "smoke")
    assert "profile smoke seed 5 extra more" in said
    assert f"threads 1 python {sys.executable}" in said


def test_only_what_changed_is_executed(tmp_path):
    checkout = small_book.make(tmp_path)
    run(checkout)
    run(checkout)
    text = checkout.text("01-first")
    text.write_text(
        text.read_text().replace("Prose", "Other words").replace("import os, sys", "import os, sys  # both")
    )
    run(checkout)
    assert [len(small_book.ran(checkout, name)) for name in ("first", "second")] == [1, 1]
    text.write_text(text.read_text().replace("import os, sys", "import sys, os"))
    run(checkout)
    assert [len(small_book.ran(checkout, name)) for name in ("first", "second")] == [2, 1]
    run(checkout, "2", seed=1)
    assert small_book.ran(checkout, "second") == ["quick 0 1", "quick 1 1"]


def test_an_execution_whose_record_is_lost_or_of_another_run_does_not_count(tmp_path):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", RECORDS))
    (job,) = run(checkout, "1")
    record = checkout.record("quick", "01-first")
    assert job.is_done()
    assert not checkout.record("quick", "01-first", partial=True).exists()
    whole = record.read_text()
    for damaged in (whole[: len(whole) // 2], whole.replace(job.key, "another"), None):
        record.unlink() if damaged is None else record.write_text(damaged)
        assert not job.is_done()
    record.write_text(whole)
    notebook = checkout.executed("quick", "01-first")
    notebook.write_text(notebook.read_text()[:-40])
    assert not job.is_done()


def test_a_run_is_stored_for_git(tmp_path):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", RECORDS))
    done = small_book.command(checkout, "run", "1", "--store")
    assert done.returncode == 0, done.stderr
    stored = json.loads(checkout.stored("01-first").read_text())
    assert stored["stored_key"] == runner.plan(checkout, ["01-first"])[0].stored_key
    nothing = small_book.command(checkout, "run", "2", "--store")
    assert nothing.returncode == 2
    assert nothing.stderr == "02-second recorded no numbers, so there is nothing to store.\n"


MEETS = """\
import pathlib, time
pathlib.Path(f"{name}.here").write_text("")
other = {"first": "second", "second": "first"}[name]
end = time.time() + 60
while not pathlib.Path(f"{other}.here").exists():
    assert time.time() < end
    time.sleep(0.05)"""


def test_chapters_run_side_by_side(tmp_path):
    # Each waits for a file that the other one writes; one after the other they would wait for ever.
    texts = {name: small_book.chapter(name, MEETS) for name in ("first", "second")}
    checkout = small_book.make(tmp_path, **texts)
    jobs = run(checkout, workers=2)
    assert all(job.is_done() for job in jobs)


FAILS = 'import sys\nprint("about to fail", file=sys.stderr)\nraise KeyError("no such thing")'


def test_a_failure_says_where_what_and_the_last_lines_and_others_finish(tmp_path):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", "fine = 1", FAILS))
    with pytest.raises(Failed) as failed:
        run(checkout)
    said = str(failed.value)
    assert said.startswith("01-first, cell 4: KeyError: 'no such thing'\n")
    assert 'raise KeyError("no such thing")' in said
    assert "stderr:\n    about to fail" in said
    assert "\x1b" not in said
    partial = checkout.executed("quick", "01-first", partial=True)
    assert os.path.relpath(partial) in said
    assert partial.is_file()
    assert not checkout.executed("quick", "01-first").exists()
    assert checkout.executed("quick", "02-second").exists()


def test_a_process_that_ends_before_it_reads_its_job_is_reported(tmp_path, monkeypatch):
    long = small_book.chapter("first", f'"""{"long " * 60_000}"""')  # more than a pipe holds
    checkout = small_book.make(tmp_path, first=long)
    monkeypatch.setattr(runner.sys, "executable", shutil.which("false"))
    with pytest.raises(Failed, match="01-first, cell 0: the process ended with exit status 1"):
        run(checkout, "1")


def test_a_kernel_that_dies_is_reported(tmp_path):
    dies = small_book.chapter("first", "import os\nos.kill(os.getpid(), 9)")
    checkout = small_book.make(tmp_path, first=dies)
    with pytest.raises(Failed, match="01-first, cell 3: the kernel died"):
        run(checkout, "1")


def test_code_edited_while_it_runs_does_not_pass_for_what_ran(tmp_path):
    edits = "from pathlib import Path\nimport tightrope\nfrom tightrope import own\nown.f()"
    edits += "\nPath(own.__file__).write_text('def f():\\n    return 2\\n')"
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", edits))
    own = tmp_path / "lib" / "tightrope"
    own.mkdir(parents=True)
    (own / "own.py").write_text("def f():\n    return 1\n")
    first = checkout.text("01-first")
    first.write_text(
        first.read_text().replace(
            "from tightrope import own",
            "tightrope.__path__.append('../lib/tightrope')\nfrom tightrope import own",
        )
    )
    with pytest.raises(Failed, match="was edited while it ran; run it again"):
        run(checkout, "1")
    assert not checkout.executed("quick", "01-first").exists()


SLOW = """\
import os, pathlib, time
pathlib.Path("kernel.pid").write_text(str(os.getpid()))
while not pathlib.Path("go").exists():
    time.sleep(0.1)
print("went on")"""


def test_a_kill_leaves_no_process_behind_and_the_next_call_goes_on(tmp_path):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", SLOW))
    parent = subprocess.Popen(
        [sys.executable, "-m", "tightrope", "book"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kernel = _wait_for(lambda: int((checkout.book / "kernel.pid").read_text()))
    family = [parent, *psutil.Process(parent.pid).children(recursive=True)]
    assert kernel in [p.pid for p in family]

    # While it runs, a second build in the same checkout stops at once.
    second = small_book.command(checkout, "book")
    assert second.returncode == 2
    assert second.stderr == "Another build is at work in this checkout; wait until it ends, then try again.\n"

    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _wait_for(
        lambda: not [p for p in family[1:] if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] or None
    )
    assert not checkout.executed("quick", "01-first").exists()

    (checkout.book / "go").write_text("")
    assert all(job.is_done() for job in run(checkout))
    assert "went on" in text_outputs(checkout, "01-first")
    assert len(small_book.ran(checkout, "second")) <= 2


def _wait_for(look, seconds: float = 60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = look()
        except (OSError, ValueError):
            found = None
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_what_was_kept_to_resume_from_goes_in_the_end(tmp_path):
    checkout = small_book.make(tmp_path)
    jobs = runner.plan(checkout, ["01-first"])
    old, new, own = (checkout.build / "cells" / name for name in ("old", "new", jobs[0].key))
    for folder in (old, new, own):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    runner.run(jobs)
    assert [folder.exists() for folder in (old, new, own)] == [False, True, False]


def test_cuda_is_refused_at_once_where_torch_cannot(tmp_path, monkeypatch):
    checkout = small_book.make(tmp_path)
    monkeypatch.setattr(keys, "installed", lambda package: "2.13.0+cpu")
    with pytest.raises(Stop, match="was built without CUDA"):
        runner.plan(checkout, ["01-first"], device="cuda")
    monkeypatch.setattr(keys, "installed", lambda package: "2.13.0")
    assert runner.plan(checkout, ["01-first"], device="cuda:1")[0].device == "cuda:1"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"profile": "fast"}, "There is no profile 'fast'; the profiles are smoke, quick, paper."),
        ({"device": "tpu"}, "There is no device 'tpu'; say auto, cpu, cuda or cuda:1."),
        ({"device": "cuda:x"}, "There is no device 'cuda:x'; say auto, cpu, cuda or cuda:1."),
        ({"device": "cpu:1"}, "There is no device 'cpu:1'; say auto, cpu, cuda or cuda:1."),
        ({"seed": -1}, "The seed is -1; it has to be from 0 to 4294967295."),
        ({"parameters": {"extr": 1}}, "01-first has no parameter 'extr' to set; it has extra."),
        ({"parameters": {"seed": 1}}, "01-first has no parameter 'seed' to set; it has extra."),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(options, sentence, tmp_path):
    checkout = small_book.make(tmp_path)
    with pytest.raises(Stop) as stop:
        runner.plan(checkout, ["01-first"], **options)
    assert str(stop.value) == sentence


def test_chapters_are_found_by_number_or_name(tmp_path):
    checkout = small_book.make(tmp_path)
    assert checkout.find([]) == ["01-first", "02-second"]
    for name in ("1", "01", "01-first", "book/01-first.md"):
        assert checkout.find([name]) == ["01-first"]
    assert checkout.find(["2", "01", "2"]) == ["01-first", "02-second"]
    for name in ("9", "first", "0"):
        with pytest.raises(
            Stop, match=rf"There is no chapter '{name}'; the chapters are 01-first, 02-second\."
        ):
            checkout.find([name])


class Terminal:
    def __init__(self, is_terminal: bool) -> None:
        self.said, self.is_terminal = "", is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> None:
        self.said += text

    def flush(self) -> None:
        pass


def test_a_log_gets_a_line_a_cell_but_not_one_a_second():
    out, now = Terminal(False), [0.0]
    board = console.Board(["01-first"], out, lambda: now[0])
    board.started("01-first")
    for second in range(12):
        now[0] = float(second)
        board.state("01-first", 1 + second // 2, 31, "epoch 1/2")
        board.show()
    board.ended("01-first", ok=True)
    assert out.said.splitlines() == [
        "01-first  cell 1/31  0:00  epoch 1/2",
        "01-first  cell 3/31  0:05  epoch 1/2",
        "01-first  cell 6/31  0:10  epoch 1/2",
        "01-first  done after 0:11",
    ]


def test_a_long_cell_is_heard_of_now_and_then():
    out, now = Terminal(False), [0.0]
    board = console.Board(["01-first"], out, lambda: now[0])
    board.started("01-first")
    for second in range(100):
        now[0] = float(second)
        board.state("01-first", 2, 31, "")
        board.show()
    assert [line.split()[-1] for line in out.said.splitlines()] == ["0:00", "0:30", "1:00", "1:30"]


def test_a_terminal_keeps_one_line_a_chapter():
    out = Terminal(True)
    board = console.Board(["01-first", "02-second"], out, lambda: 7.0)
    for chapter in ("01-first", "02-second"):
        board.started(chapter)
    board.show()
    board.state("01-first", 3, 4, "epoch 1/2, about 0:05 left")
    board.ended("02-second", ok=False)
    board.close()
    last = out.said.split("\x1b[2A")[-1].replace("\r\x1b[K", "")
    assert last == "01-first   cell 3/4  0:00  epoch 1/2, about 0:05 left\n02-second  failed after 0:00\n"
