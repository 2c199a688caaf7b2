"""Carlini and Wagner's ℓ2 attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Task, run, wide


def carlini_wagner(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 200,
    searches: int = 5,
    rate: float = 0.01,
    constant: float = 1.0,
    confidence: float = 0.0,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Carlini and Wagner's ℓ2 attack (2017, section V): Adam on ‖δ‖² + c · max(−lead, −confidence).

    With a box the search runs in tanh space, so that it cannot be left. c starts at `constant` and is searched over
    `searches` rounds of `steps` each, row by row: ten times larger while nothing is found, then by halving.
    A row that no round reaches is not found. (Foolbox 3.3 gives a black image back for it, and counts that as found
    wherever the model errs on black; leaving those out, the two find the same rows.)
    """
    refusals.whole(1, steps=steps, searches=searches)
    refusals.number(above=0, rate=rate, constant=constant)
    refusals.number(least=0, confidence=confidence)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        low, high = task.box or (0.0, 1.0)
        squeeze = lambda image: torch.atanh(((image - low) / (high - low) * 2 - 1) * (1 - 1e-6))
        inside = lambda v: low + (high - low) * (torch.tanh(v) + 1) / 2
        into, out = (squeeze, inside) if task.box is not None else (torch.clone, torch.clone)
        origin = into(task.x)
        c = torch.full_like(task.x.flatten(1)[:, 0], constant)
        lower, upper = torch.zeros_like(c), torch.full_like(c, math.inf)
        best, shortest = task.x, torch.full_like(c, math.inf)
        for _ in range(searches):
            v, first, second = origin.clone(), torch.zeros_like(origin), torch.zeros_like(origin)
            round_found = torch.zeros_like(task.labels, dtype=torch.bool)
            for k in range(steps + 1):
                with torch.set_grad_enabled(k < steps):
                    at = v.detach().requires_grad_(k < steps)
                    images = out(at)
                    logits = task.net(images)
                    squares = (images - task.x).flatten(1).square().sum(1)
                    behind = (-task.lead(logits)).clamp_min(-confidence)
                    slope = torch.autograd.grad((squares + c * behind).sum(), at)[0] if k < steps else None
                sure = task.over(logits.detach()) & (task.lead(logits.detach()) >= confidence)
                round_found |= sure
                better = sure & (squares.detach() < shortest)
                best = torch.where(wide(better, best), images.detach(), best)
                shortest = torch.where(better, squares.detach(), shortest)
                if k == steps:
                    break
                first, second = first.lerp(slope, 0.1), second.lerp(slope.square(), 0.001)
                adapted = first / (1 - 0.9 ** (k + 1)) / ((second / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
                v = v - rate * adapted
            upper, lower = torch.where(round_found, c, upper), torch.where(round_found, lower, c)
            c = torch.where(upper.isinf(), 10 * c, (lower + upper.clamp_max(1e30)) / 2)
        return best, shortest.isfinite()

    return run(search, model, x, labels, targeted, box, seed, chunk, "Carlini–Wagner")
