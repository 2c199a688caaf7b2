"""Chapters executed in processes of their own: what they get, how they fail, and that a kill leaves nothing wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import nbformat
import psutil
import pytest

import small_book
from tightrope import __main__ as entry
from tightrope.book.checkout import Failed, Stop
from tightrope.book.press import console, execute, keys, plans
from tightrope.book.press.kernel import Reading, content

RECORDS = """\
import os
from pathlib import Path
from tightrope.book import records
from tightrope.book.checkout import Checkout
record = {"chapter": "01-first", "profile": profile, "seed": seed, "device": "cpu", "quantities": {}}
record |= {"key": os.environ["TIGHTROPE_KEY"], "stored_key": os.environ["TIGHTROPE_STORED_KEY"]}
path = Checkout(Path.cwd().parent).record(profile, "01-first", partial=True)
records.write(path, record | {"sizes": {"seeds": 3}, "commit": "0123456789abcdef", "dirty": True})"""


def run(checkout, *chapters: str, workers: int | None = None, **options) -> list[plans.Job]:
    jobs = plans.plan(checkout, checkout.find(chapters), **options)
    execute.run([job for job in jobs if not job.is_done()], workers)
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
    assert stored["stored_key"] == plans.plan(checkout, ["01-first"])[0].stored_key
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


def test_a_kernel_that_cannot_start_is_reported(tmp_path, monkeypatch):
    checkout = small_book.make(tmp_path)
    monkeypatch.setattr(execute.sys, "executable", shutil.which("false"))
    with pytest.raises(Failed, match="01-first, cell 0: the kernel died"):
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


def test_ctrl_c_ends_a_kernel_that_was_just_starting_and_says_what_goes_on(tmp_path, monkeypatch, capsys):
    slow = "import pathlib, time\ntime.sleep(20)\npathlib.Path('to the end').touch()"
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", slow))
    about_to_start, looked_for_kernels = threading.Event(), threading.Event()
    kernelspec, end_kernels = execute._kernelspec, execute._end_kernels

    def starting(job) -> str:
        about_to_start.set()
        looked_for_kernels.wait(60)
        return kernelspec(job)

    def interrupted(*state) -> None:
        about_to_start.wait(60)
        raise KeyboardInterrupt

    def ending() -> None:
        end_kernels()
        looked_for_kernels.set()

    monkeypatch.setattr(execute, "_kernelspec", starting)
    monkeypatch.setattr(execute.Board, "state", interrupted)
    monkeypatch.setattr(execute, "_end_kernels", ending)
    assert entry.main(["--root", str(tmp_path), "run", "1"]) == 130
    assert (
        capsys.readouterr().err
        == "\nStopped. What was finished is kept; the same command goes on from here.\n"
    )
    assert not psutil.Process().children(recursive=True)
    assert not (checkout.book / "to the end").exists()


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
    jobs = plans.plan(checkout, ["01-first"])
    old, new, own = (checkout.build / "cells" / name for name in ("old", "new", jobs[0].key))
    for folder in (old, new, own):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    execute.run(jobs)
    assert [folder.exists() for folder in (old, new, own)] == [False, True, False]


def test_cuda_is_refused_at_once_where_torch_cannot(tmp_path, monkeypatch):
    checkout = small_book.make(tmp_path)
    monkeypatch.setattr(keys, "installed", lambda package: "2.13.0+cpu")
    with pytest.raises(Stop, match="was built without CUDA"):
        plans.plan(checkout, ["01-first"], device="cuda")
    monkeypatch.setattr(keys, "installed", lambda package: "2.13.0")
    assert plans.plan(checkout, ["01-first"], device="cuda:1")[0].device == "cuda:1"


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
        plans.plan(checkout, ["01-first"], **options)
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
    board.state("01-first", 0, 31, "")
    for second in range(12):
        now[0] = float(second)
        board.state("01-first", 1 + second // 2, 31, "epoch 1/2")
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
    for second in range(100):
        now[0] = float(second)
        board.state("01-first", 2, 31, "")
    assert [line.split()[-1] for line in out.said.splitlines()] == ["0:00", "0:30", "1:00", "1:30"]


def test_a_terminal_shows_where_all_chapters_are_on_one_line():
    out = Terminal(True)
    board = console.Board(["01-first", "02-second"], out, lambda: 7.0)
    board.state("01-first", 3, 4, "epoch 1/2")
    board.state("02-second", 1, 4, "")
    board.ended("02-second", ok=False)
    board.state("01-first", 4, 4, "")
    assert out.said.split("\r\x1b[K")[1:] == [
        "01: cell 3/4  0:00  epoch 1/2",
        "01: cell 3/4  0:00  epoch 1/2 · 02: cell 1/4  0:00",
        "02-second  failed after 0:00\n",
        "01: cell 4/4  0:00",
    ]


READS = """import helpers
from pathlib import Path
print("helper says", helpers.NUMBER, "data say", Path("words.txt").read_text())"""


def test_a_chapter_runs_again_when_what_it_imported_or_opened_is_another(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # the second import is of compiled code
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "build" / "compiled"))
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", READS, small_book.COUNTS))
    helper, words = checkout.book / "helpers.py", checkout.book / "words.txt"
    helper.write_text("NUMBER = 1\n")
    words.write_text("ten\n")
    for change in (
        lambda: None,
        lambda: helper.write_text("NUMBER = 2\n"),
        lambda: words.write_text("twenty\n"),
    ):
        change()
        (job,) = run(checkout, "1")
        assert job.is_done()
    said = text_outputs(checkout, "01-first")
    assert "helper says 2 data say twenty" in said
    assert len(small_book.ran(checkout, "first")) == 3
    words.write_bytes(b"twenty\r\n")  # as another system's git may check it out
    assert job.is_done()
    words.unlink()
    assert not job.is_done()


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A function that runs a body under the audit hook of a checkout in `tmp_path`; returns the lines noted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env").mkdir()
    monkeypatch.setattr("tightrope.book.press.kernel._ELSEWHERE", {str(tmp_path / "env")})
    for name in ("a.txt", "b.txt", "env/c.txt"):
        (tmp_path / name).write_text(name)
    log = tmp_path / "build" / "opened.txt"
    reading = Reading(log, tmp_path, [tmp_path / "build"])
    hooked = []  # an audit hook stays for good: it looks here
    sys.addaudithook(lambda event, given: [hook(event, given) for hook in hooked] if hooked else None)

    def under(body) -> list[str]:
        hooked.append(reading)
        try:
            body()
        finally:
            hooked.clear()
        return [line.partition("\t")[0] for line in log.read_text().splitlines()]

    yield under
    reading.out.close()


def test_each_way_to_read_a_file_is_noted_once(noted, tmp_path):
    def body() -> None:
        for path in ("a.txt", tmp_path / "a.txt", os.fsencode("b.txt")):
            with open(path) as file:
                file.read()
        os.close(os.open("b.txt", os.O_RDONLY))
        with open("env/c.txt"):  # an environment inside the checkout is no input
            pass
        with pytest.raises(FileNotFoundError):
            open("missing.txt").close()

    assert noted(body) == ["a.txt", "b.txt"]


def test_a_relative_path_is_another_file_in_another_folder(noted, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("another")

    def body() -> None:
        for folder in (tmp_path, tmp_path / "sub"):
            monkeypatch.chdir(folder)
            open("a.txt").close()

    assert noted(body) == ["a.txt", "sub/a.txt"]


def test_a_file_that_another_thread_opens_while_one_is_hashed_is_noted(noted, monkeypatch):
    def slow(path: str) -> str:
        if path.endswith("a.txt"):
            other = threading.Thread(target=lambda: open("b.txt").close())
            other.start()
            other.join()
        return content(path)

    monkeypatch.setattr("tightrope.book.press.kernel.content", slow)
    assert sorted(noted(lambda: open("a.txt").close())) == ["a.txt", "b.txt"]


def test_what_a_chapter_wrote_itself_is_no_input_but_what_it_adds_to_is_read(noted):
    def body() -> None:
        for name, mode in (("new.txt", "w"), ("a.txt", "a"), ("b.txt", "wb")):
            open(name, mode).close()
            open(name).close()

    assert noted(body) == ["a.txt"]


KEPT = """\
import os, pathlib
print("kept", [p.name for p in pathlib.Path(os.environ["TIGHTROPE_OPENED"]).parent.glob("*.pt")])"""


@pytest.mark.parametrize(("now", "kept"), [("NUMBER = 1", "['a.pt']"), ("NUMBER = 2", "[]")])
def test_what_a_killed_run_kept_is_taken_up_unless_what_it_read_has_changed(now, kept, tmp_path):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", KEPT))
    helper = checkout.book / "helpers.py"
    helper.write_text("NUMBER = 1")
    (job,) = plans.plan(checkout, ["01-first"])
    job.cells.mkdir(parents=True)
    (job.cells / "opened.txt").write_text(f"book/helpers.py\t{content(helper)}\n")
    (job.cells / "a.pt").write_text("")
    helper.write_text(now)
    execute.run([job])
    assert f"kept {kept}" in text_outputs(checkout, "01-first")


HOSTILE = """import os, random, sys, yaml
import matplotlib as mpl
print("style", mpl.rcParams["figure.figsize"], mpl.rcParams["axes.facecolor"])
print("random", random.__file__.startswith(sys.base_prefix), "start-up", "shadow" in globals())
print("warnings", sys.warnoptions, "encoding", open(os.devnull, "w").encoding, "seed", os.environ["PYTHONHASHSEED"])
print("path", any("nowhere" in p for p in sys.path), "é", "ipython", "profiled" in globals(), sys.flags.dev_mode)"""


def test_nothing_of_the_users_reaches_a_chapter(tmp_path, monkeypatch):
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", HOSTILE))
    rc, start = tmp_path / "matplotlibrc", tmp_path / "start.py"
    rc.write_text("figure.figsize: 1, 1\naxes.facecolor: red\n")
    start.write_text("shadow = 1\n")
    ipython = tmp_path / "ipython" / "profile_default" / "startup"
    ipython.mkdir(parents=True)
    (ipython / "00-start.py").write_text("profiled = 1\n")
    for folder in (checkout.root, checkout.book):
        for name in ("random", "yaml"):
            (folder / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    hostile = {
        "MATPLOTLIBRC": str(rc),
        "PYTHONSTARTUP": str(start),
        "PYTHONWARNINGS": "error",
        "PYTHONDEVMODE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": "/nowhere",
    }
    for name, value in (
        hostile | {"LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "5", "PYTHONUTF8": "0"}
    ).items():
        monkeypatch.setenv(name, value)
    run(checkout, "1")
    said = text_outputs(checkout, "01-first")
    assert "style [6.4, 4.8] white" in said
    assert "random True start-up False" in said
    assert "warnings [] encoding utf-8 seed 0" in said.lower()
    assert "path False é ipython False False" in said


def test_a_random_py_in_the_root_stops_nothing(tmp_path):
    checkout = small_book.make(tmp_path)
    (checkout.root / "random.py").write_text("raise SystemExit('shadowed')\n")
    done = small_book.command(checkout, "run", "1")
    assert done.returncode == 0, done.stderr


def test_another_checkouts_library_is_not_taken_for_this_ones(tmp_path):
    checkout = small_book.make(tmp_path)
    (checkout.root / "lib" / "tightrope").mkdir(parents=True)
    done = small_book.command(checkout, "run", "1")
    assert done.returncode == 2
    assert done.stderr.startswith("The library that runs is ")
    assert str(checkout.root / "lib" / "tightrope") in done.stderr


def test_what_c_code_prints_is_in_the_log_of_a_kernel_that_dies(tmp_path):
    dies = "import os\nos.write(2, b'said by C code\\n')\nos.kill(os.getpid(), 9)"
    checkout = small_book.make(tmp_path, first=small_book.chapter("first", dies))
    without_pytest = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = small_book.command(
        checkout, "run", "1", env=without_pytest
    )  # ipykernel does otherwise under pytest
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "",
        "01-first, cell 3: the kernel died, for want of memory perhaps (Kernel died)",
        "    said by C code",
        f"What was done up to there: {os.path.join('build', 'executed', 'quick', '01-first.partial.ipynb')}",
    ]
