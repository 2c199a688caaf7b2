"""Refuse an argument, by name, in one sentence. Ground floor: every public function asks here what it was given.

    refusals.whole(1, steps=steps, restarts=restarts)
    refusals.number(above=0, eps=eps)

Each raises ValueError, also for a wrong type: who calls with nonsense wants the sentence, not its class.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

Number = int | float


def whole(least: int = 0, most: int | None = None, /, **values: Any) -> None:
    """Whole numbers from `least` to `most`; numpy's count, booleans and 3.0 do not."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    for name, value in values.items():
        try:
            fits = not isinstance(value, bool) and least <= operator.index(value)
            fits = fits and (most is None or operator.index(value) <= most)
        except (TypeError, RuntimeError):  # torch raises the second for a tensor of more than one number
            fits = False
        if not fits:
            raise ValueError(f"{name} must be a whole number {bounds}, not {_shown(value)}.")


def number(
    *,
    above: Number | None = None,
    least: Number | None = None,
    below: Number | None = None,
    most: Number | None = None,
    **values: Any,
) -> None:
    """Finite real numbers inside the bounds that are given; booleans, strings and tensors are none."""
    bounds = [
        f"{word} {bound}"
        for word, bound in (("above", above), ("at least", least), ("below", below), ("at most", most))
        if bound is not None
    ]
    wanted = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    for name, value in values.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, Real)
            or not math.isfinite(value)
            or (above is not None and not value > above)
            or (least is not None and not value >= least)
            or (below is not None and not value < below)
            or (most is not None and not value <= most)
        ):
            raise ValueError(f"{name} must be {wanted}, not {_shown(value)}.")


def choice(allowed: tuple[Any, ...], /, **values: Any) -> None:
    """One of the allowed values."""
    for name, value in values.items():
        if not any(type(value) is type(one) and value == one for one in allowed):
            listed = ", ".join(map(repr, allowed))
            raise ValueError(f"{name} must be one of {listed}, not {_shown(value)}.")


def truth(**values: Any) -> None:
    """True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {_shown(value)}.")


def wholes(least: int = 1, /, **values: Any) -> None:
    """Tuples or lists of whole numbers of at least `least`: shapes, widths, strides."""
    for name, value in values.items():
        if not isinstance(value, tuple | list):
            raise ValueError(f"{name} must be a tuple of whole numbers, not {_shown(value)}.")
        for one in value:
            whole(least, **{f"every number of {name}": one})


def _shown(value: Any) -> str:
    """The value where it is short, else what it is."""
    if type(value).__module__ == "torch":
        return f"a {type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
    try:
        text = repr(value)
    except Exception:  # a stranger's __repr__ must not hide our sentence
        text = ""
    return text if 0 < len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"
