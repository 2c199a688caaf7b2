"""Linear classifiers against scikit-learn and a general solver, the bounds on random instances, feature ranks."""

import math

import pytest
import torch
from scipy.optimize import minimize
from sklearn.svm import SVC

from tightrope import low_rank


def instance(g, dim=None, inside=None, n=8):
    """Separable classes in a random affine subspace (`inside` of `dim` dimensions), at all scales of offset."""
    dim = dim or int(torch.randint(2, 8, (1,), generator=g))
    inside = inside or int(torch.randint(1, dim, (1,), generator=g))
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    basis = torch.linalg.qr(draw(dim, dim))[0]
    centre, offset = (
        3 * draw(inside),
        draw(dim - inside) * 10 ** (3 * torch.rand(1, generator=g).item() - 1.5),
    )
    x, y = draw(n, inside) / 2 + centre, draw(n - 1, inside) / 2 + centre
    x[:, 0] += (y[:, 0].max() - x[:, 0].min()).clamp_min(0) + 10 ** (
        2 * torch.rand(1, generator=g).item() - 1.5
    )
    place = lambda points: points @ basis[:inside] + offset @ basis[inside:]
    return place(x), place(y), offset


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_svm_is_scikit_learns():
    g = generator()
    for _ in range(30):
        x, y, _ = instance(g)
        ours = low_rank.max_margin(x, y)
        labels = [1] * len(x) + [0] * len(y)
        centre = torch.cat([x, y]).mean(0)
        x, y = (x - centre) / ours.margin, (y - centre) / ours.margin  # libsvm's tolerance is one of scale
        svc = SVC(kernel="linear", C=1e9, tol=1e-6).fit(torch.cat([x, y]).numpy(), labels)
        theirs = low_rank.hyperplane(torch.tensor(svc.coef_[0]), float(svc.intercept_[0]), x, y)
        assert 1 - 1e-3 < theirs.margin < 1 + 1e-9


def test_the_limit_of_cross_entropy_is_a_general_solvers():
    g = generator(1)
    for _ in range(20):
        x, y = (p / 3 for p in instance(g)[:2])
        ours = low_rank.cross_entropy_limit(x, y)
        rows = torch.cat(
            [torch.cat([x, torch.ones(len(x), 1)], 1), -torch.cat([y, torch.ones(len(y), 1)], 1)]
        ).numpy()
        z = torch.cat([ours.w, ours.b[None]]).numpy()
        z = z / (rows @ z).min()
        theirs = minimize(
            lambda v: v @ v, 2 * z, jac=lambda v: 2 * v, method="SLSQP",
            constraints={"type": "ineq", "fun": lambda v, r=rows: r @ v - 1, "jac": lambda v, r=rows: r},
            options={"maxiter": 1_000, "ftol": 1e-9 * (z @ z)},
        )  # fmt: skip
        assert (rows @ theirs.x).min() >= 1 - 1e-6
        assert z @ z == pytest.approx(theirs.fun, rel=1e-5)


def test_margins_are_distances_in_the_theorems_scaling():
    g = generator(2)
    for _ in range(50):
        x, y, _ = instance(g)
        for plane in (low_rank.max_margin(x, y), low_rank.cross_entropy_limit(x, y)):
            a, c = x @ plane.w, y @ plane.w
            assert (a.min() - c.max()).item() == pytest.approx(2)
            nearest = torch.minimum(a.min() + plane.b, -(c.max() + plane.b)) / plane.w.norm()
            assert plane.margin.item() == pytest.approx(nearest.item())
        assert low_rank.max_margin(x, y).margin >= plane.margin * (1 - 1e-9)


def test_many_points_cost_few_pairs():
    """5,000 a class: 25 million differences, of which a handful is ever formed."""
    g = generator(3)
    x, y = (torch.randn(5_000, 20, generator=g, dtype=torch.float64) for _ in range(2))
    x[:, 0], y[:, 0] = x[:, 0].abs() + 0.5, -y[:, 0].abs() - 0.5
    plane = low_rank.max_margin(x, y)
    assert plane.margin >= 0.5
    assert ((x @ plane.w + plane.b) >= 1 - 1e-9).all()
    assert ((y @ plane.w + plane.b) <= -1 + 1e-9).all()
    assert low_rank.affine_offsets(x, y)[0].shape == (0, 20)  # nor a matrix of all points by all points


