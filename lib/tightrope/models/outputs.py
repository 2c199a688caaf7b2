"""What networks answer: the logits in it, and one sentence where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)


def logits(answer: Any) -> Tensor:
    """The logits in a network's answer: itself, the first of a tuple or list, or what is called `logits` in it."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(getattr(answer, "logits", None), Tensor):
        return answer.logits
    if isinstance(answer, dict) and isinstance(answer.get("logits"), Tensor):
        return answer["logits"]
    if isinstance(answer, tuple | list) and answer and isinstance(answer[0], Tensor):
        return answer[0]
    raise ValueError(
        f"The network returns a {type(answer).__name__}: wrap it so that it returns logits, a tensor (N, L), the first "
        "of a tuple, or `.logits`."
    )


def check(answer: Any, x: Tensor, of: str) -> Tensor:
    """The logits (N, L) of inputs x (N, …), L ≥ 2; ValueError with the cure where it gives none. Looks at no value."""
    found = logits(answer)
    n, shape = len(x), tuple(found.shape)
    must = f"The network must return logits (N, L) with L >= 2, not {shape} for {n} inputs"
    if shape in ((n,), (n, 1)):
        if not found.is_floating_point():
            raise ValueError(
                f"{must}: {found.dtype} looks like labels, return what their argmax is taken of."
            )
        score = "" if shape == (n, 1) else ", behind a layer that makes it (N, 1)"
        raise ValueError(f"{must}: one score becomes two logits by nets.TwoLogits(){score}.")
    if len(shape) != 2 or len(found) != n or shape[1] < 2:
        raise ValueError(f"{must}.")
    if not found.is_floating_point():
        raise ValueError(
            f"The network must return real logits, not {found.dtype}: take them before any rounding."
        )
    if found.dtype in HALVES and of != "labels":
        raise ValueError(
            f"The network answers in {found.dtype}, too coarse for a boundary: leave autocast or .half() out of it."
        )
    if found.device != x.device:
        raise ValueError(
            f"The network's logits are on {found.device}, its inputs on {x.device}: return them on one device."
        )
    return found


def first_answer(model: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """Logits of x (N, …), or one sentence for what the network has against it or does not return."""
    try:
        answer = model(x.clone())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(refused(x, error)) from error
    return check(answer, x, "labels")


def refused(x: Tensor, error: Exception) -> str:
    """What a network raised over inputs x, as one sentence with the likely cure."""
    cure = ""
    if not x.is_floating_point():
        cure = "; convert images of whole numbers, x.float() / 255"
    elif x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        cure = "; images are (N, C, H, W), x.permute(0, 3, 1, 2)"
    elif x.ndim == 3:
        cure = "; one image needs a batch axis, x[None]"
    shape = ", ".join(["N", *map(str, x.shape[1:])])
    return f"The network does not take inputs ({shape}) of {x.dtype} on {x.device}: {said(error)}{cure}."


def said(error: Exception) -> str:
    """What an error says, in a part of a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(". :")
