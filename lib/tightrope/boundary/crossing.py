"""From a perturbation that crosses the decision boundary to a shorter one that ends on it.

Everything here works on R rows at once: inputs x (R, *shape), perturbations delta (R, *shape), and `origin` (R,),
the label that a perturbation must leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]

LOOK = 3  # probes of `crossing` between two looks at who is done: a look stops a device, a probe too many costs little


class Ends(NamedTuple):
    """What is known at the two ends of each perturbation, (R,) each: `lead` at x, `lead` and label at x + delta."""

    here: Tensor
    there: Tensor
    label: Tensor


def lead(logits: Tensor, origin: Tensor) -> Tensor:
    """The best other logit minus the origin's, (R,): negative before the boundary, positive behind it."""
    own = logits.gather(1, origin[:, None])
    return (logits.scatter(1, origin[:, None], -math.inf).amax(1, keepdim=True) - own).squeeze(1)


def rival(logits: Tensor, origin: Tensor, equal: float) -> Tensor:
    """The class (R,) of the best other logit; of those that agree with it to `equal` times the largest, the first."""
    others = logits.scatter(1, origin[:, None], -math.inf)
    near = others >= others.amax(1, keepdim=True) - equal * logits.abs().amax(1, keepdim=True)
    return near.to(torch.int8).argmax(1)


@torch.no_grad()
def crossing(
    net: Model, x: Tensor, delta: Tensor, origin: Tensor, ends: Ends, guess: float | None = None
) -> tuple[Tensor, Ends]:
    """Cut each delta, whose end has another label, to where on its way the label changes.

    Returns the shortened perturbations, which still have another label, and what is known at their ends. The
    crossing is found to a relative 1e-6 (float32) or 1e-12 (float64): bracketed regula falsi (Illinois), starting
    at the fraction `guess`, every probe pushed a third of the tolerance away from the ends of its bracket, so that
    near a straight crossing two probes close it from both sides. A probe whose two best logits agree to their own
    rounding is the crossing: no later one could tell better.
    """
    tolerance = 1e-6 if x.dtype == torch.float32 else 1e-12
    low, high = torch.zeros_like(ends.there), torch.ones_like(ends.there)
    at_low, at_high, label = ends.here.clone(), ends.there.clone(), ends.label.clone()
    there = ends.there.clone()
    side, done = torch.zeros_like(label), torch.zeros_like(label, dtype=torch.bool)
    rows = torch.arange(len(x), device=x.device)
    for turn in range(60):
        lo, hi, f_lo, f_hi = low[rows], high[rows], at_low[rows], at_high[rows]
        if turn == 0 and guess is not None:
            t = torch.full_like(lo, guess)
        elif turn % 4 == 3:
            t = (lo + hi) / 2
        else:
            t = lo + (hi - lo) * (f_lo / (f_lo - f_hi)).nan_to_num(nan=0.5)
        push = tolerance / 3 * hi
        t = t.clamp(lo + push, hi - push)
        logits = net(x[rows] + _rows(t, x) * delta[rows])
        value, best = lead(logits, origin[rows]), logits.argmax(1)
        tie = (value.abs() <= tolerance * logits.abs().amax(1)) & (
            value.abs() <= 1e-4 * ends.here[rows].abs()
        )
        past = tie | (best != origin[rows])
        past, short = past & ~done[rows], ~past & ~done[rows]
        # The end that stays twice running counts half, or it would stay for ever.
        at_high[rows] = torch.where(past, value, torch.where(short & (side[rows] == -1), f_hi / 2, f_hi))
        at_low[rows] = torch.where(short, value, torch.where(past & (side[rows] == 1), f_lo / 2, f_lo))
        high[rows], low[rows] = torch.where(past, t, hi), torch.where(short, t, lo)
        other = logits.scatter(1, origin[rows, None], -math.inf).argmax(1)
        label[rows] = torch.where(past, other, label[rows])
        there[rows] = torch.where(past, value, there[rows])
        side[rows] = torch.where(past, 1, -1)
        done[rows] |= tie | (high[rows] - low[rows] <= tolerance * high[rows])
        if turn % LOOK == LOOK - 1:
            rows = rows[~done[rows]]
            if not len(rows):
                break
    return _rows(high, x) * delta, Ends(ends.here, there, label)


def _rows(values: Tensor, x: Tensor) -> Tensor:
    """One value a row, shaped to multiply x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