def test_theorem_1_holds_and_is_met():
    g, ratio = generator(4), []
    for k in range(1_000):
        x, y, offset = instance(g, n=2 if k % 4 == 0 else 8)
        plane, best = low_rank.cross_entropy_limit(x, y), low_rank.max_margin(x, y)
        r, deltas = low_rank.affine_offsets(x, y)
        assert deltas.norm().item() >= offset.norm().item() * (1 - 1e-9)
        torch.testing.assert_close(x @ r.T, deltas.expand(len(x), -1), atol=1e-7, rtol=1e-7)
        ratio.append(float(plane.margin) / low_rank.theorem1(plane, best.margin, deltas))
    assert max(ratio) <= 1 + 1e-9
    assert sum(v > 1 - 1e-9 for v in ratio) > 100  # on a line, and wherever the two directions agree


def test_corollary_1_needs_its_sign():
    """All points on one side of every offset: the corrected bound holds always, the printed one where B Δ ≥ 0."""
    g, broken, held = generator(5), 0, 0
    for _ in range(1_000):
        dim = int(torch.randint(2, 6, (1,), generator=g))
        k = int(torch.randint(1, dim + 1, (1,), generator=g))
        deltas = 3 * torch.randn(k, generator=g, dtype=torch.float64)
        x, y = (torch.randn(6, dim, generator=g, dtype=torch.float64) for _ in range(2))
        x[:, :k] = deltas + x[:, :k].abs() + 0.01
        y[:, :k] = deltas - y[:, :k].abs() - 0.01
        if k < dim:  # a gap along a further axis, far out on either side, decides the sign of B
            side = 4 * torch.randn(1, generator=g, dtype=torch.float64)
            x[:, k], y[:, k] = side + x[:, k].abs() + 1, side - y[:, k].abs() - 1
        plane = low_rank.cross_entropy_limit(x, y)
        assert plane.margin <= low_rank.corollary1(plane, deltas) * (1 + 1e-9)
        printed = low_rank.corollary1(plane, deltas, printed=True)
        if (plane.b * deltas >= 0).all():
            held += 1
            assert plane.margin <= printed * (1 + 1e-9)
        else:
            broken += bool(plane.margin > printed * (1 + 1e-9))
    assert broken > 0
    assert held > 50


def test_feature_ranks_of_known_sets():
    line = torch.outer(torch.arange(1.0, 9), torch.tensor([1.0, 2, 3]))
    k = low_rank.feature_rank(line)
    assert (k.rank, k.components(0.99)) == (1, 1)
    assert k.effective == pytest.approx(1)
    away = low_rank.feature_rank(line + torch.tensor([0.0, 5, 0]))
    assert (away.rank, away.components(1.0)) == (2, 1)  # a line that misses the origin
    ball = low_rank.feature_rank(torch.cat([torch.eye(4), -torch.eye(4)]))
    assert ball.effective == pytest.approx(4)
    torch.testing.assert_close(ball.explained, torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64))
    assert low_rank.feature_rank(torch.ones(5, 3)).explained.tolist() == [1, 1, 1]
    assert low_rank.feature_rank(torch.zeros(5, 3)).rank == 0


@pytest.mark.parametrize("block", [1, 5, 2**22])
def test_diameters(block, monkeypatch):
    """The pair farthest apart lies in different blocks of rows; a class of one point has no extent."""
    monkeypatch.setattr(low_rank, "BLOCK", block)
    x, y = torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 2], [3, 4]]), torch.tensor([[1.0, 1]])
    assert low_rank.diameters(x, y) == (5.0, 0.0)


def test_classes_that_overlap_have_no_margin():
    x = torch.tensor([[0.0], [2.0]])
    for solve in (low_rank.max_margin, low_rank.cross_entropy_limit):
        with pytest.raises(ValueError, match="cannot be separated"):
            solve(x, torch.tensor([[1.0]]))
        with pytest.raises(ValueError, match="cannot be separated"):
            solve(x, x)
    with pytest.raises(ValueError, match="no gap"):
        low_rank.hyperplane(torch.ones(1), 0, x, x)
    assert low_rank.corollary1(low_rank.max_margin(x + 5, x), torch.zeros(1)) == math.inf
