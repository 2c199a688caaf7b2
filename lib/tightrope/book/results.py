"""What a chapter says of a number: `Result`, a number with its interval, and text that results are set into."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from tightrope import intervals, refusals
from tightrope.book.tables import measured, number, raised
from tightrope.intervals import Estimate

_PARTS = ("n", "low", "high", "unit", "kind", "censored")


@dataclass(frozen=True)
class Result:
    """A number with what it is worth. `format(result, ".2f")` writes the number, `str(result)` the interval too.

    interval: (low, high), +inf where it reaches into values that were not met. kind: "order statistics", "range",
    "binomial", "bootstrap", or None where the chapter brought its own. censored: how many of the n were not met.

    Formats: any of Python's ("5.1e-07" is written 5.1·10⁻⁷, "-1" −1); a whole number for so many significant digits
    (`{r:2}`); two texts for a yes or no (`{r:every seed|not every seed}`); none: three digits and the interval.
    """

    value: float | int | bool
    interval: tuple[float, float] | None = None
    n: int | None = None
    unit: str | None = None
    kind: str | None = None
    level: float | None = None
    censored: int = 0
    top: float = math.inf  # the largest value that was met
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def low(self) -> float | None:
        return self.interval and self.interval[0]

    @property
    def high(self) -> float | None:
        return self.interval and self.interval[1]

    def beside(self, part: str) -> object:
        """What stands beside the number under that name: n, low, high, unit, kind, censored, or a note."""
        return getattr(self, part) if part in _PARTS else self.notes.get(part)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def entry(self) -> dict[str, object]:
        """What a record holds. JSON has no infinity: an interval that reaches into censored values ends at the
        largest one met, with `censored` beside it."""
        interval = self.interval and [self.low, min(self.high, self.top)]
        if interval and not all(map(math.isfinite, interval)):  # no value of that end was met
            interval = None
        entry = {"value": self.value, "interval": interval, "n": self.n, "unit": self.unit}
        entry |= {"kind": self.kind, "level": self.level, "censored": self.censored or None, **self.notes}
        return {key: value for key, value in entry.items() if value is not None}

    def __str__(self) -> str:
        return measured(self.value, self.interval, "–" if self.interval and self.low >= 0 else " to ")

    def __format__(self, spec: str) -> str:
        return written(self.value, spec) if spec else str(self)


def written(value: object, spec: str) -> str:
    """A number in one of the formats of `Result`."""
    if "|" in spec:
        return spec.split("|")[0 if value else 1]
    if isinstance(value, float) and not math.isfinite(value):
        return number(value)
    return number(float(value), int(spec)) if spec.isdecimal() else raised(format(value, spec))


class Text(str):
    """Markdown on a page, plain words elsewhere."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def fill(template: str, results: Mapping[str, Result]) -> Text:
    """`template` with every `{id}` or `{id:format}` replaced by the result of that id; `{{` and `}}` are braces.

    `{id.n}`, `{id.low}`, `{id.high}`, `{id.unit}` and `{id.note}` are what stands beside the number. Raises
    ValueError for an id that is not among the results.
    """

    def put(match: re.Match) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        name, spec = match[1], match[2] or ""
        whole, _, part = name.rpartition(".")
        beside = results[whole].beside(part) if name not in results and whole in results else None
        if beside is not None:
            return written(beside, spec) if spec else number(beside)
        return format(recorded(name, results), spec)

    return Text(re.sub(r"\{\{|\}\}|\{([^{}:]*)(?::([^{}]*))?\}", put, template))


def recorded(name: str, results: Mapping[str, Result]) -> Result:
    """The result of an id. Raises ValueError where there is none."""
    if name not in results:
        raise ValueError(f"No number is recorded as {name!r}: record it before it is used.")
    return results[name]


def result(
    name: str,
    value: object,
    over: str | None = None,
    interval: tuple[float, float] | None = None,
    n: int | None = None,
    unit: str | None = None,
    notes: Mapping[str, object] | None = None,
) -> Result:
    """The result called `name` of one number, of one value a seed or image, or of an `Estimate`; see `Run.record`."""
    found = _estimate(value, over) if over is not None else value
    if interval is not None:
        interval = _bounds(interval, name)
    refusals.whole(1, **refusals.given(**{f"n of {name}": n}))
    notes = {k: v if isinstance(v, str) else single(v, f"{name}'s {k}") for k, v in (notes or {}).items()}
    if not isinstance(found, Estimate):
        return Result(single(found, name, unmet=True), interval, n, unit, notes=notes)
    if n not in (None, found.n):
        raise ValueError(f"n of {name} counts what was measured, {found.n} values and not {n}: leave it out.")
    e, around = found, interval or (found.low, found.high)
    return Result(e.value, around, e.n, unit, e.kind, e.level, e.censored, e.top, notes)


def single(value: object, what: str, *, unmet: bool = False) -> float | int | bool:
    """`value` as one number of Python's, finite or, where `unmet` is allowed, +inf. Raises ValueError, naming `what`,
    for anything else."""
    if isinstance(value, Result):
        value = value.value
    if isinstance(value, Tensor | np.generic | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise ValueError(f"{what} must be one number, not {value!r}.")
    if not math.isfinite(value) and not (unmet and value == math.inf):
        raise ValueError(f"{what} is {value}: a censored or failed measurement is not recorded as a number.")
    return value


def _bounds(interval: object, name: str) -> tuple[float, float]:
    if not isinstance(interval, tuple | list) or len(interval) != 2:
        raise ValueError(f"{name}: an interval is (low, high), not {interval!r}.")
    low, high = (single(bound, f"{name}'s interval") for bound in interval)
    if low > high:
        raise ValueError(f"{name}: an interval is (low, high), not {(low, high)}.")
    return low, high


def _estimate(values: Any, over: str) -> Estimate:
    refusals.choice(("seeds", "images"), over=over)
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    elif not isinstance(values, np.ndarray):
        values = np.array([v.item() if isinstance(v, Tensor) else v for v in values])
    if over == "seeds":
        return intervals.spread(values)
    if values.dtype == bool:
        return intervals.share(int(values.sum()), values.size)
    return intervals.median(values)
