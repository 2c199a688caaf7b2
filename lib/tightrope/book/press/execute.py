"""One chapter executed by papermill, in a process of its own: `python -m tightrope.execute`, a job on stdin.

The chapter runs into `NN-name.partial.ipynb`, which takes its name on success: arrays and numbers first, the
notebook, which carries the key, last. So a file without `.partial` is whole, and a notebook whose key is today's
stands for a finished run. The process ends itself, kernel included, when the one that started it is gone.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tightrope.book.checkout import Checkout, Failed, Stop, write
from tightrope.book.press import keys, pairs

LAST_LINES = 12  # of a traceback and of stderr, shown when a chapter fails
SAVE_EVERY = 5.0  # seconds between two saves of a notebook that is being executed


@dataclass(frozen=True)
class Job:
    """One execution of one chapter. `text` is the chapter's, as a notebook file: it is read once."""

    root: str
    chapter: str
    profile: str
    device: str
    seed: int
    key: str
    stored_key: str
    text: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def checkout(self) -> Checkout:
        return Checkout(Path(self.root))

    @property
    def progress(self) -> Path:
        return self.checkout.build / "progress" / f"{self.chapter}.{self.profile}.txt"

    @property
    def log(self) -> Path:
        return self.checkout.executed(self.profile, self.chapter).with_suffix(".log")

    def key_now(self, cells) -> str:
        """The execution key that the files of this moment give."""
        kind = keys.device_kind(self.device)
        return keys.execution_key(self.checkout, cells, self.profile, self.seed, kind, self.parameters)

    def is_done(self) -> bool:
        """Whether a finished execution with this key is on disk, together with the numbers it recorded."""
        done = finished(self.checkout, self.profile, self.chapter)
        return done is not None and done.metadata["tightrope"]["key"] == self.key


def finished(checkout: Checkout, profile: str, chapter: str):
    """The last finished execution of a chapter, as a notebook; None where there is none or a part is missing."""
    path = checkout.executed(profile, chapter)
    if not path.is_file():
        return None
    try:
        notebook = pairs.read_notebook(path)
    except Stop:
        return None
    about = notebook.metadata.get("tightrope", {})
    record = recorded(checkout, profile, chapter) or {}
    whole = "key" in about and (not about["recorded"] or record.get("key") == about["ran_as"])
    return notebook if whole else None


def recorded(checkout: Checkout, profile: str, chapter: str) -> dict | None:
    """The numbers that a finished chapter recorded; None where there are none that can be read."""
    from tightrope.book import records

    try:
        return records.read(checkout.record(profile, chapter))
    except ValueError:
        return None


def store(job: Job) -> Path:
    """Keep the numbers and arrays of a finished execution in `book/runs`; returns the JSON's path."""
    record = job.checkout.record(job.profile, job.chapter)
    if not record.is_file():
        raise Stop(f"{job.chapter} recorded no numbers, so there is nothing to store.")
    kept = job.checkout.stored(job.chapter)
    for path, target in reversed(list(zip(_both(record), _both(kept), strict=True))):
        if path.is_file():
            write(target, path.read_bytes())
        else:
            target.unlink(missing_ok=True)
    return kept


def main() -> int:
    """Execute the one chapter that the first line of stdin describes; say on stdout how far it is."""
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a kernel's C code prints must not mix with what is said to the parent
    try:
        _execute(job, lambda **said: out.write(json.dumps(said) + "\n"))
    except Failed as failed:
        out.write(json.dumps({"failure": str(failed)}) + "\n")
        return 1
    return 0


def failure_text(job: Job, cell: int, error: str, traceback: str, stderr: str) -> str:
    partial = job.checkout.executed(job.profile, job.chapter, partial=True)
    parts = [f"{job.chapter}, cell {cell}: {error}", traceback]
    if stderr:
        parts += ["stderr:", stderr]
    if partial.is_file():
        parts.append(f"What was done up to there: {os.path.relpath(partial)}")
    return "\n".join(part for part in parts if part)


def last_lines(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-LAST_LINES:])


