"""How far noise may go before a class is lost: stability, class frequencies and γ-persistence (NAE, section 4).

The estimate pools everything that was drawn around a point: a scan over octaves of σ for where the class is kept and
lost, then batches at the running estimate, and a curve through them. Persistence is where the curve meets γ, and its
interval is the profile likelihood's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tightrope import intervals, refusals, seeds
from tightrope.boundary import probit
from tightrope.boundary.chunks import chunk_rows
from tightrope.boundary.surroundings import KINDS, Around, around
from tightrope.models.measured import check_input, measured

__all__ = ["Frequencies", "Persistence", "along", "frequencies", "persistence"]

Model = Callable[[Tensor], Tensor]
Array = np.ndarray

OCTAVES = 12  # of σ, below the cap, that are scanned for every point
DEEPEST = 20  # octaves further down that are looked at where a point is not stable at the lowest
SURE = 0.01  # how often a scan may take a share for one on the other side of γ
MANY = 16  # times as many draws where these are too few to be sure
BATCHES = (1, 1, 2, 4, 8)  # their sizes, in parts of `draws`
SPREAD = 0.25  # by how much, in probits, batches lie on either side of the running estimate


@dataclass(frozen=True)
class Frequencies:
    """How often each class is answered around N points at S standard deviations.

    counts  (N, S, L) of `draws` answers
    sigma   (S,)
    label   (N,) the answer at the point itself
    """

    counts: Tensor
    sigma: Tensor
    label: Tensor
    draws: int

    def stable(self) -> Tensor:
        """The share of answers that are the point's own: the estimate of (7), (N, S) float64."""
        own = self.label[:, None, None].expand(*self.counts.shape[:2], 1)
        return self.counts.gather(2, own).squeeze(2).double() / self.draws

    def interval(self, level: float = intervals.LEVEL) -> tuple[Tensor, Tensor]:
        """Clopper and Pearson's exact interval of `stable`: two of (N, S)."""
        hits, which = (self.stable() * self.draws).round().long().unique(return_inverse=True)
        ends = [intervals.share(count, self.draws, level) for count in hits.tolist()]
        low, high = hits.new_tensor([(e.low, e.high) for e in ends], dtype=torch.float64).T
        return low[which], high[which]


@dataclass(frozen=True)
class Persistence:
    """γ-persistence of points, in the units of their numbers: (N,) each, or (R, T) along lines.

    sigma        definition 4.2, the first σ at which the class is kept with probability γ and not beyond; +inf where
                 none was met below the cap, 0 where not even the smallest σ keeps it
    low, high    the 95 % interval of `sigma`; `high` is +inf where it is censored
    last         the largest σ below the cap at which the class passes γ downwards: `sigma`, unless the class comes
                 back; +inf where it is kept at the cap
    censored     whether `sigma` is +inf
    label        the class that is kept or lost: the answer at the point
    evaluations  answers the network gave for the point
    """

    sigma: Tensor
    low: Tensor
    high: Tensor
    last: Tensor
    censored: Tensor
    label: Tensor
    evaluations: Tensor
    gamma: float


