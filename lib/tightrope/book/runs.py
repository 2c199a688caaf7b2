"""A run of a chapter: its profile, seed and device, its sizes, what it records, what it need not do twice.

    run = runs.start("01-synthetic-margins", profile="quick", seed=0, device="auto")
    size = run.sizes(N=(1_000, 10_000, 10_000), seeds=(1, 2, 5))
    net, log = run.network(lambda seed: nets.mlp(100, seed=seed), x, y, training.TABLE1, seed=0)
    run.record("table1.u1.median", 2.49, interval=(2.41, 2.55), n=5, unit="l2")

Works in a live notebook, in plain Python and under the executor. The executor's kernel has TIGHTROPE_KEY (the
execution's key) in its environment: then long results are kept too, so that a killed run resumes.
"""

from __future__ import annotations

import copy
import datetime
import math
import os
import platform
import re
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tightrope import __version__
from tightrope import progress as _progress
from tightrope._files import reason
from tightrope.book import checkout as layout
from tightrope.book import kept, networks, records, tables
from tightrope.book.checkout import PROFILES
from tightrope.book.records import Stored, stored
from tightrope.models import training

__all__ = ["Run", "Spread", "Stored", "progress", "spread", "start", "stored"]

T = TypeVar("T")


def start(chapter: str, profile: str = "quick", seed: int = 0, device: str = "auto") -> Run:
    """Begin a run of a chapter, named as its file is ("01-synthetic-margins").

    Sets torch's threads from OMP_NUM_THREADS and the figures' style, and picks the device: "auto" is the GPU
    where torch sees one. Raises ValueError for an unknown chapter, profile or device and for a bad seed.
    """
    if profile not in PROFILES:
        raise ValueError(f"Unknown profile {profile!r}: use {', '.join(PROFILES[:-1])} or {PROFILES[-1]}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number of at least 0, not {seed!r}.")
    if not isinstance(chapter, str) or not re.fullmatch(r"\w[\w-]*", chapter):
        raise ValueError(f"A chapter is named as its file is, like '01-synthetic-margins', not {chapter!r}.")
    try:
        checkout = layout.find_checkout()
    except layout.Stop:
        checkout = None
    if checkout is not None and not checkout.text(chapter).is_file():
        known = sorted(p.stem for p in checkout.book.glob("[0-9][0-9]-*.md"))
        raise ValueError(
            f"There is no chapter {chapter!r}: the chapters are {', '.join(known) or 'none yet'}."
        )
    chosen = _device(device)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > 0:
        torch.set_num_threads(int(threads))
    with suppress(ImportError):  # measuring needs no matplotlib
        from tightrope.book import figures

        figures.style()
    return Run(chapter, profile, seed, chosen, checkout)


