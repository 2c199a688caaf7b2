"""Voronoi and Delaunay partitions of labelled points as classifiers whose boundary is known exactly.

*Neighborhoods of adversarial examples*, sections 30.1 and 30.3: the class of the nearest point, whose boundary is made
of faces of Voronoi cells, and definition 30.5's class weights, barycentric in the Delaunay triangulation.

    v = partitions.voronoi(points, labels)           # points (N, D), labels (N,)
    pairs = partitions.edges(points)                 # (E, 2): the Delaunay edges
    p = partitions.passages(v, pairs)                # which faces the segments cross, where, at what angle
    d = partitions.delaunay(points, labels)
    d(x), d.longest                                  # class weights (R, C), the longest edge ε
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial import Delaunay as Triangulation
from torch import Tensor

from tightrope import refusals

__all__ = ["Delaunay", "Passages", "Voronoi", "delaunay", "edges", "passages", "voronoi"]

DIMENSIONS = 8  # a triangulation's simplices grow like N^(D/2): 300 points in 6 dimensions take seconds
NUMBERS = 2**22  # distances at once
EQUAL = 1e-12  # of the points' extent: nearer than this two of them are one


@dataclass(frozen=True)
class Voronoi:
    """The class of the nearest point: called with x (R, D), logits (R, C), −‖x − p‖²/2 for each class's nearest p.

    So the difference of two logits is affine in x while their two points stay the nearest, and DeepFool exact.
    points (N, D), labels (N,) from 0 to `classes` − 1, each of which has a point.
    """

    points: Tensor
    labels: Tensor
    classes: int

    def __call__(self, x: Tensor) -> Tensor:
        refusals.tensor(("R", self.points.shape[1]), like=self.points, x=x)
        return torch.cat([self._logits(part) for part in _blocks(x, self.points)])

    def nearest(self, x: Tensor) -> Tensor:
        """Which of the points is nearest to each of x (R, D): (R,), of those equally near the first."""
        refusals.tensor(("R", self.points.shape[1]), like=self.points, x=x)
        return torch.cat([_distances(part, self.points).argmin(1) for part in _blocks(x, self.points)])

    def _logits(self, x: Tensor) -> Tensor:
        far = _distances(x, self.points)
        # `min` and not `amin`: where two points tie, the gradient is that of one.
        near = torch.stack([far[:, self.labels == c].min(1).values for c in range(self.classes)], 1)
        return -(near**2) / 2


@dataclass(frozen=True)
class Delaunay:
    """Definition 30.5's weights as a classifier: called with x (R, D), the class weights (R, C), which sum to 1.

    The weight of a class is the sum of x's barycentric coordinates over the vertices of that class in the simplex that
    holds x: piecewise linear, 1 at a point of the class. Outside the points' hull, where the source has none, x has the
    weights of the hull's nearest point. No gradient passes.

    points, labels, classes   as of `Voronoi`
    longest                   ε, the length of the longest edge
    """

    points: Tensor
    labels: Tensor
    classes: int
    longest: float
    _simplices: Triangulation = field(repr=False, compare=False)
    _hull: ConvexHull = field(repr=False, compare=False)

    def __call__(self, x: Tensor) -> Tensor:
        refusals.tensor(("R", self.points.shape[1]), finite=True, like=self.points, x=x)
        at = x.detach().double().cpu().numpy()
        simplex = self._simplices.find_simplex(at)
        weights = np.zeros((len(at), self.classes))
        inside = simplex >= 0
        turn = self._simplices.transform[simplex[inside]]
        first = np.einsum("rij,rj->ri", turn[:, :-1], at[inside] - turn[:, -1])
        shares = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
        self._add(weights, np.flatnonzero(inside), self._simplices.simplices[simplex[inside]], shares)
        self._add(weights, *self._on_hull(at, np.flatnonzero(~inside)))
        return torch.from_numpy(weights).to(x)

    def _add(self, weights: np.ndarray, rows: np.ndarray, vertices: np.ndarray, shares: np.ndarray) -> None:
        labels = self.labels.cpu().numpy()[vertices]
        np.add.at(weights, (rows[:, None], labels), shares)

    def _on_hull(self, x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The hull's nearest point to each of x[rows], outside of it: (rows, its facet's vertices, coordinates there).

        It lies on a facet that x is in front of, and no nearer than the plane of any of these.
        """
        hull, vertices, shares = self._hull, [], []
        for row in rows:
            far = hull.equations[:, :-1] @ x[row] + hull.equations[:, -1]
            best, found = math.inf, (hull.simplices[far.argmax()], None)
            for k in np.argsort(-far)[: max(1, int((far > 0).sum()))]:
                corners = hull.points[hull.simplices[k]] - x[row]
                share = _least(corners)
                length = np.linalg.norm(share @ corners)
                if length < best:
                    best, found = length, (hull.simplices[k], share)
                if best <= far.max() * (1 + 1e-12):
                    break
            vertices.append(found[0])
            shares.append(found[1])
        width = x.shape[1]
        return rows, np.array(vertices, dtype=int).reshape(-1, width), np.array(shares).reshape(-1, width)


