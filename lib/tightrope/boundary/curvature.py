"""How a decision boundary bends around its points: its height over the tangent plane, and what a sphere would do.

*Neighborhoods of adversarial examples* names skewness (sections 34 and 38) without defining it, and asks whether a
skewed corner recreates its picture of persistence (sections 32 and 37). Here it is the mean angle under which the
boundary rises from its tangent plane.

    on = anatomy.between(net, x, other)
    h = curvature.heights(net, on, 1.0)              # (N, 32), at distance 1 from each point
    curvature.skewness(h, 1.0)                       # (N,) radians; > 0: what lies behind is the corner
    curvature.sphere_persistence(-far, curvature.sphere_radius(h, 1.0), dim=784)   # far: (N,)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.special import ndtr
from scipy.stats import chi2
from torch import Tensor

from tightrope import refusals, seeds
from tightrope.boundary import anatomy, line_scan, search
from tightrope.boundary.boxes import wide
from tightrope.boundary.chunks import chunk_rows
from tightrope.models.measured import measured

__all__ = ["heights", "skewness", "sphere_persistence", "sphere_radius"]

Model = Callable[[Tensor], Tensor]

NODES = 200  # of the integral over the noise across the axis
SIGMAS = np.geomspace(1e-3, 1e4, 1_401)  # where stability is looked at first, in distances from the boundary


def heights(
    model: Model,
    on: anatomy.OnBoundary,
    radius: float,
    *,
    directions: int = 32,
    reach: float = 1.0,
    step: float = 1 / 16,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """How high the boundary stands over its tangent plane at distance `radius` from each of its points: (N, M).

    From each of N points M = `directions` steps of length `radius` lead to random places of the tangent plane. Through
    each of these goes the normal, and on it lies the boundary of the label before: on the side of the label after if
    the place still has the label before (positive), else on the other (negative). It is looked for up to `reach`
    radii away, `step` radii at a time; one that is farther is given as that far. What the other labels are does not
    matter. NaN for a point that was not found, or where there is no normal.
    """
    refusals.number(above=0, radius=radius, reach=reach, step=step)
    refusals.whole(1, directions=directions)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    normal = anatomy.normals(model, on, chunk=chunk)
    found = torch.full((len(on.images), directions), math.nan, dtype=on.images.dtype, device=on.images.device)
    usable = on.found & (normal.flatten(1).norm(dim=1) > 0)
    draw = seeds.generator(seed, "tangent steps")
    ways = torch.randn(len(on.images), directions, *on.images.shape[1:], generator=draw).to(on.images)
    with measured(model, on.images, chunk=chunk, of="logits") as (net, points), torch.no_grad():
        for label in on.before[usable].unique().tolist():
            rows = (usable & (on.before == label)).nonzero()[:, 0]
            n = normal[rows].repeat_interleave(directions, 0)
            way = ways[rows].flatten(0, 1)
            way = search.unit(way - wide((way * n).flatten(1).sum(1), way) * n)[0]
            start = points[rows].repeat_interleave(directions, 0) + radius * way
            two = partial(_against_rest, net, label)
            side = torch.cat([two(part).argmax(1) for part in start.split(chunk or chunk_rows(start))])
            side = 1 - 2 * side.to(start.dtype)  # 1 where the label before still is
            along = radius * wide(side, n) * n
            lines = line_scan.changes(two, start, along, reach=(0.0, reach), step=step, chunk=chunk)
            first = lines.t.amin(1) if lines.t.shape[1] else torch.full_like(side, math.inf)
            found[rows] = (radius * side * first.clamp_max(reach)).reshape(len(rows), directions).to(found)
    return found


def skewness(heights: Tensor, radius: float) -> Tensor:
    """The mean of arctan(height / radius) over the directions of `heights` (N, M): (N,), radians in (−π/2, π/2).

    0 where the boundary is a plane or rises as much as it falls, positive where it bends around what lies behind,
    which is then like a corner, negative where it bends around what lies before.
    """
    refusals.tensor(("N", "M"), heights=heights)
    refusals.number(above=0, radius=radius)
    return (heights / radius).arctan().mean(1)


def sphere_radius(heights: Tensor, radius: float) -> Tensor:
    """The radius (N,) of the sphere that touches the plane and has the mean of `heights` (N, M) at this distance.

    (r² + h²) / 2h of the mean h, with its sign: positive where the ball lies behind. +inf for a plane.
    """
    refusals.tensor(("N", "M"), heights=heights)
    refusals.number(above=0, radius=radius)
    h = heights.mean(1)
    return torch.where(h == 0, math.inf, (radius**2 + h**2) / (2 * h))


def sphere_persistence(d: Tensor, radius: Tensor, *, dim: int, gamma: float = 0.7) -> Tensor:
    """The γ-persistence (D,) of points at distances |d| from spheres in R^dim, definition 4.2; d, radius (D,).

    d > 0 lies behind the boundary, d < 0 before it. A positive radius is a ball behind, a negative one a ball before,
    an infinite one a plane: |d| / Φ⁻¹(γ) for γ > ½. +inf where the class is kept at every σ with probability γ.
    Float64, on the device of d.

    With q ~ χ²(dim − 1), the squared noise across the axis over σ²: P[in the ball] = E Φ(u) − Φ(l), where σu and σl
    lead from the point along the axis to where the ball ends, at squared distance σ²q from it. The integral over q is
    taken at 200 of its quantiles. Raises ValueError for a ball that is smaller than its point is deep.
    """
    refusals.tensor(("D",), finite=True, d=d)
    refusals.tensor(tuple(d.shape), radius=radius)
    refusals.whole(2, dim=dim)
    refusals.number(above=0, below=1, gamma=gamma)
    if (radius == 0).any() or radius.isnan().any():
        raise ValueError("radius must not be 0 or NaN: a ball before the boundary has a negative one.")
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    q, w = chi2.ppf((nodes + 1) / 2, dim - 1), weights / 2
    found = [_first_below(one, r, q, w, gamma) for one, r in zip(d.tolist(), radius.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64, device=d.device)


def _against_rest(net: Model, label: int, x: Tensor) -> Tensor:
    """Two logits (N, 2): of one label, and the largest of the others."""
    logits = net(x).clone()
    own = logits[:, label].clone()
    logits[:, label] = -math.inf
    return torch.stack([own, logits.amax(1)], 1)


def _first_below(d: float, radius: float, q: np.ndarray, w: np.ndarray, gamma: float) -> float:
    """The first σ at which the class of a point at distance |d| is kept with probability gamma and not beyond."""
    if d == 0:
        return 0.0
    size, inside = abs(radius) / abs(d), (d > 0) == (radius > 0)
    if inside and size < 1:
        raise ValueError(f"A ball of radius {abs(radius):g} has no point {abs(d):g} from its surface inside.")

    def kept(sigma: np.ndarray) -> np.ndarray:
        """P[the class is kept], for distance 1."""
        s = np.atleast_1d(sigma)[:, None]
        if math.isinf(size):
            return ndtr(1 / s[:, 0])
        half = np.sqrt(np.maximum(size**2 - s**2 * q, 0))
        sunk = s * q / (size + half)  # (size − half) / σ, without the difference
        at = 1 / s if inside else -1 / s
        share = ndtr(at - sunk) - ndtr(at - sunk - 2 * half / s)
        share = np.where(s**2 * q < size**2, share, 0.0) @ w
        return share if inside else 1 - share

    below = np.flatnonzero(kept(SIGMAS) < gamma)
    if not len(below):
        return math.inf
    low, high = (SIGMAS[below[0] - 1] if below[0] else 0.0), SIGMAS[below[0]]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle)[0] >= gamma else (low, middle)
    return abs(d) * (low + high) / 2
