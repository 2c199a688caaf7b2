"""The process that a submission runs in: one cell comes in, one answer goes out. `sessions` is the other end.

IPython's shell without a kernel runs a student's cells; tests are compiled and run here, in a namespace of their own,
so that nothing a student installs in the shell, and no name that shadows a builtin, is in their way. Before and after
every test the attributes of builtins, numpy, torch and tightrope are compared with what they were at the start, and put
back. Standard input and both outputs lead nowhere: the other end is reached by two descriptors with other numbers.

One JSON object a line. In: {"nonce", "kind", "source"}, kind one of given, student, visible, hidden. Out: {"nonce",
"ok", "error", "says", "line", "changed", "seconds"}: error is an exception's type, line the student's last in its
traceback, changed what had been replaced.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import signal
import sys
import time
import traceback
import types
from typing import Any, TextIO

# What runs tests must not be what a student's cell has put in its place.
_compile, _exec, _dumps = compile, exec, json.dumps
SAID = 300  # characters of an error that are passed on
TEST = "<test>"
WATCHED = {
    "builtins",
    "math",
    "time",
    "numpy",
    "numpy.linalg",
    "torch",
    "torch.linalg",
    "torch.nn.functional",
}
WATCHED |= {"torch.autograd"}


def main() -> None:
    commands, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    limit(**json.loads(commands.readline()))
    serve(Desk(), commands, answers)


def limit(memory: int, processes: int, file_bytes: int, seconds: int, shared: bool) -> None:
    """Bounds that hold for this process and its children. shared: other processes of this user count, too."""
    import resource

    if sys.platform == "linux":  # without namespaces nobody else ends this process when the grading is killed
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    bounds = {
        "RLIMIT_DATA": memory,
        "RLIMIT_NPROC": processes + (_others() if shared else 0),
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_CPU": seconds,
        "RLIMIT_CORE": 0,
    }
    for name, bound in bounds.items():
        # A system without one of these bounds, or with a tighter one, has said so in the report's first line.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (bound, bound))


def serve(desk: Desk, commands: TextIO, answers: TextIO) -> None:
    me = os.getpid()
    for line in commands:
        asked = json.loads(line)
        began = time.monotonic()
        answer = desk.run(asked["kind"], asked["source"])
        if os.getpid() != me:  # a child that a cell forked comes back here, too
            os._exit(0)
        answer |= {"nonce": asked["nonce"], "seconds": time.monotonic() - began}
        answers.write(_dumps(answer) + "\n")
        answers.flush()


class Desk:
    """A shell for a student's cells, and the namespace of the test that is being run."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell.instance(config=config)
        self.shell.showtraceback = lambda *_, **__: None
        self.shell.showsyntaxerror = lambda *_, **__: None
        self.shell.ask_exit = lambda: None  # what exit() asks for, as after a notebook's cell
        self.given: dict[str, Any] = {}
        self.scope: dict[str, Any] = {}
        self.watched = Watched()

    def run(self, kind: str, source: str) -> dict:
        """Run a cell; what the answer says but for nonce and seconds."""
        if kind in ("given", "student"):
            before = dict(self.shell.user_ns)
            done = self.shell.run_cell(source, store_history=False)
            if kind == "given":
                now = self.shell.user_ns
                self.given |= {name: now[name] for name in now if before.get(name) is not now[name]}
                self.watched = Watched()
            return said(done.error_before_exec or done.error_in_exec, self.shell.compile._filename_map)
        changed = self.watched.put_back() + self._hooks()
        if kind == "visible":
            own = {k: v for k, v in self.shell.user_ns.items() if not hasattr(builtins, k)}
            self.scope = own | self.given
        answer = said(self._test(source), self.shell.compile._filename_map)
        changed += self.watched.put_back()
        return answer | {"ok": answer["ok"] and not changed, "changed": sorted(set(changed))[:5]}

    def _test(self, source: str) -> BaseException | None:
        try:
            _exec(_compile(source, TEST, "exec"), self.scope)
        except BaseException as error:  # whatever a student's code raises, exit() included
            return error
        return None

    def _hooks(self) -> list[str]:
        """What stands between a cell and its run: taken away, and named."""
        found = []
        if sys.gettrace() or sys.getprofile():
            sys.settrace(None)
            sys.setprofile(None)
            found.append("sys.settrace")
        if self.shell.ast_transformers:
            self.shell.ast_transformers.clear()
            found.append("the shell's AST transformers")
        return found


class Watched:
    """What builtins, numpy, torch and tightrope were made of at one time."""

    def __init__(self) -> None:
        loaded = [
            m for name, m in list(sys.modules.items()) if name in WATCHED or name.split(".")[0] == "tightrope"
        ]
        tensor = [m.Tensor for m in loaded if m.__name__ == "torch"]
        self.was = [(holder, dict(vars(holder))) for holder in (*loaded, *tensor)]
        own = [names for holder, names in self.was if holder.__name__.startswith("tightrope")]
        functions = {f for names in own for f in names.values() if isinstance(f, types.FunctionType)}
        self.code = [(f, f.__code__) for f in functions]

    def put_back(self) -> list[str]:
        """Undo what was replaced; returns its names."""
        changed = []
        for holder, was in self.was:
            now = vars(holder)
            for name, value in was.items():
                if now.get(name) is not value and not _own_business(holder, name):
                    setattr(holder, name, value)
                    changed.append(f"{holder.__name__}.{name}")
            if isinstance(holder, type):
                for name in now.keys() - was.keys():
                    delattr(holder, name)
                    changed.append(f"{holder.__name__}.{name}")
        for function, code in self.code:
            if function.__code__ is not code:
                function.__code__ = code
                changed.append(f"{function.__module__}.{function.__name__}")
        return changed


def said(error: BaseException | None, cells: dict[str, str]) -> dict:
    """An error as the other end is told of it. cells: the file names that IPython gave a student's cells."""
    if error is None:
        return {"ok": True, "error": "", "says": "", "line": 0, "changed": []}
    line = 0
    if isinstance(error, SyntaxError):
        line = error.lineno or 0
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename in cells:
            line = number
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        text = " ".join(text.split())[:SAID]
    except BaseException:  # an exception of a student's own, whose text is code
        text = ""
    return {"ok": False, "error": type(error).__name__, "says": text, "line": line, "changed": []}


def _own_business(holder: object, name: str) -> bool:
    """Names that a module changes by itself: a cache, a state, the last result, what its compiler wraps once loaded."""
    private = name.startswith("_") and not name.startswith("__i")
    return isinstance(holder, types.ModuleType) and (
        private or f"{holder.__name__}.{name}" == "torch.manual_seed"
    )


def _others() -> int:
    """How many threads this user runs already."""
    import psutil

    mine, count = os.getuid(), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == mine:
                count += process.num_threads()
    return count


if __name__ == "__main__":
    main()
