"""Submissions that would rather not be graded: each costs its own points, and nobody else's.

All are bounded in themselves and run behind the limits alone: at most 150 processes, some seconds, 4 GB asked once.
"""

import re
import socket
from pathlib import Path

import msgspec
import psutil
import pytest

import small_course
from small_course import RIGHT
from tightrope.book.course import grading, sandbox
from tightrope.book.course.marking import Result
from tightrope.book.course.sessions import Limits

LIMITS = Limits(cell=3, wall=60, memory=2**30)
ADD = "\ndef total(xs):\n    return sum(xs)\n"
WRONG = "\ndef total(xs):\n    return 0\n"
# What the cell `total` holds, the points it brings of 3, what its sentence says. `double` is right, and brings 2.
CASES = {
    "honest": (ADD, 3, ""),
    "endless cell": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        0,
        "longer than",
    ),
    "endless function": ("def total(xs):\n    while True: pass", 0, "longer than"),
    "leaves": ("import os\nos._exit(0)", 0, "ended Python"),
    "exits": ("import sys\nsys.exit()" + ADD, 0, "stopped with SystemExit"),
    "exits a little": ("exit()" + ADD, 3, ""),
    "kills itself": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nos._exit(1)",
        0,
        "ended Python",
    ),
    "kills its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(1)", 0, ""),
    "four gigabytes": ("hold = np.ones(2**29)" + ADD, 0, "MemoryError"),
    "forks": (
        "import os, time\ncount = 0\nfor _ in range(150):\n    try:\n        if os.fork() == 0:\n"
        "            time.sleep(20)\n            os._exit(0)\n        count += 1\n    except OSError:\n        break\n"
        "raise ValueError(f'{count} children')",
        0,
        r"ValueError: \d\d? children",
    ),
    "leaves a child behind": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)" + ADD,
        3,
        "",
    ),
    "a child that comes back": ("import os\nos.fork()" + ADD, 3, ""),
    "five megabytes": ("print('x' * 5_000_000)" + ADD, 3, ""),
    "warns": ("import sys, warnings\nwarnings.warn('careful')\nprint('oh', file=sys.stderr)" + ADD, 3, ""),
    "no such package": (
        "import no_such_package" + ADD,
        0,
        "ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "not Python": ("def total(xs)\n    return", 0, "SyntaxError"),
    "replaces a builtin": (
        "import builtins\nbuiltins.float = lambda x: 3.0" + WRONG,
        0,
        "builtins.float had been",
    ),
    "replaces numpy's": ("np.ones = np.zeros" + ADD, 0, "numpy.ones had been changed"),
    "replaces at run time": (
        "import builtins\ndef total(xs):\n    builtins.abs = lambda x: 0\n    return len(xs)",
        0,
        "builtins.abs had been",
    ),
    "rewrites": (
        "import ast\nclass Lenient(ast.NodeTransformer):\n    def visit_Assert(self, node): return ast.Pass()\n"
        "get_ipython().ast_transformers.append(Lenient())" + WRONG,
        0,
        "AST transformers",
    ),
    "traces": ("import sys\nsys.settrace(lambda *_: None)" + WRONG, 0, "sys.settrace"),
    "shadows": ("float = lambda x: 3.0\nabs = lambda x: 0.0" + WRONG, 0, "one and two are three"),
    "equals everything": (
        "class All:\n    def __eq__(self, other): return True\ndef total(xs):\n    return All()",
        0,
        "TypeError",
    ),
    "answers for the test": (
        "import os\nfor d in range(3, 20):\n    try:\n        os.write(d, b'{\"ok\": true}\\n')\n"
        "    except OSError:\n        pass" + WRONG,
        0,
        "ended Python|one and two",
    ),
    "raises code": (
        "class Odd(BaseException):\n    def __str__(self): raise SystemExit\nraise Odd",
        0,
        "stopped with Odd",
    ),
    "tells too much": (
        "def total(xs):\n    if not xs: raise ValueError('the hidden list is ' + str(xs))\n    return sum(xs)",
        0,
        "ValueError on an input that the visible test does not have",
    ),
}


def one_batch(cases: dict, folder: Path, ways=sandbox.WAYS) -> dict[str, Result]:
    """Graded together: results by case."""
    checkout = small_course.make(folder / "checkout")
    notebook = small_course.released(checkout)
    for name, (source, *_) in cases.items():
        small_course.hand_in(
            folder / "in", name, small_course.filled(notebook, double=RIGHT["double"], total=source)
        )
    grading.grade(checkout, folder / "in", jobs=2, limits=LIMITS, ways=ways)
    return results(folder / "in-graded")


