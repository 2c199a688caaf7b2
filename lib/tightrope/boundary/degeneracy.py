"""How many directions a decision boundary lacks around a point, by singular values of samples brought onto it.

*Neighborhoods of adversarial examples*, section 31. A plane lacks one direction, its normal. Near the apex of an
orthant of k sheets the boundary is cut off in k: there projected samples vary less.

    cloud = at + radius * degeneracy.flat(2_000, 784, seed=0)
    on = anatomy.project(net, cloud, how="nearest")
    values = degeneracy.spectrum(on.images - at, of="points").values
    degeneracy.count(values / radius, null)           # null: the same of the tangent plane, or `plane_spectra`
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals, seeds

__all__ = ["OF", "Spectrum", "count", "flat", "gaussian", "plane_spectra", "spectrum"]

OF = ("points", "centred", "differences")


@dataclass(frozen=True)
class Spectrum:
    """Singular values of R rows in D dimensions over √R: (K,), K = min(R, D), descending.

    values   of a standard Gaussian sample of many rows all near 1
    vectors  (K, D), the direction of each
    """

    values: Tensor
    vectors: Tensor


def gaussian(n: int, dim: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """n samples of N(0, I): (n, dim)."""
    refusals.whole(1, n=n, dim=dim)
    refusals.choice((torch.float32, torch.float64), dtype=dtype)
    return torch.randn(n, dim, generator=seeds.generator(seed, "gaussian cloud"), dtype=dtype)


def flat(n: int, dim: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """The source's sample with a flat spectrum, (n, dim), n ≥ dim: a Gaussian one X = U Σ Vᵀ becomes √n U Vᵀ.

    All its singular values are √n, so that what a projection takes away stands out: a Gaussian sample's spread by
    √(dim/n) by chance. The source replaces Σ by |Σ|₂ I and says that this keeps the Frobenius norm. It does not, as
    the largest value is above the others; √n is what keeps the expected one, n dim.
    """
    refusals.whole(1, dim=dim)
    refusals.whole(dim, n=n)
    refusals.choice((torch.float32, torch.float64), dtype=dtype)
    u, _, v = torch.linalg.svd(gaussian(n, dim, seed=seed, dtype=torch.float64), full_matrices=False)
    return (n**0.5 * u @ v).to(dtype)


def spectrum(rows: Tensor, *, of: str = "differences", seed: int = 0) -> Spectrum:
    """Singular values of samples (R, *shape).

    of    "points"       as they are: the first value is then their mean, wherever they are far from the origin
          "centred"      less their mean
          "differences"  of random disjoint pairs, over √2: half as many rows, as the source has them

    Float64 inside. Where there are as many rows as dimensions, from their square, in less than half of the time: a
    value below 1e-8 of the largest is rounding.
    """
    refusals.tensor(("R", "D", ...), finite=True, rows=rows)
    refusals.choice(OF, of=of)
    refusals.whole(2, **{"the number of rows": len(rows)})
    flattened = rows.detach().flatten(1).double()
    if of == "centred":
        flattened = flattened - flattened.mean(0)
    if of == "differences":
        order = torch.randperm(len(rows), generator=seeds.generator(seed, "pairs")).to(rows.device)
        half = len(rows) // 2
        flattened = (flattened[order[:half]] - flattened[order[half : 2 * half]]) / 2**0.5
    flattened = flattened / len(flattened) ** 0.5
    if len(flattened) < flattened.shape[1]:
        _, values, vectors = torch.linalg.svd(flattened, full_matrices=False)
    else:
        squares, vectors = torch.linalg.eigh(flattened.T @ flattened)
        values, vectors = squares.flip(0).clamp_min(0).sqrt(), vectors.T.flip(0)
    return Spectrum(values.to(rows.dtype), vectors.to(rows.dtype))


def plane_spectra(n: int, dim: int, *, repeats: int = 20, of: str = "differences", seed: int = 0) -> Tensor:
    """The null: values (repeats, K) of `spectrum` for a Gaussian sample at a plane, moved to it along its normal.

    One direction vanishes, the others are as the sample has them: what chance leaves of a boundary without a corner.
    Of a flat sample they are all equal. Towards parents a sample shrinks and shifts as well; for that null, project
    onto the plane as onto a network.
    """
    refusals.whole(1, repeats=repeats)
    refusals.whole(0, seed=seed)
    found = []
    for k in range(repeats):
        cloud = gaussian(n, dim, seed=seed + k, dtype=torch.float64)
        cloud[:, 0] = 0
        found.append(spectrum(cloud, of=of, seed=seed + k).values)
    return torch.stack(found)


def count(values: Tensor, null: Tensor, *, level: float = 0.01, share: float = 0.75) -> int:
    """How many directions are missing: 1 on a plane, k at an orthant's apex.

    values (K,) in units of the sample's radius, null (repeats, K) as of `plane_spectra`. A value counts that is below
    both the `level` quantile of what a plane leaves of its least direction but its normal, and `share` times the
    median of what a plane leaves: less than chance would, and by more than a slight curvature takes. (An orthant
    leaves √(½ − 1/(2π)) = .58.)
    """
    refusals.tensor(("K",), finite=True, values=values)
    refusals.tensor(("N", len(values)), finite=True, null=null)
    refusals.number(above=0, below=1, level=level)
    refusals.number(above=0, most=1, share=share)
    ranked = null.double().sort(1, descending=True).values
    floor = min(torch.quantile(ranked[:, -2], level).item(), share * ranked.median().item())
    return int((values.double() < floor).sum())
