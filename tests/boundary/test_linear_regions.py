"""Linear regions against the pattern of a network's units, looked at directly."""

import math

import pytest
import torch

from tightrope import linear_regions, nets


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(hidden, inputs=6, seed=1):
    return nets.mlp(inputs, hidden, 3, seed=seed, mean=0.2, std=0.5).double()


def pattern(net, x):
    """Which units are on, (N, H)."""
    on = []
    hooks = [
        m.register_forward_hook(lambda _, given, __: on.append(given[0] > 0))
        for m in net
        if type(m) is torch.nn.ReLU
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return torch.cat(on, 1)


@pytest.mark.parametrize("hidden", [(7,), (9, 8), (5, 6, 7)])
def test_units_change_at_the_first_kink_and_not_before(hidden):
    net, x, d = network(hidden), draw(200, 6), draw(200, 6, seed=1)
    t = linear_regions.first_kink(net, x, d)
    met = t.isfinite()
    assert met.sum() > 100
    x, d, t = x[met], d[met], t[met, None]
    here = pattern(net, x)
    for share in (0.01, 0.5, 1 - 1e-9):
        assert torch.equal(pattern(net, x + share * t * d), here)
    assert (pattern(net, x + (1 + 1e-9) * t * d) != here).any(1).all()


@pytest.mark.parametrize("hidden", [(7,), (9, 8), (5, 6, 7)])
def test_no_ray_meets_a_kink_within_the_inradius_and_one_does_at_its_end(hidden):
    net, x = network(hidden), draw(40, 6)
    r = linear_regions.inradius(net, x)
    rays = torch.nn.functional.normalize(draw(40, 300, 6, seed=2), dim=2)
    t = torch.stack([linear_regions.first_kink(net, x, rays[:, k]) for k in range(300)], 1)
    assert (t >= r[:, None] * (1 - 1e-12)).all()
    # The nearest face is met along its normal: by the steepest of |z_j|, whose gradient autograd knows.
    leaf = x.clone().requires_grad_()
    z = []
    hooks = [
        m.register_forward_hook(lambda _, given, __: z.append(given[0]))
        for m in net
        if type(m) is torch.nn.ReLU
    ]
    net(leaf)
    for hook in hooks:
        hook.remove()
    z = torch.cat(z, 1)
    slopes = torch.stack(
        [torch.autograd.grad(z[:, j].sum(), leaf, retain_graph=True)[0] for j in range(z.shape[1])], 1
    )
    far = (z.abs() / slopes.norm(dim=2)).nan_to_num(nan=math.inf)
    nearest = far.argmin(1)
    rows = torch.arange(40)
    way = -torch.sign(z[rows, nearest])[:, None] * torch.nn.functional.normalize(slopes[rows, nearest], dim=1)
    torch.testing.assert_close(linear_regions.first_kink(net, x, way.detach()), r)


def test_images_are_measured_as_they_are_and_in_blocks(monkeypatch):
    net = nets.mlp(784, (20, 10), 10, seed=1)
    x = torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    whole = linear_regions.inradius(net, x)
    monkeypatch.setattr(linear_regions, "NUMBERS", 2 * 20 * 784)
    torch.testing.assert_close(linear_regions.inradius(net, x), whole)
    d = torch.ones_like(x)
    kink = linear_regions.first_kink(net, x, d)
    assert (kink * 28 >= whole * (1 - 1e-9)).all()
    torch.testing.assert_close(linear_regions.first_kink(net, x[4:5], d[:1]), kink[4:5])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: linear_regions.inradius(nets.lenet(), torch.rand(1, 1, 28, 28)),
            "net must be a ReLU network of full",
        ),
        (lambda: linear_regions.inradius(network((4,)), draw(3, 5)), "x must hold 6 numbers"),
        (lambda: linear_regions.inradius(torch.nn.Linear(3, 2), torch.rand(2, 3)), "net must be"),
        (lambda: linear_regions.first_kink(network((4,)), draw(3, 6), draw(2, 6)), "direction must be"),
    ],
)
def test_what_has_no_such_regions_is_refused(call, says):
    with pytest.raises(ValueError, match=rf"^{says}.*\.$"):
        call()
