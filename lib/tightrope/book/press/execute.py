"""Chapters executed by papermill, side by side in threads of this process, each with a kernel of its own.

A chapter runs into `NN-name.partial.ipynb`, which takes its name on success: arrays and numbers first, the notebook,
which carries the key and what the chapter read, last. So a file without `.partial` is whole, and a notebook whose key
is today's, and whose inputs are what they were, stands for a finished run. A kernel ends itself when this process is
gone; what it had kept (`run.kept`) lies in `build/cells/<key>`, and the next call goes on from there.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from tightrope.book.checkout import Failed, write, write_if_changed
from tightrope.book.press import keys, pairs, plans
from tightrope.book.press.console import Board
from tightrope.book.press.plans import Job
from tightrope.book.processors import cores

LAST_LINES = 12  # of a traceback and of stderr, shown when a chapter fails
SAVE_EVERY = 5.0  # seconds between two saves of a notebook that is being executed


def run(todo: list[Job], workers: int | None = None) -> None:
    """Execute jobs side by side, the longest first. Failed: what failed, once all others have ended.

    workers: at a time; one a core, but one alone where they would share a GPU.
    """
    if not todo:
        return
    shared = any(keys.device_kind(job.device) == "cuda" for job in todo)
    build, board = todo[0].checkout.build, Board([job.chapter for job in todo])
    _forget_old_cells(todo)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says is raised, and said in `Failed`
    # papermill hands its own environment on: what all kernels share is set here, the rest by their kernelspecs.
    os.environ |= {
        "JUPYTER_PATH": str(build / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(build / "jupyter" / "runtime"),
    }
    running = [_Execution(job) for job in sorted(todo, key=_seconds, reverse=True)]
    pool = ThreadPoolExecutor(workers or (1 if shared else cores()))
    waiting = {pool.submit(execution): execution for execution in running}
    failures = []
    try:
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for execution in waiting.values():
                board.state(execution.job.chapter, execution.cell, execution.cells, execution.progress())
            for future in done:
                execution = waiting.pop(future)
                if error := future.exception():
                    failures.append(error)
                board.ended(execution.job.chapter, ok=error is None)
    except BaseException:  # Ctrl-C reaches this process alone: the kernels have sessions of their own
        pool.shutdown(wait=False, cancel_futures=True)
        for execution in running:
            execution.stopped = True
        # Some may be starting just now.
        while under_way := [future for future in waiting if future.running()]:
            _end_kernels()
            wait(under_way, timeout=0.2)
        raise
    finally:
        pool.shutdown()
    for error in failures:
        if not isinstance(error, Failed):
            raise error
    if failures:
        raise Failed("\n\n".join(map(str, failures)))


class _Execution:
    """A chapter under way: called in a thread, looked at from another."""

    def __init__(self, job: Job) -> None:
        self.job, self.cell, self.cells, self.live, self.stopped = job, 0, 0, None, False

    def progress(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self.job.progress.read_text("utf-8").strip()
        return ""

    def __call__(self) -> None:
        import nbformat
        import papermill
        from nbclient.exceptions import DeadKernelError

        job, began = self.job, time.monotonic()
        checkout, partial = job.checkout, job.checkout.executed(job.profile, job.chapter, partial=True)
        text = nbformat.reads(job.text, as_version=4)
        if not plans.unchanged(checkout, plans.inputs(job)):  # a killed run read what is another file now
            shutil.rmtree(job.cells, ignore_errors=True)
        for leftover in (
            job.log,
            partial,
            *plans.both(checkout.record(job.profile, job.chapter, partial=True)),
        ):
            leftover.unlink(missing_ok=True)
        for folder in (partial.parent, job.progress.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.cells = sum(cell.cell_type == "code" for cell in text.cells)
        given = {"profile": job.profile, "seed": job.seed, "device": job.device, **job.parameters}
        known = pairs.parameters(text)

        def attempt():
            return papermill.execute_notebook(
                copy.deepcopy(text),
                str(partial),
                parameters={name: value for name, value in given.items() if name in known},
                engine_name=_engine(),
                kernel_name=_kernelspec(job),
                language="python",
                progress_bar=False,
                start_timeout=120,
                shutdown_kernel="immediate",  # all is on disk by then, and torch takes seconds to leave in good order
                on_cell_start=self._on_start,
            )

        try:
            try:
                done = attempt()
            except RuntimeError:
                if self.cell or self.stopped:
                    raise
                done = attempt()  # two kernels that start side by side may have drawn the same port
        except papermill.PapermillExecutionError as error:
            trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
            raise Failed(self._failure(f"{error.ename}: {error.evalue}", trace)) from None
        except (DeadKernelError, RuntimeError) as error:
            said = job.log.read_text("utf-8", "replace") if job.log.is_file() else ""
            raise Failed(
                self._failure(f"the kernel died, for want of memory perhaps ({error})", said)
            ) from None
        finally:
            job.progress.unlink(missing_ok=True)
        _finish(job, text, done, time.monotonic() - began)

    def _on_start(self, cell, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in pairs.tags(cell):
            self.cell, self.live = self.cell + 1, cell
            self.job.progress.unlink(missing_ok=True)

    def _failure(self, error: str, said: str) -> str:
        outputs = self.live.outputs if self.live else []
        stderr = "".join(o.text for o in outputs if o.get("name") == "stderr")
        partial = self.job.checkout.executed(self.job.profile, self.job.chapter, partial=True)
        parts = [f"{self.job.chapter}, cell {self.cell}: {error}", _last(said)]
        parts += ["stderr:", _last(stderr)] if stderr else []
        parts += [f"What was done up to there: {os.path.relpath(partial)}"] if partial.is_file() else []
        return "\n".join(part for part in parts if part)


def _last(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-LAST_LINES:])


_registering = threading.Lock()


def _engine() -> str:
    """The name of papermill's engine with fewer saves: its own writes and validates the notebook twice a cell, text
    included, which took a quarter of a short chapter's time. The last save, on success or failure, is papermill's."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Sparing(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            save, last = nb_man.save, time.monotonic()

            def seldom(**given) -> None:
                nonlocal last
                if time.monotonic() - last >= SAVE_EVERY:
                    save(**given)
                    last = time.monotonic()

            nb_man.save = seldom
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            finally:
                nb_man.save = save

    with _registering:
        papermill_engines.register("sparing", Sparing)
    return "sparing"


