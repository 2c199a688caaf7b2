"""T₁ has the one feature it claims to have, and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tightrope import synthetic


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 50), st.floats(0, 5), st.integers(2, 40), st.integers(0, 2**31))
def test_points_lie_at_the_half_gap_by_their_class(half_gap, noise, dim, seed):
    d = synthetic.t1(50, half_gap=half_gap, noise=noise, dim=dim, seed=seed)
    along = d.x @ d.u[0]
    torch.testing.assert_close(along, half_gap * (2.0 * d.y - 1), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(d.u @ d.u.T, torch.eye(dim), atol=1e-5, rtol=0)
    assert torch.linalg.det(d.u.double()) == pytest.approx(1, abs=1e-4)
    assert d.x.dtype == torch.float32
    assert d.y.dtype == torch.int64


def test_everything_but_u1_is_standard_noise_independent_of_the_class():
    d = synthetic.t1(4_000, noise=1.5, dim=10, seed=3)
    rest = (d.x @ d.u.T)[:, 1:] / 1.5
    assert stats.kstest(rest.flatten().numpy(), "norm").pvalue > 1e-6
    t = stats.ttest_ind(rest[d.y == 0].numpy(), rest[d.y == 1].numpy())
    assert t.pvalue.min() > 1e-6
    assert abs(d.y.double().mean() - 0.5) < 0.05  # six standard deviations


def test_a_test_set_shares_the_rotation_and_not_the_points():
    train, test = synthetic.t1(20, seed=1), synthetic.t1(20, seed=2, rotation_seed=1)
    assert torch.equal(train.u, test.u)
    assert not torch.equal(train.x, test.x)
    assert torch.equal(train.x, synthetic.t1(20, seed=1).x)
    assert not torch.equal(train.u, synthetic.t1(20, seed=2).u)


@pytest.mark.parametrize(
    "bad", [{"n": 0}, {"n": 5, "dim": 1}, {"n": 5, "half_gap": -1.0}, {"n": 5, "noise": float("nan")}]
)
def test_sizes_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be a (whole|finite) number"):
        synthetic.t1(**bad)


def test_t2_is_its_definition():
    d = synthetic.t2(6_000, half_gap=0.3, rho=8.0, slabs=2, noise=0.5, dim=6, seed=1)
    z = d.x.double() @ d.u.double().T
    sign = 2 * d.y - 1
    torch.testing.assert_close(z[:, 0], 0.3 * sign.double(), atol=1e-4, rtol=0)
    k = z[:, 1] / 8 - (1 - d.y) / 2
    torch.testing.assert_close(k, k.round(), atol=1e-4, rtol=0)
    for y in (0, 1):
        values, counts = k[d.y == y].round().unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1]
        assert counts.min() > 0.8 * counts.max()
    assert z[:, 2:].std(0).sub(0.5).abs().max() < 0.03
    assert torch.equal(d.u, synthetic.t1(5, dim=6, seed=1).u)


def test_t2_classes_alternate_at_half_of_rho():
    d = synthetic.t2(500, half_gap=1.0, dim=5, seed=0)
    at = (d.x.double() @ d.u[1].double()).mul(0.1).round()
    order = at.unique()
    assert (order.diff() == 1).all()
    label = torch.stack([d.y[at == v].double().mean() for v in order])
    assert set(label.tolist()) == {0.0, 1.0}
    assert (label.diff().abs() == 1).all()
