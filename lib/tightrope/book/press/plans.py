"""What is to be executed, and what has been: a job is one execution of one chapter.

A notebook in `build/executed` whose key is today's, and whose inputs are what they were, stands for a finished run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tightrope.book import claims, records, verdicts
from tightrope.book.checkout import PROFILES, Checkout, Stop, read, write
from tightrope.book.press import keys, pairs
from tightrope.book.press.kernel import content


@dataclass(frozen=True)
class Job:
    """One execution of one chapter. `text` is the chapter's, as a notebook file: it is read once."""

    checkout: Checkout
    chapter: str
    profile: str
    device: str
    seed: int
    key: str
    stored_key: str
    text: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def progress(self) -> Path:
        return self.checkout.build / "progress" / f"{self.chapter}.{self.profile}.txt"

    @property
    def log(self) -> Path:
        return self.checkout.executed(self.profile, self.chapter).with_suffix(".log")

    @property
    def cells(self) -> Path:
        """Where a run keeps what it can go on from, and notes what it read."""
        return self.checkout.build / "cells" / self.key

    def is_done(self) -> bool:
        """Whether a finished execution with this key is on disk, together with the numbers it recorded."""
        done = finished(self.checkout, self.profile, self.chapter)
        return done is not None and done.metadata["tightrope"]["key"] == self.key


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
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise Stop(f"There is no device {device!r}; say auto, cpu, cuda or cuda:1.")
    if device.startswith("cuda") and keys.torch_is_cpu_only():
        raise Stop(
            "The torch that is installed here was built without CUDA; say cpu, or install a CUDA build."
        )
    if not 0 <= seed < 2**32:
        raise Stop(f"The seed is {seed}; it has to be from 0 to 4294967295.")
    jobs = []
    for chapter in chapters:
        text = pairs.read_text(checkout.text(chapter))
        settable = [name for name in pairs.parameters(text) if name not in ("profile", "seed", "device")]
        for name in parameters or {}:
            if name not in settable:
                listed = ", ".join(settable) or "none beside profile, seed and device"
                raise Stop(f"{chapter} has no parameter {name!r} to set; it has {listed}.")
        key = keys.execution_key(checkout, text.cells, profile, seed, keys.device_kind(device), parameters)
        stored = keys.stored_key(checkout, text.cells, profile)
        whole = pairs.to_json(text)
        jobs.append(Job(checkout, chapter, profile, device, seed, key, stored, whole, dict(parameters or {})))
    return jobs


def finished(checkout: Checkout, profile: str, chapter: str):
    """The last finished execution of a chapter, as a notebook; None where there is none, a part of it is missing, or a
    file that it read is another one now."""
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
    return notebook if whole and unchanged(checkout, about.get("inputs", {})) else None


def recorded(checkout: Checkout, profile: str, chapter: str) -> dict | None:
    """The numbers that a finished chapter recorded; None where there are none that can be read."""
    try:
        return records.read(checkout.record(profile, chapter))
    except ValueError:
        return None


def store(job: Job) -> Path:
    """Keep the numbers and arrays of a finished execution in `book/runs`, and the rules that its claims are judged by
    today; returns the JSON's path."""
    record = job.checkout.record(job.profile, job.chapter)
    if not record.is_file():
        raise Stop(f"{job.chapter} recorded no numbers, so there is nothing to store.")
    kept, arrays = job.checkout.stored(job.chapter), record.with_suffix(".npz")
    if arrays.is_file():
        write(kept.with_suffix(".npz"), arrays.read_bytes())
    else:
        kept.with_suffix(".npz").unlink(missing_ok=True)
    listed = job.checkout.book / "claims.yml"
    mine = [
        claim for claim in (claims.load(listed) if listed.is_file() else []) if claim.chapter == job.chapter
    ]
    rules = {claim.id: verdicts.kept(claim) for claim in mine}
    records.write(kept, records.read(record) | {"rules": rules})
    return kept


def inputs(job: Job) -> dict[str, str]:
    """The files that a run of this key read, with their content at first sight."""
    opened = job.cells / "opened.txt"
    lines = read(opened).splitlines() if opened.is_file() else []
    found: dict[str, str] = {}
    for path, tab, digest in (line.partition("\t") for line in lines):
        if tab and digest:
            found.setdefault(path, digest)
    return found


def unchanged(checkout: Checkout, read_then: Mapping[str, str]) -> bool:
    return all(content(checkout.root / path) == digest for path, digest in read_then.items())


def both(record: Path) -> Iterator[Path]:
    return iter((record, record.with_suffix(".npz")))