def _kernelspec(job: Job) -> str:
    """Write the kernelspec of a job, its environment included, and return its name.

    Nothing of the user's reaches a chapter: no start-up files, styles, warnings, paths or locale.
    """
    build = job.checkout.build
    empty = build / "jupyter" / "matplotlibrc"
    write_if_changed(empty, "")
    environment = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONUTF8"), "1"
    )
    unset = "STARTUP WARNINGS WARNDEFAULTENCODING DEVMODE INSPECT OPTIMIZE PYCACHEPREFIX"
    environment |= {f"PYTHON{name}": "" for name in unset.split()}
    environment |= {
        "TIGHTROPE_ROOT": str(job.checkout.root),
        "TIGHTROPE_CHAPTER": job.chapter,
        "TIGHTROPE_KEY": job.key,
        "TIGHTROPE_STORED_KEY": job.stored_key,
        "TIGHTROPE_PROGRESS": str(job.progress),
        "TIGHTROPE_OPENED": str(job.cells / "opened.txt"),
        "TIGHTROPE_LOG": str(job.log),
        "PYTHONPATH": str(job.checkout.package.parent),  # this checkout's library, whatever else is installed
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "LC_ALL": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would leave pages without figures
        "MATPLOTLIBRC": str(empty),
        "MPLCONFIGDIR": str(build / "jupyter" / "matplotlib"),
        "IPYTHONDIR": str(build / "jupyter" / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    argv = [sys.executable, "-P", "-m", "tightrope.book.press.kernel", "-f", "{connection_file}"]
    # What C code prints goes to the log at once: ipykernel's own way to the page ends with the kernel.
    argv += ["--IPKernelApp.capture_fd_output=False", "--IPKernelApp.log_level=ERROR"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python", "env": environment}
    name = f"{job.chapter}-{job.profile}".lower()
    write(build / "jupyter" / "kernels" / name / "kernel.json", json.dumps(spec))
    return name


def _finish(job: Job, text, notebook, seconds: float) -> None:
    """Numbers first, the notebook last: it carries the key, so nothing counts before it is there."""
    checkout, kind = job.checkout, keys.device_kind(job.device)
    key = keys.execution_key(checkout, text.cells, job.profile, job.seed, kind, job.parameters)
    if not keys.same_code(key, job.key):
        raise Failed(f"{job.chapter}: its code or the library was edited while it ran; run it again.")
    partial, final = (checkout.record(job.profile, job.chapter, p) for p in (True, False))
    has_record = partial.is_file()
    for begun, whole in reversed(list(zip(plans.both(partial), plans.both(final), strict=True))):
        if begun.is_file():
            os.replace(begun, whole)
        else:
            whole.unlink(missing_ok=True)
    notebook.metadata["tightrope"] = {
        "key": key,
        "ran_as": job.key,
        "recorded": has_record,
        "inputs": plans.inputs(job),
        "profile": job.profile,
        "device": kind,
        "seed": job.seed,
        "parameters": dict(job.parameters),
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d"),
    }
    write(checkout.executed(job.profile, job.chapter), pairs.to_json(notebook))
    checkout.executed(job.profile, job.chapter, partial=True).unlink(missing_ok=True)
    shutil.rmtree(job.cells, ignore_errors=True)  # it was there to resume from
    job.log.unlink(missing_ok=True)


def _seconds(job: Job) -> float:
    """How long a chapter took the last time; one that never ran may take longest."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        path = job.checkout.executed(job.profile, job.chapter)
        return float(json.loads(path.read_bytes())["metadata"]["tightrope"]["seconds"])
    return float("inf")


def _end_kernels() -> None:
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _forget_old_cells(todo: list[Job]) -> None:
    """Delete what killed runs of other code kept to resume from, once nobody has come back for a week."""
    current = {job.key for job in todo}
    for folder in (todo[0].checkout.build / "cells").glob("*"):
        if folder.name not in current and time.time() - folder.stat().st_mtime > 7 * 86_400:
            shutil.rmtree(folder, ignore_errors=True)
