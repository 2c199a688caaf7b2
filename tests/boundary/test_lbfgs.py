"""Szegedy et al.'s L-BFGS: against scipy's, one row at a time, and where the shortest perturbation is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.boundary.test_attacks import affine
from tests.oracles.margins import affine_margins
from torch import nn
from torch.nn.functional import cross_entropy

from tightrope import attacks, boxes, nets, seeds, spectra


def smooth(n=12):
    """A small network of tanh in float64, inputs of which many lie on the box's edges, and a class wanted for each."""
    g = seeds.generator(0, "smooth")
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    first, second, bias = 0.3 * draw(36, 20), draw(20, 4), draw(4)
    net = lambda z: (z.flatten(1) @ first).tanh() @ second + bias
    x = (0.5 + 0.6 * draw(n, 1, 6, 6)).clamp(0, 1)
    return net, x, (net(x).argmax(1) + 1 + torch.arange(n) % 3) % 4


def by_scipy(net, x, target, c, bounds):
    """The minimiser of c ‖r‖² + cross-entropy for one row, and its value."""

    def objective(flat):
        z = torch.tensor(flat.reshape(x.shape)).requires_grad_()
        value = c * (z - x).square().sum() + cross_entropy(net(z[None]), target[None])
        (slope,) = torch.autograd.grad(value, z)
        return value.item(), slope.numpy().ravel()

    how = {"maxiter": 2_000, "maxfun": 10_000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(objective, x.numpy().ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options=how)
    return torch.tensor(found.x.reshape(x.shape)), found.fun


@pytest.mark.parametrize("box", [(0.0, 1.0), None])
@pytest.mark.parametrize("kind", ["affine", "smooth"])
def test_a_round_ends_where_scipy_s_does(kind, box):
    net, x, target = smooth()
    if kind == "affine":  # convex: there is one minimiser only
        net, *_ = affine(4)
        target = (net(x).argmax(1) + 1) % 4
    c = 0.02
    how = {"loss": "cross-entropy", "constant": c, "searches": 1, "steps": 300, "memory": 10, "keep": "first"}
    a = attacks.lbfgs(net, x, target, targeted=True, box=box, **how)
    assert a.found.all()
    bounds = None if box is None else [box] * 36
    theirs, values = zip(
        *(by_scipy(net, *row, c, bounds) for row in zip(x, target, strict=True)), strict=True
    )
    torch.testing.assert_close(a.images, torch.stack(theirs), rtol=0, atol=1e-4)
    ours = c * (a.images - x).flatten(1).square().sum(1) + cross_entropy(
        net(a.images), target, reduction="none"
    )
    assert (ours <= torch.tensor(np.array(values)) + 1e-9).all()
    if box is not None:
        edge = (a.images == 0) | (a.images == 1)
        assert 0.1 < edge.double().mean() < 0.9


@pytest.mark.parametrize("loss", ["scaled", "cross-entropy"])
def test_of_two_classes_the_shortest_is_the_distance(loss):
    """The minimisers lie on the straight way across, so that c alone says how far."""
    model, weight, bias, x, labels = affine(2, n=12)
    exact = affine_margins(weight, bias, x)
    lengths = []
    for given, targeted in ((labels, False), (1 - labels, True)):
        how = {"loss": loss, "targeted": targeted, "box": None, "searches": 14}
        shortest, first = (attacks.lbfgs(model, x, given, keep=keep, **how) for keep in ("shortest", "first"))
        for a in (shortest, first):
            assert a.found.all()
            assert (a.norm() >= exact * (1 - 1e-9)).all()
            assert (model(a.images).argmax(1) != labels).all()
        torch.testing.assert_close(shortest.norm(), exact, rtol=0.01, atol=0)
        assert (first.norm() >= shortest.norm() * (1 - 1e-9)).all()
        assert (first.norm() > 1.05 * exact).any()
        lengths.append(shortest.norm())
    torch.testing.assert_close(*lengths, rtol=1e-3, atol=0)


@pytest.mark.parametrize("loss", ["scaled", "cross-entropy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_success_is_never_the_shorter_and_neither_leaves_the_box(loss, dtype):
    net, x, target = smooth()
    seen = lambda z: net(z.double()).to(dtype)
    x = x.to(dtype)
    short, first, few = (
        attacks.lbfgs(seen, x, target, targeted=True, loss=loss, **how)
        for how in ({}, {"keep": "first"}, {"searches": 4})
    )
    for a in (short, first):
        assert a.found.all()
        assert (seen(a.images).argmax(1) == target).all()
        assert ((a.images >= 0) & (a.images <= 1)).all()
    slack = 1 + 1e3 * torch.finfo(dtype).eps
    assert (short.norm() <= slack * first.norm()).all()
    assert (short.norm() <= slack * few.norm()).all()
    assert short.norm().mean() < 0.98 * first.norm().mean()
    assert sum(first.passes.values()) < sum(short.passes.values())  # rows that are done leave


def test_a_box_of_flips_is_as_good_as_the_box_of_what_they_are_flips_of():
    net, x, target = smooth()
    there = lambda z: net(spectra.flip(z))
    plain = attacks.lbfgs(net, x, target, targeted=True)
    turned = attacks.lbfgs(there, spectra.flip(x), target, targeted=True, box=boxes.Flipped())
    assert boxes.Flipped().inside(turned.images).all()
    assert plain.found.all()
    assert turned.found.all()
    torch.testing.assert_close(turned.norm(), plain.norm(), rtol=0.02, atol=0)


@pytest.mark.parametrize("keep", ["first", "shortest"])
def test_every_row_is_minimised_as_if_alone(keep):
    net, x, target = smooth()
    how = {"targeted": True, "keep": keep, "steps": 20, "searches": 5}
    together, alone = (attacks.lbfgs(net, x, target, chunk=chunk, **how) for chunk in (None, 1))
    assert torch.equal(together.found, alone.found)
    torch.testing.assert_close(together.images, alone.images, rtol=0, atol=1e-5)


def test_a_step_that_overshoots_is_halved():
    """A narrow valley, steep on both sides: full steps would jump it, and what is kept never gets worse."""
    wide = torch.tensor([1.0, 30.0, 900.0], dtype=torch.float64)
    bowl = lambda z: torch.stack([(wide * (z - 2).square()).sum(1), 0 * z[:, 0]], 1)
    x, target = torch.zeros(3, 3, dtype=torch.float64), torch.ones(3, dtype=torch.int64)
    how = {
        "loss": "cross-entropy",
        "constant": 1e-3,
        "searches": 1,
        "targeted": True,
        "box": None,
        "keep": "first",
    }
    ends = [attacks.lbfgs(bowl, x, target, steps=steps, **how).images for steps in (20, 40, 80, 160)]
    values = [1e-3 * z.square().sum(1) + cross_entropy(bowl(z), target, reduction="none") for z in ends]
    assert all((b <= a + 1e-12).all() for a, b in pairwise(values))


def test_a_network_of_relus_is_turned_towards_every_class():
    net = nets.mlp(36, (30, 30), 5, seed=3).double()
    x = torch.rand(10, 1, 6, 6, generator=seeds.generator(0, "x"), dtype=torch.float64).repeat_interleave(
        5, 0
    )
    target = torch.arange(5).repeat(10)
    a = attacks.lbfgs(net, x, target, targeted=True, box=None)
    assert a.found.all()
    ddn = attacks.ddn(net, x, target, targeted=True, box=None, steps=300)
    assert a.norm().median() <= 1.05 * ddn.norm().median()
    assert (a.norm()[net(x).argmax(1) == target] == 0).all()


def test_distortion_is_the_length_by_the_root_of_the_numbers():
    x = torch.rand(4, 1, 6, 6, generator=seeds.generator(0, "x"))
    y = x + torch.tensor([0.0, 0.1, 0.2, -0.3])[:, None, None, None]
    torch.testing.assert_close(attacks.distortion(x, y), torch.tensor([0.0, 0.1, 0.2, 0.3]))
    one = x.clone()
    one[:, 0, 0, 0] += 3.0
    torch.testing.assert_close(attacks.distortion(x, one), torch.full((4,), 0.5))
    a = attacks.pgd(nets.mlp(36, (8,), seed=1), x, torch.zeros(4, dtype=torch.int64), eps=2.0)
    torch.testing.assert_close(
        attacks.distortion(a.start, a.images)[a.found], a.norm()[a.found] / math.sqrt(36)
    )
    assert nn.functional.mse_loss(x, y).sqrt().item() == pytest.approx(
        attacks.distortion(x, y).square().mean().sqrt().item()
    )
