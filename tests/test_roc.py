"""Against scikit-learn and the normal theory of the area."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from tightrope import roc


def groups(m=40, n=25, shift=0.8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(m, generator=draw), torch.randn(n, generator=draw) + shift
    return (4 * a).round() / 4, (4 * b).round() / 4  # with ties


def test_against_scikit_learn():
    a, b = groups()
    labels, scores = np.r_[np.zeros(40), np.ones(25)], torch.cat([a, b]).numpy()
    assert roc.area(a, b).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    false, true = roc.curve(a, b)
    expected = roc_curve(labels, scores, drop_intermediate=False)
    assert np.allclose(false.numpy(), expected[0])
    assert np.allclose(true.numpy(), expected[1])


def test_the_interval_covers_the_truth():
    truth = torch.distributions.Normal(0, 1).cdf(torch.tensor(0.8 / 2**0.5)).item()
    draw = torch.Generator().manual_seed(1)
    inside = 0
    for k in range(100):
        a, b = torch.randn(60, generator=draw), torch.randn(60, generator=draw) + 0.8
        area = roc.area(a, b, seed=k, draws=300)
        inside += area.low <= truth <= area.high
    assert 86 <= inside <= 100


def test_separated_and_equal_groups():
    assert roc.area(torch.zeros(5), torch.ones(7)) == (1.0, 1.0, 1.0)
    assert roc.area(torch.zeros(5), torch.zeros(7)) == (0.5, 0.5, 0.5)
    assert str(roc.area(torch.zeros(5), torch.ones(7))) == "1.00 (1.00–1.00)"


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.tensor([float("nan")]), torch.zeros(2, 2)])
def test_scores_that_are_none(bad):
    with pytest.raises(ValueError, match="at least one"):
        roc.area(torch.zeros(3), bad)
    with pytest.raises(ValueError, match="at least one"):
        roc.curve(bad, torch.zeros(3))
