"""Labels along lines: every change where it is, against functions whose changes are known."""

import math

import pytest
import torch
from torch import nn

from tightrope import margins, nets, synthetic
from tightrope.boundary import line_scan


class Stripes(nn.Module):
    """Label 1 between each second pair of the walls along the first coordinate, three logits."""

    def __init__(self, walls):
        super().__init__()
        self.register_buffer("walls", torch.tensor(walls, dtype=torch.float64))

    def forward(self, x):
        value = (x[:, :1] - self.walls.to(x)).prod(1)
        return torch.stack([value, -value, torch.full_like(value, -1e3)], 1)


WALLS = [-2.0, 0.5, 0.8, 3.25]


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_every_change_is_found_in_order_with_its_labels(dtype, near):
    net, x = Stripes(WALLS), torch.zeros(3, 4, dtype=dtype)
    x[1, 0] = 1.0
    d = torch.tensor([2.0, 0, 0, 0], dtype=dtype).expand(3, 4).clone()
    d[2] = torch.tensor([0, 1.0, 0, 0])
    found = line_scan.changes(net, x, d, reach=(-3, 3), step=0.1)
    walls = torch.tensor(WALLS, dtype=dtype)
    torch.testing.assert_close(found.t[0], walls / 2, atol=near, rtol=0)
    torch.testing.assert_close(found.t[1], (walls - 1) / 2, atol=near, rtol=0)
    assert not found.mask[2].any()
    assert (found.before[2] == -1).all()
    assert found.t[2].isinf().all()
    assert found.before[0].tolist() == [0, 1, 0, 1]
    assert found.after[0].tolist() == [1, 0, 1, 0]
    assert found.start.tolist() == [0, 0, 1]
    assert (found.probes == 61).all()


def test_neither_company_nor_chunks_matter():
    net = nets.mlp(20, (30, 30), 4, seed=1).double()
    g = torch.Generator().manual_seed(0)
    x, d = (5 * torch.randn(30, 20, generator=g, dtype=torch.float64) for _ in range(2))
    one = line_scan.changes(net, x, d, reach=(0, 3), step=0.05)
    other = line_scan.changes(net, x.flip(0), d.flip(0), reach=(0, 3), step=0.05, chunk=7)
    assert one.mask.any()
    torch.testing.assert_close(one.t, other.t.flip(0), rtol=1e-10, atol=0)
    assert torch.equal(one.after, other.after.flip(0))


def test_the_nearest_change_is_looked_for_on_both_sides_and_no_further():
    net, x = Stripes(WALLS).double(), torch.zeros(4, 2, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.1, 2.0, -1.9, 40.0], dtype=torch.float64)
    found = line_scan.nearest(net, x, torch.tensor([1.0, 0.0], dtype=torch.float64), reach=5, step=0.05)
    exact = torch.tensor([[0.4], [-1.2], [-0.1], [math.inf]], dtype=torch.float64)
    torch.testing.assert_close(found.t.where(found.mask, math.inf), exact, atol=1e-9, rtol=0)
    assert found.mask.tolist() == [[True], [True], [True], [False]]
    assert found.after.tolist() == [[0], [0], [0], [-1]]
    assert (found.probes[:3] < found.probes[3]).all()


def test_margins_along_a_direction_are_the_lengths_of_perturbations():
    net, x = Stripes(WALLS).double(), torch.zeros(3, 2, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.1, 2.0, 40.0], dtype=torch.float64)
    m = margins.along(net, x, torch.tensor([-7.0, 0.0], dtype=torch.float64), reach=5, step=0.05, keep=True)
    torch.testing.assert_close(
        m.norm[:2, 0], torch.tensor([0.4, 1.2], dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert m.found[:, 0].tolist() == [True, True, False]
    assert m.norm[2, 0].isinf()
    assert m.label[:, 0].tolist() == [0, 0, m.origin[2].item()]
    past = x + (1 + 1e-9) * m.delta[:, 0]
    assert (net(past).argmax(1)[:2] == m.label[:2, 0]).all()
    assert not m.delta[2].any()


def test_a_stripe_that_deepfool_jumps_is_found():
    """The nearest wall of a thin stripe lies where the slope at x does not point to."""
    net, x = Stripes([1.0, 1.04, 9.0]).double(), torch.zeros(1, 1, dtype=torch.float64)
    m = margins.along(net, x, torch.ones(1, dtype=torch.float64), reach=10, step=0.03)
    assert m.norm.item() == pytest.approx(1.0, abs=1e-9)


def test_line_margins_equal_a_finer_scan_followed_by_bisection():
    t = synthetic.t2(40, half_gap=0.3, dim=10, seed=0)
    net = nets.mlp(10, (40, 40), seed=3).double()
    x, d = t.x.double(), t.u[1].double()
    m = margins.along(net, x, d, reach=15.0, step=0.05)
    fine = torch.arange(0, 15, 0.005, dtype=torch.float64)
    fine = torch.cat([fine, -fine]).reshape(2, -1)
    own = net(x).argmax(1)
    for i in range(len(x)):
        best = math.inf
        for way in fine:
            other = net(x[i] + way[:, None] * d).argmax(1) != own[i]
            if other.any():
                k = int(other.to(torch.int8).argmax())
                low, high = way[k - 1], way[k]
                for _ in range(60):
                    middle = (low + high) / 2
                    same = net((x[i] + middle * d)[None]).argmax(1) == own[i]
                    low, high = (middle, high) if same else (low, middle)
                best = min(best, abs(high.item()))
        assert m.norm[i, 0].item() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net, x: line_scan.changes(net, x, torch.zeros(2), reach=(0, 1), step=0.1), "zero"),
        (lambda net, x: line_scan.changes(net, x, torch.ones(3, 2), reach=(0, 1), step=0.1), "directions"),
        (lambda net, x: line_scan.changes(net, x, torch.ones(2), reach=(1, 0), step=0.1), "reach"),
        (lambda net, x: line_scan.changes(net, x, torch.ones(2), reach=(0, 1), step=0), "step"),
        (
            lambda net, x: margins.along(net, x, torch.zeros(2), reach=1, step=0.1),
            "direction must not be zero",
        ),
        (lambda net, x: margins.along(net, x, torch.ones(2), reach=-1, step=0.1), "reach"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call(nn.Linear(2, 2), torch.rand(4, 2))
