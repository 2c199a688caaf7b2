"""Gaussian process regression with any kernel matrix (Rasmussen and Williams 2006, algorithm 2.1).

Takes kernel matrices and no kernel, so a path kernel, a tangent kernel or a textbook's serve alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals

__all__ = ["Posterior", "fit"]


@dataclass(frozen=True)
class Posterior:
    """A process conditioned on N targets. `evidence`: log p(y), summed over outputs.

    factor (N, N) lower Cholesky factor of K + noise I, alpha (N, K), scale: what the kernel was multiplied with.
    """

    factor: Tensor
    alpha: Tensor
    scale: float
    noise: float
    evidence: float

    def mean(self, cross: Tensor) -> Tensor:
        """Posterior mean (Q, K) from the kernel between queries and training points (Q, N)."""
        refusals.tensor(("Q", len(self.alpha)), finite=True, cross=cross)
        return self.scale * cross.to(self.alpha) @ self.alpha

    def variance(self, cross: Tensor, diagonal: Tensor) -> Tensor:
        """Posterior variance of the noise-free function (Q,), from `cross` (Q, N) and k(x, x) (Q,)."""
        refusals.tensor(("Q", len(self.alpha)), finite=True, cross=cross)
        refusals.tensor((len(cross),), finite=True, diagonal=diagonal)
        cross, diagonal = cross.to(self.factor), diagonal.to(self.factor)
        v = torch.linalg.solve_triangular(self.factor, self.scale * cross.T, upper=False)
        return (self.scale * diagonal - v.square().sum(0)).clamp_min(0)


def fit(
    kernel: Tensor,
    y: Tensor,
    noise: float | Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    scale: float | None = None,
) -> Posterior:
    """Condition on y (N,) or (N, K) with the kernel matrix (N, N) of the training points, float64.

    `noise` is the variance of the noise relative to the kernel's mean diagonal; of several the one with the
    largest evidence is taken. `scale` multiplies the kernel (and so the noise); None: the value of largest
    evidence, which has a closed form. Raises ValueError for a matrix that is no kernel's.
    """
    refusals.tensor(("N", "N"), finite=True, kernel=kernel)
    refusals.instance(Tensor, y=y)
    refusals.tensor((len(kernel), *("K" * (y.ndim == 2))), finite=True, y=y)
    refusals.numbers(above=0, noise=noise)
    refusals.number(above=0, **refusals.given(scale=scale))
    kernel, y = kernel.double(), y.double().reshape(len(y), -1)
    if (kernel - kernel.T).abs().max() > 1e-6 * kernel.abs().max():
        raise ValueError("A covariance is symmetric and this matrix is not: take the symmetric kernel.")
    choices = noise if isinstance(noise, tuple | list) else [noise]
    return max((_condition(kernel, y, n, scale) for n in choices), key=lambda p: p.evidence)


def _condition(kernel: Tensor, y: Tensor, noise: float, scale: float | None) -> Posterior:
    n, outputs = y.shape
    level = noise * kernel.diagonal().mean().item()
    eye = torch.eye(n, dtype=kernel.dtype, device=kernel.device)
    factor, failed = torch.linalg.cholesky_ex(kernel + level * eye)
    if failed:
        raise ValueError(
            f"This matrix plus noise {noise:g} of its mean diagonal is not positive definite: no kernel's."
        )
    alpha = torch.cholesky_solve(y, factor)
    fitted = (y * alpha).sum().item()
    if scale is None:
        scale = max(fitted / (n * outputs), torch.finfo(kernel.dtype).tiny)
    factor = factor * math.sqrt(scale)
    log_det = 2 * factor.diagonal().log().sum().item()
    evidence = -fitted / scale / 2 - outputs * (log_det + n * math.log(2 * math.pi)) / 2
    return Posterior(factor, alpha / scale, scale, level * scale, evidence)
