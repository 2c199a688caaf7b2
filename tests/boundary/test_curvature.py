"""Heights over the tangent plane of planes, spheres and corners, and persistence at spheres, known exactly."""

import math

import pytest
import torch
from scipy import stats
from tests.boundary.test_anatomy import affine, ball, draw

from tightrope import anatomy, curvature, persistence, wedges


def around_the_ball(outwards):
    x = torch.nn.functional.normalize(draw(6, 5))
    ends = (x, 4 * x) if outwards else (4 * x, x)
    return anatomy.between(ball, *ends)


def at_spheres(d, radius, **how):
    d = torch.tensor(d, dtype=torch.float64)
    return curvature.sphere_persistence(d, torch.full_like(d, radius), **how)


def test_a_plane_has_no_height():
    on = anatomy.between(affine, draw(1, 6).expand(2, 6), torch.stack([-draw(6), draw(6, seed=3)]))
    near = curvature.heights(affine, on, 1e-3, directions=5)
    assert near.shape == (2, 5)
    assert near.abs().max() < 1e-8
    assert curvature.skewness(near, 1e-3).abs().max() < 1e-5


@pytest.mark.parametrize("outwards", [False, True])
@pytest.mark.parametrize("radius", [0.1, 1.0])
def test_a_sphere_rises_towards_its_centre(outwards, radius):
    found = curvature.heights(ball, around_the_ball(outwards), radius, directions=7)
    rise = (2 - math.sqrt(4 - radius**2)) * (-1 if outwards else 1)
    torch.testing.assert_close(found, torch.full_like(found, rise), rtol=1e-6, atol=1e-8)
    size = curvature.sphere_radius(found, radius)
    torch.testing.assert_close(size, torch.full_like(size, -2.0 if outwards else 2.0), rtol=1e-5, atol=0)
    tilt = curvature.skewness(found, radius)
    torch.testing.assert_close(tilt, torch.full_like(tilt, math.atan(rise / radius)), rtol=1e-6, atol=1e-8)


def test_beside_an_edge_the_boundary_turns_away_or_stays_flat():
    """On a sheet of an orthant of two, half a unit from the edge, seen from outside: level, or down the other sheet."""
    w = wedges.orthant(2, 2)
    at = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    on = anatomy.between(w, at - torch.tensor([[1.0, 0.0]]), at + torch.tensor([[1.0, 0.0]]))
    found = curvature.heights(w, on, 1.0, directions=40, reach=3.0)[0]
    assert set(found.round(decimals=6).tolist()) == {0.0, 3.0}  # past the edge there is none as far as looked
    back = anatomy.OnBoundary(on.images, on.after, on.before, on.found)
    assert set(curvature.heights(w, back, 1.0, directions=40)[0].round(decimals=6).tolist()) == {0.0, -1.0}


def test_a_third_label_beyond_is_the_other_side_too():
    """Three sectors of the plane: seen from label 0 the boundary is where 0 ends, whatever follows."""

    def sectors(x):
        u, v = x.T
        return torch.stack([-u, u + v, u - v], 1)

    # 0 ends where −u = u + |v|: a corner of half angle atan(½) about the negative axis, whose sides fall back.
    on = anatomy.between(
        sectors,
        torch.tensor([[-1.0, 0.5]], dtype=torch.float64),
        torch.tensor([[1.0, 0.5]], dtype=torch.float64),
    )
    found = curvature.heights(sectors, on, 3.0, directions=30, reach=4.0)[0]
    assert found.abs().min() < 1e-6
    assert found.min() < -1
    assert found.max() < 1e-6


def test_a_point_that_was_not_found_has_no_height():
    on = anatomy.between(ball, draw(1, 5) * 0.1, draw(1, 5) * 9)
    lost = anatomy.OnBoundary(on.images, on.before, on.before, torch.tensor([False]))
    assert curvature.heights(ball, lost, 1.0, directions=3).isnan().all()


@pytest.mark.parametrize("dim", [2, 50, 784])
@pytest.mark.parametrize("size", [3.0, 40.0, 1e3])
@pytest.mark.parametrize(("d", "side"), [(1.0, 1), (1.0, -1), (-1.0, 1), (-1.0, -1)])
def test_persistence_at_a_sphere_is_where_the_noncentral_chi_square_is_gamma(dim, size, d, side):
    inside = (d > 0) == (side > 0)
    (sigma,) = at_spheres([d], side * size, dim=dim, gamma=0.7).tolist()
    away = size - 1 if inside else size + 1
    share = lambda s: stats.ncx2.cdf((size / s) ** 2, dim, (away / s) ** 2)
    kept = share if inside else lambda s: 1 - share(s)
    if math.isinf(sigma):
        assert min(kept(s) for s in (0.1, 0.3, 1, 3, 10, 30, 100)) >= 0.7
    else:
        assert kept(sigma) == pytest.approx(0.7, abs=2e-3)
        assert kept(0.9 * sigma) > 0.7


def test_persistence_at_a_sphere_agrees_with_samples():
    at = torch.zeros(3, 50, dtype=torch.float64)
    at[:, 0] = torch.tensor([1.5, 1.0, 0.1])
    sampled = persistence.persistence(ball, at, draws=16_384)
    exact = at_spheres([0.5, 1.0, 1.9], 2.0, dim=50)
    assert ((sampled.sigma / exact - 1).abs() < 0.03).all()


def test_a_sphere_without_end_is_a_plane():
    plane = 0.5 / stats.norm.ppf(0.7)
    for radius in (math.inf, 1e9, -1e9):
        both = at_spheres([0.5, -0.5], radius, dim=784)
        torch.testing.assert_close(both, torch.full_like(both, plane), rtol=1e-5, atol=0)
    assert at_spheres([0.0], 1.0, dim=3).tolist() == [0.0]


def test_a_ball_has_no_point_deeper_than_its_centre():
    with pytest.raises(ValueError, match="A ball of radius 1 has no point 2 from its surface inside"):
        at_spheres([2.0], 1.0, dim=3)
    with pytest.raises(ValueError, match="must not be 0 or NaN"):
        at_spheres([2.0], 0.0, dim=3)
