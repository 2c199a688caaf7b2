"""Linear classifiers on low-rank features: the margin cross-entropy ends with, and the one there could be.

*Cross-entropy loss and low-rank features*, theorem 1, corollary 1, lemma 1 and section 3. Points x (I, D) and
y (J, D) are the two classes; everything is computed in float64 on the CPU, whatever comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from tightrope import refusals

__all__ = [
    "FeatureRank",
    "Hyperplane",
    "affine_offsets",
    "corollary1",
    "cross_entropy_limit",
    "diameters",
    "feature_rank",
    "hyperplane",
    "max_margin",
    "theorem1",
]

BLOCK = 2**22  # distances computed at once


@dataclass(frozen=True)
class Hyperplane:
    """⟨w, ·⟩ + b = 0 with x on its positive side; `margin` is the signed distance of the nearest point.

    w (D,), b (), margin () in float64, in the theorem's scaling: min ⟨w, x_i − y_j⟩ = 2.
    """

    w: Tensor
    b: Tensor
    margin: Tensor


def hyperplane(w: Tensor, b: Tensor | float, x: Tensor, y: Tensor) -> Hyperplane:
    """The boundary ⟨w, ·⟩ + b = 0, scaled so that min ⟨w, x_i − y_j⟩ = 2 as in theorem 1, and its margin.

    The margin is negative where a point lies on the wrong side. Raises ValueError for a w whose scores overlap:
    it separates nothing, with whatever bias.
    """
    x, y = _points(x, y)
    refusals.tensor(finite=True, w=w)
    w = w.detach().double().cpu().reshape(-1)
    refusals.tensor((x.shape[1],), w=w)
    b = torch.tensor(_number(b=b), dtype=torch.float64)
    a, c = x @ w, y @ w
    gap = a.min() - c.max()
    if not gap > 0:
        raise ValueError("This w puts no gap between the two classes, so it cannot be scaled to one of 2.")
    margin = torch.minimum(a.min() + b, -(c.max() + b)) / w.norm()
    return Hyperplane(2 * w / gap, 2 * b / gap, margin)


def max_margin(x: Tensor, y: Tensor) -> Hyperplane:
    """The hard-margin SVM, (10): min ‖w‖ subject to ⟨w, x_i − y_j⟩ ≥ 2, with the bias of (5).

    Exact to rounding. Differences enter one at a time, each the most violated of all |I|·|J|, so no pair but those
    few is formed. Raises ValueError where the classes cannot be separated.
    """
    x, y = _points(x, y)

    def worst(w: Tensor) -> tuple[Tensor, float]:
        a, c = x @ w, y @ w
        return x[a.argmin()] - y[c.argmax()], float(a.min() - c.max())

    w = 2 * _least_norm(worst, x.mean(0) - y.mean(0))
    a, c = x @ w, y @ w
    return hyperplane(w, -(a.min() + c.max()) / 2, x, y)


def cross_entropy_limit(x: Tensor, y: Tensor) -> Hyperplane:
    """Where gradient descent on cross-entropy ends (lemma 1): the SVM through the origin of [x; 1], (9).

    Minimises ‖w‖² + b², so that the bias costs as much as a weight. The second constraint of (9) is read as ≤ −1:
    with the printed ≤ 1 its solution need not separate anything.
    """
    x, y = _points(x, y)
    rows = torch.cat([_augmented(x), -_augmented(y)])

    def worst(z: Tensor) -> tuple[Tensor, float]:
        values = rows @ z
        return rows[values.argmin()], float(values.min())

    z = _least_norm(worst, rows.mean(0))
    return hyperplane(z[:-1], z[-1], x, y)


def _augmented(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones_like(points[:, :1])], 1)


def _least_norm(worst: Callable[[Tensor], tuple[Tensor, float]], start: Tensor) -> Tensor:
    """min ‖w‖ subject to ⟨w, g⟩ ≥ 1 for every row g that `worst(w)` can name: (the most violated row, its ⟨w, g⟩).

    Rows are added while one is violated; with those at hand it is the least-distance problem of Lawson and Hanson
    (1974, chapter 23), solved exactly by non-negative least squares.
    """
    rows = [worst(start)[0]]
    while True:
        g = torch.stack(rows).numpy()
        scale = np.linalg.norm(g, axis=1).max()
        if not scale > 0:
            raise ValueError(_TOGETHER)
        system = np.vstack([g.T / scale, np.ones(len(g))])
        target = np.zeros(len(system))
        target[-1] = 1
        rest = system @ nnls(system, target, maxiter=50 * len(g) + 500)[0] - target
        if rest @ rest < 1e-13:  # a margin under 3e-7 of the points' size is rounding
            raise ValueError(_TOGETHER)
        w = torch.from_numpy(-rest[:-1] / rest[-1] / scale)
        row, value = worst(w)
        # A row that is in already can only be violated by rounding.
        if value >= 1 - 1e-12 or any(torch.equal(row, old) for old in rows):
            return w / value
        rows.append(row)


def affine_offsets(x: Tensor, y: Tensor, rtol: float = 1e-9) -> tuple[Tensor, Tensor]:
    """r (K, D) orthonormal and Δ (K,) with ⟨r_k, ·⟩ = Δ_k on every point: the affine subspace they lie in.

    Directions that vary by less than `rtol` of the largest one count as constant. ‖Δ‖ is the subspace's distance
    from the origin. K is 0 where the points span everything.
    """
    x, y = _points(x, y)
    refusals.number(least=0, below=1, rtol=rtol)
    points = torch.cat([x, y])
    centre = points.mean(0)
    triangle = torch.linalg.qr(points - centre, mode="r").R  # of the points' own SVD u would be (I + J)²
    _, s, v = torch.linalg.svd(triangle, full_matrices=True)
    used = int((s > rtol * s[0]).sum())
    r = v[used:]
    return r, r @ centre


def theorem1(plane: Hyperplane, gamma: Tensor | float, deltas: Tensor) -> float:
    """Theorem 1's bound, 1 / √(1/γ² + B² Σ Δ_k²), with B the bias of `plane` and γ the SVM's margin."""
    refusals.instance(Hyperplane, plane=plane)
    gamma = _number(gamma=gamma)
    refusals.number(above=0, gamma=gamma)
    refusals.tensor(("K",), finite=True, empty=True, deltas=deltas)
    return float((gamma**-2 + (plane.b * deltas.double()).square().sum()) ** -0.5)


def corollary1(plane: Hyperplane, deltas: Tensor, *, printed: bool = False) -> float:
    """Corollary 1's bound, 1 / √(Σ max(B Δ_k, 0)²); +inf where no B Δ_k is positive.

    The proof has ⟨w, r_k⟩ ≥ B Δ_k and squares it, which needs B Δ_k ≥ 0. `printed`: with every k, as printed; that
    is no bound.
    """
    refusals.instance(Hyperplane, plane=plane)
    refusals.tensor(("K",), finite=True, empty=True, deltas=deltas)
    refusals.truth(printed=printed)
    terms = plane.b * deltas.double()
    total = float((terms if printed else terms.clamp_min(0)).square().sum())
    return total**-0.5 if total else math.inf


def diameters(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Theorem 3's R_x and R_y, the diameters: the largest distance between two points of each class."""
    return tuple(
        max(float(torch.cdist(rows, points).max()) for rows in points.split(max(1, BLOCK // len(points))))
        for points in _points(x, y)
    )


@dataclass(frozen=True)
class FeatureRank:
    """How many dimensions a set of features has.

    singular   (K,) singular values of the features as they are, falling: proposition 1 is about these
    rank       how many of them exceed `rtol` times the first
    explained  (K,) cumulative share of the variance about the mean in the first principal components (figure 2)
    effective  exp of the entropy of those shares (Roy and Vetterli 2007): 1 for a line, K for a ball
    """

    singular: Tensor
    rank: int
    explained: Tensor
    effective: float

    def components(self, share: float) -> int:
        """The fewest principal components that explain `share` of the variance."""
        refusals.number(above=0, most=1, share=share)
        return int((self.explained < share - 1e-12).sum()) + 1


def feature_rank(features: Tensor, rtol: float = 1e-6) -> FeatureRank:
    """The rank of features (N, K), three ways. `rtol`: what counts as zero beside the first singular value."""
    refusals.tensor(("N", "K"), finite=True, features=features)
    refusals.number(above=0, below=1, rtol=rtol)
    f = features.detach().double().cpu()
    singular = torch.linalg.svdvals(f)
    variance = torch.linalg.svdvals(f - f.mean(0)).square()
    total = variance.sum()
    share = variance / total if total > 0 else torch.zeros_like(variance).index_fill(0, torch.tensor(0), 1)
    entropy = -torch.special.xlogy(share, share).sum()
    rank = int((singular > rtol * singular[0]).sum())
    return FeatureRank(singular, rank, share.cumsum(0), float(entropy.exp()))


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    refusals.tensor(("I", "D"), finite=True, x=x)
    refusals.tensor(("J", x.shape[1]), finite=True, y=y)
    return x.detach().double().cpu(), y.detach().double().cpu()


def _number(**named: Tensor | float) -> float:
    """A number, also one in a tensor, as Python's."""
    ((name, value),) = named.items()
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type != "meta":
        value = value.item()
    refusals.number(**{name: value})
    return float(value)


_TOGETHER = "The two classes, x and y, cannot be separated by a hyperplane, so there is no margin."
