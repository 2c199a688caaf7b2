"""Chapters executed side by side: each a process of its own with one thread, see `execute`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tightrope.book.checkout import PROFILES, Checkout, Failed, Stop
from tightrope.book.press import keys, pairs
from tightrope.book.press.console import Board
from tightrope.book.press.execute import Job, failure_text, last_lines


def plan(
    checkout: Checkout,
    chapters: list[str],
    profile: str = "quick",
    device: str = "auto",
    seed: int = 0,
    parameters: Mapping[str, object] | None = None,
) -> list[Job]:
    """The jobs for some chapters, every argument checked before anything starts. Stop: one sentence otherwise."""
    if profile not in PROFILES:
        raise Stop(f"There is no profile {profile!r}; the profiles are {', '.join(PROFILES)}.")
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise Stop(f"There is no device {device!r}; say auto, cpu, cuda or cuda:1.")
    if kind == "cuda" and keys.torch_is_cpu_only():
        raise Stop(
            "The torch that is installed here was built without CUDA; say cpu, or install a CUDA build."
        )
    if not 0 <= seed < 2**32:
        raise Stop(f"The seed is {seed}; it has to be from 0 to 4294967295.")
    jobs = []
    for chapter in chapters:
        text = pairs.read_text(checkout.text(chapter))
        known = pairs.parameters(text)
        for name in parameters or {}:
            if name not in known or name in ("profile", "seed", "device"):
                settable = [n for n in known if n not in ("profile", "seed", "device")]
                listed = ", ".join(settable) or "none beside profile, seed and device"
                raise Stop(f"{chapter} has no parameter {name!r} to set; it has {listed}.")
        key = keys.execution_key(checkout, text.cells, profile, seed, keys.device_kind(device), parameters)
        stored = keys.stored_key(checkout, text.cells, profile)
        whole, given = pairs.to_json(text), dict(parameters or {})
        jobs.append(Job(str(checkout.root), chapter, profile, device, seed, key, stored, whole, given))
    return jobs


def run(jobs: list[Job], workers: int | None = None) -> None:
    """Execute jobs side by side. Failed: what failed, once all others have ended."""
    workers = workers or cores()
    _forget_old_cells(jobs)
    waiting, running, failures = list(jobs), {}, []
    board = Board([job.chapter for job in jobs])
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                child = _Child(waiting.pop(0))
                running[child.job.chapter] = child
                board.started(child.job.chapter)
            time.sleep(0.1)
            for chapter, child in list(running.items()):
                board.state(chapter, child.cell, child.cells, child.progress())
                if child.ended():
                    del running[chapter]
                    board.ended(chapter, ok=child.failure is None)
                    if child.failure:
                        failures.append(child.failure)
            board.show()
    finally:
        for child in running.values():
            child.stop()
        board.close()
    if failures:
        raise Failed("\n\n".join(failures))


def _forget_old_cells(jobs: list[Job]) -> None:
    """Delete what killed runs of other code kept to resume from, once nobody has come back for a week."""
    current = {job.key for job in jobs}
    for folder in (jobs[0].checkout.build / "cells").glob("*") if jobs else ():
        if folder.name not in current and time.time() - folder.stat().st_mtime > 7 * 86_400:
            shutil.rmtree(folder, ignore_errors=True)


def cores() -> int:
    """How many processors this process may use; a container's quota counts."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


class _Child:
    """A chapter under way, seen from the parent."""

    def __init__(self, job: Job) -> None:
        self.job, self.cell, self.cells, self.failure = job, 0, 0, None
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tightrope.book.press.execute"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(job),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then lets its children go
            )
        with contextlib.suppress(BrokenPipeError):  # a child that is gone already has its say in `ended`
            self.process.stdin.write(json.dumps(asdict(job)) + "\n")
            self.process.stdin.flush()  # and stays open: its end is how the child learns that the parent is gone
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            said = json.loads(line)
            self.cell, self.cells = said.get("cell", self.cell), said.get("cells", self.cells)
            self.failure = said.get("failure", self.failure)

    def progress(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self.job.progress.read_text().strip()
        return ""

    def ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self.listener.join()
        if self.process.returncode and not self.failure:
            log = last_lines(self.job.log.read_text(errors="replace"))
            self.failure = failure_text(
                self.job, self.cell, f"the process ended with exit status {self.process.returncode}", log, ""
            )
        self.stop()
        return True

    def stop(self) -> None:
        """Let the child go and wait until it is gone."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.job.progress.unlink(missing_ok=True)


def _environment(job: Job) -> dict[str, str]:
    build = job.checkout.build
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **os.environ,
        **one,
        "TIGHTROPE_KEY": job.key,
        "TIGHTROPE_STORED_KEY": job.stored_key,
        "TIGHTROPE_PROGRESS": str(job.progress),
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one would leave pages without figures
        "JUPYTER_PATH": str(build / "jupyter"),  # the kernel is this interpreter, whatever else is installed
        "JUPYTER_RUNTIME_DIR": str(build / "jupyter" / "runtime"),
        "IPYTHONDIR": str(build / "jupyter" / "ipython"),  # nobody's own start-up files in the book's numbers
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
