"""Projected gradient descent, in ℓ2 and ℓ∞."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Task, keep_first, run, wide

LOSSES = ("cross-entropy", "margin", "scaled")


def pgd(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "l2",
    steps: int = 40,
    step: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: str = "cross-entropy",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Projected gradient descent inside a ball of radius `eps` (Madry et al. 2018; Kurakin et al. 2016).

    norm "l2": steps along the gradient, brought back to the sphere; "linf": along its sign, clipped. `step` is 2.5 eps
    / steps unless given. `loss`: "cross-entropy", "margin" (the best other logit minus the own) or "scaled"
    (cross-entropy of logits brought to a spread of one, which no saturation can hide). Every iterate is looked at:
    the first adversarial one is kept, and later restarts are spent on the rows that have none.
    """
    refusals.choice(("l2", "linf"), norm=norm)
    refusals.choice(LOSSES, loss=loss)
    refusals.whole(1, steps=steps, restarts=restarts)
    refusals.truth(random_start=random_start)
    refusals.number(above=0, eps=eps)
    stride = 2.5 * eps / steps if step is None else step
    refusals.number(above=0, step=stride)

    def project(delta: Tensor) -> Tensor:
        if norm == "linf":
            return delta.clamp(-eps, eps)
        length = delta.flatten(1).norm(dim=1)
        return delta * wide((eps / length.clamp_min(eps)), delta)

    def once(task: Task) -> tuple[Tensor, Tensor]:
        delta = torch.zeros_like(task.x)
        if random_start and norm == "linf":
            delta = eps * (2 * task.random(task.x, "uniform_") - 1)
        elif random_start:
            radius = task.random(task.x.flatten(1)[:, 0], "uniform_") ** (1 / task.x[0].numel())
            direction = normalize(task.random(task.x, "normal_").flatten(1)).view_as(task.x)
            delta = eps * direction * wide(radius, task.x)
        images = task.clip(task.x + delta)
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        mine, rows = task, torch.arange(len(task.x), device=task.x.device)
        for k in range(steps + 1):
            # The last iterate is only looked at.
            logits, slope = mine.climb(images, loss) if k < steps else (mine.answer(images), None)
            kept, flags = keep_first(best[rows], found[rows], images, mine.over(logits))
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            if k == steps:
                break
            towards = slope.sign() if norm == "linf" else normalize(slope.flatten(1)).view_as(slope)
            images = mine.clip(mine.x + project(images - mine.x + stride * towards))
            if k % 8 == 7:  # rows that are done leave, now and then: it costs a device a stop
                left = (~flags).nonzero().squeeze(1)
                if not len(left):
                    break
                mine, rows, images = mine.rows(left), rows[left], images[left]
        return best, found

    def search(task: Task) -> tuple[Tensor, Tensor]:
        best, found = once(task)
        for _ in range(restarts - 1):
            left = (~found).nonzero().squeeze(1)
            if not len(left):
                break
            images, new = once(task.rows(left))
            best, found = best.index_copy(0, left, images), found.index_copy(0, left, new)
        return best, found

    return run(search, model, x, labels, targeted, box, seed, chunk, "PGD")
