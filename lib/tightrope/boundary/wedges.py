"""Orthants and wedges as classifiers whose stability and persistence are known exactly.

*Neighborhoods of adversarial examples*, definitions 4.1 and 4.2, proposition 4.3 and its domains W_k^n, with the angles
of definitions 30.7 and 30.8. Only the first k of n coordinates count: over the others an integral is 1.

    w = wedges.orthant(200, 3)                       # or wedges.wedge(200, (0.3, -0.2))
    w(x), w.contains(x), w.sheets(x)                 # logits, class, distances: x (N, 200) on any device
    w.persistence(w.inside(1.0), gamma=0.7)          # .823, in one dimension as in a thousand
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.integrate import quad_vec
from scipy.special import erfcx, log_ndtr, ndtri, ndtri_exp
from torch import Tensor

from tightrope import refusals

__all__ = ["Wedge", "orthant", "proposition43", "wedge"]

FAR = 1e8  # in σ: what lies further away is certain in float64
DROP = 40.0  # an integral ends where the logarithm of its integrand has rise so far
REACH = 1e3  # in σ: what lies further away than this is no part of an integral that float64 tells from 0
NEVER = 1e-12  # 1/σ, times the distance, below which a crossing is taken to be none
NUMBERS = 2**21  # of the integrals computed at once


@dataclass(frozen=True)
class Wedge:
    """x₁ > 0 and x_(i+1) > x₁ tan(angle_i) in R^n: k = len(`angles`) + 1 sheets, angles in (−π/2, π/2).

    A positive angle makes the wedge sharper than an orthant, a negative one blunter: two sheets open to π/2 − angle.
    Called with x (N, n), real, it is a classifier: logits (−m/2, m/2), where m, the least of `sheets(x)`, is inside
    the distance from the boundary, and outside, negative, at most as large. Class 1 is the wedge; its boundary, a set
    of no measure, is class 0.
    """

    n: int
    angles: tuple[float, ...]

    def __post_init__(self) -> None:
        refusals.instance(tuple, angles=self.angles)
        for angle in self.angles:
            refusals.number(above=-math.pi / 2, below=math.pi / 2, **{"every number of angles": angle})
        refusals.whole(self.k, n=self.n)

    @property
    def k(self) -> int:
        """How many sheets bound it."""
        return len(self.angles) + 1

    def __call__(self, x: Tensor) -> Tensor:
        # `min` and not `amin`: where sheets tie, the gradient is the normal of one and not a mean of several.
        m = self.sheets(x).min(1).values
        return torch.stack([-m / 2, m / 2], 1)

    def contains(self, x: Tensor) -> Tensor:
        """Which of x (N, n) lie in the wedge: (N,) bool, its class as a classifier."""
        return self(x).argmax(1) == 1

    def sheets(self, x: Tensor) -> Tensor:
        """Signed distances (N, k) of x (N, n) from the sheets' hyperplanes, positive on the wedge's side.

        In the order of the definition: x₁, then x_(i+1) cos(angle_i) − x₁ sin(angle_i).
        """
        refusals.tensor(("N", self.n), x=x)
        if not any(self.angles):
            return x[:, : self.k]
        cos, sin = _turns(self.angles, x.dtype, x.device)
        return torch.cat([x[:, :1], x[:, 1 : self.k] * cos - x[:, :1] * sin], 1)

    def inside(self, d: float | Sequence[float]) -> Tensor:
        """The point at distance d from every sheet, as proposition 4.3 has it: (1, n), or (D, n) for several d.

        Float64 on the CPU; coordinates beyond the k-th are 0.
        """
        return self._points(d, [1.0] + [(1 + math.sin(a)) / math.cos(a) for a in self.angles])

    def outside(self, d: float | Sequence[float], sheet: int | None = None) -> Tensor:
        """A point outside, at distance d from the wedge: (1, n), or (D, n) for several d.

        Opposite the corner, against the sum of the inward normals (an orthant's −(d, …, d)/√k): of the wedge the
        corner is nearest to it. Given `sheet`, from 0 to k − 1 as in `sheets`, facing that one: `inside(d)` mirrored
        in it, so that where it stood the wedge is nearest. Float64 on the CPU.
        """
        if sheet is None:
            away = -self._normals().sum(0)
            return self._points(d, (away / np.linalg.norm(away)).tolist())
        refusals.whole(0, self.k - 1, sheet=sheet)
        here = self.inside(1.0)[0, : self.k].numpy()
        return self._points(d, (here - 2 * self._normals()[sheet]).tolist())

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the wedge's closure to each of x (N, n): (N, n), x itself where it lies in it.

        Definition 30.10's projection, onto all sheets and not only onto those that x violates, which may lead to a
        point beyond another. Given z₁ ≥ 0 the other coordinates do not see each other: z_i = max(x_i, z₁ tan a_i).
        What is left is the least of (z₁ − x₁)² + Σ_i max(0, z₁ tan a_i − x_i)², convex and piecewise quadratic, so
        that z₁ is found by following its slope over the sorted kinks x_i / tan a_i. Exact but for rounding, in
        float64; the source's (106) to (139), one hyperplane after another, are not.
        """
        refusals.tensor(("N", self.n), finite=True, x=x)
        given = x.detach().double()
        first, rest = given[:, :1], given[:, 1 : self.k]
        cos, sin = _turns(self.angles, torch.float64, x.device)
        tan = sin / cos
        kink = torch.where(tan == 0, math.inf, rest / torch.where(tan == 0, 1.0, tan)).clamp_min(0.0)
        kink, order = kink.sort(dim=1)
        slope, level = tan.expand_as(rest).gather(1, order), rest.gather(1, order)
        # Beyond its kink a sheet pulls if its tangent is positive and no longer if it is negative.
        leaves = (slope < 0) & (kink > 0)
        comes = torch.where(slope > 0, 1.0, torch.where(leaves, -1.0, 0.0))
        pulls = lambda part, at_0: torch.cat([at_0, at_0 + (comes * part).cumsum(1)], 1)
        curvature = pulls(slope**2, 1 + torch.where(leaves, slope**2, 0.0).sum(1, keepdim=True))
        pull = pulls(slope * level, first + torch.where(leaves, slope * level, 0.0).sum(1, keepdim=True))
        ends = torch.cat([kink, torch.full_like(first, math.inf)], 1)
        here = (ends * curvature >= pull).to(torch.int8).argmax(1, keepdim=True)
        z = (pull.gather(1, here) / curvature.gather(1, here)).clamp_min(0.0)
        # Again, from the sheets that pull: the sums above are of differences, which round.
        tight = torch.where(z * tan > rest, tan, 0.0)
        z = (first + (tight * rest).sum(1, keepdim=True)) / (1 + (tight**2).sum(1, keepdim=True))
        z = z.clamp_min(0.0)
        nearest = torch.cat([z, torch.maximum(rest, z * tan), given[:, self.k :]], 1)
        return torch.where((self.sheets(given) >= 0).all(1, keepdim=True), given, nearest).to(x.dtype)

    def to_boundary(self, x: Tensor) -> Tensor:
        """The nearest point of the wedge's boundary to each of x (N, n), (N, n): from inside, of the nearest sheet."""
        near = self.project(x).double()
        sheets = self.sheets(near)
        least, sheet = sheets.min(1, keepdim=True)
        normals = torch.from_numpy(self._normals()).to(x.device)[sheet[:, 0]]
        near[:, : self.k] -= least.clamp_min(0.0) * normals
        return near.to(x.dtype)

    def centreline(self, *, printed: bool = False) -> Tensor:
        """The direction (n,) of definition 30.9's centreline through the apex, with x₁ = 1, float64.

        It has x_i = tan(π/4 + a/2), the bisector of x₁ = 0 and x_i = x₁ tan a. As printed it has tan(a/2), which is
        in the wedge for negative angles, on its boundary for 0 and outside for positive ones.
        """
        refusals.truth(printed=printed)
        turn = 0.0 if printed else math.pi / 4
        return torch.tensor(
            [1.0, *(math.tan(turn + a / 2) for a in self.angles), *[0.0] * (self.n - self.k)],
            dtype=torch.float64,
        )

    def stable(self, x: Tensor, sigma: float | Sequence[float]) -> Tensor:
        """P[C(x') = C(x)] for x' ~ N(x, σ²I), the integral (7): x (N, n) → (N,), or (N, S) for several `sigma`.

        Inside an orthant it is the product of Φ(x_i/σ) over the k sheets, which at distance d from all of them is
        proposition 4.3; outside, 1 less that. A wedge's sheets are independent given x₁', which leaves one integral,
        ∫ φ(z) Π_i Φ((δ_i/σ − z sin a_i) / cos a_i) dz over z > −x₁/σ, with δ = `sheets(x)`: adaptive quadrature
        around its mode, to about 1e-12 of itself. Float64, on the device of x.
        """
        delta = self._distances(x)
        refusals.numbers(above=0, sigma=sigma)
        with np.errstate(over="ignore"):
            scaled = delta[:, None] / np.atleast_1d(np.asarray(sigma, dtype=float))[:, None]
        share = self._log_share(scaled.reshape(-1, self.k)).reshape(scaled.shape[:2])
        within = (delta > 0).all(1, keepdims=True)
        stable = torch.from_numpy(np.where(within, np.exp(share), -np.expm1(share))).to(x.device)
        return stable if isinstance(sigma, Sequence) else stable[:, 0]

    def persistence(self, x: Tensor, gamma: float = 0.7) -> Tensor:
        """The γ-persistence σ* of x (N, n), definition 4.2: the largest σ below which x is always (γ, σ)-stable.

        (N,) float64 on the device of x; +inf where x is stable at every σ, as inside an orthant it is for γ ≤ 2⁻ᵏ and
        opposite its corner for γ ≤ 1 − 2⁻ᵏ; 0 on the boundary, for which the source does not define it. Outside, beside
        a sheet, stability may fall below γ and rise again: σ* is where it first does.

        The logarithm of P[x' in the wedge] is concave in 1/σ (Prékopa: the wedge is convex, the Gaussian log-concave).
        So x is unstable in one interval of σ or none. Secants in 1/σ cannot pass its end if they begin on the other
        side of it: at the persistence of one half-space, that of the sheet with the least signed distance, which
        inside is at least σ*, and outside at most.
        """
        delta = self._distances(x)
        refusals.number(above=0, below=1, gamma=gamma)
        m = delta.min(1)
        sigma, off = np.zeros(len(m)), m != 0
        with np.errstate(over="ignore", divide="ignore"):
            scaled = np.minimum(delta[off] / np.abs(m[off, None]), 1e100)
            s = self._crossing(scaled, np.sign(m[off]), gamma)
            sigma[off] = np.where(s > NEVER, np.abs(m[off]) / s, math.inf)
        return torch.from_numpy(sigma).to(x.device)

    def _points(self, d: float | Sequence[float], at: list[float]) -> Tensor:
        """d times the point whose first k coordinates are `at`."""
        refusals.numbers(above=0, d=d)
        d = torch.tensor(d, dtype=torch.float64).reshape(-1, 1)
        points = torch.zeros(len(d), self.n, dtype=torch.float64)
        points[:, : self.k] = d * torch.tensor(at, dtype=torch.float64)
        return points

    def _normals(self) -> np.ndarray:
        """The inward unit normals (k, k), of which the coordinates beyond the k-th are 0."""
        normals = np.diag([1.0, *np.cos(self.angles)])
        normals[1:, 0] = -np.sin(self.angles)
        return normals

    def _distances(self, x: Tensor) -> np.ndarray:
        refusals.tensor(("N", self.n), finite=True, x=x)
        return self.sheets(x.detach().double()).cpu().numpy()

    def _crossing(self, delta: np.ndarray, way: np.ndarray, gamma: float) -> np.ndarray:
        """1/σ* (N,) of points at distance 1 from their nearest sheet, inside (way 1) or outside (−1); 0 for never.

        Inside P is below γ to the left of the root, outside above 1 − γ to the left of it.
        """
        goal = np.where(way > 0, math.log(gamma), math.log1p(-gamma))
        near = np.abs(goal) * 1e-13 if not any(self.angles) else np.full(len(goal), 1e-12)
        excess = lambda s, rows: self._log_share(s[:, None] * delta[rows]) - goal[rows]
        rows = np.arange(len(delta))
        b = np.full(len(delta), max(float(ndtri(gamma)), 0.0))
        a = b - 0.1 * way
        at_a, at_b = excess(a, rows), excess(b, rows)
        for _ in range(200):
            rows = rows[(at_b[rows] < -near[rows]) & ((b[rows] > 0) | (way[rows] > 0))]
            if not len(rows):
                break
            slope = (at_b[rows] - at_a[rows]) / (b[rows] - a[rows])
            never = way[rows] * slope <= 0
            new = np.where(never, 0.0, b[rows] - at_b[rows] / np.where(never, 1.0, slope))
            a[rows], at_a[rows] = b[rows], at_b[rows]
            b[rows], at_b[rows] = new, excess(new, rows)
        return np.maximum(b, 0.0)

    def _log_share(self, delta: np.ndarray) -> np.ndarray:
        """log P[x' in the wedge] (M,) for σ = 1 and distances (M, k) from the sheets."""
        delta = np.clip(delta, -FAR, FAR)
        parts = np.array_split(delta, max(1, delta.size // NUMBERS))
        return np.concatenate([_log_share(part, np.asarray(self.angles)) for part in parts])


def wedge(n: int, angles: Sequence[float]) -> Wedge:
    """The k-Θ-wedge of definition 30.8 in R^n: x₁ > 0 and x_(i+1) > x₁ tan(angle_i) for k − 1 `angles` in (−π/2, π/2).

    Raises ValueError for more than n − 1 angles.
    """
    refusals.instance((tuple, list), angles=angles)
    return Wedge(n, tuple(angles))


def orthant(n: int, k: int) -> Wedge:
    """W_k^n of section 4 in R^n: x₁ > 0, …, x_k > 0, the wedge whose angles are 0. k = 1 is a half-space."""
    refusals.whole(1, k=k)
    refusals.whole(k, n=n)
    return Wedge(n, (0.0,) * (k - 1))


def proposition43(d: float, k: int, gamma: float) -> float:
    """σ* = d / (√2 erf⁻¹(2γ^(1/k) − 1)), the γ-persistence of a point at distance d from k orthogonal sheets, inside.

    +inf where γ ≤ 2⁻ᵏ, which the source does not mention: there erf⁻¹ is 0 or negative, and x stable at every σ.
    """
    refusals.number(above=0, d=d)
    refusals.whole(1, k=k)
    refusals.number(above=0, below=1, gamma=gamma)
    quantile = float(ndtri_exp(math.log(gamma) / k))  # Φ⁻¹(p) = √2 erf⁻¹(2p − 1)
    return d / quantile if quantile > 0 else math.inf


@lru_cache(maxsize=64)
def _turns(angles: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (k − 1,) each: made once, as a device waits for what comes from the CPU."""
    with torch.inference_mode(False):  # else a first call in that mode leaves what no gradient can pass
        cos, sin = (torch.tensor([f(a) for a in angles], dtype=dtype) for f in (math.cos, math.sin))
        return cos.to(device), sin.to(device)


def _log_share(delta: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The logarithm of Π Φ(δ_i) over the sheets without an angle, times the integral over z of those with one."""
    first, rest, tilted = delta[:, 0], delta[:, 1:], angles != 0
    product = log_ndtr(rest[:, ~tilted]).sum(1)
    if not (tilted.any() and len(delta)):
        return product + log_ndtr(first)
    level, tan = rest[:, tilted] / np.cos(angles[tilted]), np.tan(angles[tilted])
    # The integrand's logarithm is concave, and bends at least as much as −z²/2: that bounds where its mode and its
    # two ends can lie. Where the mode is beyond `REACH`, or too low, there is nothing to integrate.
    slope = lambda z: -(tan * _hazard(level - z[:, None] * tan)).sum(1) - z
    start = np.maximum(-first, 0)
    reach = np.clip(slope(start), -REACH, REACH)
    mode = _bisect(slope, np.maximum(start + np.minimum(reach, 0), -first), start + np.maximum(reach, 0))
    here, widest = level - mode[:, None] * tan, np.full_like(mode, math.sqrt(2 * DROP))
    there = log_ndtr(here).sum(1)
    top = there - mode**2 / 2
    nothing = top < -(REACH**2) / 4

    def rise(r: np.ndarray) -> np.ndarray:
        """By how much the logarithm at mode + r is larger; positive only by what rounding leaves of a mode."""
        above = log_ndtr(here - r[:, None] * tan).sum(1) - there - r * (mode + r / 2)
        return np.where(nothing, 0.0, np.minimum(above, DROP))

    right = _bisect(lambda r: rise(r) + DROP, np.zeros_like(mode), widest)
    left = _bisect(lambda r: rise(-r) + DROP, np.zeros_like(mode), np.clip(mode + first, 0, widest))
    width = left + right
    around = lambda r: (left * np.exp(rise(-r * left)) + right * np.exp(rise(r * right))) / width
    mass, _ = quad_vec(around, 0, 1, epsabs=0, epsrel=1e-10, norm="max", limit=200)
    return product + top + np.log(mass * width) - math.log(2 * math.pi) / 2


def _hazard(z: np.ndarray) -> np.ndarray:
    """φ(z) / Φ(z), the derivative of log Φ."""
    return math.sqrt(2 / math.pi) / erfcx(-z / math.sqrt(2))


def _bisect(f: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where decreasing functions cross 0 between low and high; high where none does."""
    for _ in range(70):
        middle = (low + high) / 2
        above = f(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2
