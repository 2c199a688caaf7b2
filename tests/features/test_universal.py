"""The direction and the length along it, where both have closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tightrope import averaging, clusters, nets, universal


def linear(w, b=0.0):
    """A linear classifier: label 1 where ⟨w, x⟩ + b > 0."""
    layer = nn.Linear(len(w), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w)[None])
        layer.bias.fill_(b)
    return nn.Sequential(layer, nets.TwoLogits())


def test_the_direction_is_the_signed_sum_of_means():
    means = torch.tensor([[3.0, 0, 0], [0, 0, 4.0]])
    found = universal.direction(means, torch.tensor([1, -1]))
    torch.testing.assert_close(found, torch.tensor([0.6, 0, -0.8]))
    with pytest.raises(ValueError, match="zero"):
        universal.direction(torch.ones(2, 3), torch.tensor([1, -1]))


@pytest.mark.parametrize(("share", "wanted"), [(0.25, 1.0), (0.5, 2.0), (0.51, 3.0), (1.0, 4.0)])
def test_the_length_is_the_sample_s_own_where_it_completes_the_share(share, wanted):
    y = torch.tensor([1, 0, 1, 0])
    x = torch.tensor([[1.0, 5], [-2.0, 5], [3.0, -7], [-4.0, 0]])
    at = {"share": share, "reach": 10.0, "points": 7}
    found = universal.flipping_norm(linear([1.0, 0.0]), x, y, torch.tensor([9.0, 0]), **at)
    assert found == pytest.approx(wanted, abs=1e-5)
    slanted = universal.flipping_norm(linear([1.0, 0.0]), x, y, torch.tensor([0.6, 0.8]), **at)
    assert slanted == pytest.approx(wanted / 0.6, abs=1e-5)


def test_what_never_flips_is_infinite_and_a_wrong_sample_flips_away_from_its_label():
    x, z = torch.tensor([[1.0, 0], [2.0, 0]]), torch.tensor([1.0, 0])
    net = linear([1.0, 0.0])
    assert universal.flipping_norm(net, x, torch.tensor([1, 1]), z, reach=1.5) == math.inf
    assert universal.flipping_norm(net, x, torch.tensor([0, 0]), z, reach=50.0) == math.inf
    assert universal.flipping_norm(net, x, torch.tensor([1, 1]), -z, reach=50.0) == math.inf


def test_the_explicit_network_s_length_has_a_closed_form():
    """Its own neuron falls by s as the q of the other class rise by it: 1 − s − ¼ = q (s − ¼), q = 5, s = ⅓."""
    d = clusters.sample(1, k=10, dim=90, seed=2)
    net, y = averaging.explicit(d.means.double(), d.signs), (d.signs + 1) // 2
    z = universal.direction(d.means.double(), d.signs)
    found = universal.flipping_norm(net, d.means.double(), y, z, reach=40.0, share=1.0)
    assert found == pytest.approx(900**0.5 / 3, rel=1e-5)


def test_the_network_is_given_back_as_it_was():
    net = nets.mlp(3, (4,)).train()
    y = torch.tensor([0, 1])
    universal.flipping_norm(net, torch.randn(2, 3), y, torch.ones(3), reach=1.0)
    assert net.training


def test_averages_of_orthogonal_means_fail_at_the_same_length_whatever_their_biases():
    """⟨w_s, ·⟩ = 1 − t √k / 2ρ in the own class and t √k / 2ρ in the other: equal at t = ρ/√k = √(D/k)."""
    d = clusters.sample(1, k=8, dim=72, seed=1)
    means, y, sign = d.means.double(), (d.signs + 1) // 2, torch.tensor([-1, 1])
    w = torch.stack([means[d.signs == s].sum(0) for s in sign]) / 72
    z = universal.direction(means, d.signs)
    biases = torch.linspace(-2, 2, 41, dtype=torch.float64)
    worse = lambda radius: (
        universal.with_biases(w, sign, means, y, z, radius=radius, biases=biases).amin(0).max()
    )
    assert worse(0.99 * 3) == 1
    assert worse(1.01 * 3) == 0


def test_biases_are_those_of_the_network():
    d = clusters.sample(60, k=4, dim=20, noise=2.0, seed=1)
    found = averaging.train(d, 3, steps=20, rate=0.02)
    z, biases = universal.direction(d.means, d.signs), torch.tensor([-0.5, 0.1])
    grid = universal.with_biases(found.w, found.sign, d.x, d.y, z, radius=2.0, biases=biases)
    assert grid.min() < grid.max() < 1
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        net = replace(found, b=torch.where(found.sign > 0, biases[j], biases[i])).net()
        for c in (0, 1):
            x = d.x[d.y == c]
            both = torch.stack([net(x), net(x - (2 * c - 1) * 2.0 * z)])
            right = (both[..., c] > both[..., 1 - c]).all(0)
            assert grid[c, i, j].item() == pytest.approx(right.float().mean().item())