@dataclass(frozen=True)
class Passages:
    """The faces between Voronoi cells of different classes that E segments cross, in order, padded: (E, K) each.

    t       where, as a share of the segment; +inf where there is none
    face    (E, K, 2) the two points that the face is equally far from, of the class before and the one after
    angle   between the segment and the face's normal, in radians, 0 for an orthogonal crossing: definition 30.1's
            angle of incidence, π/2 less the angle between the segment and its projection onto the face
    mask    False where there is none
    own     (E,) whether the segment meets the face that its own two points share, and no other: it then crosses it
            at half of its length, orthogonally
    """

    t: Tensor
    face: Tensor
    angle: Tensor
    mask: Tensor
    own: Tensor


def voronoi(points: Tensor, labels: Tensor) -> Voronoi:
    """The classifier of the nearest of `points` (N, D), real, with `labels` (N,), int64.

    Raises ValueError for two points in one place and a class between 0 and the largest label without a point.
    """
    return Voronoi(*_checked(points, labels))


def delaunay(points: Tensor, labels: Tensor) -> Delaunay:
    """The Delaunay classifier of `points` (N, D), 2 ≤ D ≤ 8, with `labels` (N,), see `Delaunay`.

    Raises ValueError as `voronoi` does and `edges` does.
    """
    points, labels, classes = _checked(points, labels)
    simplices = _triangulated(points)
    one, other = _pairs(simplices).T
    longest = np.linalg.norm(simplices.points[one] - simplices.points[other], axis=1).max()
    return Delaunay(points, labels, classes, float(longest), simplices, ConvexHull(simplices.points))


def edges(points: Tensor) -> Tensor:
    """The Delaunay edges of `points` (N, D): (E, 2), int64, the smaller index first, on the device of the points.

    Raises ValueError where there is no triangulation: in more than 8 dimensions or in one, for fewer than D + 1 points,
    for points in one place, and for points in one hyperplane.
    """
    refusals.tensor(("N", "D"), finite=True, points=points)
    _apart(points)
    return torch.from_numpy(_pairs(_triangulated(points))).to(points.device)


def passages(partition: Voronoi, pairs: Tensor) -> Passages:
    """Where the segments between pairs (E, 2) of a partition's points cross its decision boundary.

    On a segment x + t u the squared distance to a point p is a line in t plus what all points share, so the nearest
    point changes where the lowest of N lines does; that lower envelope is followed from x to its end. Exact but for
    rounding, in float64; the tables of a segment and all points are made in bounded blocks.
    """
    refusals.instance(Voronoi, partition=partition)
    refusals.tensor(("E", 2), kind="int64", like=partition.points, pairs=pairs)
    if not ((pairs >= 0) & (pairs < len(partition.points))).all():
        raise ValueError(f"pairs must hold rows of the points, from 0 to {len(partition.points) - 1}.")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("pairs must be of two points: one names the same point twice.")
    parts = [_crossed(partition, part) for part in _blocks(pairs, partition.points)]
    widest = max(part[0].shape[1] for part in parts)
    t, face, angle = (
        torch.cat([_padded(part[k], widest, fill) for part in parts])
        for k, fill in ((0, math.inf), (1, -1), (2, 0.0))
    )
    mask = t.isfinite()
    own = (mask.sum(1) == 1) & (face[:, 0] == pairs).all(1)
    return Passages(t, face, angle, mask, own)


