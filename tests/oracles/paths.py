"""The path kernel the long way: autograd's Jacobians, multiplied, integrated piece by piece."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.func import jacrev

from tightrope.paths.quadrature import interval, moments
from tightrope.paths.trajectory import ACTIVATIONS, layers


def points(n=12, d=3, classes=3, seed=0):
    """A small training set and queries: x (n, d), y (n,), xq (7, d)."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return (
        x,
        torch.randint(0, classes, (n,), generator=draw),
        torch.randn(7, d, generator=draw, dtype=torch.float64),
    )


def jacobian(w: Tensor, sizes, x: Tensor, activation: str = "relu") -> Tensor:
    """∂f/∂w (K, P) at one point x (D,)."""

    def logits(w: Tensor) -> Tensor:
        net = layers(w, sizes)
        for weight, bias in net[:-1]:
            x_ = weight @ value[-1] + bias
            value.append(ACTIVATIONS[activation][0](x_))
        weight, bias = net[-1]
        return weight @ value[-1] + bias

    value = [x]
    return jacrev(logits)(w)


def kinks(w0: Tensor, w1: Tensor, sizes, x: Tensor) -> list[float]:
    """The t in (0, 1) at which a first-layer pre-activation changes sign, from the line's own roots."""
    (weight, bias), _ = layers(w0, sizes)
    (after, shift), _ = layers(w1, sizes)
    z, dz = weight @ x + bias, (after - weight) @ x + shift - bias
    roots = [(-a / b).item() for a, b in zip(z, dz, strict=True) if b != 0]
    return [t for t in roots if 0 < t < 1]


def integral(
    w0: Tensor, w1: Tensor, sizes, left: Tensor, right: Tensor, moving=(True, False), nodes: int = 4
):
    """∫₀¹ J(left) J(right)ᵀ dt (K, K), Gauss–Legendre on every piece between two kinks; each J moving or at w0."""
    ends = [0.0, 1.0]
    for point, moves in ((left, moving[0]), (right, moving[1])):
        ends += kinks(w0, w1, sizes, point) if moves else []
    at, weight = np.polynomial.legendre.leggauss(nodes)
    total = torch.zeros(sizes[-1], sizes[-1], dtype=w0.dtype)
    for a, b in pairwise(sorted(ends)):
        for u, p in zip(at, weight, strict=True):
            t = a + (b - a) * (u + 1) / 2
            j = [
                jacobian(torch.lerp(w0, w1, t) if moves else w0, sizes, point)
                for point, moves in ((left, moving[0]), (right, moving[1]))
            ]
            total += (b - a) * p / 2 * (j[0] @ j[1].T)
    return total


def moving_gram(path, left: Tensor, right: Tensor) -> Tensor:
    """The trace kernel of two moving points (Q1, Q2), summed over all steps: every pair and hidden unit by itself."""
    total = torch.zeros(len(left), len(right), dtype=path.x.dtype)
    for s in range(path.steps):
        (w, b), (last, _) = path.trajectory.layers(s)
        (w1, b1), (after, _) = path.trajectory.layers(s + 1)
        z, z2 = left @ w.T + b, right @ w.T + b
        dz, dz2 = left @ w1.T + b1 - z, right @ w1.T + b1 - z2
        (lo1, hi1), (lo2, hi2) = interval(z, z + dz), interval(z2, z2 + dz2)
        lo = torch.maximum(lo1[:, None], lo2)
        m0, m1, m2 = moments(lo, torch.maximum(torch.minimum(hi1[:, None], hi2), lo))
        z, dz, moved = z[:, None], dz[:, None], after - last
        relu = m0 * z * z2 + m1 * (z * dz2 + dz * z2) + m2 * dz * dz2
        squares, cross, ends = ((u * v).sum(0) for u, v in ((last, last), (last, moved), (moved, moved)))
        back = m0 * squares + 2 * m1 * cross + m2 * ends
        total += (left @ right.T + 1) * back.sum(2) / len(last) + relu.sum(2) + 1
    return total
