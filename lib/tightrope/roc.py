"""How well one number tells two groups apart: the ROC curve and the area under it, with an interval."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tightrope import seeds

__all__ = ["Area", "area", "curve"]


class Area(NamedTuple):
    """P(a positive scores above a negative), ties counting half, and a bootstrap interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


def curve(negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates from (0, 0) to (1, 1), one point a distinct score: "positive" is a high score."""
    negative, positive = _scores(negative, positive)
    at = torch.cat([negative, positive]).unique().flip(0)
    false, true = ((v[None] >= at[:, None]).double().mean(1) for v in (negative, positive))
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, false.cpu()]), torch.cat([zero, true.cpu()])


def area(negative: Tensor, positive: Tensor, seed: int = 0, draws: int = 1_000) -> Area:
    """The area under the curve of scores (M,) and (N,), each group resampled `draws` times."""
    negative, positive = _scores(negative, positive)
    order = torch.sign(positive[:, None] - negative[None]) / 2 + 0.5  # (N, M)
    generator = seeds.generator(seed, "bootstrap")
    rows, columns = (torch.randint(n, (draws, n), generator=generator).to(order.device) for n in order.shape)
    first, second = (_counts(at, n) for at, n in ((rows, order.shape[0]), (columns, order.shape[1])))
    again = (first @ order * second).sum(1) / order.numel()
    low, high = again.quantile(torch.tensor([0.025, 0.975]).to(again)).tolist()
    return Area(order.mean().item(), low, high)


def _counts(at: Tensor, n: int) -> Tensor:
    """How often each of n is drawn, (draws, n)."""
    counts = torch.zeros(len(at), n, dtype=torch.float64, device=at.device)
    return counts.scatter_add_(1, at, torch.ones_like(counts))


def _scores(negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    for scores in (negative, positive):
        if scores.ndim != 1 or not len(scores) or not scores.isfinite().all():
            raise ValueError("A ROC curve needs finite scores of at least one sample in each group.")
    return negative.double(), positive.double()
