"""Chapter 4: the loss over all pairs without a pair. Registered with `tests.bench`, which imports this file."""

from __future__ import annotations

import torch
from tests.bench import Report, benchmark, take_turns
from torch import Tensor

from tightrope import pair_losses


def over_pairs(a: Tensor, b: Tensor) -> Tensor:
    """(7) as it is printed, a matrix row at a time: |I|·|J| differences."""
    return sum((s - b - 1).square().sum() for s in a) / (len(a) * len(b))


def with_gradient(loss, a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = loss(a, b)
    return value.item(), torch.cat(torch.autograd.grad(value, (a, b)))


@benchmark
def pair_loss() -> Report:
    """The squared loss over all pairs and its gradient, 5,000 a class, in float64."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5_000, generator=g, dtype=torch.float64) for _ in range(2))
    methods = {
        "all pairs, a row at a time": lambda k: with_gradient(over_pairs, a, b),
        "all pairs, one matrix": lambda k: with_gradient(
            lambda a, b: (a[:, None] - b - 1).square().mean(), a, b
        ),
        "moments, `squared_pairs`": lambda k: with_gradient(pair_losses.squared_pairs, a, b),
    }
    seconds, results = take_turns(methods, rounds=5)
    truth, slope = results["all pairs, one matrix"][0]
    report = Report(
        "Squared loss over 25,000,000 pairs, with its gradient", ("method", "CPU ms", "relative error")
    )
    for name, ((value, _), *_) in results.items():
        report.rows.append((name, f"{1e3 * seconds[name]:.3g}", f"{abs(value / truth - 1):.1e}"))
    fast = "moments, `squared_pairs`"
    gap = ((results[fast][0][1] - slope).norm() / slope.norm()).item()
    slow = min(seconds[name] for name in methods if name != fast)
    report.bounds += [
        ("the faster pair loop's seconds over ours", slow / seconds[fast], "≥", 100),
        ("relative difference of the gradients", gap, "≤", 1e-12),
    ]
    return report
