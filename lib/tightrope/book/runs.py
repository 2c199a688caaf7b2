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
import functools
import inspect
import math
import os
import re
import string
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tightrope import progress as _progress
from tightrope import refusals
from tightrope._files import reason
from tightrope.book import checkout as layout
from tightrope.book import claims, kept, networks, provenance, records, results, tables
from tightrope.book.checkout import PROFILES
from tightrope.book.records import Stored, stored
from tightrope.book.results import Result
from tightrope.fingerprint import fingerprint
from tightrope.intervals import Estimate
from tightrope.models import training

__all__ = ["Run", "Stored", "progress", "start", "stored"]

T = TypeVar("T")
P = ParamSpec("P")


def start(chapter: str, profile: str = "quick", seed: int = 0, device: str = "auto") -> Run:
    """Begin a run of a chapter, named as its file is ("01-synthetic-margins").

    Sets torch's threads from OMP_NUM_THREADS and the figures' style, and picks the device: "auto" is the GPU
    where torch sees one. Raises ValueError for an unknown chapter, profile or device and for a bad seed.
    """
    refusals.choice(PROFILES, profile=profile)
    refusals.whole(0, seed=seed)
    if not isinstance(chapter, str) or not re.fullmatch(r"\w[\w-]*", chapter):
        raise ValueError(f"A chapter is named as its file is, like '01-synthetic-margins', not {chapter!r}.")
    try:
        checkout = layout.find_checkout()
    except layout.Stop:
        checkout = None
    if checkout is not None:
        checkout.require_own_library()
    if checkout is not None and not checkout.text(chapter).is_file():
        known = sorted(p.stem for p in checkout.book.glob("[0-9][0-9]-*.md"))
        raise ValueError(
            f"There is no chapter {chapter!r}: the chapters are {', '.join(known) or 'none yet'}."
        )
    chosen = provenance.device(device)
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
        self._results: dict[str, Result] = {}
        self._record = {
            "chapter": chapter,
            "profile": profile,
            "device": device.type,
            "device_name": provenance.device_name(device),
            "seed": seed,
            "versions": provenance.versions(),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **provenance.commit(checkout),
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
        self._record["sizes"] = {name: tables.number(getattr(sizes, name), None) for name in table}
        self._write()
        return sizes

    def record(
        self,
        name: str,
        value: float | int | bool | Tensor | Iterable[float] | Estimate,
        *,
        over: str | None = None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
        unit: str | None = None,
        **extra: str | float | int | bool,
    ) -> Result:
        """Keep one number under the id that claims and `text` refer to; a second value for an id replaces the first.

        value: one number; or one a seed with over="seeds", which records their median and range; or one an image
        with over="images", which records their median between order statistics (of truth values: their share,
        with its exact interval); or an `Estimate` of `intervals`. Its interval, kind, n and count of censored
        values follow; `interval`, `n` and notes in `extra` may be given.

        Returns the `Result`: `float(r)`, `format(r, ".2f")`, and with its interval where it is printed. A number
        that is +inf, as a median is that is itself censored, is returned as "not met" and not recorded. Raises
        ValueError for NaN, for −inf, for an `n` that is not an estimate's own and for a bad id.
        """
        if not isinstance(name, str) or not records.ID.fullmatch(name):
            raise ValueError(
                f"A quantity's id is words joined by dots, like 'table1.u1.median', not {name!r}."
            )
        made = results.result(name, value, over, interval, n, unit, extra)
        self._results[name] = made
        if math.isfinite(made.value):
            self._record["quantities"][name] = made.entry()
        else:
            self._record["quantities"].pop(name, None)
        self._write()
        return made

    def __getitem__(self, name: str) -> Result:
        """What was recorded under an id: `run["table1.u1.median"].value`. Raises ValueError where nothing was."""
        return results.recorded(name, self._results)

    def text(self, template: str) -> results.Text:
        """A sentence with recorded numbers set in, for the end of a cell: every `{id}` is that id's result.

            run.text("It grows like N to the power {growth.network:.2f} ({growth.network.n} seeds).")

        `{id}` alone gives three digits and the interval, `{id:2}` two significant digits, `{id:.1%}` and the like
        what Python makes of it, `{id:in every seed|not in every seed}` words for a yes or no; `{id.n}`, `{id.low}`,
        `{id.high}`, `{id.unit}` and the notes given to `record` what stands beside the number. Braces for maths are
        doubled. Raises ValueError for what is not recorded: record it first.
        """
        return results.fill(template, self._results)

    def table(
        self,
        name: str,
        value: Callable[..., object],
        /,
        *,
        over: str | None = None,
        unit: str | None = None,
        n: int | None = None,
        published: bool | str = False,
        columns: str | None = None,
        head: str = "",
        mark: str | None = None,
        caption: str = "",
        **axes: Mapping[str, str] | Iterable[object],
    ) -> tables.Table:
        """Record a number for every place of a grid, and show the grid.

            run.table(
                "table1.{space}.{q}", lambda space, q: [m[space].quantile(q) for m in margins_by_seed],
                over="seeds", unit="ℓ2", published=True, columns="q",
                space={"u1": "u₁", "perp": "span{u₁}⊥"}, q={"p5": "5 %", "median": "median"},
            )

        axes: what the `{names}` of the id run over, each a dictionary from the part of the id to its title, or a
        list where both are the same; an axis that `name` does not mention is an error. value(**place) is what
        `record` takes, with `over`, `unit` and `n`: None where there is nothing (no number is recorded and the cell
        holds a dash), a single infinity where nothing was met (not recorded either).

        columns: the axis that runs across, the others run down. Without it there is one column, "measured". head:
        the title of the first column. mark: the column in bold, as the axis has it. caption: see
        `tables.Table`. published: True adds a column with what the claims say was printed for an id of the row; a
        text such as "table1.{space}.{q}" says which id.
        """
        grid = {
            axis: dict(at) if isinstance(at, Mapping) else {a: str(a) for a in at}
            for axis, at in axes.items()
        }
        wanted = {field for _, field, _, _ in string.Formatter().parse(name) if field}
        if wanted != grid.keys() or (columns is not None and columns not in grid):
            raise ValueError(
                f"The id {name!r} needs exactly the axes {', '.join(sorted(wanted))}, one of them for the columns."
            )
        across = grid.pop(columns) if columns else {None: "measured"}
        rows = []
        for place in (dict(zip(grid, at, strict=True)) for at in product(*grid.values())):
            ids, cells = [], []
            for column in across:
                here = place | ({columns: column} if columns else {})
                ids.append(name.format(**here))
                cells.append(self._cell(ids[-1], value(**here), over, unit, n))
            if published:
                ids = ids if published is True else [published.format(**place)]
                cells.insert(0, tables.number(next(filter(None, map(self._printed, ids)), "–"), None))
            rows.append([", ".join(grid[axis][at] for axis, at in place.items()), *cells])
        heads = [head, *(["published"] if published else []), *across.values()]
        marked = list(across).index(mark) + len(heads) - len(across) if mark in across and columns else None
        return tables.Table(heads, rows, marked, caption)

    def _printed(self, name: str) -> float | tuple[float, ...] | None:
        with suppress(ValueError, FileNotFoundError, layout.Stop):
            return self.published(name)
        return None

    def _cell(self, name: str, value: object, over: str | None, unit: str | None, n: int | None) -> object:
        """What a table shows of one value, recorded where there is one."""
        return None if value is None else self.record(name, value, over=over, unit=unit, n=n)

    def published(self, name: str) -> float | tuple[float, ...]:
        """The number that the source printed for a quantity, from the claims; ValueError where it printed none."""
        return claims.published(name, self.chapter)

    @property
    def stored(self) -> Stored | None:
        """The chapter's stored run: `run.stored["table1.u1.median"]`, `run.stored.arrays["sweeps.gap"]`; None where
        there is none."""
        return stored(self.chapter, self._checkout)

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

    def kept(self, function: Callable[P, T]) -> Callable[P, T]:
        """A decorator: under the executor a function's results are kept on disk, so that a killed run goes on.

            @run.kept
            def tightened(seed): ...

        They are kept for this execution alone (same code, profile, seed and device), by the function's name and
        text, what it closes over and its arguments. So it has to take as arguments, or define in its cell, whatever
        changes while the chapter runs, and must not draw from a generator that lives outside. Arguments and results
        are tensors, arrays, modules (arguments only), numbers, text, or tuples, lists, dictionaries and dataclasses
        of these; ValueError for others.
        """
        signature = inspect.signature(function)
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError):
            source = function.__qualname__

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            given = signature.bind(*args, **options)
            given.apply_defaults()
            around = tuple(cell.cell_contents for cell in function.__closure__ or ())
            parts = (source, around, given.arguments)
            return self._kept(function.__name__, lambda: function(*args, **options), *parts)

        return call

    def _kept(self, name: str, compute: Callable[[], T], *parts: object) -> T:
        key = os.environ.get("TIGHTROPE_KEY")
        if not key or self._checkout is None:
            return compute()
        call = fingerprint(name, self.seed, self.profile, self.device.type, *parts)
        label = re.sub(r"\W+", "-", name)
        path = self._checkout.build / "cells" / key / f"{label}-{call[:20]}.pt"
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
        build: str | Callable[[int], nn.Module],
        x: Tensor | None = None,
        y: Tensor | None = None,
        recipe: training.Recipe | None = None,
        seed: int | None = None,
        x_test: Tensor | None = None,
        y_test: Tensor | None = None,
    ) -> tuple[nn.Module, training.Log]:
        """The trained network, in eval mode on this run's device, and its training log.

            net, log = run.network("flipped mnist lenet", seed=1)
            net, log = run.network(lambda seed: nets.mlp(100, seed=seed), x, y, training.TABLE1, seed=0)

        A name is one of the book's networks (`networks.BOOK`, with ways to see its images before it), trained at
        this profile's size, tested on its test images; its seed is the run's unless given. Else build(seed) gives
        the fresh network, see `training.fit` for the rest, and seed is 0 unless given. Trained once for the same
        structure, start, data, recipe, seed and code, and kept: see `networks`.
        """
        if isinstance(build, str):
            plan, seed = (
                networks.book(build, self.profile, self.device.type),
                self.seed if seed is None else seed,
            )
            (x, y), (x_test, y_test) = plan.images("train", seed), plan.images("test")
            build, recipe = plan.build, recipe or plan.recipe(len(x))
        return networks.trained(
            build, x, y, recipe, seed or 0, x_test, y_test, device=self.device, warn=self._say
        )

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
