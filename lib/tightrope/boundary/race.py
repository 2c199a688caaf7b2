"""A race between several starts for the shortest way over the decision boundary.

A walk along the boundary ends in the valley where it began. So several begin, every second step the one that
predicts the longest way leaves, and the last spends what is left. All walk on gradients taken a little beside their
path, in random directions that fade out: a smoothed boundary has fewer valleys.

The rows of one perturbation are worked on together, and the random directions are the same for all of them and in
every call: a result depends on no neighbour. The shapes are known beforehand: no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tightrope import seeds
from tightrope.boundary.crossing import Ends, Model, rival
from tightrope.boundary.rivals import slack

STAY = 2  # steps after which one start leaves
AROUND = (0.9, 1.2)  # a crossing predicted outside of this much of the length walked is no prediction


class Field(NamedTuple):
    """The rows still in the race, (R, P) each: offsets r (R, P, *shape), their lengths, the shortest perturbation that
    each has met, the crossing that each predicts, and the number of its start."""

    r: Tensor
    length: Tensor
    shortest: Tensor
    score: Tensor
    start: Tensor


def sizes(passes: int, starts: int) -> list[int]:
    """How many starts are in the race at each of its steps: `passes` together, or fewer where another step of all
    that are left would take more."""
    left, plan = passes, []
    while (size := max(1, starts - len(plan) // STAY)) <= left:
        plan.append(size)
        left -= size
    return plan


@torch.no_grad()
def race(
    net: Model,
    x: Tensor,
    starts: Tensor,
    delta: Tensor,
    origin: Tensor,
    ends: Ends,
    project: Callable[[Tensor], Tensor],
    plan: list[int],
    noise: float,
) -> tuple[Tensor, Ends, Tensor]:
    """The shortest perturbation met on the way from `starts` (R, P, *shape), which need not cross the boundary.

    delta (R, *shape) is one that does, each inside its row's subspace, on which `project` maps (R · Q, *shape), Q
    rows for each of the R. `plan` as `sizes` makes it; noise: the first distance of the gradients from the path, in
    lengths of it. Returns perturbations that were seen to have another label, never longer than `delta`, what is
    known at their ends, and the number (R,) of the start that each came from, -1 where it is `delta`.
    """
    rows, count = starts.shape[:2]
    best, shortest = delta, _length(delta)
    there, label, winner = ends.there, ends.label, torch.full_like(origin, -1)
    lengths = _length(starts.flatten(0, 1)).reshape(rows, count)
    first = torch.arange(count, device=x.device).expand(rows, count)
    field = Field(starts, lengths, torch.full_like(lengths, math.inf), lengths, first)
    tiny, equal = torch.finfo(x.dtype).tiny, slack(x)
    draws = seeds.generator(0, "race", x.device)
    beside = torch.zeros_like(x)
    for step, size in enumerate(plan):
        if size < field.r.shape[1]:
            field = _shortest(field, size, equal)
        decay = (1 + math.cos(math.pi * step / len(plan))) / 2
        stride, rate = 0.05 + 1.95 * decay, 0.01 + 0.09 * decay
        r, length = field.r.flatten(0, 1), field.length.flatten()
        p = r
        if noise:
            if step % 2:
                beside = -beside
            else:
                draw = torch.randn(x.shape[1:], generator=draws, dtype=x.dtype, device=x.device)
                beside = project(draw.expand(x.shape))
                beside = beside / _each(_length(beside).clamp_min(tiny), x)
            distance = noise * decay * field.length
            eta = (beside[:, None] * distance.reshape(*distance.shape, *[1] * (x.ndim - 1))).flatten(0, 1)
            p = r + eta
        at = (x[:, None] + p.unflatten(0, (rows, size))).flatten(0, 1)
        own = origin[:, None].expand(rows, size).flatten()
        with torch.enable_grad():
            logits = net(at.requires_grad_())
            other = rival(logits.detach(), own, equal)
            value = (logits.gather(1, other[:, None]) - logits.gather(1, own[:, None])).squeeze(1)
            (gradient,) = torch.autograd.grad(value.sum(), at)
        value, gradient = value.detach(), project(gradient).flatten(1)
        over = value > 0
        met = torch.where(over, _length(p), math.inf).reshape(rows, size)

        # The first of the shortest that crossed, where it is shorter than all before.
        least = met.amin(1)
        pick = (met <= least[:, None] * (1 + equal)).to(torch.int8).argmax(1, keepdim=True)
        better = least < shortest * (1 - equal)
        take = lambda values, pick=pick, size=size: values.reshape(rows, size).gather(1, pick).squeeze(1)
        best = torch.where(_each(better, x), _taken(p.unflatten(0, (rows, size)), pick).squeeze(1), best)
        shortest = torch.where(better, least, shortest)
        there, label = torch.where(better, take(value), there), torch.where(better, take(other), label)
        winner = torch.where(better, take(field.start), winner)

        # Where the linearised boundary is crossed along r and along the direction that r is turned to.
        slope = gradient.norm(dim=1)
        ascent = gradient / slope.clamp_min(tiny)[:, None]
        along = (ascent * r.flatten(1)).sum(1)
        missing = value / slope.clamp_min(tiny)
        if noise:
            missing = missing - (ascent * eta.flatten(1)).sum(1)
        turned = r.flatten(1) + (stride * length)[:, None] * ascent
        turned = turned / turned.norm(dim=1).clamp_min(tiny)[:, None]
        here = length * (1 - missing / torch.maximum(along, 0.05 * length).clamp_min(tiny))
        ahead = (along - missing) / (turned * ascent).sum(1).clamp_min(0.05)
        score = torch.minimum(torch.maximum(here, AROUND[0] * length), AROUND[1] * length)

        known = torch.minimum(field.shortest, met)
        inside = torch.minimum(length, known.flatten())
        shrunk = _between((1 - 3 * rate) * inside, ahead * (1 - rate), (1 - 0.3 * rate) * inside)
        grown = _between((1 + 0.3 * rate) * length, ahead * (1 + 0.3 * rate), (1 + 3 * rate) * length)
        length = torch.where(over, shrunk, grown)
        r = (turned * length[:, None]).reshape(rows, size, *x.shape[1:])
        field = Field(r, length.reshape(rows, size), known, score.reshape(rows, size), field.start)
    return best, Ends(ends.here, there, label), winner


def _shortest(field: Field, size: int, equal: float) -> Field:
    """The `size` starts that predict the nearest crossing; of equal ones the first."""
    level = (field.score.log() / equal).round()
    kept = level.sort(dim=1, stable=True).indices[:, :size].sort(dim=1).values
    return Field(_taken(field.r, kept), *(part.gather(1, kept) for part in field[1:]))


def _taken(vectors: Tensor, which: Tensor) -> Tensor:
    """vectors (R, P, *shape) at `which` (R, Q): (R, Q, *shape)."""
    return vectors[torch.arange(len(which), device=which.device)[:, None], which]


def _between(low: Tensor, value: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, low), high)


def _length(vectors: Tensor) -> Tensor:
    return vectors.flatten(1).norm(dim=1)


def _each(values: Tensor, x: Tensor) -> Tensor:
    """One value a row, shaped to multiply x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
