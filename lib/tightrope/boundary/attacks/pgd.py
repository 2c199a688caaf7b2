"""Projected gradient descent, in ℓ2 and ℓ∞."""

from __future__ import annotations

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import (
    LOSSES,
    Attack,
    Box,
    Model,
    Search,
    Task,
    inside,
    keep_first,
    run,
    unit,
    wide,
)


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
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Projected gradient descent inside a ball of radius `eps` (Madry et al. 2018; Kurakin et al. 2016).

    norm "l2": steps along the gradient, brought back to the sphere; "linf": along its sign, clipped. `step` is 2.5 eps
    / steps unless given. Every iterate is looked at: the first adversarial one is kept, and later restarts are spent on
    the rows that have none. No perturbation that counts is longer than `eps`, roundings included.

    `loss`: "scaled" (cross-entropy of logits brought to a spread of ten) or "margin" (the best other logit minus the
    own), which do not depend on the scale of the logits, or "cross-entropy": as published, exempt from that, and
    stuck where it saturates.
    """
    refusals.truth(random_start=random_start)
    search = ascent(eps, norm, steps, step, restarts, loss, random_start=random_start)
    return run(search, model, x, labels, targeted, box, seed, chunk, "PGD")


def ascent(
    eps: float,
    norm: str,
    steps: int,
    step: float | None,
    restarts: int,
    loss: str,
    *,
    random_start: bool = True,
    wider: float = 1.0,
) -> Search:
    """PGD on one chunk. The ball starts at `wider` · eps and shrinks to eps until half of the steps are taken."""
    refusals.choice(("l2", "linf"), norm=norm)
    refusals.choice(LOSSES, loss=loss)
    refusals.whole(1, steps=steps, restarts=restarts)
    refusals.number(above=0, eps=eps)
    if step is not None:
        refusals.number(above=0, step=step)
    radii = [eps * max(1.0, wider - (wider - 1) * k / (steps / 2)) for k in range(steps + 1)]

    def once(task: Task) -> tuple[Tensor, Tensor]:
        images = task.x
        if random_start and norm == "linf":
            away = radii[0] * (2 * task.random("uniform_", *task.x.shape[1:]) - 1)
            images = task.add(inside(away, radii[0], norm))
        elif random_start:
            length = radii[0] * task.random("uniform_") ** (1 / task.x[0].numel())
            direction, _ = unit(task.random("normal_", *task.x.shape[1:]))
            images = task.add(inside(direction * wide(length, task.x), radii[0], norm))
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        mine, rows = task, torch.arange(len(task.x), device=task.x.device)
        for k, radius in enumerate(radii):
            # The last iterate is only looked at.
            logits, slope = mine.climb(images, loss) if k < steps else (mine.answer(images), None)
            over = mine.over(logits)
            if radius > eps:
                over = over & (
                    (images - mine.x).flatten(1).norm(p=2 if norm == "l2" else torch.inf, dim=1) <= eps
                )
            kept, flags = keep_first(best[rows], found[rows], images, over)
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            if k == steps:
                break
            towards = slope.sign() if norm == "linf" else unit(slope)[0]
            stride = 2.5 * radius / steps if step is None else step
            images = mine.add(inside(images - mine.x + stride * towards, radii[k + 1], norm))
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

    return search
