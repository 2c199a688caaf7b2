"""Decoupled direction and norm: short ℓ2 perturbations."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Task, run, wide


def ddn(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    start: float = 1.0,
    shrink: float = 0.05,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Decoupled direction and norm: a short ℓ2 perturbation (Rony et al. 2019, algorithm 1), without quantisation.

    Each step follows the normalised gradient of the cross-entropy, then puts the perturbation on a sphere whose radius,
    `start` at first, shrinks by the factor 1 − `shrink` where it is adversarial and grows by 1 + `shrink` where it is
    not. The step's length falls from 1 to 0.01 along a cosine.
    """
    refusals.whole(1, steps=steps)
    refusals.number(above=0, start=start)
    refusals.number(above=0, below=1, shrink=shrink)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        delta = torch.zeros_like(task.x)
        radius = torch.full_like(task.x.flatten(1)[:, 0], start)
        best, shortest = task.x, torch.full_like(radius, math.inf)
        # On a plateau there is no gradient to follow: any direction is as good, and one for all steps is cheap.
        anywhere = task.random(task.x, "normal_")
        for k in range(steps + 1):
            images = task.clip(task.x + delta)
            logits, slope = task.climb(images, "cross-entropy") if k < steps else (task.answer(images), None)
            over, length = task.over(logits), (images - task.x).flatten(1).norm(dim=1)
            better = over & (length < shortest)
            best, shortest = (
                torch.where(wide(better, best), images, best),
                torch.where(better, length, shortest),
            )
            if k == steps:
                break
            stride = 0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2
            flat = slope.flatten(1).norm(dim=1) == 0
            slope = torch.where(wide(flat, slope), anywhere, slope)
            delta = images - task.x + stride * normalize(slope.flatten(1)).view_as(slope)
            radius = radius * torch.where(over, 1 - shrink, 1 + shrink)
            delta = normalize(delta.flatten(1)).view_as(delta) * wide(radius, delta)
        return best, shortest.isfinite()

    return run(search, model, x, labels, targeted, box, seed, chunk, "DDN")
