"""NAE's algorithm 1, as it is written, one image at a time; only its loops that need not end have an end."""

from __future__ import annotations

import torch
from torch import Tensor

LOOPS = 60


def share(x: Tensor, net, label: int, sigma: float, samples: int, draws: torch.Generator) -> float:
    """COMPUTE_PERSISTENCE."""
    noise = torch.randn(samples, *x.shape, generator=draws, dtype=x.dtype)
    return (net(x + sigma * noise).argmax(1) == label).double().mean().item()


def range_finder(x, net, label, samples, gamma, draws) -> tuple[float, float, int]:
    low, high, asked = 0.5, 1.5, 2
    at_low = share(x, net, label, low, samples, draws)
    at_high = share(x, net, label, high, samples, draws)
    for _ in range(LOOPS):
        if not (at_low < gamma or at_high > gamma):
            break
        if at_low < gamma:
            low, asked = low / 2, asked + 1
            at_low = share(x, net, label, low, samples, draws)
        if at_high > gamma:
            high, asked = high * 2, asked + 1
            at_high = share(x, net, label, high, samples, draws)
    return low, high, asked


@torch.no_grad()
def bracketing(x, net, draws, samples=1_000, gamma=0.7, steps=20, precision=0.01) -> tuple[float, int]:
    """σ for one input (*shape), and how many answers it took."""
    label = net(x[None]).argmax(1).item()
    low, high, asked = range_finder(x, net, label, samples, gamma, draws)
    count, sigma = 1, low
    while count < steps:
        sigma = (low + high) / 2
        found = share(x, net, label, sigma, samples, draws)
        asked += 1
        if abs(found - gamma) < precision:
            break
        low, high = (sigma, high) if found > gamma else (low, sigma)
        count += 1
    return sigma, asked * samples
