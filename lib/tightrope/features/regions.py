"""The exact distance at which a two-layer ReLU network decides otherwise, by its linear regions.

On the region of one activation pattern p ∈ {0, 1}^R the network is affine. What it decides otherwise there is, for each
rival output j, a polyhedron: s_r (t_r + ⟨v_r, y⟩) ≥ 0 for all r, s = 2p − 1, and f_j ≥ f_i for all own outputs i. The
distance of a polyhedron G y ≥ h is the least-distance problem of Lawson and Hanson (1974, chapter 23). Any u ≥ 0 bounds
it from below by ⟨u, h⟩ / ‖Gᵀu‖: bad ones are cheap and leave few of the 2^R regions to solve, and the solver's own make
the result a certificate, whatever the solver's rounding was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

SWEEPS = 3  # of the cheap bounds
PAIRS = 2**22  # numbers in a temporary array
NOTHING = 1e-12  # ‖Gᵀu‖ / Σu below which the constraints contradict each other
LARGER = 1e-11  # of the farthest constraint's distance
ROUNDING = 1e-13  # of what is summed: the error of a sum in float64


@dataclass(frozen=True)
class Case:
    """The polyhedra of one rival of one group of outputs: P patterns, m constraints of length one or zero in R^K.

    q (P, O, R), b (O,): f_j − f_i is q (t + v y) + b on a region, and size (P, O) the length of its gradient;
    sign (P, R): s; g (P, m, K): G, the O rows of f_j ≥ f_i first.
    """

    q: np.ndarray
    b: np.ndarray
    size: np.ndarray
    sign: np.ndarray
    g: np.ndarray

    @classmethod
    def of(cls, v: np.ndarray, a: np.ndarray, b: np.ndarray, own: np.ndarray, j: int) -> Case:
        count = len(v)
        on = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        q = (a[j] - a[own]) * on[:, None, :]
        g = q @ v
        size = np.linalg.norm(g, axis=2)
        size = np.where(size > ROUNDING * np.abs(q).sum(2), size, 0)
        g = np.divide(g, size[..., None], out=np.zeros_like(g), where=size[..., None] > 0)
        sign = 2 * on - 1
        g = np.concatenate([g, sign[..., None] * v], 1)
        return cls(q, b[j] - b[own], size, sign, g)

    def levels(self, t: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """h (N, P, m) of points at distances t (N, R), and what rounding may have added to it; slack (N, R) is t's."""
        h = -np.einsum("por,nr->npo", self.q, t) - self.b
        error = np.einsum("por,nr->npo", np.abs(self.q), slack) + ROUNDING * np.abs(self.b)
        flat = self.size == 0
        by = np.where(flat, 1, self.size)
        # Without a slope the rival leads everywhere or nowhere.
        h = np.where(flat, np.where(h > error, np.inf, 0), h / by)
        error = np.where(flat, 0, error / by)
        neurons = np.broadcast_to(slack[:, None], (*h.shape[:2], len(t[0])))
        return np.concatenate([h, -self.sign * t[:, None]], 2), np.concatenate([error, neurons], 2)


