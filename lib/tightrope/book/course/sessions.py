"""Feeds a submission to a process of its own, a cell at a time, under limits; `runner` is the other end.

A test reaches the process when everything before it has been answered. An answer carries the nonce of its question. A
process that dies, stays silent too long or answers nonsense is ended, and started again without the cell that did it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tightrope.book.course.sandbox import SCRATCH, Sandbox

LONGEST = 2**16  # bytes of an answer
START = 60.0  # seconds that a process may take to import what it needs, beside those of its first cell


@dataclass(frozen=True)
class Limits:
    """cell, wall: seconds of a cell and of a whole submission; memory: bytes of a process; processes: or threads."""

    cell: float = 15.0
    wall: float = 180.0
    memory: int = 2**31
    processes: int = 32

    def sentence(self) -> str:
        return (
            f"Limits: {self.cell:.0f} s a cell, {self.wall:.0f} s a submission, {self.memory / 2**30:g} GB a process, "
            f"{self.processes} processes or threads, {SCRATCH >> 20} MB of files; what is printed is dropped."
        )


@dataclass(frozen=True)
class Step:
    """A cell to run. kind: given, student, visible or hidden; cell: the grade_id it belongs to."""

    kind: str
    cell: str
    source: str


@dataclass(frozen=True)
class Answer:
    """What became of a step. end: "" where it ran to its end or to an exception, else how the process came to its own:
    "time" (the cell's), "died", or "wall" (the submission's time was up). The rest as in `runner`."""

    ok: bool = False
    error: str = ""
    says: str = ""
    line: int = 0
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    end: str = ""


class Sessions:
    """Runs submissions in a sandbox, several side by side; `close` ends those that are under way."""

    def __init__(self, box: Sandbox, limits: Limits) -> None:
        self.box, self.limits = box, limits
        self.live: set[_Process] = set()
        self.closed = threading.Event()

    def run(self, steps: Sequence[Step], slot: int, limits: Limits | None = None) -> list[Answer]:
        """An answer a step. slot: a number that no submission at its side has."""
        limits = limits or self.limits
        end = time.monotonic() + limits.wall
        answers: dict[int, Answer] = {}
        while len(answers) < len(steps) and not self.closed.is_set():
            with self._process(slot, limits) as process:
                for i, step in enumerate(steps):
                    if i in answers and (answers[i].end or step.kind in ("visible", "hidden")):
                        continue  # deadly, or judged before the process had to be started again
                    began = time.monotonic()
                    starting = process.allowance
                    left = end - began
                    answers[i] = process.ask(step, min(limits.cell, left)) if left > 0 else Answer(end="wall")
                    if starting:  # imports are on the house
                        end += time.monotonic() - began
                    if answers[i].end and answers[i].end != "wall":
                        break
        return [answers.get(i, Answer(end="wall")) for i in range(len(steps))]

    def close(self) -> None:
        """End every process, and start no other."""
        self.closed.set()
        for process in list(self.live):
            process.end()

    @contextlib.contextmanager
    def _process(self, slot: int, limits: Limits) -> Iterator[_Process]:
        process = _Process(self.box, slot, limits)
        self.live.add(process)
        try:
            yield process
        finally:
            process.end()
            self.live.discard(process)


class _Process:
    def __init__(self, box: Sandbox, slot: int, limits: Limits) -> None:
        self.mark = uuid.uuid4().hex
        self.alone = box.way != "limits"
        self.scratch = "" if self.alone else tempfile.mkdtemp(dir=box.root)
        words = [sys.executable, "-P", "-m", "tightrope.book.course.runner"]
        self.popen = subprocess.Popen(
            box.command(words, slot),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=box.environment(self.scratch or "/tmp") | {"TIGHTROPE_SUBMISSION": self.mark},
            cwd=self.scratch or "/",
            start_new_session=True,
        )
        self.heard, self.allowance = b"", START
        bounds = {"memory": limits.memory, "processes": limits.processes, "file_bytes": SCRATCH}
        self._send(bounds | {"seconds": round(2 * limits.wall), "shared": not self.alone})

    def ask(self, step: Step, seconds: float) -> Answer:
        nonce = uuid.uuid4().hex
        self._send({"nonce": nonce, "kind": step.kind, "source": step.source})
        began = time.monotonic()
        line = self._line(began + seconds + self.allowance)
        self.allowance = 0.0
        took = time.monotonic() - began
        try:
            answer = json.loads(line)
            if answer.pop("nonce") != nonce:
                raise ValueError
            return Answer(**answer | {"changed": tuple(answer["changed"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            self.end()
            return Answer(end="time" if took >= seconds else "died", seconds=took)

    def end(self) -> None:
        """Kill the process, all that it started, and delete its scratch folder."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.kill()
        self.popen.wait()
        if not self.alone:
            self._end_strays()
        for pipe in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(OSError):  # a broken pipe has something left to say
                pipe.close()
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _end_strays(self) -> None:
        """Without a namespace to end, what left the process group is known by a mark in its environment."""
        import psutil

        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TIGHTROPE_SUBMISSION") == self.mark:
                    process.kill()

    def _send(self, message: dict) -> None:
        with contextlib.suppress(OSError):  # it has died: the answer that does not come says so
            self.popen.stdin.write(json.dumps(message).encode() + b"\n")
            self.popen.stdin.flush()

    def _line(self, end: float) -> bytes:
        """The next line of its answers; empty where it ended, took too long or does not stop."""
        pipe = self.popen.stdout.fileno()
        while b"\n" not in self.heard:
            left = end - time.monotonic()
            if left <= 0 or len(self.heard) > LONGEST or not select.select([pipe], [], [], left)[0]:
                return b""
            part = os.read(pipe, LONGEST)
            if not part:
                return b""
            self.heard += part
        line, _, self.heard = self.heard.partition(b"\n")
        return line
