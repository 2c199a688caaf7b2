"""The race against closed forms, against a search that misses nothing, and against itself in other company."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.margins import affine_margins
from torch import nn

from tightrope import margins, nets, spectra
from tightrope.boundary import crossing, race

DIM = 12


def smooth(seed=0, classes=4):
    """A network without a kink: tanh, in float64."""
    net = nets.mlp(DIM, hidden=(32, 32), classes=classes, seed=seed).double()
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.ReLU):
            net.set_submodule(name, nn.Tanh())
    return net


def points(n, seed=0, dim=DIM):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spaces():
    return [
        spectra.full((DIM,)),
        spectra.random_subspace((DIM,), 3, seed=1),
        spectra.random_subspace((DIM,), 4, seed=2).complement(),
    ]


def in_a_plane(net, x, plane, reach, angles=1_000):
    """Margins in a plane: along each of many directions the first of many points with another label, then bisection."""
    t = torch.arange(angles, dtype=x.dtype) * (2 * math.pi / angles)
    ways = plane.lift(torch.stack([t.cos(), t.sin()], 1))
    shortest = []
    with torch.no_grad():
        for point in x:
            own, low, high = net(point[None]).argmax(), torch.zeros_like(t), torch.full_like(t, math.inf)
            for distance in torch.linspace(reach / 100, reach, 100, dtype=x.dtype):
                over = net(point + distance * ways).argmax(1) != own
                high = torch.where(over & high.isinf(), distance, high)
                low = torch.where(high.isinf(), distance, low)
            hit = high.isfinite()
            low, high = low[hit], high[hit]
            for _ in range(25):
                middle = (low + high) / 2
                over = net(point + middle[:, None] * ways[hit]).argmax(1) != own
                low, high = torch.where(over, low, middle), torch.where(over, middle, high)
            shortest.append(high.min() if len(high) else torch.tensor(math.inf, dtype=x.dtype))
    return torch.stack(shortest)


@given(passes=st.integers(1, 300), starts=st.integers(1, 12))
def test_a_race_takes_the_passes_it_is_given(passes, starts):
    plan = race.sizes(passes, starts)
    assert plan == sorted(plan, reverse=True)
    assert sum(plan) <= passes
    if starts <= passes:
        assert plan[0] == starts
        assert passes - sum(plan) < plan[-1]


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(2, 8),
    dim=st.integers(1, 20),
    tight=st.integers(1, 40),
    starts=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 2**20),
)
def test_an_affine_margin_is_exact_with_any_number_of_starts(classes, dim, tight, starts, seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 20, generator=draw, dtype=torch.float64)
    bias = torch.randn(classes, generator=draw, dtype=torch.float64)
    x, space = points(6, seed, 20), spectra.random_subspace((20,), dim, seed=seed)
    m = margins.deepfool(lambda z: z @ weight.T + bias, x, space, tight=tight, starts=starts)
    exact = affine_margins(weight, bias, x, space.basis().T)
    torch.testing.assert_close(m.norm[:, 0], exact, rtol=1e-9, atol=1e-12)


def test_in_a_plane_a_race_comes_within_a_hundredth_of_the_shortest_way():
    net, x = smooth(), points(20, 1)
    plane = spectra.random_subspace((DIM,), 2, seed=3)
    one, several = (margins.deepfool(net, x, plane, tight=40, starts=starts) for starts in (1, 3))
    near = one.found[:, 0] & (one.norm[:, 0] < 10)
    true = in_a_plane(net, x[near], plane, reach=float(one.norm[near].max()) * 1.01)
    assert near.sum() > 12
    for m in (one, several):
        ratio = m.norm[near, 0] / true
        assert (ratio > 1 - 2e-5).all()  # 1,000 directions miss a straight boundary's nearest point by 5e-6
        assert ratio.median() < 1.01


def test_tight_margins_are_tested_bounds_inside_their_subspace():
    net, x = smooth(3), points(40, 2)
    plain, m = (margins.deepfool(net, x, spaces(), tight=t, keep=True) for t in (0, 28))
    assert torch.equal(m.found, plain.found)
    assert torch.equal(m.raw, plain.raw)
    assert torch.equal(m.steps, plain.steps)
    assert (m.norm <= plain.norm * (1 + 1e-11)).all()
    assert (m.norm < plain.norm * (1 - 1e-3))[m.found].any()
    for j, space in enumerate(spaces()):
        delta, found = m.delta[:, j], m.found[:, j]
        torch.testing.assert_close(space.project(delta), delta)
        torch.testing.assert_close(delta[found].norm(dim=1), m.norm[found, j])
        with torch.no_grad():
            there, before = (net(x + t * delta).argmax(1) for t in (1 + 1e-5, 1 - 1e-5))
        assert torch.equal(there[found], m.label[found, j])
        assert torch.equal(before[found], m.origin[found])
        assert not delta[~found].any()


def test_a_row_depends_neither_on_company_nor_order_nor_chunk():
    net, x = smooth(5, classes=7), points(14, 4)
    ways = spaces()
    m = margins.deepfool(net, x, ways, tight=28)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    turned = margins.deepfool(net, x[order], ways[::-1], tight=28)
    chunked = margins.deepfool(net, x, ways, tight=28, chunk=5)
    alone = torch.cat([margins.deepfool(net, one[None], ways, tight=28).norm for one in x])
    back = order.argsort()
    for norm in (turned.norm[back].flip(1), chunked.norm, alone):
        torch.testing.assert_close(norm, m.norm, rtol=1e-6, atol=0)
    assert torch.equal(turned.start[back].flip(1), m.start)
    assert torch.equal(chunked.start, m.start)


def test_two_classes_that_tie_are_no_choice_of_rounding():
    """A class written twice, one copy with its sums in another order: the first is the rival, whoever rounds up."""
    logits = torch.tensor([[2.0, 1, 1], [2, 1 + 1e-13, 1], [2, 1, 1 + 1e-13]], dtype=torch.float64)
    origin = torch.zeros(3, dtype=torch.int64)
    assert crossing.rival(logits, origin, 1e-11).tolist() == [1, 1, 1]
    assert crossing.rival(logits + torch.tensor([0, 0, 1e-3]), origin, 1e-11).tolist() == [2, 2, 2]


def test_passes_and_starts_are_recorded():
    net, x = smooth(6, classes=6), points(30, 7)
    full = spectra.full((DIM,))
    plain, one, many = (
        margins.deepfool(net, x, full, tight=t, starts=s) for t, s in ((0, None), (30, 1), (30, 4))
    )
    assert torch.equal(plain.passes, 5 * plain.steps)
    assert torch.equal(many.passes - plain.passes, plain.found * sum(race.sizes(30, 4)))
    assert set(one.start.unique().tolist()) <= {-1, 0}
    assert torch.equal(one.start == -1, ~one.found)
    assert set(many.start[many.found].unique().tolist()) <= {0, 1, 2, 3}
    assert (many.start > 0).any()  # or several starts would be for nothing
    assert many["full space"].start.shape == (30, 1)


def test_a_race_takes_as_many_passes_through_the_network_as_it_says():
    net, x = smooth(6, classes=6), points(30, 7)
    gradients = []

    def counted(z):
        if z.requires_grad:
            gradients.append(len(z))
        return net(z)

    for tight in (0, 24):
        margins.deepfool(counted, x, tight=tight)
        gradients.append(None)
    at = gradients.index(None)
    plain, tightened = gradients[:at], gradients[at + 1 : -1]
    found = int(margins.deepfool(net, x).found.sum())
    assert sum(tightened) - sum(plain) == found * sum(race.sizes(24, 3))


def test_dead_gradients_and_broken_logits_leave_a_race_unharmed():
    """NaN beyond a radius: a walk that steps there is out, and what was found before stands."""
    w = points(3, 8)
    broken = lambda z: (z @ w.T) / (z.norm(dim=1, keepdim=True) < 6)
    x = 0.5 * points(20, 9)
    m = margins.deepfool(broken, x, tight=30, keep=True)
    assert m.found.any()
    assert not m.norm.isnan().any()
    found = m.found[:, 0]
    there = x + (1 + 1e-9) * m.delta[:, 0]
    assert (broken(there).argmax(1) == m.label[:, 0])[found].all()
