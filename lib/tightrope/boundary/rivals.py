"""Which classes are near: of few, exactly; of many, by how much their logits move in random directions.

The linearised distance of class k in S is |f_k − f_0| / ‖P_S ∇(f_k − f_0)‖. A gradient a class is a backward pass a
class. But a random unit vector z of S with d dimensions meets every gradient at once, in one forward pass, and d
times the mean of (∇(f_k − f_0) · z)² is the squared length that is asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import seeds
from tightrope.boundary.crossing import Model
from tightrope.inputs.subspaces import Subspace

DRAWS, ROUNDS = 8, 4
NEAR = 0.1  # how far the random points lie, in lengths: near enough for a network to be straight, far for rounding


def slack(x: Tensor) -> float:
    """Lengths, scores and logits that differ by less, relatively, are equal: the first of them wins, not rounding."""
    return 1e-6 if x.dtype == torch.float32 else 1e-11


def nearest(distances: Tensor, classes: Tensor, count: int, equal: float) -> Tensor:
    """Where the `count` smallest of distances (K, R) stand, (count, R): of those that are equal up to `equal`,
    relatively, the lowest class comes first, so that no rounding chooses."""
    if count == 1:
        near = distances <= distances.amin(0) * (1 + equal)
        return torch.where(near, classes, torch.iinfo(classes.dtype).max).argmin(0, keepdim=True)
    by_class = classes.argsort(dim=0)
    level = (distances.gather(0, by_class).log() / equal).round()
    return by_class.gather(0, level.sort(dim=0, stable=True).indices[:count])


def reach(draws: Tensor) -> Tensor:
    """How many times nearer than it looks a class may be after so many draws, at three standard deviations: the root of
    one over the lower quantile of χ² over its degrees of freedom (Wilson and Hilferty 1931)."""
    variance = 2 / (9 * draws)
    return (1 - variance - 3 * variance.sqrt()) ** -1.5


@torch.no_grad()
def seeming_distances(
    net: Model, x: Tensor, logits: Tensor, origin: Tensor, space: Subspace, length: Tensor, skip: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimated distances (R, L) of every class from x (R, *shape) in S, and how many draws (R,) they rest on.

    logits (R, L) at x, length (R,): what an estimate is compared with: a row none of whose classes may be nearer gets
    no further draws. `skip` (R, S): classes that are known, which get +inf.
    """
    square, draws = torch.zeros_like(logits), torch.zeros_like(origin)
    gaps = (logits - logits.gather(1, origin[:, None])).abs()
    distances = torch.full_like(logits, math.inf)
    generator = seeds.generator(0, "rivals", x.device)
    rows = torch.arange(len(x), device=x.device)
    for turn in range(1, ROUNDS + 1):
        z = torch.randn(DRAWS, space.dim, generator=generator, dtype=x.dtype, device=x.device)
        z = space.lift(z / z.norm(dim=1, keepdim=True))
        far = NEAR * length[rows]
        for direction in z:
            moved = net(x[rows] + far.reshape(-1, *[1] * (x.ndim - 1)) * direction) - logits[rows]
            moved = (moved - moved.gather(1, origin[rows, None])) / far[:, None]
            square[rows] += moved.square()
        draws[rows] += DRAWS
        slope = (square[rows] * (space.dim / (turn * DRAWS))).sqrt()
        seem = torch.where(slope > 0, gaps[rows] / slope, math.inf).scatter(1, skip[rows], math.inf)
        distances[rows] = seem
        rows = rows[seem.amin(1) < reach(draws[rows]) * length[rows]]
        if not len(rows):
            break
    return distances, draws
