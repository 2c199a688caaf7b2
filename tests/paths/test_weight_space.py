"""The line between two networks, against autograd and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tightrope import nets, weight_space


def problem():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    y = torch.randint(0, 2, (40,), generator=draw)
    first, last = (nets.mlp(3, (6,), 2, seed=s).double() for s in (0, 1))
    return first, weight_space.position(first), weight_space.position(last), last, x, y


def test_the_gradient_is_autograds_in_any_chunks():
    net, _, _, _, x, y = problem()
    g, loss, accuracy = weight_space.gradient(net, x, y, chunk=7)
    value = cross_entropy(net(x), y)
    exact = torch.autograd.grad(value, list(net.parameters()))
    assert torch.allclose(g, torch.cat([t.flatten() for t in exact]))
    assert torch.allclose(loss, value)
    assert accuracy.item() == pytest.approx((net(x).argmax(1) == y).double().mean().item())


def test_a_position_is_a_copy_and_leads_back():
    net, w0, w1, last, x, _ = problem()
    there = weight_space.network_at(net, w1)
    torch.testing.assert_close(there(x), last(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(weight_space.position(net), w0)
    there.fc1.weight.data.zero_()
    assert torch.equal(weight_space.position(last), w1)


def test_the_pull_is_the_slope_of_the_loss():
    net, w0, w1, last, x, y = problem()
    t, h = (0.0, 0.3, 1.0), 1e-6
    met = weight_space.line(net, w0, w1, x, y, t)
    for k, at in enumerate(t):
        ends = [
            cross_entropy(weight_space.network_at(net, w0 + (at + s * h) * (w1 - w0))(x), y) for s in (-1, 1)
        ]
        slope = (ends[1] - ends[0]) / (2 * h) / (w1 - w0).norm()
        assert torch.allclose(met.pull[k], -slope, rtol=1e-5, atol=1e-7)
    assert torch.allclose(met.loss[2], cross_entropy(last(x), y))
    assert torch.allclose(met.norm, torch.stack([w0.norm(), (w0 + 0.3 * (w1 - w0)).norm(), w1.norm()]))
    assert (met.cosine.abs() <= 1).all()


def test_a_line_needs_two_ends():
    net, w0, _, _, x, y = problem()
    with pytest.raises(ValueError, match="no direction"):
        weight_space.line(net, w0, w0, x, y, (0,))
    with pytest.raises(ValueError, match="w must be a finite"):
        weight_space.network_at(net, w0[:-1])
