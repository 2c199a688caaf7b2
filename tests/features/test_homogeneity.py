"""Margins of homogeneous networks: the orders one can count, the inequality, and the SVM's KKT conditions."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tightrope import homogeneity, log_descent, low_rank, nets

EXACT = torch.float64


def points(seed=0, n=30, dim=4):
    """Two classes that a plane through the origin separates."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    x = torch.randn(n, dim, generator=g, dtype=EXACT)
    x[:, 0] = (x[:, 0].abs() + 1) * (2 * y - 1)
    return x, y


def linear(w):
    net = nn.Sequential(nn.Linear(len(w), 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(w[None])
    return net


def relu(sizes, seed=0, biases=()):
    """Fully connected, with biases (drawn too) in the layers of these numbers, from 0."""
    layers = []
    for k, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(a, b, bias=k in biases), nn.ReLU()]
    return nets.initialise(nn.Sequential(*layers[:-1]), "default", seed).double()


def svm(x, y):
    signed = x * (2 * y - 1)[:, None]
    return low_rank.max_margin(signed, -signed).w


def gap(multipliers):
    return (multipliers.stationarity.square() / 2 + multipliers.complementarity).item()


@pytest.mark.parametrize("sizes", [(4, 3), (4, 8, 3), (4, 8, 8, 2), (4, 8, 8, 1)])
def test_the_order_is_the_number_of_layers(sizes):
    x, _ = points()
    found = homogeneity.scaling(relu(sizes), x, scales=(0.5, 2.0, 10.0))
    torch.testing.assert_close(found.exponent, torch.full((3,), len(sizes) - 1.0, dtype=EXACT))
    assert found.scale.tolist() == [0.5, 2.0, 10.0]
    assert (found.residual < 1e-12).all()


def test_a_bias_breaks_it_in_every_layer_but_the_first():
    x, _ = points()
    sizes = (4, 8, 8, 3)
    first = homogeneity.scaling(relu(sizes, biases=(0,)), x)
    torch.testing.assert_close(first.exponent, torch.full((3,), 3.0, dtype=EXACT))
    assert (first.residual < 1e-12).all()
    for deeper in (1, 2):
        found = homogeneity.scaling(relu(sizes, biases=(deeper,)), x)
        assert (found.residual > 1e-3).all()
        assert ((found.exponent - 3).abs() > 1e-3).all()


def test_convolutions_and_pools_are_homogeneous_and_a_frozen_layer_does_not_count():
    net = nn.Sequential(
        nets.Normalise(0.5, 0.2),
        nn.Conv2d(1, 4, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 3, False),
    )
    net[5].weight.requires_grad_(False)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(homogeneity.scaling(net, x).exponent, torch.ones(3, dtype=EXACT))
    net[5].weight.requires_grad_(True)
    torch.testing.assert_close(homogeneity.scaling(net, x).exponent, torch.full((3,), 2.0, dtype=EXACT))


def test_the_network_is_as_it_was():
    x, y = points(n=12)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2)).train()
    before = {k: t.clone() for k, t in net.state_dict().items()}
    same = [p.data_ptr() for p in net.parameters()]
    homogeneity.scaling(net, x.float())
    seen = homogeneity.margins(net, x.float(), y, 2)
    again = homogeneity.margins(net, x.float(), y, 2)
    assert torch.equal(seen.q, again.q)  # no dropout
    assert all(torch.equal(before[k], t) for k, t in net.state_dict().items())
    assert [p.data_ptr() for p in net.parameters()] == same
    assert all(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_margins_by_hand_and_between_their_bounds(classes, seed):
    x, y = points(seed)
    net = relu((4, 8, 8, classes), seed, biases=(0,))
    if classes == 5:
        y = y + seed
    found = homogeneity.margins(net, x, y, 3, chunk=7)
    with torch.no_grad():
        f = net(x).numpy()
    for n in range(len(x)):
        if classes == 1:
            wanted = f[n, 0] if y[n] else -f[n, 0]
        else:
            wanted = f[n, y[n]] - max(f[n, j] for j in range(classes) if j != y[n])
        assert found.q[n].item() == pytest.approx(wanted, rel=1e-12)
    rho = math.sqrt(sum(p.square().sum().item() for p in net.parameters()))
    assert found.norm.item() == pytest.approx(rho)
    assert found.normalised.item() == pytest.approx(found.q.min().item() / rho**3)
    assert found.log_loss.item() == pytest.approx(math.log(np.exp(-found.q.numpy()).sum()))
    assert found.normalised - math.log(len(x)) / rho**3 <= found.smoothed <= found.normalised
    # Where θ̂ alone matters, a larger θ changes γ̄ in nothing and brings γ̃ nearer.
    far = homogeneity.margins(net, x, y, 3, weights=[10 * p.detach() for p in net.parameters()])
    torch.testing.assert_close(far.normalised, found.normalised)
    assert 0 <= far.normalised - far.smoothed <= (found.normalised - found.smoothed) + 1e-15


def test_two_logits_have_their_score_s_margin():
    x, y = points()
    one = linear(torch.arange(1.0, 5.0, dtype=EXACT))
    two = nn.Sequential(one, nets.TwoLogits())
    torch.testing.assert_close(homogeneity.margins(one, x, y, 1).q, homogeneity.margins(two, x, y, 1).q)


@pytest.mark.parametrize("seed", range(4))
def test_the_svm_is_a_kkt_point_and_nothing_else_is(seed):
    x, y = points(seed)
    w = svm(x, y)
    found = homogeneity.kkt(linear(3 * w), x, y, 1)
    assert found.best.stationarity < 1e-8
    assert found.best.complementarity.abs() < 1e-8
    assert (found.best.weights >= 0).all()
    assert found.q.min().item() == pytest.approx(1)
    lambdas = found.best.weights * (2 * y - 1)
    torch.testing.assert_close(lambdas @ x, w, rtol=1e-7, atol=1e-9)
    # Anything else that separates pays the duality gap, with whatever multipliers.
    other = torch.eye(4, dtype=EXACT)[0] + 0.1 * torch.randn(4, generator=torch.Generator().manual_seed(seed))
    other = other / (x * (2 * y - 1)[:, None] @ other).min()
    far = homogeneity.kkt(linear(other), x, y, 1, slack=5.0)
    least = ((other - w).norm() / other.norm()).square().item() / 2
    assert least > 1e-4
    for multipliers in (far.best, far.flow):
        assert gap(multipliers) >= least * (1 - 1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_flow_s_multipliers_are_the_exponential_loss_s_gradient(classes):
    """Its angle with θ is the residual; 𝓛 and ∇𝓛 are of plain autograd, at θ itself."""
    x, _ = points(2)
    net = relu((4, 8, 8, classes), 3, biases=(0,))
    with torch.no_grad():
        f = net(x)
    y = (f[:, 0] > 0).long() if classes == 1 else f.argmax(1)
    found = homogeneity.kkt(net, x, y, 3, slack=1e9, chunk=11)
    f = net(x)
    q = f[:, 0] * (2 * y - 1) if classes == 1 else f[torch.arange(len(x)), y] - f.topk(2).values[:, 1]
    slopes = torch.autograd.grad(torch.exp(-q).sum(), list(net.parameters()))
    slope, theta = (torch.cat([t.detach().flatten() for t in ts]) for ts in (slopes, net.parameters()))
    beta = -torch.cosine_similarity(slope, theta, dim=0).item()
    assert found.flow.stationarity.item() == pytest.approx(math.sqrt(1 - beta**2), rel=1e-6)
    ratio = found.flow.weights / torch.exp(-q.detach())
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    torch.testing.assert_close(found.q, q.detach() / q.detach().min(), rtol=1e-8, atol=1e-8)
    total = sum(r.square() for r in (found.best.stationarity, found.best.complementarity))
    assert total <= sum(r.square() for r in (found.flow.stationarity, found.flow.complementarity)) + 1e-12


def descended(seed, steps, enough):
    """A two-layer network's way under the exponential loss, and its data."""
    x, y = points(seed, n=10, dim=3)
    net = relu((3, 12, 1), seed)
    loss = lambda: torch.logsumexp(-(net(x)[:, 0] * (2 * y - 1)), 0)
    options = {"schedule": "loss", "enough": enough, "keep": 40}
    path = log_descent.descend(loss, list(net.parameters()), steps, 0.02, **options)
    return net, x, y, path


@pytest.mark.parametrize("seed", range(3))
def test_descent_goes_towards_a_kkt_point(seed):
    net, x, y, path = descended(seed, 400, 0.5)
    fitted = int((path.log_loss < -3).nonzero()[0])
    early, late = (
        homogeneity.kkt(net, x, y, 2, weights=[w[k] for w in path.weights], slack=0.5) for k in (fitted, -1)
    )
    assert gap(late.best) < gap(early.best) / 3


def test_the_smoothed_margin_rises():
    """The theorem: along gradient flow, from where the data are fitted (log 𝓛 < 0) on."""
    net, x, y, path = descended(1, 300, 0.9)
    seen = [
        homogeneity.margins(net, x, y, 2, weights=[w[k] for w in path.weights]) for k in range(len(path.step))
    ]
    smoothed = torch.stack([m.smoothed for m in seen])[path.log_loss < 0]
    torch.testing.assert_close(torch.stack([m.log_loss for m in seen]), path.log_loss)
    assert len(smoothed) > 10
    assert smoothed[-1] > smoothed[0] > 0
    assert (smoothed.diff() > -0.01 * smoothed[-1]).all()


def test_too_many_near_active_samples_and_the_wrong_side_are_one_sentence(monkeypatch):
    x, y = points()
    net = linear(svm(x, y))
    with pytest.raises(ValueError, match="a margin is not above zero"):
        homogeneity.kkt(net, x, 1 - y, 1)
    monkeypatch.setattr(homogeneity, "MOST", 10)
    with pytest.raises(ValueError, match="smaller slack than 1"):
        homogeneity.kkt(net, x, y, 1, slack=1.0)
