"""Szegedy et al.'s box-constrained L-BFGS: the first adversarial examples, and short ones."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import SPREAD, Attack, Box, Model, Search, Task, run, wide
from tightrope.inputs.dct import flip

ENOUGH = 1e-4  # of the fall that the slope promises, a step must bring this part (Armijo)
REJECTED = 5  # steps not taken in a row, and a row forgets its history


def lbfgs(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 30,
    searches: int = 10,
    constant: float = 100.0,
    memory: int = 5,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "shortest",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Szegedy et al.'s attack (2013, section 4.1): L-BFGS on c ‖r‖₂² + loss(x + r, l), with x + r in the box.

    The loss is the cross-entropy of the class l wanted, which is the label with `targeted=True` (theirs); else any
    other than the label, of probability 1 − p(label), so that of two classes both are one. They write c |r|. Carlini
    and Wagner read the square, and so do we: it has a slope at r = 0, and where c |r| is stationary it is too, with
    c / 2 |r| for c, which is searched over anyhow.

    c starts at `constant`, too large for most rows, and is searched over `searches` rounds, row by row and each from
    r = 0: ten times smaller until a minimiser is adversarial (larger, while none is not), then halving log c between
    those that are and those that are not. Each round is `steps` passes of a projected L-BFGS with `memory` pairs: the
    free numbers, not held at an edge of the box, move along −H∇ and are clipped, a step that does not bring enough is
    halved (Bertsekas 1982; Schmidt et al. 2009). Nothing is drawn.

    `keep` "shortest": of all adversarial iterates, near the boundary; "first": the minimiser of the first c that has an
    adversarial one, up to tenfold below the best c and so further behind the boundary, never shorter.

    `loss` "scaled": logits are brought to a spread of ten at x, and r is counted in distances to the linearised
    boundary, so that c depends on no scale or unit. "cross-entropy": as published, in raw units, and dependent on both.
    """
    search = minimisers(steps, searches, constant, memory, loss, keep)
    return run(search, model, x, labels, targeted, box, seed, chunk, "L-BFGS")


def minimisers(steps: int, searches: int, constant: float, memory: int, loss: str, keep: str) -> Search:
    """The search over c on one chunk."""
    refusals.whole(1, steps=steps, searches=searches, memory=memory)
    refusals.number(above=0, constant=constant)
    refusals.choice(("scaled", "cross-entropy"), loss=loss)
    refusals.choice(("first", "shortest"), keep=keep)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        aim, rows = _Aim(task, loss), torch.arange(len(task.x), device=task.x.device)
        c = torch.full_like(aim.length, constant)
        works, fails = torch.zeros_like(c), torch.full_like(c, math.inf)
        best, shortest = task.x, torch.full_like(c, math.inf)
        for k in range(searches):
            end, hit, near, length = _minimised(aim.rows(rows), c[rows], steps, memory)
            if keep == "first":
                near, length = end, torch.where(hit, 0, math.inf).to(c)
            better = length < shortest[rows]
            best = best.index_copy(0, rows, torch.where(wide(better, near), near, best[rows]))
            shortest = shortest.index_copy(0, rows, torch.where(better, length, shortest[rows]))
            over = torch.zeros_like(task.labels, dtype=torch.bool).index_copy(0, rows, hit)
            works, fails = torch.where(over, c, works), torch.where(over, fails, c)
            between = torch.where(fails.isinf(), 10 * c, works.sqrt() * fails.sqrt())
            c = torch.where(works == 0, c / 10, between)
            if keep == "first" and k < searches - 1:  # rows that are done leave
                rows = shortest.isinf().nonzero().squeeze(1)
                if not len(rows):
                    break
        return best, shortest.isfinite()

    return search