def frequencies(
    model: Model,
    x: Tensor,
    sigma: Tensor | Sequence[float],
    *,
    draws: int = 1_000,
    noise: str = "gaussian",
    fast: bool = True,
    seed: int = 0,
    chunk: int | None = None,
) -> Frequencies:
    """The classes of `draws` samples around each of x (N, *shape) at each of `sigma` (S,).

    `noise`, `fast`, `seed` and `chunk` as in `persistence`. NAE, (7) and figures 9, 11 and 13.
    """
    sigma = _numbers(sigma=sigma)
    if not (sigma > 0).all():
        raise ValueError("Every sigma must be above 0.")
    refusals.whole(1, draws=draws)
    with _sampler(model, x, noise, fast, seed, chunk) as (sampler, label, classes):
        n, s = len(label), len(sigma)
        cell = torch.arange(n * s, device=label.device).repeat_interleave(draws)
        at = sigma.to(label.device).repeat(n)[cell]
        counts = torch.zeros(n * s * classes, dtype=torch.int64, device=label.device)
        for part, answers in sampler.labels(cell // s, at, "frequencies"):
            counts.index_add_(0, cell[part] * classes + answers, torch.ones_like(answers))
    return Frequencies(counts.reshape(n, s, classes), sigma.to(label.device), label, draws)


def persistence(
    model: Model,
    x: Tensor,
    *,
    gamma: float = 0.7,
    draws: int | None = None,
    cap: float = 32.0,
    noise: str = "gaussian",
    fast: bool = True,
    seed: int = 0,
    chunk: int | None = None,
) -> Persistence:
    """The γ-persistence of each of x (N, *shape), any classifier's: NAE, definition 4.2, in place of its algorithm 1.

    For every point σ is scanned, octave by octave, from cap / 4096 (or lower, where the class is not kept there) to
    `cap`; then `draws` samples are drawn in growing batches where the running estimate says that the probability is
    gamma. A class that is lost and comes back within one octave is not seen. The scan takes 16 samples an octave and
    `draws` is 1,024, both more where gamma is close to 0 or 1: a share so close to certainty takes many to be seen.

    noise "gaussian": N(x, σ²I). "ball": uniform in the ball of radius σ√n, n numbers an input.
    `fast`: where a network begins with a linear layer of at most n/2 outputs, Gaussian noise is drawn behind it, from
    the same law; any other network is sampled at its inputs.

    Raises ValueError for what cannot be measured (see `measured`).
    """
    refusals.number(above=0, below=1, gamma=gamma)
    refusals.whole(64, **refusals.given(draws=draws))
    refusals.number(above=0, cap=cap)
    with _sampler(model, x, noise, fast, seed, chunk) as (sampler, label, _):
        search = _Search(sampler, label, gamma, draws, cap)
        found = search.run()
    like = {"dtype": torch.float64, "device": label.device}
    sigma, low, high, last = (torch.as_tensor(values, **like) for values in found)
    evaluations = torch.as_tensor(search.evaluations, device=label.device)
    return Persistence(sigma, low, high, last, sigma.isinf(), label, evaluations, gamma)


def along(
    model: Model,
    start: Tensor,
    end: Tensor,
    t: Tensor | Sequence[float],
    *,
    gamma: float = 0.7,
    draws: int | None = None,
    cap: float = 32.0,
    noise: str = "gaussian",
    fast: bool = True,
    seed: int = 0,
    chunk: int | None = None,
) -> Persistence:
    """`persistence` at start + t·(end - start), for start, end (R, *shape) and t (T,): fields (R, T). NAE, figure 12.

    `label` says which class each of the numbers is about.
    """
    refusals.tensor(("R", ...), finite=True, start=start)
    refusals.tensor(tuple(start.shape), finite=True, like=start, end=end)
    at = _numbers(t=t).to(start)
    points = start[:, None] + at.reshape(1, -1, *[1] * (start.ndim - 1)) * (end - start)[:, None]
    how = {
        "gamma": gamma,
        "draws": draws,
        "cap": cap,
        "noise": noise,
        "fast": fast,
        "seed": seed,
        "chunk": chunk,
    }
    found = persistence(model, points.flatten(0, 1), **how)
    fields = {
        k: v.unflatten(0, (len(start), len(at))) for k, v in vars(found).items() if isinstance(v, Tensor)
    }
    return replace(found, **fields)


def _numbers(**values: object) -> Tensor:
    """One or more numbers, in a list, an array or a tensor, as a tensor (S,) of float64."""
    ((name, given),) = values.items()
    given = given.tolist() if isinstance(given, np.ndarray | Tensor) else given
    refusals.numbers(**{name: given})
    return torch.tensor(given, dtype=torch.float64).reshape(-1)


@contextmanager
def _sampler(
    model: Model, x: Tensor, noise: str, fast: bool, seed: int, chunk: int | None
) -> Iterator[tuple[Around, Tensor, int]]:
    """The sampler, the answers at x (N,), and how many classes there are."""
    refusals.function(model=model)
    refusals.choice(KINDS, noise=noise)
    refusals.truth(fast=fast)
    refusals.whole(1, **refusals.given(chunk=chunk))
    check_input(model, x, "logits")  # noise is real, whatever the classifier takes
    refusals.tensor(("N", ...), finite=True, x=x)
    draws = seeds.generator(seed, "persistence", x.device)
    with measured(model, x, chunk=chunk, of="labels") as (net, x), torch.no_grad():
        logits = torch.cat([net(part) for part in x.split(chunk or chunk_rows(x))])
        yield around(net, x, noise, draws, chunk, fast), logits.argmax(1), logits.shape[1]


class _Search:
    """Persistence of N points: what was drawn, and where to draw next. The statistics are numpy's, on the CPU."""

    def __init__(self, sampler: Around, label: Tensor, gamma: float, draws: int | None, cap: float):
        self.sampler, self.label, self.gamma = sampler, label, gamma
        self.grid = math.log(cap) - math.log(2) * np.arange(OCTAVES, -1, -1.0)  # log σ
        self.look = max(16, math.ceil(math.log(SURE) / math.log(max(gamma, 1 - gamma))))
        self.unit = (draws or max(1_024, 20 * self.look)) / sum(BATCHES)
        self.evaluations = np.zeros(len(label), dtype=np.int64)

    def run(self) -> tuple[Array, Array, Array, Array]:
        """sigma, low, high and last, (N,) each."""
        self.scan()
        top, columns = len(self.grid) - 1, np.arange(len(self.grid))
        lost = self.below.any(1)
        end = np.where(lost, self.below.argmax(1), top)
        kept = np.where(self.above & (columns <= (end - lost)[:, None]), columns, -1).max(1)
        sigma, low, high = (np.zeros(len(end)) for _ in range(3))
        high[kept < 0] = math.exp(self.grid[0])
        always = ~lost & (kept == top)
        sigma[always], low[always], high[always] = math.inf, math.exp(self.grid[top]), math.inf
        rows = np.flatnonzero((kept >= 0) & ~always)
        if len(rows):
            sigma[rows], low[rows], high[rows] = self.refine(rows, kept[rows], end[rows], lost[rows])
        last, rows, kept, end = sigma.copy(), *self.returns(lost, end)
        last[rows[end < 0]] = math.inf
        if (end >= 0).any():
            rows, kept, end = (part[end >= 0] for part in (rows, kept, end))
            last[rows], _, _ = self.refine(rows, kept, end, np.ones(len(rows), bool))
        return sigma, low, high, last

    def scan(self) -> None:
        """`hits` of `n` draws on the whole grid, and whether the class is surely kept there, `above`, or lost, `below`:
        (N, C) each. Lower octaves are added to the grid for points that are not kept on it."""
        points = np.arange(len(self.label))
        every = np.tile(self.grid, (len(points), 1))
        self.n = np.full(every.shape, self.look)
        self.hits = self.draw(points, every, self.n)
        self.above, self.below = self.sure(self.hits, self.n)
        for _ in range(DEEPEST):
            rows = points[~self.above[:, 0]]
            if not len(rows):
                break
            self.grid = np.concatenate([[self.grid[0] - math.log(2)], self.grid])
            n, hits = (np.zeros((len(points), 1), dtype=np.int64) for _ in range(2))
            n[rows] = self.look
            hits[rows] = self.draw(rows, np.full((len(rows), 1), self.grid[0]), n[rows])
            above, below = self.sure(hits, n)
            above[self.above[:, 0]] = True  # what is kept higher up is not looked at here
            self.n, self.hits = np.hstack([n, self.n]), np.hstack([hits, self.hits])
            self.above, self.below = np.hstack([above, self.above]), np.hstack([below, self.below])
        # Before a plane the probability falls to 1/2 and no further: where nothing is sure yet, the cap decides.
        rows = points[~self.below.any(1) & ~self.above[:, -1]]
        if len(rows):
            n = np.full((len(rows), 1), MANY * self.look)
            self.hits[rows, -1:] += self.draw(rows, np.full(n.shape, self.grid[-1]), n)
            self.n[rows, -1:] += n
            self.above[rows, -1], self.below[rows, -1] = self.sure(self.hits[rows, -1], self.n[rows, -1])

    def returns(self, lost: Array, end: Array) -> tuple[Array, Array, Array]:
        """Points whose class is lost and comes back; where on the grid it is last kept, and then lost (-1: nowhere)."""
        columns = np.arange(len(self.grid))
        kept = np.where(self.above & lost[:, None] & (columns > end[:, None]), columns, -1).max(1)
        rows = np.flatnonzero(kept >= 0)
        if len(rows):  # of so many looks some are lucky: this one is taken once more
            n = np.full((len(rows), 1), MANY * self.look)
            rows = rows[self.sure(self.draw(rows, self.grid[kept[rows], None], n), n)[0][:, 0]]
        after = self.below[rows] & (columns > kept[rows, None])
        return rows, kept[rows], np.where(after.any(1), after.argmax(1), -1)

    def refine(self, rows: Array, kept: Array, end: Array, lost: Array) -> tuple[Array, Array, Array]:
        """σ and its interval between two columns of the grid. Where it is not known that the class is `lost` up there,
        and no draw shows it, +inf."""
        inside = (np.arange(len(self.grid)) >= kept[:, None]) & (np.arange(len(self.grid)) <= end[:, None])
        at, hits = np.tile(self.grid, (len(rows), 1)), self.hits[rows]
        n, curve = np.where(inside, self.n[rows], 0), None
        hits = np.where(inside, hits, 0)
        scanned = len(self.grid)
        for size in BATCHES:
            curve = probit.fit(at, hits, n, self.gamma, curve)
            middle = np.clip(curve.at, self.grid[kept], self.grid[end])
            aside = SPREAD * np.minimum(1, np.exp(-curve.slope))
            places = np.stack([middle - aside, middle + aside], 1)
            batch = np.full(places.shape, round(self.unit * size / 2))
            hits = np.hstack([hits, self.draw(rows, places, batch)])
            at, n = np.hstack([at, places]), np.hstack([n, batch])
        # The scan has chosen the octave; a fit that used its draws again would lean to where they were lucky.
        at, hits, n = at[:, scanned:], hits[:, scanned:], n[:, scanned:]
        near = np.abs(at - curve.at[:, None]) <= math.log(2)
        n = np.where(near | ~near.any(1, keepdims=True), n, 0)
        hits = np.where(n > 0, hits, 0)
        curve = probit.fit(at, hits, n, self.gamma, curve)
        low, high = probit.interval(at, hits, n, self.gamma, curve, intervals.LEVEL)
        up = np.where(at >= curve.at[:, None], n, 0)
        _, below = self.sure(np.where(up > 0, hits, 0).sum(1), up.sum(1))
        top = self.grid[-1]
        met = (lost | below) & (curve.at <= top)
        sigma = np.where(met, np.exp(np.minimum(curve.at, top)), math.inf)
        low = np.exp(np.where(met, np.minimum(low, top), self.grid[kept]))
        return sigma, low, np.where(met & (high <= top), np.exp(np.minimum(high, top)), math.inf)

    def draw(self, rows: Array, log_sigma: Array, n: Array) -> Array:
        """Hits (R, C) of n (R, C) draws around points `rows` (R,)."""
        device = self.label.device
        cell = torch.from_numpy(np.arange(n.size).repeat(n.ravel())).to(device)
        row = torch.from_numpy(rows).to(device)[cell // n.shape[1]]
        sigma = torch.from_numpy(np.exp(log_sigma).ravel()).to(device)[cell]
        hits = torch.zeros(n.size, dtype=torch.int64, device=device)
        for part, answers in self.sampler.labels(row, sigma, "persistence"):
            hits.index_add_(0, cell[part], (answers == self.label[row[part]]).long())
        self.evaluations[rows] += n.sum(1)
        return hits.cpu().numpy().reshape(n.shape)

    def sure(self, hits: Array, n: Array) -> tuple[Array, Array]:
        """Is the probability surely above gamma, is it surely below?"""
        some = n > 0
        return (
            some & (stats.binom.sf(hits - 1, n, self.gamma) < SURE),
            some & (stats.binom.cdf(hits, n, self.gamma) < SURE),
        )