def progress(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items of `iterable`, with a line `what 3/10, about 0:20 left` meanwhile, in a terminal only."""
    return _progress.track(iterable, what, total)


@dataclass(frozen=True)
class Spread:
    """The middle of values over seeds, the smallest and the largest: all that two to five can honestly say."""

    median: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g}, {self.n} seeds)"


def spread(values: Iterable[float]) -> Spread:
    """Median and range of one number over seeds. Raises ValueError for none, and for NaN or infinity."""
    numbers = [float(v) for v in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"spread needs at least one value, all finite, not {numbers}.")
    return Spread(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


class Run:
    """One run of a chapter, made by `start`.

    Attributes: chapter, profile, seed, device (a torch.device).
    """

    def __init__(
        self, chapter: str, profile: str, seed: int, device: torch.device, checkout: layout.Checkout | None
    ) -> None:
        self.chapter, self.profile, self.seed, self.device = chapter, profile, seed, device
        self._checkout = checkout
        self._began = time.monotonic()
        self._arrays: dict[str, np.ndarray] = {}
        self._calls: dict[str, int] = {}
        self._record = {
            "chapter": chapter,
            "profile": profile,
            "device": device.type,
            "device_name": _device_name(device),
            "seed": seed,
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "tightrope": __version__,
            },
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **_commit(checkout),
            "key": os.environ.get("TIGHTROPE_KEY"),
            "stored_key": os.environ.get("TIGHTROPE_STORED_KEY"),
            "seconds": 0.0,
            "sizes": {},
            "quantities": {},
            "warnings": [],
        }
        self._write()

    def __repr__(self) -> str:
        return f"Run({self.chapter}, {self.profile}, seed {self.seed}, {self.device})"

    def sizes(self, **table: tuple[object, object, object]) -> tables.Sizes:
        """The sizes, name=(smoke, quick, paper): this profile's as attributes, all of them as the table that the
        chapter shows by ending a cell with it."""
        if not table:
            raise ValueError("sizes needs at least one entry, such as N=(1_000, 10_000, 10_000).")
        for name, row in table.items():
            if not isinstance(row, tuple | list) or len(row) != len(PROFILES):
                raise ValueError(f"sizes: {name} needs three values ({', '.join(PROFILES)}), not {row!r}.")
        sizes = tables.Sizes(table, PROFILES, self.profile)
        self._record["sizes"] = {name: tables.shown(getattr(sizes, name)) for name in table}
        self._write()
        return sizes

    def record(
        self,
        name: str,
        value: float | int | bool | Tensor,
        *,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
        unit: str | None = None,
        **extra: str | float | int | bool,
    ) -> None:
        """Keep one number under the id that claims refer to. A second value for an id replaces the first.

        interval: (low, high); n: what it was taken over. Raises ValueError for NaN, infinity, a bad id.
        """
        if not isinstance(name, str) or not records.ID.fullmatch(name):
            raise ValueError(
                f"A quantity's id is words joined by dots, like 'table1.u1.median', not {name!r}."
            )
        entry: dict[str, object] = {"value": _number(value, name)}
        if interval is not None:
            if not isinstance(interval, tuple | list) or len(interval) != 2:
                raise ValueError(f"{name}: an interval is (low, high), not {interval!r}.")
            bounds = [_number(bound, f"{name}'s interval") for bound in interval]
            if bounds[0] > bounds[1]:
                raise ValueError(f"{name}: an interval is (low, high), not {tuple(bounds)}.")
            entry["interval"] = bounds
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise ValueError(f"{name}: n is a whole number of at least 1, not {n!r}.")
        entry |= {"n": n, "unit": unit}
        for key, note in extra.items():
            entry[key] = note if isinstance(note, str) else _number(note, f"{name}'s {key}")
        self._record["quantities"][name] = {k: v for k, v in entry.items() if v is not None}
        self._write()

    def keep(self, name: str, **arrays: Tensor | np.ndarray | list) -> None:
        """Keep small arrays, as `name.array`, for the stored run to carry; ValueError beyond 2 MB each."""
        for key, given in arrays.items():
            array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
            if array.dtype.kind not in "biuf":
                raise ValueError(f"{name}.{key}: keep takes numbers, not {array.dtype}.")
            if array.nbytes > 2_000_000:
                raise ValueError(
                    f"{name}.{key} has {array.nbytes:,} bytes: keep a summary of at most 2,000,000."
                )
            self._arrays[f"{name}.{key}"] = array
        self._write(arrays=True)

    def snapshot(self) -> dict:
        """The run's record as it stands, see `records`."""
        return copy.deepcopy(self._record)

    def cached(self, name: str, compute: Callable[[], T], *key_parts: object) -> T:
        """compute()'s result. Under the executor it is kept on disk, so that a killed run goes on from it.

        It is kept for this execution alone: same code, profile, seed and device. `key_parts` and the order of
        calls tell calls with the same name apart. Returns tensors, numbers, text, or tuples, lists,
        dictionaries and dataclasses of these.
        """
        key = os.environ.get("TIGHTROPE_KEY")
        if not key or self._checkout is None:
            return compute()
        call = kept.fingerprint(name, self.seed, self.profile, self.device.type, *key_parts)
        self._calls[call] = self._calls.get(call, 0) + 1
        label = re.sub(r"\W+", "-", name)
        path = self._checkout.build / "cells" / key / f"{label}-{call[:16]}-{self._calls[call]}.safetensors"
        try:
            return kept.load(path)
        except kept.Miss:
            value = compute()
        try:
            kept.save(path, value)
        except OSError as error:
            self._say(f"Results cannot be kept in {path.parent} ({reason(error)}): a killed run starts anew.")
        return value

    def network(
        self,
        build: Callable[..., nn.Module],
        x: Tensor,
        y: Tensor,
        recipe: training.Recipe,
        seed: int = 0,
        x_test: Tensor | None = None,
        y_test: Tensor | None = None,
    ) -> tuple[nn.Module, training.Log]:
        """The trained network, in eval mode on this run's device, and its training log.

        build(seed) (or build()) gives the fresh network; see `training.fit` for the rest. Trained once for
        the same structure, start, data, recipe, seed and training code, and kept: see `networks`.
        """
        return networks.trained(build, x, y, recipe, seed, x_test, y_test, device=self.device, warn=self._say)

    def _write(self, arrays: bool = False) -> None:
        if self._checkout is None:
            return
        path = self._checkout.record(self.profile, self.chapter, partial=True)
        self._record["seconds"] = round(time.monotonic() - self._began, 1)
        try:
            records.write(path, self._record)
            if arrays:
                records.write_arrays(path.with_suffix(".npz"), self._arrays)
        except OSError as error:
            if os.environ.get("TIGHTROPE_KEY"):
                raise OSError(
                    f"The numbers of this run cannot be written to {path} ({reason(error)})."
                ) from error
            self._say(f"The numbers of this run cannot be written to {path.parent} ({reason(error)}).")

    def _say(self, sentence: str) -> None:
        """One warning, once, in the record as well. The executor reads it there: stderr would land on the page."""
        if sentence in self._record["warnings"]:
            return
        self._record["warnings"].append(sentence)
        if not os.environ.get("TIGHTROPE_KEY"):
            warnings.warn(sentence, stacklevel=4)


def _number(value: object, what: str) -> float | int | bool:
    if isinstance(value, Tensor | np.generic | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise ValueError(f"{what} must be one number, not {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}: a censored or failed measurement is not recorded as a number.")
    return value


def _device(name: str) -> torch.device:
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"Unknown device {name!r}: use 'auto', 'cpu' or 'cuda'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device='cuda', but torch sees no GPU here: use 'auto' or 'cpu'.")
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device={name!r}, but torch sees {torch.cuda.device_count()} GPU(s): use 'cuda'."
            )
        torch.backends.cudnn.allow_tf32 = False  # margins are measured in float32
    return device


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def _commit(checkout: layout.Checkout | None) -> dict[str, object]:
    """The commit this code is at, and whether files in git differ from it; None where git cannot say."""

    def git(*words: str) -> str | None:
        if checkout is None:
            return None
        try:
            answer = subprocess.run(
                ["git", "-C", str(checkout.root), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "--verify", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }
