"""Fast minimum-norm: short ℓ2 perturbations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Search, Task, keep_shortest, run, unit, wide


def fmn(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    stride: float = 1.0,
    shrink: float = 0.05,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "shortest",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Fast minimum-norm: a short ℓ2 perturbation (Pintor et al. 2021, algorithm 1, its ℓ2 case).

    Each step follows the lead's normalised gradient and stays inside a ball of radius ε. Until a row is adversarial for
    the first time ε is where its linearised boundary lies; from then on it shrinks by the factor 1 − γ where the row is
    adversarial, and to its best length at most, and grows by 1 + γ where it is not. γ falls from `shrink` to 0.001 and
    the step from `stride` to a hundredth of that along a cosine. Steps are in widths of the box; without a box, in
    distances to the linearised boundary. Nothing depends on the scale of the logits.
    """
    keep_shortest(keep)
    return run(nearest(steps, stride, shrink), model, x, labels, targeted, box, seed, chunk, "FMN")


def nearest(steps: int, stride: float = 1.0, shrink: float = 0.05, start: Tensor | None = None) -> Search:
    """FMN on one chunk. It begins at x or, where `start` (N, *shape) has another image for the row, at that one; the
    stride is then in lengths of its perturbation."""
    refusals.whole(1, steps=steps)
    refusals.number(above=0, stride=stride)
    refusals.number(above=0, below=1, shrink=shrink)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        images = best = task.x if start is None else start[task.numbers]
        begun = (images - task.x).flatten(1).norm(dim=1)
        alpha = stride * torch.where(begun > 0, begun, task.yardstick())
        epsilon = shortest = torch.full_like(alpha, math.inf)
        for k in range(steps + 1):
            logits, slope = task.climb(images, "margin") if k < steps else (task.answer(images), None)
            over, length = task.over(logits), (images - task.x).flatten(1).norm(dim=1)
            better = over & (length < shortest)
            best, shortest = (
                torch.where(wide(better, best), images, best),
                torch.where(better, length, shortest),
            )
            if k == steps:
                break
            decay = (1 + math.cos(math.pi * k / steps)) / 2
            gamma = 0.001 + (shrink - 0.001) * decay
            direction, slope = unit(slope)
            boundary = length + torch.where(slope > 0, task.lead(logits).abs() / slope, math.inf)
            boundary = 1.001 * boundary  # or rounding keeps a straight one just out of reach for ever
            grown = torch.where(shortest.isfinite(), epsilon * (1 + gamma), boundary)
            epsilon = torch.where(over, torch.minimum(epsilon * (1 - gamma), shortest), grown)
            delta = images - task.x + direction * wide(alpha * (0.01 + 0.99 * decay), direction)
            size = delta.flatten(1).norm(dim=1)
            inner = torch.where(size > epsilon, epsilon / size, 1)
            images = task.clip(task.x + delta * wide(inner, delta))
        return best, shortest.isfinite()

    return search
