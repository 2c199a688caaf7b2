"""Data whose discriminative features are known, because we put them there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals, seeds

__all__ = ["Synthetic", "rotation", "t1", "t2"]


@dataclass(frozen=True)
class Synthetic:
    """A labelled sample and the rotation that hides its features.

    `x` (N, D) float32; `y` (N,) int64 in {0, 1} (the source's -1 and +1); `u` (D, D) orthonormal, float32: row
    i is the direction u_(i+1) of the source, so `x @ u.T` are the coordinates before the rotation.
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
    _check(n, 2, half_gap, noise, dim)
    generator = seeds.generator(seed, "points")
    y, z = _noise(n, noise, dim, generator)
    z[:, 0] = half_gap * (2 * y - 1)
    return _turned(z, y, seed if rotation_seed is None else rotation_seed, device)


def t2(
    n: int,
    *,
    half_gap: float,
    rho: float = 20.0,
    slabs: int = 3,
    noise: float = 1.0,
    dim: int = 100,
    seed: int = 0,
    rotation_seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Synthetic:
    """T₂(ρ, ε, σ, K) of *Hold me tight*, section 4.1: one feature along u₁, alternating ones along u₂.

    Each point is ±`half_gap` along u₁ by its class; along u₂ it is at ρk (the source's class +1, here 1) or at
    ρ(k + ½) (class 0), k drawn uniformly from the 2K whole numbers -K ... K-1, K = `slabs`; the rest is N(0, `noise`²),
    and all is rotated by a random U in SO(D). Neighbours of opposite classes lie ρ/2 apart along u₂, so that the margin
    of the ideal boundary is ρ/4 there, and `half_gap` along u₁. The source's text puts points at ±ε along u₁, which is
    `half_gap`=ε; if its figure counts as its table 1 does, it is `half_gap`=ε/2.
    """
    _check(n, 3, half_gap, noise, dim)
    refusals.number(least=0, rho=rho)
    refusals.whole(1, slabs=slabs)
    generator = seeds.generator(seed, "points")
    y, z = _noise(n, noise, dim, generator)
    k = torch.randint(-slabs, slabs, (n,), generator=generator)
    z[:, 0] = half_gap * (2 * y - 1)
    z[:, 1] = rho * (k + (1 - y) / 2)
    return _turned(z, y, seed if rotation_seed is None else rotation_seed, device)


def rotation(dim: int, seed: int) -> Tensor:
    """A rotation drawn uniformly from SO(dim), float32 (dim, dim)."""
    refusals.whole(1, dim=dim)
    generator = seeds.generator(seed, "rotation")
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[0] *= torch.linalg.det(q).sign()
    return q.float()


def _check(n: int, least: int, half_gap: float, noise: float, dim: int) -> None:
    refusals.whole(1, n=n)
    refusals.whole(least, dim=dim)
    refusals.number(least=0, half_gap=half_gap, noise=noise)


def _noise(n: int, noise: float, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels (n,) and coordinates (n, dim), noise in all of them."""
    y = torch.randint(0, 2, (n,), generator=generator)
    return y, noise * torch.randn(n, dim, generator=generator)


def _turned(z: Tensor, y: Tensor, rotation_seed: int, device: torch.device | str) -> Synthetic:
    refusals.device(device=device)
    u = rotation(z.shape[1], rotation_seed)
    return Synthetic((z @ u).to(device), y.to(device), u.to(device))
