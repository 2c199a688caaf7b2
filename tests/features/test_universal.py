"""The direction and the length along it, where both have closed forms."""

import math

import pytest
import torch
from torch import nn

from tightrope import averaging, nets, synthetic, universal


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
    d = synthetic.clusters(1, k=10, dim=90, seed=2)
    net, y = averaging.explicit(d.means.double(), d.signs), (d.signs + 1) // 2
    z = universal.direction(d.means.double(), d.signs)
    found = universal.flipping_norm(net, d.means.double(), y, z, reach=40.0, share=1.0)
    assert found == pytest.approx(900**0.5 / 3, rel=1e-5)


def test_the_network_is_given_back_as_it_was():
    net = nets.mlp(3, (4,)).train()
    y = torch.tensor([0, 1])
    universal.flipping_norm(net, torch.randn(2, 3), y, torch.ones(3), reach=1.0)
    assert net.training