class _Aim(Task):
    """The task with Szegedy's loss, less its sign, of logits times `scale` (R,), and what is known of it at x:
    its `value` and `slope`, and whether x is `ready`. `length` (R,) is what r is counted in."""

    def __init__(self, task: Task, loss: str):
        vars(self).update(vars(task))
        self.scale = self.length = torch.ones_like(self.x.flatten(1)[:, 0])
        if loss == "scaled":
            logits = self.answer(self.x)
            spread = logits.amax(1) - logits.amin(1)
            self.scale, self.length = SPREAD / torch.where(spread > 0, spread, 1), task.linear()
        logits, self.slope = self.climb(self.x, loss)
        self.value, self.ready = self.loss(logits, loss), self.over(logits)

    def rows(self, rows: Tensor) -> _Aim:
        part = super().rows(rows)
        for name in ("scale", "length", "slope", "value", "ready"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def loss(self, logits: Tensor, kind: str) -> Tensor:
        """log p of the class wanted, or of all but the label."""
        p = (logits * wide(self.scale, logits)).log_softmax(1)
        label = self.labels[:, None]
        return p.gather(1, label).squeeze(1) if self.targeted else p.scatter(1, label, -math.inf).logsumexp(1)


def _minimised(aim: _Aim, c: Tensor, steps: int, memory: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From r = 0 to a minimiser of c ‖r‖² + loss, every row with a step, a history and free numbers of its own.

    The images it ends at, whether they are adversarial, the shortest adversarial ones on the way, and how long.
    """
    low, high = (-math.inf, math.inf) if aim.box is None else (aim.box.low, aim.box.high)
    turn = (
        (lambda z: z) if aim.box is None or aim.box.pixelwise else flip
    )  # to where the box is one of numbers
    c = c / aim.length.square()
    at = start = turn(aim.x)
    value, slope = -aim.value, turn(-aim.slope)
    end, hit = aim.x, aim.ready
    near, shortest = aim.x, torch.full_like(c, math.inf)
    history: deque[tuple[int, Tensor, Tensor]] = deque(maxlen=memory)
    share, failed, since = torch.ones_like(c), torch.zeros_like(aim.labels), torch.zeros_like(aim.labels)
    for k in range(steps):
        free = ~(((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0)))
        # Without a history: to where the loss would be zero if it were linear, or the length alone is least.
        first = torch.minimum(value / _dot(slope * free, slope), 0.5 / c)
        trial = (at + wide(share, at) * _direction(slope * free, free, first, history, since)).clamp(
            low, high
        )
        images, moved = turn(trial), trial - at
        logits, climb = aim.climb(images, "") if k < steps - 1 else (aim.answer(images), None)
        over, length = aim.over(logits), (images - aim.x).flatten(1).norm(dim=1)
        better = over & (length < shortest)
        near, shortest = torch.where(wide(better, near), images, near), torch.where(better, length, shortest)
        there = c * (trial - start).flatten(1).square().sum(1) - aim.loss(logits, "")
        promised = _dot(slope, moved).clamp_max(0)
        taken = there <= value + ENOUGH * promised
        end, hit = torch.where(wide(taken, end), images, end), torch.where(taken, over, hit)
        if climb is None:
            break
        there_slope = 2 * wide(c, trial) * (trial - start) - turn(climb)
        # Of a step that is not taken there is an empty pair, so that all rows' pairs lie side by side.
        pair = (torch.where(wide(taken, at), step, 0) for step in (moved, there_slope - slope))
        history.append((k, *pair))
        # The parabola through what is known on the way has its minimum here.
        part = (promised / (2 * (value - there + promised))).nan_to_num(0.1).clamp(0.1, 0.5)
        failed = torch.where(taken, 0, failed + 1)
        forget = failed == REJECTED
        since = torch.where(forget, k + 1, since)
        share = torch.where(taken | forget, 1, part * share)
        at = torch.where(wide(taken, at), trial, at)
        slope = torch.where(wide(taken, slope), there_slope, slope)
        value = torch.where(taken, there, value)
    return end, hit, near, shortest


def _direction(
    slope: Tensor, free: Tensor, first: Tensor, history: deque[tuple[int, Tensor, Tensor]], since: Tensor
) -> Tensor:
    """−H ∇ in the free numbers, where H is what their parts of the pairs (s, y) say (Nocedal's two loops)."""
    tiny = torch.finfo(slope.dtype).eps
    done, scale, seen = [], first, torch.zeros_like(first, dtype=torch.bool)
    for k, s, y in reversed(history):
        s, y = s * free, y * free
        sy, yy = _dot(s, y), _dot(y, y)
        ok = (sy > tiny * (_dot(s, s) * yy).sqrt()) & (since <= k)
        scale = torch.where(ok & ~seen, sy / yy, scale)
        seen = seen | ok
        a, rho = torch.where(ok, _dot(s, slope) / sy, 0), torch.where(ok, 1 / sy, 0)
        slope = slope - wide(a, y) * y
        done.append((s, y, a, rho))
    slope = slope * wide(scale, slope)
    for s, y, a, rho in reversed(done):
        slope = slope + wide(a - rho * _dot(y, slope), s) * s
    return -slope


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
