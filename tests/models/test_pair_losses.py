"""Losses over all pairs against the double loop over pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tightrope import nets, pair_losses, training

scores = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12).map(
    lambda v: torch.tensor(v, dtype=torch.float64)
)


class Largest(TorchDispatchMode):
    """The numbers in the largest tensor that the block made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numel = max(self.numel, *(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)), 0)
        return out


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
    assert pair_losses.logistic_pairs(a, b).item() == pytest.approx(exact, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("block", [1, 50, 2**20])
def test_the_logistic_loss_in_blocks_is_the_whole_matrix_with_its_gradient(block, monkeypatch):
    """Blocks of less than a row, of a part of the rows, of everything; and nothing larger is ever made."""
    monkeypatch.setattr(pair_losses, "BLOCK", block)
    g = torch.Generator().manual_seed(0)
    a, b = (8 * torch.randn(n, generator=g, dtype=torch.float64) for n in (30, 20))
    for t in (a, b):
        t.requires_grad_()
    with Largest() as largest:
        value = pair_losses.logistic_pairs(a, b)
        fast = torch.autograd.grad(3 * value, (a, b))
    assert largest.numel <= max(min(block, 600), 30)
    whole = torch.logaddexp(b - a[:, None], torch.zeros((), dtype=a.dtype)).mean()
    torch.testing.assert_close(value, whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(fast, torch.autograd.grad(3 * whole, (a, b)), rtol=1e-13, atol=0)
    assert torch.autograd.gradcheck(pair_losses.logistic_pairs, (a, b))
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(pair_losses.logistic_pairs(a, b), a, create_graph=True)


def test_one_side_alone_can_be_learned():
    a, b = torch.randn(7, requires_grad=True), torch.randn(5)
    pair_losses.logistic_pairs(a, b).backward()
    assert (a.grad < 0).all()
    assert not pair_losses.logistic_pairs(a.detach(), b).requires_grad


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


def linear(w, b):
    net = nets.mlp(1, (), 2).double()
    with torch.no_grad():
        net.fc1.weight.copy_(torch.tensor([[0.0], [w]], dtype=torch.float64))
        net.fc1.bias.copy_(torch.tensor([0.0, b], dtype=torch.float64))
    return net


@settings(max_examples=100, deadline=None)
@given(scores, scores, st.floats(-3, 3))
def test_the_last_bias_is_half_way_or_errs_least(a, b, start):
    """One number an image and a weight of one: the score is that number and the bias."""
    net, x = linear(1.0, start), torch.cat([a, b])[:, None]
    y = torch.tensor([1] * len(a) + [0] * len(b))
    found = pair_losses.scores(pair_losses.with_bias(net, x, y), x, batch=5)
    low, high = found[y == 1], found[y == 0]
    if a.min() - b.max() > 1e-9:
        assert low.min().item() == pytest.approx(-high.max().item(), abs=1e-9)
    every = pair_losses.trade_off(a, b)
    errors = (high > 0).double().mean() + (low <= 0).double().mean()
    # A bias between two scores that rounding cannot tell apart may put either on the wrong side.
    apart = torch.cat([a, b]).sort().values.diff()
    if (apart > 1e-9).all():
        assert errors.item() == pytest.approx((every.type1 + every.type2).min().item())
    assert net.fc1.bias[1].item() == start


def test_a_network_without_a_last_bias_gets_none():
    net = nets.four_layer(shape=(1, 28, 28), bias=False)
    with pytest.raises(ValueError, match="no last fully connected layer with a bias"):
        pair_losses.with_bias(net, torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))
