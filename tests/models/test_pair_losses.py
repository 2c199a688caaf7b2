"""Losses over all pairs against the double loop over pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightrope import nets, pair_losses, training

scores = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12).map(
    lambda v: torch.tensor(v, dtype=torch.float64)
)


def looped(loss, a, b):
    return sum(loss(s - t) for s in a.tolist() for t in b.tolist()) / (len(a) * len(b))


@settings(max_examples=200, deadline=None)
@given(scores, scores, st.floats(-3, 3))
def test_the_squared_loss_is_the_double_sum(a, b, gap):
    exact = looped(lambda d: (d - gap) ** 2, a, b)
    assert pair_losses.squared_pairs(a, b, gap).item() == pytest.approx(exact, rel=1e-10, abs=1e-8)


@settings(max_examples=100, deadline=None)
@given(scores, scores)
def test_the_logistic_loss_is_the_double_sum(a, b):
    exact = looped(lambda d: math.log1p(math.exp(-d)) if d > 0 else -d + math.log1p(math.exp(d)), a, b)
    assert pair_losses.logistic_pairs(a, b).item() == pytest.approx(exact, rel=1e-7, abs=1e-9)


def test_large_offsets_do_not_cancel():
    """Scores of a million with a spread of one: the sum of squares is kept to all its digits."""
    a = 1e6 + torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = 1e6 + torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = (a[:, None] - b - 1).square().mean().item()
    assert pair_losses.squared_pairs(a, b).item() == pytest.approx(pairs, rel=1e-9)


def test_the_gradient_is_the_pairs_gradient():
    a, b = torch.randn(7, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    for t in (a, b):
        t.requires_grad_()
    fast = torch.autograd.grad(pair_losses.squared_pairs(a, b), (a, b))
    slow = torch.autograd.grad((a[:, None] - b - 1).square().mean(), (a, b))
    torch.testing.assert_close(fast, slow)


@settings(max_examples=100, deadline=None)
@given(scores, scores)
def test_the_pair_loss_is_a_squared_loss_with_a_free_bias_and_a_doubled_gap(a, b):
    """What `balanced_squares` says of itself: minimise it over a bias c and compare."""
    c = -(a.mean() + b.mean()) / 2
    free = pair_losses.balanced_squares(a + c, b + c)
    gap = (a.mean() - b.mean() - 1) ** 2
    assert (free + gap / 2).item() == pytest.approx(
        pair_losses.squared_pairs(a, b).item(), rel=1e-9, abs=1e-7
    )
    for other in (c + 0.1, c - 0.1):
        assert pair_losses.balanced_squares(a + other, b + other) > free


@settings(max_examples=100, deadline=None)
@given(scores, scores)
def test_the_bias_and_the_trade_off_count_errors(a, b):
    t = pair_losses.trade_off(a, b)
    assert (t.type1[0], t.type2[0]) == (1, 0)
    assert (t.type1[-1], t.type2[-1]) == (0, 1)
    assert (t.type1.diff() <= 0).all()
    assert (t.type2.diff() >= 0).all()
    for bias, one, two in zip(t.bias, t.type1, t.type2, strict=True):
        assert one.item() == pytest.approx((b + bias > 0).double().mean().item())
        assert two.item() == pytest.approx((a + bias <= 0).double().mean().item())
    middle = pair_losses.bias(a, b)
    if a.min() > b.max():
        assert (a + middle).min() >= 0 >= (b + middle).max()
        assert (a + middle).min().item() == pytest.approx(-(b + middle).max().item(), abs=1e-9)


@pytest.mark.parametrize("loss", ["squared pairs", "logistic pairs", "balanced squares"])
def test_training_on_pairs_separates_and_survives_a_batch_of_one_class(loss):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    x = torch.randn(200, 4, generator=g) + 3 * (2 * y[:, None] - 1)
    net = nets.mlp(4, (8,), 2)
    training.fit(net, x, y, training.Recipe(lr=1e-3, epochs=8, batch=3, loss=loss))
    s = net(x).diff(dim=1)[:, 0].detach()
    a, b = s[y == 1], s[y == 0]
    assert ((s + pair_losses.bias(a, b) > 0) == (y == 1)).double().mean() > 0.99
