"""Carlini and Wagner's ℓ2 attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Search, Task, keep_shortest, run, unit, wide


def carlini_wagner(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 200,
    searches: int = 5,
    rate: float | None = None,
    constant: float | None = None,
    confidence: float = 0.0,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "shortest",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Carlini and Wagner's ℓ2 attack (2017, section V): Adam on ‖δ‖² + c · max(−lead, −confidence).

    c starts at `constant` and is searched over `searches` rounds of `steps` each, row by row: ten times larger while
    nothing is found, then by halving. A row that no round reaches is not found. `confidence` is in logits.

    `loss` "scaled": δ is counted in distances to the linearised boundary and the lead's gradient has length one, so
    that on an affine model any c above 2 crosses it, in whatever units; δ is clipped to the box (the paper's
    projection), and a step of Adam moves no number further than `rate` times its share of that distance, which falls
    to a hundredth along a cosine. The defaults are a rate of 1 and a constant of 10.
    "margin": as published, in raw units, so that it depends on them and on the logits' scale; with a box, in tanh
    space, where numbers that lie on its edge hardly move. The defaults are a rate of 0.01 and a constant of 1. (Foolbox
    3.3 gives a black image back for a row that it does not reach, and counts that as found wherever the model errs on
    black; leaving those out, the two find the same rows.)
    """
    keep_shortest(keep)
    search = adam(steps, searches, rate, constant, confidence, loss)
    return run(search, model, x, labels, targeted, box, seed, chunk, "Carlini–Wagner")


def adam(
    steps: int,
    searches: int,
    rate: float | None = None,
    constant: float | None = None,
    confidence: float = 0.0,
    loss: str = "scaled",
) -> Search:
    """Carlini and Wagner's attack on one chunk."""
    refusals.whole(1, steps=steps, searches=searches)
    refusals.choice(("scaled", "margin"), loss=loss)
    scaled = loss == "scaled"
    rate = (1.0 if scaled else 0.01) if rate is None else rate
    constant = (10.0 if scaled else 1.0) if constant is None else constant
    refusals.number(above=0, rate=rate, constant=constant)
    refusals.number(least=0, confidence=confidence)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        space = (_Clipped if scaled else _Raw if task.box is None else _Tanh)(task)
        c = torch.full_like(space.length, constant)
        lower, upper = torch.zeros_like(c), torch.full_like(c, math.inf)
        best, shortest = task.x, torch.full_like(c, math.inf)
        for _ in range(searches):
            v = space.origin.clone()
            first, second = torch.zeros_like(v), torch.zeros_like(v)
            round_found = torch.zeros_like(task.labels, dtype=torch.bool)
            for k in range(steps + 1):
                images = space.images(v)
                logits, slope = task.climb(images, "margin") if k < steps else (task.answer(images), None)
                lead, delta = task.lead(logits), images - task.x
                squares = delta.flatten(1).square().sum(1)
                sure = task.over(logits) & (lead >= confidence)
                round_found |= sure
                better = sure & (squares < shortest)
                best = torch.where(wide(better, best), images, best)
                shortest = torch.where(better, squares, shortest)
                if k == steps:
                    break
                if scaled:
                    delta, slope = delta / wide(space.length, delta), unit(slope)[0]
                pull = torch.where(lead < confidence, c, 0)
                slope = (2 * delta - wide(pull, delta) * slope) * space.stretch(v)
                first, second = first.lerp(slope, 0.1), second.lerp(slope.square(), 0.001)
                adapted = first / (1 - 0.9 ** (k + 1)) / ((second / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
                decay = 0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2 if scaled else 1
                v = space.back(v - rate * decay * adapted)
            upper, lower = torch.where(round_found, c, upper), torch.where(round_found, lower, c)
            c = torch.where(upper.isinf(), 10 * c, (lower + upper.clamp_max(1e30)) / 2)
        return best, shortest.isfinite()

    return search


class _Raw:
    """Where Adam walks: v is the image. `length` (R,) is the unit of ‖δ‖."""

    def __init__(self, task: Task):
        self.task, self.origin = task, task.x
        self.length = torch.ones_like(task.x.flatten(1)[:, 0])

    def images(self, v: Tensor) -> Tensor:
        return v

    def stretch(self, v: Tensor) -> Tensor | float:
        """How fast the image moves with v, in the unit of its numbers."""
        return 1.0

    def back(self, v: Tensor) -> Tensor:
        """v after a step, brought back to where it may lie."""
        return v


class _Tanh(_Raw):
    """v is the atanh of the image, which so cannot leave the box."""

    def __init__(self, task: Task):
        super().__init__(task)
        if not task.box.pixelwise:
            raise ValueError(
                "loss='margin' walks in tanh space, which needs a box that is an interval: use 'scaled'."
            )
        self.low, self.half = task.box.low, task.box.width / 2
        self.origin = torch.atanh(((task.x - self.low) / self.half - 1) * (1 - 1e-6))

    def images(self, v: Tensor) -> Tensor:
        return self.low + self.half * (torch.tanh(v) + 1)

    def stretch(self, v: Tensor) -> Tensor:
        return self.half * (1 - torch.tanh(v).square())


class _Clipped(_Raw):
    """v is δ, with one in each number for a δ of the distance to the linearised boundary; lengths are in that."""

    def __init__(self, task: Task):
        super().__init__(task)
        self.origin = torch.zeros_like(task.x)
        self.length = task.linear()
        self.each = wide(self.length / math.sqrt(task.x[0].numel()), task.x)

    def images(self, v: Tensor) -> Tensor:
        return self.task.clip(self.task.x + self.each * v)

    def back(self, v: Tensor) -> Tensor:
        return (self.images(v) - self.task.x) / self.each
