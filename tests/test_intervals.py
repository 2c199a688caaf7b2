"""Against scipy, scikit-learn and exact coverage."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from tightrope import intervals

INF = math.inf


# --- quantiles and medians ---------------------------------------------------------------------------------


def test_quantiles_are_numpys_where_nothing_is_censored():
    values = np.random.default_rng(0).normal(size=101)
    at = (0, 0.05, 0.5, 0.713, 1)
    np.testing.assert_allclose(intervals.quantile(values, at), np.quantile(values, at), rtol=1e-14)
    assert intervals.quantile(torch.tensor([3.0, 1.0]), 0.5) == 2


def test_a_quantile_among_censored_values_is_infinite_and_never_an_average():
    values = [1.0, INF, 2.0, 3.0, INF]
    assert intervals.quantile(values, (0, 0.25, 0.5, 0.6, 1)).tolist() == [1, 2, 3, INF, INF]
    assert intervals.median([1.0, INF]).value == INF
    assert intervals.median([1.0, 2.0, INF]).value == 2
    assert intervals.spread([INF, INF]).value == INF


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [-INF, 1.0]])
def test_what_has_no_quantile(bad):
    for statistic in (intervals.median, intervals.spread, lambda v: intervals.quantile(v, 0.5)):
        with pytest.raises(ValueError, match="at least one value"):
            statistic(bad)


def test_the_medians_interval_is_scipys():
    for n in (6, 9, 30, 201):
        values = np.random.default_rng(n).normal(size=n)
        ours = intervals.median(values)
        theirs = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
        assert ours.low >= theirs.low  # ours is symmetric, theirs the widest of each side
        assert ours.value == pytest.approx(np.median(values), rel=1e-14)
        assert (ours.kind, ours.n) == ("order statistics", n)
        assert ours.level >= 0.95


@pytest.mark.parametrize("n", [6, 7, 8])
def test_the_medians_interval_covers_what_it_says_exactly(n):
    """Whether an order statistic is above the median hangs on the signs alone, all equally likely."""
    say = intervals.median(np.arange(n))
    below, above = round(say.low), round(say.high)
    inside = 0
    for signs in product((0, 1), repeat=n):
        under = signs.count(0)  # how many values lie below the median
        inside += below < under <= above
    assert inside / 2**n == pytest.approx(say.level)
    assert below == n - 1 - above


def test_few_values_have_a_range():
    three = intervals.median([3.0, 1.0, 2.0])
    assert (three.value, three.low, three.high, three.kind, three.level) == (2, 1, 3, "range", None)


def test_over_seeds():
    two = intervals.spread([3, torch.tensor(1.0)])
    assert (two.value, two.low, two.high, two.n, two.kind) == (2, 1, 3, 2, "range")
    five = intervals.spread([1, 2, 3, 4, INF])
    assert (five.value, five.low, five.high, five.top, five.censored) == (3, 1, INF, 4, 1)
    assert five.kind == "order statistics"
    assert five.level == 1 - 2 / 2**5


# --- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 1)])
def test_a_shares_interval_is_where_the_tails_hold_one_in_forty(hits, n):
    s = intervals.share(hits, n)
    assert s.value == hits / n
    counted = intervals.share(torch.tensor(hits), n)
    assert counted == s
    assert isinstance(counted.value, float)
    if hits:
        assert stats.binom.sf(hits - 1, n, s.low) == pytest.approx(0.025)
    if hits < n:
        assert stats.binom.cdf(hits, n, s.high) == pytest.approx(0.025)
    assert (s.low == 0, s.high == 1) == (hits == 0, hits == n)


def test_no_share_of_nothing():
    for bad in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="must be a whole number"):
            intervals.share(*bad)


# --- bootstrap ---------------------------------------------------------------------------------------------


def test_the_bootstrap_of_a_mean_is_nearly_normal():
    values = np.random.default_rng(0).normal(size=400)
    b = intervals.bootstrap(np.mean, values, draws=4_000)
    half = 1.96 * values.std() / 20
    assert b.value == values.mean()
    assert b.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert b.high == pytest.approx(values.mean() + half, abs=0.2 * half)
    assert (b.n, b.kind, b.level) == (400, "bootstrap", 0.95)


def test_groups_of_one_length_are_drawn_together():
    x = torch.arange(20.0)
    together = intervals.bootstrap(lambda a, b: np.abs(a - b).max(), x, x)
    assert (together.low, together.high) == (0, 0)
    apart = intervals.bootstrap(lambda a, b: a.mean() - b.mean(), x, torch.arange(19.0))
    assert apart.low < apart.value < apart.high
    assert apart.n == 19


def test_draws_that_fail_count_as_larger_than_all():
    b = intervals.bootstrap(lambda a: INF if a[0] else 1.0, np.array([0, 1]), draws=200)
    assert (b.low, b.high) == (1, INF)
    with pytest.raises(ValueError, match="at least one row"):
        intervals.bootstrap(np.mean, [])


# --- two groups told apart by one number -------------------------------------------------------------------


def groups(m=40, n=25, shift=0.8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(m, generator=draw), torch.randn(n, generator=draw) + shift
    return (4 * a).round() / 4, (4 * b).round() / 4  # with ties


def test_roc_against_scikit_learn():
    a, b = groups()
    labels, scores = np.r_[np.zeros(40), np.ones(25)], torch.cat([a, b]).numpy()
    assert intervals.area(a, b).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    false, true = intervals.roc(a, b)
    expected = roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(false.numpy(), expected[0])
    assert np.allclose(true.numpy(), expected[1])


def test_the_areas_interval_covers_the_truth():
    truth = torch.distributions.Normal(0, 1).cdf(torch.tensor(0.8 / 2**0.5)).item()
    draw = torch.Generator().manual_seed(1)
    inside = 0
    for k in range(100):
        a, b = torch.randn(60, generator=draw), torch.randn(60, generator=draw) + 0.8
        area = intervals.area(a, b, seed=k, draws=300)
        inside += area.low <= truth <= area.high
    assert 86 <= inside <= 100


def test_separated_and_equal_groups():
    apart, same = (intervals.area(torch.zeros(5), at(7)) for at in (torch.ones, torch.zeros))
    assert (apart.value, apart.low, apart.high, apart.n) == (1, 1, 1, 7)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.tensor([float("nan")]), torch.zeros(2, 2)])
def test_scores_that_are_none(bad):
    with pytest.raises(ValueError, match=r"^positive must be a finite"):
        intervals.area(torch.zeros(3), bad)
    with pytest.raises(ValueError, match=r"^negative must be a finite"):
        intervals.roc(bad, torch.zeros(3))
