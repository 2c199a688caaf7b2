"""Chapter 4: losses over all pairs, without a pair or without a matrix of them."""

from __future__ import annotations

import torch
from tests.bench.harness import Report, most_bytes, take_turns
from torch import Tensor
from torch.nn.functional import softplus

from tightrope import pair_losses


def over_pairs(a: Tensor, b: Tensor) -> Tensor:
    """(7) as it is printed, a matrix row at a time: |I|·|J| differences."""
    return sum((s - b - 1).square().sum() for s in a) / (len(a) * len(b))


def with_gradient(loss, a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = loss(a, b)
    return value.item(), torch.cat(torch.autograd.grad(value, (a, b)))


def scores() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(5_000, generator=g, dtype=torch.float64) for _ in range(2)]


def race(title: str, losses: dict, faster: float, smaller: float) -> Report:
    """The last of `losses` against the others, with its gradient, 5,000 a class in float64; the first is the truth."""
    a, b = scores()
    seconds, results = take_turns(
        {name: lambda k, loss=loss: with_gradient(loss, a, b) for name, loss in losses.items()}, rounds=5
    )
    memory = {name: most_bytes(lambda loss=loss: with_gradient(loss, a, b)) for name, loss in losses.items()}
    *others, ours = losses
    truth, slope = results[others[0]][0]
    report = Report(title, ("method", "CPU ms", "MB", "relative error"))
    for name, ((value, _), *_) in results.items():
        report.rows.append(
            (name, f"{1e3 * seconds[name]:.3g}", f"{memory[name] / 1e6:.3g}", f"{abs(value / truth - 1):.0e}")
        )
    gap = ((results[ours][0][1] - slope).norm() / slope.norm()).item()
    report.bounds += [
        (
            "the fastest other's seconds over ours",
            min(seconds[k] for k in others) / seconds[ours],
            "≥",
            faster,
        ),
        (
            "the smallest other's memory over ours",
            min(memory[k] for k in others) / memory[ours],
            "≥",
            smaller,
        ),
        ("relative difference of the gradients", gap, "≤", 1e-12),
    ]
    return report


def squared_loss() -> Report:
    losses = {
        "all pairs, one matrix": lambda a, b: (a[:, None] - b - 1).square().mean(),
        "all pairs, a row at a time": over_pairs,
        "moments, `squared_pairs`": pair_losses.squared_pairs,
    }
    return race("Squared loss over 25,000,000 pairs, with its gradient", losses, faster=100, smaller=100)


def logistic_loss() -> Report:
    losses = {
        "all pairs, one matrix": lambda a, b: softplus(b - a[:, None], threshold=40).mean(),
        "blocks, `logistic_pairs`": pair_losses.logistic_pairs,
    }
    return race("Logistic loss over 25,000,000 pairs, with its gradient", losses, faster=1.5, smaller=10)
