"""What a number is worth: medians, quantiles, shares and areas with an interval that says of which kind it is.

A censored value (+inf: a margin that was not met) counts as larger than every other. It is never averaged: where a
quantile falls among censored values it is +inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tightrope import refusals, seeds

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """One number over n values, and where it could as well have been.

    low, high: the interval; `high` is +inf where it reaches into the censored values, and `top` is then the largest
    value that was met. kind: "order statistics", "range" (smallest to largest of fewer values than an interval
    needs), "binomial" or "bootstrap". level: the probability it covers, None for a range. censored: how many of n.
    """

    value: float
    low: float
    high: float
    n: int
    kind: str
    level: float | None = None
    censored: int = 0
    top: float = math.inf


def quantile(values: Iterable[float], q: float | Sequence[float]) -> np.ndarray:
    """Quantiles of values, the shape of `q`: straight lines between order statistics, +inf among censored values.

    Raises ValueError for no values, for NaN and for -inf.
    """
    ranked = _ranked(values)
    at = np.asarray(q, dtype=float) * (len(ranked) - 1)
    met = np.isfinite(ranked).sum() - 1 >= np.ceil(at)
    return np.where(met, np.quantile(_filled(ranked), q), math.inf)


def median(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """The median of independent values, such as one a picture, between two of their order statistics.

    The closest pair, the same number of values below it as above, that holds the median of any continuous law with
    probability `level`; `Estimate.level` is what it really holds. Fewer than six values have no such pair at 95 %:
    what they span is a range.
    """
    refusals.number(above=0, below=1, level=level)
    ranked = _ranked(values)
    n = len(ranked)
    k = int(
        stats.binom.ppf((1 - level) / 2, n, 0.5)
    )  # fewer than k of n lie below the median too rarely to matter
    if k == 0:
        return _between(ranked, 0, "range", None)
    return _between(ranked, k - 1, "order statistics", float(1 - 2 * stats.binom.cdf(k - 1, n, 0.5)))


def spread(values: Iterable[float]) -> Estimate:
    """The median over seeds with the smallest and the largest: all that a handful can honestly say.

    From five seeds on it is an interval, which holds the median with probability 1 - 2¹⁻ⁿ; below, a range.
    """
    ranked = _ranked(values)
    n = len(ranked)
    if n < 5:
        return _between(ranked, 0, "range", None)
    return _between(ranked, 0, "order statistics", 1 - 2.0 ** (1 - n))


def share(hits: int, n: int, level: float = LEVEL) -> Estimate:
    """A share, `hits` of n independent trials, with Clopper and Pearson's exact interval."""
    refusals.whole(1, n=n)
    refusals.whole(0, n, hits=hits)
    refusals.number(above=0, below=1, level=level)
    hits, n = int(hits), int(n)
    around = stats.binomtest(hits, n).proportion_ci(level, "exact")
    return Estimate(hits / n, float(around.low), float(around.high), n, "binomial", level)


def bootstrap(
    statistic: Callable[..., float],
    *groups: Tensor | np.ndarray,
    seed: int = 0,
    draws: int = 1_000,
    level: float = LEVEL,
) -> Estimate:
    """statistic(*groups), and between which values it lies when rows of the groups are drawn again.

    statistic takes arrays and gives one number. Groups of one length are paired, and drawn together row by row.
    Draws on which it is not finite count as larger than all others. n is the smallest group's number of rows.
    """
    refusals.function(statistic=statistic)
    refusals.whole(0, seed=seed)
    refusals.whole(1, draws=draws)
    refusals.number(above=0, below=1, level=level)
    arrays = [g.detach().cpu().numpy() if isinstance(g, Tensor) else np.asarray(g) for g in groups]
    lengths = [len(array) for array in arrays]
    if not lengths or min(lengths) < 1:
        raise ValueError("A bootstrap needs at least one group of at least one row.")
    random = np.random.default_rng(seed)
    if len(set(lengths)) == 1:
        rows = [random.integers(0, lengths[0], (draws, lengths[0]))] * len(arrays)
    else:
        rows = [random.integers(0, n, (draws, n)) for n in lengths]
    drawn = np.array(
        [
            float(statistic(*(a[r] for a, r in zip(arrays, row, strict=True))))
            for row in zip(*rows, strict=True)
        ]
    )
    low, high = _tails(np.where(np.isfinite(drawn), drawn, math.inf), level)
    return Estimate(float(statistic(*arrays)), low, high, min(lengths), "bootstrap", level)


def roc(negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates from (0, 0) to (1, 1), one point a distinct score: "positive" is a high score."""
    negative, positive = _scores(negative, positive)
    at = torch.cat([negative, positive]).unique().flip(0)
    false, true = ((v[None] >= at[:, None]).double().mean(1) for v in (negative, positive))
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, false.cpu()]), torch.cat([zero, true.cpu()])


def area(negative: Tensor, positive: Tensor, seed: int = 0, draws: int = 1_000) -> Estimate:
    """P(a positive scores above a negative), ties counting half: the area under the curve of scores (M,) and (N,).

    Each group is drawn again `draws` times for the interval; n is the number of positives.
    """
    refusals.whole(1, draws=draws)
    negative, positive = _scores(negative, positive)
    order = torch.sign(positive[:, None] - negative[None]) / 2 + 0.5  # (N, M)
    generator = seeds.generator(seed, "bootstrap")
    rows, columns = (torch.randint(n, (draws, n), generator=generator).to(order.device) for n in order.shape)
    first, second = (_counts(at, n) for at, n in ((rows, order.shape[0]), (columns, order.shape[1])))
    low, high = _tails(((first @ order * second).sum(1) / order.numel()).cpu(), LEVEL)
    return Estimate(order.mean().item(), low, high, len(positive), "bootstrap", LEVEL)


def _tails(drawn: Iterable[float], level: float) -> tuple[float, float]:
    low, high = quantile(drawn, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return low, high


def _ranked(values: Iterable[float]) -> np.ndarray:
    given = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    ranked = np.sort(
        np.asarray(given if isinstance(given, np.ndarray) else [*map(float, given)], dtype=float).ravel()
    )
    if not len(ranked) or np.isnan(ranked).any() or ranked[0] == -math.inf:
        raise ValueError(
            "A statistic needs at least one value, each a finite number or +inf where it is censored."
        )
    return ranked


def _between(ranked: np.ndarray, out: int, kind: str, level: float | None) -> Estimate:
    """The median between the order statistics that leave `out` values on either side."""
    n, met = len(ranked), int(np.isfinite(ranked).sum())
    middle = float(np.median(_filled(ranked))) if n // 2 < met else math.inf
    low, high, top = (
        float(ranked[out]),
        float(ranked[n - 1 - out]),
        float(ranked[met - 1]) if met else math.inf,
    )
    return Estimate(middle, low, high, n, kind, level, n - met, top)


def _filled(ranked: np.ndarray) -> np.ndarray:
    """Sorted values with the largest one met in place of those censored, so that arithmetic stays finite."""
    met = np.isfinite(ranked)
    return np.where(met, ranked, ranked[met][-1] if met.any() else 0.0)


def _counts(at: Tensor, n: int) -> Tensor:
    """How often each of n is drawn, (draws, n)."""
    counts = torch.zeros(len(at), n, dtype=torch.float64, device=at.device)
    return counts.scatter_add_(1, at, torch.ones_like(counts))


def _scores(negative: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    refusals.tensor(("M",), finite=True, negative=negative)
    refusals.tensor(("N",), finite=True, positive=positive)
    return negative.double(), positive.double()