def distances(
    v: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    t: np.ndarray,
    slack: np.ndarray,
    mine: np.ndarray,
    found: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds (N,), (N,) that differ by rounding, on the distances of points at t (N, R).

    v (R, K), a (C, R), b (C,): the network in its span; slack (N, R): the rounding of t; mine (N, C): the outputs of
    the group that decides; found (N,): distances at which something else is known to be decided. +inf: nowhere is.
    """
    low, high = np.empty(len(t)), np.empty(len(t))
    live = (a != 0).any(0)
    v, a, t, slack = v[live], a[:, live], t[:, live], slack[:, live]
    groups, which = np.unique(mine, axis=0, return_inverse=True)
    for number, group in enumerate(groups):
        own = np.flatnonzero(group)
        cases = [Case.of(v, a, b, own, j) for j in np.flatnonzero(~group)]
        rows = np.flatnonzero(which.reshape(-1) == number)
        numbers = cases[0].g[..., 0].size
        for part in np.array_split(rows, min(len(rows), 1 + len(rows) * numbers // PAIRS)):
            low[part], high[part] = _part(cases, (v, a, b), group, t[part], slack[part], found[part])
    return low, high


def _part(
    cases: list[Case],
    net: tuple[np.ndarray, np.ndarray, np.ndarray],
    group: np.ndarray,
    t: np.ndarray,
    slack: np.ndarray,
    found: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`distances` of points of one group: cheap bounds for all pairs of a point and a region, then the near ones."""
    near: list[list[tuple]] = [[] for _ in t]
    for case in cases:
        h, error = case.levels(t, slack)
        n, p = np.nonzero(np.maximum((h - error).max(2), 0) < found[:, None])
        for part in np.array_split(np.arange(len(n)), 1 + len(n) * case.g.shape[1] ** 2 // PAIRS):
            rows, patterns = n[part], p[part]
            hs, errors = h[rows, patterns], error[rows, patterns]
            bound = _cheap(case.g[patterns], hs - errors)
            for k in np.flatnonzero(bound < found[rows]):
                near[rows[k]].append((bound[k], case.g[patterns[k]], hs[k], errors[k]))
    low, high = found.copy(), found.copy()
    for k, regions in enumerate(near):
        for bound, g, h, error in sorted(regions, key=lambda region: region[0]):
            if bound >= high[k]:
                break
            least, y = _solve(g, h, error)
            low[k] = min(low[k], max(least, bound))
            if y is not None and np.linalg.norm(y) < high[k] and _decided_otherwise(net, group, t[k], y):
                high[k] = np.linalg.norm(y)
    return np.minimum(low, high), high


def _cheap(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Lower bounds (M,) on the distances of M polyhedra: Hildreth's coordinate ascent on ⟨u, h⟩ − ‖Gᵀu‖²/2, cut short.

    g (M, m, K), of rows of length one or zero; h (M, m).
    """
    gram = g @ g.transpose(0, 2, 1)
    u = np.zeros_like(h)
    single = np.maximum(h.max(1), 0)
    for _ in range(SWEEPS):
        for k in range(h.shape[1]):
            rest = h[:, k] - np.einsum("mk,mk->m", gram[:, k], u)
            u[:, k] = np.where(gram[:, k, k] > 0, np.maximum(u[:, k] + rest, 0), 0)
    square = np.einsum("mk,mkl,ml->m", u, gram, u, optimize=True)
    return np.maximum(single, _dual((u * h).sum(1), np.sqrt(np.maximum(square, 0)), u.sum(1)))


def _solve(g: np.ndarray, h: np.ndarray, error: np.ndarray) -> tuple[float, np.ndarray | None]:
    """A lower bound on a polyhedron's distance that rounding of h by `error` cannot spoil, and its nearest point.

    Where two constraints touch, as at an output that is 0 on a whole region, rounding makes them contradict each other
    and u is worth nothing. So u is that of a polyhedron a little larger, and the point is put on the planes it names.
    """
    scale = np.abs(h).max()
    system = np.vstack([g.T, (h - error) / scale - LARGER])
    target = np.zeros(len(system))
    target[-1] = 1
    u = nnls(system, target, maxiter=50 * len(h) + 500)[0]
    y = g.T @ u
    length = np.linalg.norm(y)
    least = float(_dual(np.array(u @ (h - error)), np.array(length), np.array(u.sum())))
    if not 0 < least < np.inf:
        return least, None
    y *= least / length
    return least, y + np.linalg.lstsq(g[u > 0], (h - g @ y)[u > 0], rcond=1e-10)[0]


def _dual(gain: np.ndarray, length: np.ndarray, total: np.ndarray) -> np.ndarray:
    """⟨u, h⟩ / ‖Gᵀu‖, 0 where u gains nothing, +inf where it is a contradiction."""
    ratio = np.divide(gain, length, out=np.full_like(gain, np.inf), where=length > NOTHING * total)
    return np.where(gain > 0, ratio, 0)


def _decided_otherwise(net: tuple[np.ndarray, ...], group: np.ndarray, t: np.ndarray, y: np.ndarray) -> bool:
    """Whether at y another group's output is the largest, or one of them but for what `LARGER` allowed."""
    v, a, b = net
    outputs = a @ np.maximum(t + v @ y, 0) + b
    scale = np.abs(a) @ (np.abs(t) + np.linalg.norm(y)) + np.abs(b)
    return outputs[~group].max() >= outputs[group].max() - 10 * LARGER * scale.max()
