"""Refuse an argument, by name, in one sentence. Ground floor: every public function asks here what it was given.

    refusals.whole(1, steps=steps, restarts=restarts)
    refusals.number(above=0, eps=eps)
    refusals.tensor(("N", ...), finite=True, x=x)

Each raises ValueError, also for a wrong type: who calls with nonsense wants the sentence, not its class.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Real
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

Number = int | float
Shape = tuple[str | int | EllipsisType, ...]

LARGEST = 2**63 - 1  # what torch and numpy count with

KINDS = {
    "real": lambda dtype: dtype.is_floating_point,
    "int64": (torch.int64,).__contains__,
    "bool": (torch.bool,).__contains__,
}


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None: `whole(1, **given(chunk=chunk))`."""
    return {name: value for name, value in values.items() if value is not None}


def whole(least: int = 0, most: int = LARGEST, /, **values: Any) -> None:
    """Whole numbers from `least` to `most`; numpy's count, booleans and 3.0 do not."""
    for name, value in values.items():
        try:
            fits = not isinstance(value, bool) and least <= operator.index(value) <= most
        except (TypeError, RuntimeError):  # torch raises the second for a tensor of more than one number
            fits = False
        if not fits:
            small = most == LARGEST and not (isinstance(value, int) and value > most)
            bounds = f"of at least {least}" if small else f"from {least} to {most}"
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
            or (isinstance(value, int) and abs(value) > LARGEST)
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


def wholes(least: int = 1, count: int | None = None, /, most: int = LARGEST, **values: Any) -> None:
    """Tuples or lists of `count` (None: any number of) whole numbers: shapes, widths, strides."""
    for name, value in values.items():
        if not isinstance(value, tuple | list) or (count is not None and len(value) != count):
            several = "" if count is None else f"{count} "
            raise ValueError(f"{name} must be a tuple of {several}whole numbers, not {_shown(value)}.")
        for one in value:
            whole(least, most, **{f"every number of {name}": one})


def numbers(
    *, above: Number | None = None, least: Number | None = None, most: Number | None = None, **values: Any
) -> None:
    """A finite number inside the bounds, or a tuple or list of one or more."""
    for name, value in values.items():
        if isinstance(value, tuple | list):
            whole(1, **{f"the length of {name}": len(value)})
        for one in value if isinstance(value, tuple | list) else [value]:
            what = name if one is value else f"every number of {name}"
            number(above=above, least=least, most=most, **{what: one})


def interval(**values: Any) -> None:
    """Two finite numbers, the lower first."""
    for name, value in values.items():
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ValueError(f"{name} must be two numbers, lowest and highest, not {_shown(value)}.")
        number(**{f"the lower end of {name}": value[0]})
        number(above=value[0], **{f"the upper end of {name}": value[1]})


def function(**values: Any) -> None:
    """What can be called: a model, a statistic."""
    for name, value in values.items():
        if not callable(value):
            raise ValueError(f"{name} must be a function or another callable, not {_shown(value)}.")


def instance(kind: type | tuple[type, ...], /, **values: Any) -> None:
    """Instances of a class, or of one of several."""
    for name, value in values.items():
        if not isinstance(value, kind):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(f"{name} must be a {wanted}, not {_shown(value)}.")


def instances(kind: type, /, **values: Any) -> None:
    """Tuples or lists of one or more instances of a class."""
    for name, value in values.items():
        if (
            not isinstance(value, tuple | list)
            or not value
            or not all(isinstance(one, kind) for one in value)
        ):
            raise ValueError(f"{name} must be one {kind.__name__} or more, not {_shown(value)}.")


def device(**values: Any) -> None:
    """Names of devices, or torch.devices, that this torch can use."""
    for name, value in values.items():
        try:
            torch.empty(0, device=value if isinstance(value, str | torch.device) else "")
        except (RuntimeError, AssertionError):  # nothing asks torch which names it knows
            wanted = "a device of this machine, such as 'cpu'"
            raise ValueError(f"{name} must be {wanted}, not {_shown(value)}.") from None


def tensor(
    shape: Shape = (...,),
    /,
    *,
    kind: str = "real",
    finite: bool = False,
    empty: bool = False,
    like: Tensor | None = None,
    **values: Any,
) -> None:
    """Tensors of a shape: a number is a size, a letter any size (each time the same), `...` any axes at all.

    kind: one of `KINDS`. finite: looks at the values, which makes a device wait. empty: whether an axis may be 0 long.
    like: a tensor on whose device, and for real ones in whose dtype, they must be.
    """
    for name, value in values.items():
        fits = isinstance(value, Tensor) and KINDS[kind](value.dtype) and _has(value.shape, shape)
        if fits and like is not None:
            fits = value.device == like.device and (kind != "real" or value.dtype == like.dtype)
        fits = fits and (empty or value.numel() > 0) and value.device.type != "meta"
        if fits and (not finite or value.isfinite().all()):
            continue
        written = ", ".join("…" if size is ... else str(size) for size in shape) + "," * (len(shape) == 1)
        wanted = f"{'a finite' if finite else 'an' if kind == 'int64' else 'a'} {kind} tensor ({written})"
        if like is not None:
            wanted += f" on {like.device}" + f" in {like.dtype}".replace("torch.", "") * (kind == "real")
        held = "and this one holds NaN or infinity" if fits else f"not {_shown(value)}"
        raise ValueError(f"{name} must be {wanted}, {held}.")


def samples(model: Any, /, **values: Any) -> None:
    """Batches of finite real samples, on the device and in the precision of a network's weights where it has any."""
    weights = model.parameters() if isinstance(model, torch.nn.Module) else ()
    tensor(("N", ...), finite=True, like=next((w for w in weights if w.is_floating_point()), None), **values)


def labels(x: Tensor, classes: int | None = None, /, **values: Any) -> None:
    """One int64 label a sample of x, on its device; given `classes`, from 0 to one less: a look at the values."""
    for name, value in values.items():
        tensor((len(x),), kind="int64", like=x, **{name: value})
        if classes is not None and not ((value >= 0) & (value < classes)).all():
            raise ValueError(f"{name} must hold labels from 0 to {classes - 1}: there are {classes} classes.")


def _has(sizes: Sequence[int], shape: Shape) -> bool:
    if ... in shape:
        at = shape.index(...)
        end = len(sizes) - (len(shape) - at - 1)
        return end >= at and _has((*sizes[:at], *sizes[end:]), shape[:at] + shape[at + 1 :])
    letters: dict[str, int] = {}
    return len(sizes) == len(shape) and all(
        size == (letters.setdefault(wanted, size) if isinstance(wanted, str) else wanted)
        for size, wanted in zip(sizes, shape, strict=True)
    )


def _shown(value: Any) -> str:
    """The value where it is short, else what it is."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{'an' if kind[0] == 'i' else 'a'} {kind} tensor {tuple(value.shape)} on {value.device}"
    try:
        text = repr(value)
    except Exception:  # a stranger's __repr__ must not hide our sentence
        text = ""
    return text if 0 < len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"
