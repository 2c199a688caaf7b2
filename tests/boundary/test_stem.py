"""The first layer composed with a subspace's basis: the network's own gaps and gradients, or no stem at all."""

import pytest
import torch
from torch import nn

from tightrope import margins, nets, spectra
from tightrope.boundary import stem, stepping
from tightrope.boundary.rivals import slack
from tightrope.models.measured import measured

IMAGE = (1, 28, 28)
WINDOWS = spectra.dct_windows(IMAGE, size=8, step=10)


def images(n=5, dtype=torch.float64):
    return torch.rand(n, *IMAGE, generator=torch.Generator().manual_seed(0), dtype=dtype)


def composed(net, x, spaces):
    with measured(net, x) as (inside, x):
        ranked = inside(x).argsort(dim=1, descending=True)
        return stem.composed(inside, x, ranked, spaces, 4, slack(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["lenet", "mlp"])
def test_it_gives_the_networks_own_gaps_and_gradients(name, dtype):
    net = (nets.lenet(0) if name == "lenet" else nets.mlp(784, (30,), 10, mean=0.5, std=0.2)).to(dtype)
    x, ranked = images(6, dtype), torch.tensor([[3, 1, 7]]).expand(6, 3)
    made = composed(net, x, WINDOWS)
    parts = [(j, 0.3 * torch.randn(2, 64, dtype=dtype)) for j in range(3)]
    with measured(net, x) as (inside, x):
        made.net = inside
        gaps, slopes = made.linearise(x, torch.arange(6), ranked, parts)
    at = x + torch.cat([WINDOWS[j].lift(c) for j, c in parts])
    f = net(at.requires_grad_()).gather(1, ranked).T
    near = {"rtol": 1e-3, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(gaps, (f[1:] - f[0]).detach(), **near)
    for k in range(2):
        (own,) = torch.autograd.grad((f[k + 1] - f[0]).sum(), at, retain_graph=True)
        own = [WINDOWS[j].coordinates(part) for (j, _), part in zip(parts, own.split(2), strict=True)]
        for mine, theirs in zip(slopes, own, strict=True):
            torch.testing.assert_close(mine[k], theirs, **near)


class Around(nn.Module):
    """The input also goes past the first layer."""

    def __init__(self):
        super().__init__()
        self.net, self.past = nets.lenet(0), nn.Linear(784, 10)

    def forward(self, x):
        return self.net(x) + self.past(x.flatten(1))


class Twice(nn.Module):
    """The first layer runs again further on."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 1, 5, padding=2), nn.Linear(784, 10)

    def forward(self, x):
        return self.last(self.conv(self.conv(x).relu()).flatten(1))


class Squares(nn.Module):
    """What comes before the first layer is not affine."""

    def __init__(self):
        super().__init__()
        self.net = nets.lenet(0)

    def forward(self, x):
        return self.net(x.square())


class HalfDetached(nn.Module):
    """The logits are those of a stem, the gradients are not."""

    def __init__(self):
        super().__init__()
        self.net = nets.lenet(0)

    def forward(self, x):
        return self.net(0.5 * x + 0.5 * x.detach())


def watched():
    net = nets.lenet(0)
    net.conv1.register_forward_hook(lambda *given: None)
    return net


@pytest.mark.parametrize("make", [Around, Twice, Squares, HalfDetached, watched])
def test_a_network_that_does_not_begin_with_one_layer_has_none(make):
    assert composed(make().double(), images(), WINDOWS) is None


@pytest.mark.parametrize("space", [spectra.full(IMAGE), spectra.random_subspace(IMAGE, 200)])
def test_where_the_product_would_take_longer_there_is_none(space):
    assert composed(nets.lenet(0).double(), images(), [WINDOWS[0], space]) is None


def test_margins_are_the_same_with_and_without(monkeypatch):
    net, x = nets.lenet(0).double(), images()
    hooks = {name: dict(vars(m)) for name, m in net.named_modules()}
    with_stem = margins.deepfool(net, x, WINDOWS, tight=5)
    assert {name: dict(vars(m)) for name, m in net.named_modules()} == hooks
    assert composed(net, x, WINDOWS) is not None
    monkeypatch.setattr(stepping, "composed", lambda *given: None)
    without = margins.deepfool(net, x, WINDOWS, tight=5)
    torch.testing.assert_close(with_stem.norm, without.norm, rtol=1e-8, atol=0)
    torch.testing.assert_close(with_stem.steps, without.steps)


def test_a_row_is_the_same_in_any_company_and_chunk():
    net, x = nets.lenet(0).double(), images(7)
    together = margins.deepfool(net, x, WINDOWS)
    assert composed(net, x, WINDOWS) is not None
    for k in (0, 4):
        alone = margins.deepfool(net, x[k : k + 1], WINDOWS, chunk=1)
        torch.testing.assert_close(alone.norm[0], together.norm[k], rtol=1e-6, atol=0)
    turned = margins.deepfool(net, x.flip(0), WINDOWS[::-1], chunk=3)
    torch.testing.assert_close(turned.norm.flip(0, 1), together.norm, rtol=1e-6, atol=0)
