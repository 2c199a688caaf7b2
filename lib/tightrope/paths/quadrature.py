"""Averages along one straight step, t from 0 to 1: rules with nodes, and ReLU's closed form.

Along a step w_s + t (w_(s+1) − w_s) the first layer's pre-activations are z + t·dz: a ReLU unit is active on one
interval [lo, hi] of t, and everything a two-layer network's gradient needs is a polynomial there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tightrope import refusals


@dataclass(frozen=True)
class Rule:
    """∫₀¹ g(t) dt ≈ Σ_j weights[j] g(nodes[j])."""

    name: str
    nodes: tuple[float, ...]
    weights: tuple[float, ...]


def rule(kind: str, n: int) -> Rule:
    """n nodes: "left" (the source's t = 0, 1/n, …; n = 1 is the tangent kernel), "midpoint" or "gauss"."""
    refusals.whole(1, n=n)
    refusals.choice(("left", "midpoint", "gauss"), kind=kind)
    if kind == "gauss":
        at, weight = np.polynomial.legendre.leggauss(n)
        return Rule(f"Gauss {n}", tuple(((at + 1) / 2).tolist()), tuple((weight / 2).tolist()))
    shift = 0.5 if kind == "midpoint" else 0.0
    return Rule(f"{kind} {n}", tuple((k + shift) / n for k in range(n)), (1 / n,) * n)


TANGENT = rule("left", 1)
"""t = 0 alone: the straight step replaced by its first instant."""


class Means(NamedTuple):
    """Over t in [0, 1], for each point and hidden unit (Q, H).

    on    ∫ 1[z + t·dz > 0] dt
    late  ∫ t 1[z + t·dz > 0] dt
    relu  ∫ relu(z + t·dz) dt
    """

    on: Tensor
    late: Tensor
    relu: Tensor


def interval(z: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Where in [0, 1] the line from z to `end` is positive: lo and hi, both 0 where it never is."""
    first, last = z > 0, end > 0
    crossing = (z / (z - end)).clamp(0, 1)
    zero, one = torch.zeros_like(z), torch.ones_like(z)
    lo = torch.where(last & ~first, crossing, zero)
    hi = torch.where(last, one, torch.where(first, crossing, zero))
    return lo, hi


def moments(lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∫ 1, ∫ t and ∫ t² from lo to hi."""
    return hi - lo, (hi**2 - lo**2) / 2, (hi**3 - lo**3) / 3


def relu_means(z: Tensor, end: Tensor, by: Rule | None = None) -> Means:
    """The averages while a pre-activation goes from z to `end`: exact, or by a rule."""
    if by is None:
        on, late, _ = moments(*interval(z, end))
        return Means(on, late, z * on + (end - z) * late)
    on, late, relu = (torch.zeros_like(z) for _ in range(3))
    for t, weight in zip(by.nodes, by.weights, strict=True):
        at = torch.lerp(z, end, t)
        positive = (at > 0).to(z.dtype)
        on.add_(positive, alpha=weight)
        late.add_(positive, alpha=weight * t)
        relu.addcmul_(at, positive, value=weight)
    return Means(on, late, relu)