def _die_with_parent() -> None:
    os.read(0, 1)  # comes back when the parent closes its end, or dies
    with contextlib.suppress(Exception):
        import psutil

        for process in psutil.Process().children(recursive=True):
            process.kill()
    os._exit(1)


def _execute(job: Job, say) -> None:
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    checkout, began = job.checkout, time.monotonic()
    partial = checkout.executed(job.profile, job.chapter, partial=True)
    text = nbformat.reads(job.text, as_version=4)
    text.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    _make_kernel(checkout)
    for leftover in (partial, *_both(checkout.record(job.profile, job.chapter, partial=True))):
        leftover.unlink(missing_ok=True)
    job.progress.parent.mkdir(parents=True, exist_ok=True)
    cells = sum(cell.cell_type == "code" for cell in text.cells)
    at = _Position()

    def on_start(cell, cell_index: int) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in pairs.tags(cell):
            at.cell, at.live = at.cell + 1, cell
            job.progress.unlink(missing_ok=True)
            say(cell=at.cell, cells=cells)

    given = {"profile": job.profile, "seed": job.seed, "device": job.device, **job.parameters}
    known = pairs.parameters(text)

    def attempt():
        return papermill.execute_notebook(
            copy.deepcopy(text),
            str(partial),
            parameters={name: value for name, value in given.items() if name in known},
            engine_name=_engine(),
            kernel_name="python3",
            progress_bar=False,
            start_timeout=120,
            shutdown_kernel="immediate",  # all is on disk by then, and torch takes seconds to leave in good order
            cwd=str(checkout.book),
            on_cell_start=on_start,
        )

    try:
        try:
            done = attempt()
        except RuntimeError:
            if at.cell:
                raise
            done = attempt()  # two kernels that start side by side may have drawn the same port
    except papermill.PapermillExecutionError as error:
        trace = last_lines(_plain("\n".join(error.traceback)))
        raise Failed(
            failure_text(job, at.cell, f"{error.ename}: {error.evalue}", trace, at.stderr())
        ) from None
    except (DeadKernelError, RuntimeError) as error:
        why = f"the kernel died, for want of memory perhaps ({error})"
        raise Failed(failure_text(job, at.cell, why, last_lines(job.log.read_text()), at.stderr())) from None
    _finish(job, text, done, time.monotonic() - began)


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

    papermill_engines.register("sparing", Sparing)
    return "sparing"


@dataclass
class _Position:
    cell: int = 0
    live: object = None

    def stderr(self) -> str:
        outputs = self.live.outputs if self.live else []
        return last_lines("".join(o.text for o in outputs if o.get("name") == "stderr"))


def _finish(job: Job, text, notebook, seconds: float) -> None:
    """Numbers first, the notebook last: it carries the key, so nothing counts before it is there."""
    checkout = job.checkout
    key = job.key_now(text.cells)
    if not keys.same_code(key, job.key):
        raise Failed(f"{job.chapter}: its code or the library was edited while it ran; run it again.")
    partial, final = (checkout.record(job.profile, job.chapter, p) for p in (True, False))
    has_record = partial.is_file()
    for begun, whole in reversed(list(zip(_both(partial), _both(final), strict=True))):
        if begun.is_file():
            os.replace(begun, whole)
        else:
            whole.unlink(missing_ok=True)
    notebook.metadata["tightrope"] = {
        "key": key,
        "ran_as": job.key,
        "recorded": has_record,
        "profile": job.profile,
        "device": keys.device_kind(job.device),
        "seed": job.seed,
        "parameters": dict(job.parameters),
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d"),
    }
    write(checkout.executed(job.profile, job.chapter), pairs.to_json(notebook))
    checkout.executed(job.profile, job.chapter, partial=True).unlink(missing_ok=True)
    shutil.rmtree(checkout.build / "cells" / job.key, ignore_errors=True)  # it was there to resume from
    job.log.unlink(missing_ok=True)


def _both(record: Path) -> Iterator[Path]:
    return iter((record, record.with_suffix(".npz")))


def _make_kernel(checkout: Checkout) -> None:
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    write(checkout.build / "jupyter" / "kernels" / "python3" / "kernel.json", json.dumps(spec))


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


if __name__ == "__main__":
    sys.exit(main())