def _crossed(partition: Voronoi, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    points, labels = partition.points.double(), partition.labels
    start = points[pairs[:, 0]]
    u = points[pairs[:, 1]] - start
    # |x + t u − p|² = t²|u|² + level + t slope
    level = _distances(start, points) ** 2
    slope = 2 * (start * u).sum(1, keepdim=True) - 2 * u @ points.T
    at, t = pairs[:, 0].clone(), torch.zeros(len(pairs), dtype=points.dtype, device=points.device)
    rows, steps = torch.arange(len(pairs), device=points.device), []
    while len(rows):
        mine = level[rows], slope[rows]
        own = [table.gather(1, at[rows, None]) for table in mine]
        steeper = own[1] - mine[1]
        meets = torch.where(steeper > 0, (mine[0] - own[0]) / steeper, math.inf).clamp_min(t[rows, None])
        first = meets.min(1, keepdim=True).values
        # Of those that meet at once, the one that is lowest after: with the steepest fall.
        last = torch.where(meets <= first + EQUAL, mine[1], math.inf).argmin(1)
        on = first[:, 0] < 1
        rows, last, first = rows[on], last[on], first[on, 0]
        if not len(rows):
            break
        steps.append((rows, first, torch.stack([at[rows], last], 1)))
        at[rows], t[rows] = last, first
        rows = rows[last != pairs[rows, 1]]
    row, t, face = (torch.cat([step[k] for step in steps]) for k in range(3))
    crosses = labels[face[:, 0]] != labels[face[:, 1]]
    row, t, face = row[crosses], t[crosses], face[crosses]
    order = row.argsort(stable=True)
    row, t, face = row[order], t[order], face[order]
    normal = points[face[:, 1]] - points[face[:, 0]]
    along = u[row]
    across = (normal * along).sum(1, keepdim=True) / along.square().sum(1, keepdim=True) * along
    angle = torch.atan2((normal - across).norm(dim=1), across.norm(dim=1))
    counts = torch.bincount(row, minlength=len(pairs))
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    shape = len(pairs), max(1, int(counts.max()))
    tables = t.new_full(shape, math.inf), face.new_full((*shape, 2), -1), t.new_zeros(shape)
    for table, values in zip(tables, (t, face, angle), strict=True):
        table[row, column] = values
    return tables


def _padded(table: Tensor, width: int, fill: float) -> Tensor:
    whole = table.new_full((len(table), width, *table.shape[2:]), fill)
    whole[:, : table.shape[1]] = table
    return whole


def _blocks(rows: Tensor, points: Tensor) -> tuple[Tensor, ...]:
    """Rows of which a table with all points is small enough."""
    return rows.split(max(1, NUMBERS // len(points)))


def _distances(x: Tensor, points: Tensor) -> Tensor:
    """(R, N), by differences: the formula of squares loses what is near."""
    return torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist")


def _least(corners: np.ndarray) -> np.ndarray:
    """Barycentric coordinates of the point of a simplex nearest to the origin, of its `corners` (K, D).

    min ‖Σ s_k c_k‖² + (Σ s_k − 1)² over s ≥ 0: for s = r μ with Σ μ = 1 the best r leaves n / (1 + n), n = ‖Σ μ_k c_k‖²
    (Lawson and Hanson 1974, chapter 23).
    """
    size = np.abs(corners).max()
    shares = nnls(
        np.vstack([corners.T / size, np.ones(len(corners))]), np.append(np.zeros(corners.shape[1]), 1.0)
    )[0]
    return shares / shares.sum()


def _checked(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    refusals.tensor(("N", "D"), finite=True, points=points)
    refusals.labels(points, labels=labels)
    _apart(points)
    counts = torch.bincount(labels) if (labels >= 0).all() else None
    if counts is None or not counts.all() or len(counts) < 2:
        raise ValueError(
            "labels must be of two classes at least, from 0 on, and each of them must have a point."
        )
    return points, labels, len(counts)


def _apart(points: Tensor) -> None:
    """Two points in one place have no boundary between them."""
    at = points.detach().double()
    extent = (at - at.mean(0)).norm(dim=1).max().clamp_min(1e-300)
    different = len(torch.unique((at / extent / EQUAL).round(), dim=0))
    if different < len(points):
        raise ValueError(f"points must differ: {len(points) - different} of them are where another one is.")


def _triangulated(points: Tensor) -> Triangulation:
    n, dim = points.shape
    if not 2 <= dim <= DIMENSIONS:
        raise ValueError(f"points must have 2 to {DIMENSIONS} dimensions to be triangulated here, not {dim}.")
    if n < dim + 1:
        raise ValueError(
            f"points must be {dim + 1} at least to be triangulated in {dim} dimensions, not {n}."
        )
    try:
        return Triangulation(points.detach().double().cpu().numpy())
    except QhullError as error:
        raise ValueError(
            f"points must span their {dim} dimensions to be triangulated, and these lie in one hyperplane."
        ) from error


def _pairs(simplices: Triangulation) -> np.ndarray:
    """(E, 2), each edge once, the smaller index first."""
    corners = np.sort(simplices.simplices, axis=1)
    both = [corners[:, [a, b]] for a, b in combinations(range(corners.shape[1]), 2)]
    return np.unique(np.concatenate(both), axis=0).astype(np.int64)
