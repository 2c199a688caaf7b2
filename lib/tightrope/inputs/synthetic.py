"""Data whose discriminative features are known, because we put them there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals, seeds

__all__ = ["Synthetic", "rotation", "t1"]


@dataclass(frozen=True)
class Synthetic:
    """A labelled sample and the rotation that hides its features.

    `x` (N, D) float32; `y` (N,) int64 in {0, 1} (the source's -1 and +1); `u` (D, D) orthonormal, float32: row
    i is the direction u_{i+1} of the source, so `x @ u.T` are the coordinates before the rotation.
    """

    x: Tensor
    y: Tensor
    u: Tensor


def t1(
    n: int,
    *,
    half_gap: float = 2.5,
    noise: float = 1.0,
    dim: int = 100,
    seed: int = 0,
    rotation_seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Synthetic:
    """T₁ of *Hold me tight*, section 3.1: one feature along u₁, Gaussian noise in every other direction.

    Each point is ±`half_gap` along u₁ by its class plus N(0, `noise`²) along u₂ ... u_D, rotated by a random U
    in SO(D). `half_gap` is the distance from a point to the centre of the gap, which is the margin of the ideal
    boundary. The source's text puts it at ε; its table 1 fits ε/2 (the chapter shows both).

    Samples with the same `rotation_seed` (default: `seed`) share U: that is how a test set is drawn.
    """
    refusals.whole(1, n=n)
    refusals.whole(2, dim=dim)
    refusals.number(least=0, half_gap=half_gap, noise=noise)
    refusals.device(device=device)
    u = rotation(dim, seed if rotation_seed is None else rotation_seed)
    generator = seeds.generator(seed, "points")
    y = torch.randint(0, 2, (n,), generator=generator)
    z = noise * torch.randn(n, dim, generator=generator)
    z[:, 0] = half_gap * (2 * y - 1)
    return Synthetic((z @ u).to(device), y.to(device), u.to(device))


def rotation(dim: int, seed: int) -> Tensor:
    """A rotation drawn uniformly from SO(dim), float32 (dim, dim)."""
    refusals.whole(1, dim=dim)
    generator = seeds.generator(seed, "rotation")
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[0] *= torch.linalg.det(q).sign()
    return q.float()
