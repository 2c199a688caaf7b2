"""Shortened perturbations against a search that misses nothing: every direction of a plane, every distance."""

import math

import pytest
import torch

from tightrope import margins, nets, spectra
from tightrope.boundary import crossing


def net_and_points(n=24, dim=12, seed=0):
    net = nets.mlp(dim, hidden=(32, 32), classes=4, seed=seed)
    return net, torch.randn(n, dim, generator=torch.Generator().manual_seed(seed + 1))


def by_scanning(net, x, plane, reach, angles=720, radii=600):
    """Margins in a 2-dimensional subspace by brute force, to about half a per cent; +inf beyond `reach`."""
    t = torch.arange(angles) * (2 * math.pi / angles)
    directions = plane.lift(torch.stack([t.cos(), t.sin()], 1))
    distance = torch.linspace(reach / radii, reach, radii)
    result = []
    with torch.no_grad():
        for point in x:
            grid = point + distance[:, None, None] * directions
            other = (
                net(grid.reshape(-1, x.shape[1])).argmax(1).reshape(radii, angles)
                != net(point[None]).argmax()
            )
            hit = other.any(1).nonzero()
            result.append(distance[hit[0, 0]] if len(hit) else torch.tensor(math.inf))
    return torch.stack(result)


def test_tight_margins_in_a_plane_come_near_the_true_ones():
    net, x = net_and_points()
    plane = spectra.random_subspace((12,), 2, 3)
    plain = margins.deepfool(net, x, plane)
    tight = margins.deepfool(net, x, plane, tight=40)
    found = plain.found[:, 0]
    truth = by_scanning(net, x[found], plane, reach=float(plain.norm[found].max()))
    assert found.sum() > 15
    # An upper bound, always; the scan itself is coarse by its step.
    assert (tight.norm[found, 0] >= truth - plain.norm[found].max() / 500).all()
    excess = lambda m: (m.norm[found, 0] / truth - 1).median().item()
    assert excess(tight) < 0.01
    assert excess(plain) > excess(tight)


@pytest.mark.parametrize("steps", [1, 20])
def test_shortening_stays_in_the_subspace_flips_and_never_lengthens(steps):
    net, x = net_and_points()
    spaces = [spectra.random_subspace((12,), 3, 1), spectra.random_subspace((12,), 5, 2).complement()]
    plain = margins.deepfool(net, x, spaces)
    tight = margins.deepfool(net, x, spaces, tight=steps, keep=True)
    assert torch.equal(plain.found, tight.found)
    assert (tight.norm <= plain.norm * (1 + 1e-6)).all()
    assert torch.equal(plain.raw, tight.raw)
    for j, space in enumerate(spaces):
        delta = tight.delta[:, j]
        found = tight.found[:, j]
        torch.testing.assert_close(space.project(delta), delta, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(delta[found].norm(dim=1), tight.norm[found, j])
        with torch.no_grad():
            assert (net(x + 1.001 * delta).argmax(1) != tight.origin)[found].all()
            assert torch.equal(net(x + 1.001 * delta).argmax(1)[found], tight.label[found, j])
            assert (net(x + 0.99 * delta).argmax(1) == tight.origin)[found].all()


def test_an_affine_margin_is_left_alone():
    w = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(10, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    m = margins.deepfool(lambda z: z @ w.T, x)
    t = margins.deepfool(lambda z: z @ w.T, x, tight=20)
    torch.testing.assert_close(t.norm, m.norm, rtol=1e-10, atol=0)


def test_crossing_finds_a_kink_and_a_steep_curve():
    """Gaps whose root is known: two slopes with a kink on the way, and a cube."""
    for gap, root in (
        (lambda s: torch.where(s < 0.7, 1e-3 * (s - 0.7), 50 * (s - 0.7)), 0.7),
        (lambda s: (s - 0.2) ** 3, 0.2),
        (lambda s: torch.expm1(30 * (s - 0.9)), 0.9),
    ):
        net = lambda x, gap=gap: torch.cat([torch.zeros_like(x), gap(x)], 1)
        x, delta = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        here, there = gap(x)[0], gap(delta)[0]
        ends = crossing.Ends(here, there, torch.ones(1, dtype=torch.int64))
        cut, after = crossing.crossing(net, x, delta, torch.zeros(1, dtype=torch.int64), ends)
        assert cut.item() == pytest.approx(root, rel=1e-4)
        assert after.label.item() == 1
