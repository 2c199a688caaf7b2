"""Decoupled direction and norm: short ℓ2 perturbations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import LOSSES, Attack, Box, Model, Search, Task, keep_shortest, run, unit, wide


def ddn(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    start: float = 1.0,
    shrink: float = 0.05,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "shortest",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Decoupled direction and norm: a short ℓ2 perturbation (Rony et al. 2019, algorithm 1), without quantisation.

    Each step follows the normalised gradient of the loss, then puts the perturbation on a sphere whose radius, `start`
    at first, shrinks by the factor 1 − `shrink` where it is adversarial and grows by 1 + `shrink` where it is not. The
    step's length falls from 1 to 0.01 along a cosine. Radius and steps are in widths of the box; without a box, in
    distances to the linearised boundary.

    `loss`: "scaled" (cross-entropy of logits brought to a spread of ten) or "margin", which do not depend on the scale
    of the logits, or "cross-entropy": as published, exempt from that, and stuck where it saturates.
    """
    keep_shortest(keep)
    return run(descent(steps, start, shrink, loss), model, x, labels, targeted, box, seed, chunk, "DDN")


def descent(steps: int, start: float, shrink: float, loss: str) -> Search:
    """DDN on one chunk."""
    refusals.whole(1, steps=steps)
    refusals.number(above=0, start=start)
    refusals.number(above=0, below=1, shrink=shrink)
    refusals.choice(LOSSES, loss=loss)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        one = task.yardstick()
        delta, radius = torch.zeros_like(task.x), start * one
        best, shortest = task.x, torch.full_like(radius, math.inf)
        # On a plateau there is no gradient to follow: any direction is as good, and one for all steps is cheap.
        anywhere, _ = unit(task.random("normal_", *task.x.shape[1:]))
        for k in range(steps + 1):
            images = task.clip(task.x + delta)
            logits, slope = task.climb(images, loss) if k < steps else (task.answer(images), None)
            over, length = task.over(logits), (images - task.x).flatten(1).norm(dim=1)
            better = over & (length < shortest)
            best, shortest = (
                torch.where(wide(better, best), images, best),
                torch.where(better, length, shortest),
            )
            if k == steps:
                break
            stride = one * (0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2)
            direction, size = unit(slope)
            direction = torch.where(wide(size > 0, direction), direction, anywhere)
            radius = torch.where(over, (1 - shrink) * radius, (1 + shrink) * radius)
            delta, _ = unit(images - task.x + direction * wide(stride, direction))
            delta = delta * wide(radius, delta)
        return best, shortest.isfinite()

    return search
