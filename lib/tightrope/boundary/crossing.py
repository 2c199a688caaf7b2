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


def shorten(
    net: Model,
    x: Tensor,
    delta: Tensor,
    origin: Tensor,
    ends: Ends,
    project: Callable[[Tensor], Tensor],
    steps: int,
) -> tuple[Tensor, Ends]:
    """Turn each delta, which ends on the boundary, towards a shorter one in the same subspace.

    A walk like DDN's (Rony et al. 2019) that starts where DeepFool ended: each step follows the projected
    gradient of `lead`, then puts the perturbation on a sphere that shrinks while the label is another one and grows
    while it is not; step and rate decay along a cosine. All lengths are relative to the first, so the same numbers
    serve margins of 0.1 and of 50. `project` maps (R, *shape) onto each row's subspace. Returns the shortest
    perturbation met that changes the label; never a longer one than was given.
    """
    start = delta.flatten(1).norm(dim=1)
    r, best, radius, shortest = delta, delta, start, start
    there, label = ends.there, ends.label
    for step in range(steps):
        decay = (1 + math.cos(math.pi * step / steps)) / 2
        stride, rate = 0.05 + 1.95 * decay, 0.01 + 0.09 * decay
        with torch.enable_grad():
            at = (x + r).requires_grad_()
            logits = net(at)
            value = lead(logits, origin)
            (gradient,) = torch.autograd.grad(value.sum(), at)
        value, logits = value.detach(), logits.detach()
        over = logits.argmax(1) != origin
        length = r.flatten(1).norm(dim=1)
        better = over & (length < shortest)
        best, shortest = torch.where(_rows(better, x), r, best), torch.where(better, length, shortest)
        there = torch.where(better, value, there)
        label = torch.where(better, logits.argmax(1), label)
        gradient = project(gradient)
        slope = gradient.flatten(1).norm(dim=1)
        turned = r + gradient * _rows(torch.where(slope > 0, stride * start / slope, 0), x)
        radius = torch.where(over, (1 - rate) * torch.minimum(radius, shortest), (1 + rate) * radius)
        size = turned.flatten(1).norm(dim=1)
        r = turned * _rows(torch.where(size > 0, radius / size, 0), x)
    return best, Ends(ends.here, there, label)


def _rows(values: Tensor, x: Tensor) -> Tensor:
    """One value a row, shaped to multiply x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
