"""Clusters of points whose centres are known features: the data of the feature-averaging slides.

data = clusters.sample(1_000, k=10, dim=784)      # .x, .y, .cluster, .means, .signs, .xi
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals, seeds

__all__ = ["Clusters", "sample"]


@dataclass(frozen=True)
class Clusters:
    """N samples of k Gaussian clusters in D dimensions, a feature each: x_i = μ_(j(i)) + ξ_i.

    x        (N, D) float32
    y        (N,) int64 in {0, 1}, the source's -1 and +1: the sign of the sample's cluster
    cluster  (N,) int64 from 0 to k-1: j(i), the label in detail
    means    (k, D) float32: μ_j
    signs    (k,) int64, +1 for the clusters of J₊ and -1 for those of J₋
    """

    x: Tensor
    y: Tensor
    cluster: Tensor
    means: Tensor
    signs: Tensor

    @property
    def xi(self) -> Tensor:
        """ξ_i = x_i − μ_(j(i)), (N, D)."""
        return self.x - self.means[self.cluster]


def sample(
    n: int,
    *,
    k: int = 10,
    dim: int = 784,
    positive: int | None = None,
    norms: float | Sequence[float] | None = None,
    cosine: float = 0.0,
    noise: float = 1.0,
    seed: int = 0,
    rotation_seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Clusters:
    """D_binary of the feature-averaging slides: k clusters N(μ_j, `noise`² I), labelled by their clusters' signs.

    The cluster of a sample is drawn uniformly; the first `positive` (default: half, rounded down) are those of class
    +1. The means have the lengths `norms`, one for all or one each (default: √D), and the cosine `cosine` between
    every two, which -1/(k-1) and 1 bound: 0 is the source's orthogonal features, others relax that. Their directions
    are drawn uniformly.

    Samples with the same `rotation_seed` (default: `seed`) share the means: that is how a test set is drawn.
    """
    refusals.whole(1, n=n)
    refusals.whole(2, k=k)
    refusals.whole(k, dim=dim)
    positive = k // 2 if positive is None else positive
    refusals.whole(1, k - 1, positive=positive)
    refusals.number(above=-1 / (k - 1), below=1, cosine=cosine)
    refusals.number(least=0, noise=noise)
    refusals.device(device=device)
    lengths = _lengths(dim**0.5 if norms is None else norms, k)
    means = _means(lengths, cosine, dim, seed if rotation_seed is None else rotation_seed)
    generator = seeds.generator(seed, "points")
    cluster = torch.randint(k, (n,), generator=generator)
    x = means[cluster] + noise * torch.randn(n, dim, generator=generator)
    signs = torch.where(torch.arange(k) < positive, 1, -1)
    y = (signs[cluster] + 1) // 2
    return Clusters(*(part.to(device) for part in (x, y, cluster, means, signs)))


def _lengths(norms: float | Sequence[float], k: int) -> Tensor:
    refusals.numbers(above=0, most=1e30, norms=norms)
    if isinstance(norms, tuple | list) and len(norms) != k:
        raise ValueError(
            f"norms must be one number or one for each of the k = {k} clusters, not {len(norms)}."
        )
    return torch.tensor(norms, dtype=torch.float64).expand(k)


def _means(lengths: Tensor, cosine: float, dim: int, seed: int) -> Tensor:
    """Means (k, dim) of these lengths (k,), the same angle between every two, in random directions."""
    k = len(lengths)
    generator = seeds.generator(seed, "rotation")
    frame, r = torch.linalg.qr(torch.randn(dim, k, generator=generator, dtype=torch.float64))
    frame = frame * r.diagonal().sign()
    gram = torch.full((k, k), float(cosine), dtype=torch.float64).fill_diagonal_(1)
    return (lengths[:, None] * torch.linalg.cholesky(gram) @ frame.T).float()