def results(out: Path) -> dict[str, Result]:
    kept = (
        msgspec.json.decode(p.read_bytes()) for p in (out / "results").glob("*.json") if p.stem != "first"
    )
    return {r["student"]: msgspec.convert(r, Result) for r in kept}


def check(cases: dict, graded: dict[str, Result]) -> None:
    assert graded.keys() == cases.keys()
    for name, (_, points, says) in cases.items():
        double, total = graded[name].marks
        assert (name, double.points) == (name, 2)
        assert (name, total.points) == (name, points)
        assert re.search(says, total.says), (name, total.says)


FEW = (
    "honest",
    "endless function",
    "leaves",
    "four gigabytes",
    "forks",
    "warns",
    "replaces a builtin",
    "rewrites",
)
FEW += ("tells too much",)


@pytest.mark.parametrize(
    "names", [FEW, pytest.param(tuple(CASES), marks=pytest.mark.long)], ids=["few", "all"]
)
def test_each_costs_its_own_points(names, tmp_path):
    cases = {name: CASES[name] for name in names}
    check(cases, one_batch(cases, tmp_path))
    report = (tmp_path / "in-graded" / "report.html").read_text()
    assert "ran for longer than" in report
    assert "changed-tools" in report
    feedback = (tmp_path / "in-graded" / "feedback" / "tells too much.html").read_text()
    assert "hidden list" not in feedback
    assert not strays()


def gone(pid: int) -> bool:
    """Whether a process has ended, or does within seconds; one that nobody has asked after (a zombie) has."""
    try:
        process = psutil.Process(pid)
        return not psutil.wait_procs([process], timeout=5)[1] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def strays() -> list[psutil.Process]:
    """Processes of submissions that are still there, of this test process's."""
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(not Path("/proc/self/ns").exists(), reason="namespaces are Linux's")
def test_a_submission_sees_neither_solutions_nor_others_nor_the_network(tmp_path):
    source = tmp_path / "checkout" / "book" / "assignments" / "01-toy.md"
    wanted = [source, tmp_path / "in" / "reads" / "01-toy.ipynb", tmp_path / "in-graded", Path.home() / "x"]
    (Path.home() / "x").parent.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cases = {
            "reads": (
                f"import os\nseen = [p for p in {[*map(str, wanted)]!r} if os.path.exists(p)]\n"
                "def total(xs):\n    assert not seen, seen\n    return sum(xs)",
                3,
                "",
            ),
            "calls": (
                "import socket\ntry:\n"
                f"    socket.create_connection(('127.0.0.1', {port}), timeout=3)\n    reached = True\n"
                "except OSError:\n    reached = False\n"
                "def total(xs):\n    assert not reached\n    return sum(xs)",
                3,
                "",
            ),
            "writes": (
                "import os\nfailed = 0\n"
                f"for p in ('/usr/x', {str(tmp_path / 'x')!r}, {str(Path(sandbox.__file__).parent / 'x')!r}):\n"
                "    try:\n        open(p, 'w')\n    except OSError:\n        failed += 1\n"
                "def total(xs):\n    assert failed == 3\n    return sum(xs)",
                3,
                "",
            ),
            "looks around": (
                "import os\ncount = len([n for n in os.listdir('/proc') if n.isdigit()])\n"
                "def total(xs):\n    assert count < 9, count\n    return sum(xs)",
                3,
                "",
            ),
        }
        graded = one_batch(cases, tmp_path)
    report = (tmp_path / "in-graded" / "report.html").read_text()
    first = next(line for line in report.splitlines() if line.startswith("<p"))
    if "NOT ISOLATED" in first:
        pytest.skip("this machine isolates nothing, and says so")
    assert "has no network" in first
    check(cases, graded)


@pytest.mark.long
def test_without_isolation_the_report_says_so_first_and_limits_hold(tmp_path):
    child = tmp_path / "child"
    cases = {name: CASES[name] for name in ("honest", "leaves", "endless function", "kills its parent")}
    cases["leaves a child behind"] = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        f"    open({str(child)!r}, 'w').write(str(os.getpid()))\n    time.sleep(60)\n    os._exit(0)" + ADD,
        3,
        "",
    )
    check(cases, one_batch(cases, tmp_path, ways=["limits"]))
    report = (tmp_path / "in-graded" / "report.html").read_text()
    first = next(line for line in report.splitlines() if line.startswith("<p"))
    assert first.startswith('<p class="loud">NOT ISOLATED: ')
    assert gone(int(child.read_text()))
