"""Chapter 5: the pooled estimate of persistence against the source's algorithm 1: answers and time for equal errors.

An error's variance falls with the number of draws, so a ratio "at equal error" is of answers (or seconds) times squared
error. Both methods meet the same points; errors are of log σ, against closed forms or 100,000 draws at nine σ each.
"""

from __future__ import annotations

import math

import torch
from tests.bench.harness import Report, take_turns
from tests.oracles.persistence import bracketing
from torch import Tensor, nn

from tightrope import data, nets, persistence, training, wedges

HEAD = ("", "answers a point", "ms a point", "error of log σ", "not finished")


def ways(net, x: Tensor) -> dict:
    """Algorithm 1, image by image, as NAE prints it, and ours."""

    def theirs(k: int) -> tuple[Tensor, Tensor]:
        draws = torch.Generator().manual_seed(k)
        found = [bracketing(one, net, draws) for one in x]
        sigma, asked = (torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))
        return sigma, asked

    def ours(k: int) -> tuple[Tensor, Tensor]:
        found = persistence.persistence(net, x, seed=k)
        return found.sigma, found.evaluations.double()

    return {"algorithm 1": theirs, "ours": ours}


def compare(title: str, net, x: Tensor, truth: Tensor, rounds: int, bounds: dict[str, float]) -> Report:
    seconds, results = take_turns(ways(net, x), rounds)
    report, cost = Report(title, HEAD), {}
    for name, found in results.items():
        sigma = torch.stack([sigma for sigma, _ in found])
        off = (sigma / truth).log()
        met = off.isfinite() & (off.abs() < math.log(4))  # algorithm 1's range finder may walk away
        error = off[met].square().mean().sqrt().item()
        answers = torch.stack([asked for _, asked in found]).mean().item()
        each = 1e3 * seconds[name] / len(x)
        cost[name] = {"answers": answers * error**2, "seconds": each * error**2}
        report.rows.append(
            (
                name,
                f"{answers:,.0f}",
                f"{each:.2f}",
                f"{error:.4f}",
                f"{(~met).sum().item()} of {met.numel()}",
            )
        )
    for what, bound in bounds.items():
        ratio = cost["algorithm 1"][what] / cost["ours"][what]
        report.bounds.append(
            (f"algorithm 1 takes so many times our {what} at equal error", ratio, "≥", bound)
        )
    return report


def on_wedges() -> list[Report]:
    """k sheets at distance 1, where the truth is a formula."""
    reports = []
    for k in (1, 3, 10):
        wedge = wedges.orthant(max(k, 2), k)
        x = wedge.inside(1.0).float().repeat(100, 1)
        truth = wedge.persistence(x[:1].double(), gamma=0.7)
        title = f"Persistence before {k} sheet{'s' * (k > 1)}, 100 times"
        reports.append(compare(title, wedge, x, truth, 3, {"answers": 3.0}))
    return reports


def trained(net: nn.Module) -> nn.Module:
    x, y = data.load("mnist", "train", n=12_000, seed=0)
    training.fit(net, x, y, training.Recipe("adam", lr=1e-3, epochs=4), seed=0)
    return net


def measured_truth(net: nn.Module, x: Tensor, draws: int) -> Tensor:
    """Where the share of the point's class passes .7 between the nine σ around a first estimate."""
    first = persistence.persistence(net, x, draws=8_192, seed=99).sigma
    around = first[:, None] * torch.logspace(-0.08, 0.08, 9, dtype=torch.float64)
    share = torch.stack(
        [
            persistence.frequencies(net, one[None], at, draws=draws, seed=98).stable()[0]
            for one, at in zip(x, around, strict=True)
        ]
    )
    after = (share < 0.7).long().argmax(1, keepdim=True).clamp_min(1)
    (high, low), (right, left) = (
        (part.gather(1, after - 1), part.gather(1, after)) for part in (share, around.log())
    )
    return (right + (left - right) * (high - 0.7) / (high - low)).exp()[:, 0]


def digits(n: int) -> Tensor:
    return data.load("mnist", "test", n=n, seed=0)[0]


def on_digits() -> list[Report]:
    """784-100-20-10 and the smallest of the source's convolutional networks but one."""
    mlp, conv = trained(nets.mlp(784, (100, 20), 10, seed=0)), trained(nets.c_ch(8, seed=0))
    x, few = digits(40), digits(8)
    return [
        compare(
            "Persistence of 40 digits, 784-100-20-10", mlp, x, measured_truth(mlp, x, 100_000), 3,
            {"answers": 4.0, "seconds": 20.0},
        ),
        compare(
            "Persistence of 8 digits, C-8", conv, few, measured_truth(conv, few, 10_000), 2,
            {"answers": 4.0, "seconds": 4.0},
        ),
    ]  # fmt: skip
