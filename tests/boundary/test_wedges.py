"""Wedges: closed forms against the classifier itself, integrals in other coordinates, and solid angles."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad
from scipy.optimize import nnls
from scipy.special import erf, erfinv
from scipy.stats import norm

from tightrope import attacks, intervals, line_scan, margins, wedges

ANGLES = [(), (0.0,), (0.5,), (-0.9,), (0.3, -0.2), (0.0, 1.2, -1.3), (-1.0, -1.1, -0.4)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normals(w):
    """The source's: v = e₁ and w_i = e_i cos(θ_i) − e₁ sin(θ_i)."""
    rows = [np.eye(w.n)[0]]
    rows += [np.eye(w.n)[i] * math.cos(a) - np.eye(w.n)[0] * math.sin(a) for i, a in enumerate(w.angles, 1)]
    return np.stack(rows)


# --- the set and its points --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("angles", ANGLES)
def test_a_wedge_holds_what_its_definition_says(angles, dtype):
    w, x = wedges.wedge(6, angles), draw(400, 6, dtype=torch.float32).to(dtype)
    z = x.double()
    held = z[:, 0] > 0
    for i, angle in enumerate(angles, 1):
        held &= z[:, i] > z[:, 0] * math.tan(angle)
    clear = w.sheets(z).abs().amin(1) > 20 * torch.finfo(dtype).eps
    assert torch.equal(w.contains(x)[clear], held[clear])
    assert held[clear].any()
    logits = w(x)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], w.sheets(x).amin(1))


def test_an_orthant_is_the_wedge_without_angles_and_its_boundary_is_not_in_it():
    assert wedges.orthant(5, 3) == wedges.wedge(5, [0.0, 0.0])
    x = torch.tensor([[1.0, 1, 0], [1, 0, 1], [0, 0, 0], [1e-30, 1e-30, -1]])
    assert wedges.orthant(3, 2).contains(x).tolist() == [True, False, False, True]


@pytest.mark.parametrize("angles", ANGLES)
def test_the_points_are_at_the_distance_they_are_asked_for(angles):
    w, d = wedges.wedge(7, angles), [0.5, 2.0]
    inside = w.inside(d)
    assert w.contains(inside).all()
    expected = torch.tensor(d, dtype=torch.float64)
    torch.testing.assert_close(w.sheets(inside), expected[:, None].expand(2, w.k))
    for foot in inside[0] - 0.5 * torch.from_numpy(normals(w)):  # on the sheet itself, not beside it
        assert w.sheets(foot[None]).min() > -1e-12
    for points in (w.outside(d), *(w.outside(d, sheet) for sheet in range(w.k))):
        assert not w.contains(points).any()
        for point, distance in zip(points.numpy(), d, strict=True):
            # What of a point lies in the polar cone is its way to the nearest point of the wedge (Moreau).
            _, nearest = nnls(-normals(w).T, point)
            assert math.sqrt(point @ point - nearest**2) == pytest.approx(distance, rel=1e-6)
    _, corner = nnls(-normals(w).T, w.outside(1.0)[0].numpy())
    assert corner < 1e-12


# --- stability ---------------------------------------------------------------------------------------------


def test_proposition_4_3_is_the_product_of_error_functions():
    for k in (1, 2, 7):
        w = wedges.orthant(9, k)
        for d, sigma in ((1.0, 0.5), (0.3, 2.0)):
            printed = (0.5 * (1 + erf(d / (math.sqrt(2) * sigma)))) ** k
            assert w.stable(w.inside(d), sigma).item() == pytest.approx(printed, rel=1e-14)
            x = draw(20, 9)
            share = torch.from_numpy(norm.cdf(x[:, :k] / sigma).prod(1))
            expected = torch.where((x[:, :k] > 0).all(1), share, 1 - share)
            torch.testing.assert_close(w.stable(x, sigma), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("angles", ANGLES)
def test_stability_is_the_share_of_samples_that_keep_their_class(angles):
    w = wedges.wedge(12, angles)
    points = torch.cat([w.inside(1.0), w.outside(1.0), w.outside(1.0, w.k - 1), draw(1, 12)])
    sigmas, samples = (0.4, 1.5), 20_000
    stable = w.stable(points, sigmas)
    assert stable.shape == (4, 2)
    noise = draw(samples, 12, seed=1)
    for x, expected in zip(points, stable, strict=True):
        for sigma, p in zip(sigmas, expected.tolist(), strict=True):
            kept = w(x + sigma * noise).argmax(1) == w(x[None]).argmax(1)
            share = intervals.share(int(kept.sum()), samples, level=1 - 1e-8)  # 56 of them
            assert share.low <= p <= share.high


@pytest.mark.parametrize("angles", [(0.5,), (-1.2,), (0.3, -0.2), (0.0, 0.9), (1.3, -1.3)])
def test_stability_is_the_integral_of_the_density(angles):
    """In the wedge's own coordinates, over x₁ and x₂; x₃ is left to the normal law."""
    w = wedges.wedge(5, angles)
    for x, sigma in ((w.inside(1.0), 0.7), (w.outside(0.5, 1), 1.0), (draw(1, 5, seed=3), 1.3)):
        centre = x[0].tolist()

        def density(x2, x1, centre=centre, sigma=sigma):
            others = [norm.cdf((centre[2] - x1 * math.tan(angle)) / sigma) for angle in angles[1:]]
            at = ((x1 - centre[0]) ** 2 + (x2 - centre[1]) ** 2) / (2 * sigma**2)
            return math.exp(-at) / (2 * math.pi * sigma**2) * math.prod(others)

        reach = 9 * sigma
        edge = lambda x1: x1 * math.tan(angles[0])
        low = lambda x1, centre=centre, reach=reach, edge=edge: max(edge(x1), centre[1] - reach)
        high = lambda x1, centre=centre, reach=reach, low=low: max(low(x1), centre[1] + reach)
        share, _ = dblquad(
            density, max(0, centre[0] - reach), centre[0] + reach, low, high, epsabs=1e-9, epsrel=0
        )
        expected = share if w.contains(x) else 1 - share
        assert w.stable(x, sigma).item() == pytest.approx(expected, abs=1e-7)


def test_at_the_corner_the_share_is_the_solid_angle():
    corner = torch.zeros(1, 4)
    for angle in (-1.5, -0.4, 0.0, 0.7, 1.5, 1.5707):
        share = (math.pi / 2 - angle) / (2 * math.pi)
        assert 1 - wedges.wedge(4, (angle,)).stable(corner, 3.0).item() == pytest.approx(share, abs=1e-14)
    for angles in ((0.0, 0.0), (0.3, -0.2), (1.1, 1.2), (-1.4, -1.0)):
        w = wedges.wedge(4, angles)
        gram = normals(w) @ normals(w).T
        dihedral = sum(math.pi - math.acos(gram[i, j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        share = (dihedral - math.pi) / (4 * math.pi)  # Girard
        assert 1 - w.stable(corner, 0.1).item() == pytest.approx(share, abs=1e-14)


@pytest.mark.parametrize("angles", ANGLES)
def test_what_is_further_than_the_last_sheet_does_not_count(angles):
    small, large = wedges.wedge(len(angles) + 1, angles), wedges.wedge(1_000, angles)
    x = draw(10, 1_000)
    assert torch.equal(small.stable(x[:, : small.n], 0.8), large.stable(x, 0.8))
    assert torch.equal(small.persistence(x[:, : small.n]), large.persistence(x))


@pytest.mark.parametrize("angles", ANGLES)
def test_only_the_ratio_of_distance_and_sigma_counts(angles):
    w, x = wedges.wedge(6, angles), draw(30, 6)
    near, far = w.stable(x, (0.2, 1.0)), w.stable(64 * x, (12.8, 64.0))
    torch.testing.assert_close(near, far, rtol=1e-12, atol=1e-15)
    for scale in (2.0**-300, 64.0, 1e30):
        torch.testing.assert_close(
            w.persistence(scale * x, 0.9), scale * w.persistence(x, 0.9), rtol=1e-9, atol=0
        )


# --- persistence -------------------------------------------------------------------------------------------


def test_persistence_inside_an_orthant_is_the_published_one():
    for k, published in {1: 1.907, 2: 1.020, 3: 0.823, 5: 0.674, 10: 0.552, 50: 0.408}.items():
        w = wedges.orthant(60, k)
        assert round(w.persistence(w.inside(1.0)).item(), 3) == published
        for gamma in (0.6**k, 0.7, 0.99):
            printed = 2.5 / (math.sqrt(2) * erfinv(2 * gamma ** (1 / k) - 1))
            assert wedges.proposition43(2.5, k, gamma) == pytest.approx(printed, rel=1e-11)
            assert w.persistence(w.inside(2.5), gamma).item() == pytest.approx(printed, rel=1e-11)


def test_where_so_little_is_asked_that_no_sigma_is_too_large_it_is_infinite():
    for k in (1, 2, 5):
        w, limit = wedges.orthant(7, k), 0.5**k
        for gamma in (0.5 * limit, limit):
            assert wedges.proposition43(1.0, k, gamma) == math.inf
            assert w.persistence(w.inside(1.0), gamma).item() == math.inf
        assert w.persistence(w.outside(1.0), (1 - limit) * 0.999).item() == math.inf
        for gamma, where in ((1.001 * limit, w.inside(1.0)), ((1 - limit) * 1.001, w.outside(1.0))):
            assert math.isfinite(w.persistence(where, gamma).item())


@pytest.mark.parametrize("gamma", [0.2, 0.5, 0.7, 0.95, 0.9999])
@pytest.mark.parametrize("angles", ANGLES)
def test_persistence_is_where_stability_first_falls_below_gamma(angles, gamma):
    w = wedges.wedge(5, angles)
    x = torch.cat([draw(25, 5), w.inside(1.0), w.outside(1.0), w.outside(0.1, w.k - 1)])
    sigma = w.persistence(x, gamma)
    grid = torch.logspace(-3, 3, 121, dtype=torch.float64)
    on_grid = w.stable(x, grid.tolist())
    assert (on_grid[grid[None] < sigma[:, None]] >= gamma - 1e-11).all()
    for point, end in zip(x[sigma.isfinite()], sigma[sigma.isfinite()].tolist(), strict=True):
        at, after = w.stable(point[None], (end, end * 1.01))[0].tolist()
        assert at == pytest.approx(gamma, abs=1e-11)
        assert after < gamma


def test_beside_a_sheet_stability_falls_and_rises_again():
    w = wedges.orthant(3, 2)
    x = torch.tensor([[-1.0, 5.0, 0.0]])
    sigma = w.persistence(x).item()
    before, dip, after = w.stable(x, (0.99 * sigma, 2 * sigma, 100.0))[0].tolist()
    assert dip < 0.7 < before
    assert after == pytest.approx(0.75, abs=0.02)
    # As long as the other sheet is far, it is a half-space's.
    assert sigma == pytest.approx(wedges.proposition43(1.0, 1, 0.7), rel=0.02)
    assert sigma > wedges.proposition43(1.0, 1, 0.7)


@pytest.mark.parametrize("angles", ANGLES)
def test_outside_persistence_is_larger_than_inside_at_the_same_distance(angles):
    w = wedges.wedge(5, angles)
    for gamma in (0.6, 0.7, 0.95):
        inside = w.persistence(w.inside(1.0), gamma)
        flat = wedges.proposition43(1.0, 1, gamma)
        for outside in (w.outside(1.0), *(w.outside(1.0, sheet) for sheet in range(w.k))):
            assert inside.item() <= flat * (1 + 1e-12)
            assert flat * (1 - 1e-12) <= w.persistence(outside, gamma).item()


def test_on_the_boundary_persistence_is_zero():
    w = wedges.wedge(3, (0.0, 0.4))
    x = torch.tensor([[0.0, 0, 0], [1, 0, 3], [1e30, 0, 1e30]])
    assert w.persistence(x).tolist() == [0, 0, 0]
    assert w.persistence(torch.cat([x, torch.tensor([[1.0, 1, 1]])]))[3] > 0


def test_no_distance_is_too_large_and_no_angle_too_sharp():
    for angles in ((1.5707963, -0.3), (-1.5707963, 1.5), (math.pi / 2 * (1 - 1e-15),)):
        w = wedges.wedge(4, angles)
        x = torch.cat([draw(20, 4), 1e30 * draw(5, 4), w.inside(1.0), w.outside(1.0), w.outside(1e-30, 1)])
        stable = w.stable(x, (1e-30, 1e-3, 1.0, 1e3, 1e30))
        assert ((stable >= 0) & (stable <= 1)).all()
        assert (w.persistence(x, 0.9) >= 0).all()


# --- the nearest point -------------------------------------------------------------------------------------


def not_nearest(w, x, z):
    """How far z is from meeting the conditions of a nearest point of the closure, in units of the largest number.

    z = x + Σ λ_i v_i over inward normals v_i, with λ ≥ 0, ⟨v_i, z⟩ ≥ 0 and λ_i ⟨v_i, z⟩ = 0: enough, as it is convex.
    """
    v = normals(w)[:, : w.k]
    worst = 0.0
    for a, b in zip(x.numpy(), z.numpy(), strict=True):
        assert np.array_equal(a[w.k :], b[w.k :])
        size = abs(a).max() + 1e-300
        push, over = np.linalg.solve(v.T, (b - a)[: w.k]) / size, v @ b[: w.k] / size
        worst = max(worst, -push.min(), -over.min(), abs(push * over).max())
    return worst


def random_wedge(rng, most):
    """Angles of both signs, some of them 0, in up to `most` dimensions; points of several sizes, some on a face."""
    k = int(rng.integers(1, most + 1))
    angles = rng.uniform(-1.5, 1.5, k - 1) * rng.choice([1, 1, 0], k - 1)
    w = wedges.wedge(min(k + int(rng.integers(0, 3)), most), tuple(angles.tolist())[: most - 1])
    x = rng.normal(size=(4, w.n)) * np.array([[1.0], [1e3], [1e-3], [1.0]])
    x[0, : w.k // 2] = 0
    x[3, : w.k] = -normals(w)[:, : w.k].sum(0)  # behind the apex
    return w, torch.from_numpy(x)


def test_a_projection_is_the_nearest_point():
    rng = np.random.default_rng(0)
    for _ in range(150):
        w, x = random_wedge(rng, 30)
        z = w.project(x)
        assert not_nearest(w, x, z) < 1e-11
        assert z[3, : w.k].abs().max() < 1e-12 * x[3].abs().max()
        torch.testing.assert_close(w.project(z), z, rtol=1e-12, atol=1e-12)


@pytest.mark.long
def test_projections_in_many_dimensions_are_the_nearest_points():
    rng = np.random.default_rng(1)
    for _ in range(2_600):  # of four points each
        w, x = random_wedge(rng, 200)
        assert not_nearest(w, x, w.project(x)) < 1e-10


def test_a_projection_agrees_with_non_negative_least_squares():
    rng = np.random.default_rng(2)
    for _ in range(100):
        w, x = random_wedge(rng, 8)
        v = normals(w)[:, : w.k]
        for a, b in zip(x.numpy(), w.project(x).numpy(), strict=True):
            push = nnls(v.T, -a[: w.k])[0]
            np.testing.assert_allclose(b[: w.k], a[: w.k] + v.T @ push, atol=1e-8 * abs(a).max())


@pytest.mark.parametrize("angles", ANGLES)
def test_what_is_in_the_wedge_stays_and_goes_to_its_nearest_sheet(angles):
    w, x = wedges.wedge(6, angles), 2 * draw(300, 6, seed=3)
    x[:50] = w.project(x[:50])
    x = torch.cat([x, w.inside([1.0, 2.0])])
    held = (w.sheets(x) >= 0).all(1)
    assert torch.equal(w.project(x)[held], x[held])
    end = w.to_boundary(x)
    assert w.sheets(end).amin(1).abs().max() < 1e-12
    torch.testing.assert_close((end - x)[held].norm(dim=1), w.sheets(x)[held].amin(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(end[~held], w.project(x)[~held])
    single = w.project(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), w.project(x.float().double()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("angles", ANGLES)
def test_the_centreline_is_as_far_from_both_planes_and_the_printed_one_may_miss_the_wedge(angles):
    w = wedges.wedge(6, angles)
    middle, printed = w.centreline(), w.centreline(printed=True)
    assert w.contains(middle[None]).item()
    for i, angle in enumerate(angles, 1):  # angle to x₁ = 0 within the plane of x₁ and x_i, and to the sheet
        a = math.atan2(middle[i].item(), 1.0)
        assert math.pi / 2 - a == pytest.approx(a - angle, abs=1e-12)
    assert w.contains(printed[None]).item() == all(angle < 0 for angle in angles)


# --- as a model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angles", ANGLES)
def test_a_wedge_is_measured_as_any_network_is(angles):
    w = wedges.wedge(6, angles)
    x = torch.cat([w.inside([1.0, 3.0]), w.outside(1.0, w.k - 1)])
    x = torch.cat([x, torch.nn.functional.pad(3 + 0.2 * draw(5, w.k), (0, 6 - w.k))])
    m = margins.deepfool(w, x)
    inside = w.contains(x)
    assert m.found.all()
    torch.testing.assert_close(m.norm[inside, 0], w.sheets(x)[inside].amin(1), rtol=1e-6, atol=1e-9)
    assert m.origin.tolist() == inside.long().tolist()
    lines = line_scan.changes(w, w.outside(1.0), w.inside(1.0)[0], reach=(0, 5), step=0.01)
    assert lines.before[0, 0] == 0
    assert lines.after[0, -1] == 1
    found = attacks.pgd(w, x, inside.long(), eps=5.0, steps=20, box=None, keep="first")
    assert torch.equal(w.contains(found.images) != inside, found.found)
    assert found.found[:3].all()


def test_where_sheets_tie_the_gradient_is_the_normal_of_one():
    for angles in ANGLES:
        w = wedges.wedge(5, angles)
        with torch.inference_mode():
            w(draw(2, 5))  # must not spoil what comes after
        x = w.inside(1.0).requires_grad_()
        logits = w(x)
        (gradient,) = torch.autograd.grad(logits[:, 1] - logits[:, 0], x)
        assert gradient.norm().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wedges.orthant(2, 3), "n must be a whole number of at least 3"),
        (lambda: wedges.wedge(2, (0.1, 0.2)), "n must be a whole number of at least 3"),
        (lambda: wedges.wedge(2, (math.pi / 2,)), "every number of angles must be a finite number above"),
        (lambda: wedges.wedge(2, 0.3), "angles must be a tuple or list"),
        (lambda: wedges.orthant(4, 2)(torch.ones(3, 5)), r"x must be a real tensor \(N, 4\)"),
        (lambda: wedges.orthant(4, 2).stable(torch.ones(3, 4), 0.0), "sigma must be a finite number above 0"),
        (lambda: wedges.orthant(4, 2).persistence(torch.ones(3, 4), 1.0), "gamma .* below 1"),
        (lambda: wedges.orthant(4, 2).persistence(torch.ones(3, 4) * math.nan), "x .* NaN or infinity"),
        (lambda: wedges.orthant(4, 2).outside(1.0, 2), "sheet must be a whole number from 0 to 1"),
        (lambda: wedges.orthant(4, 2).inside(-1.0), "d must be a finite number above 0"),
        (lambda: wedges.orthant(4, 2).project(torch.ones(3, 4) * math.inf), "x .* NaN or infinity"),
        (lambda: wedges.orthant(4, 2).project(torch.ones(3, 5)), r"x must be a finite real tensor \(N, 4\)"),
    ],
)
def test_what_is_no_wedge_or_point_is_refused(call, says):
    with pytest.raises(ValueError, match=rf"^{says}.*\.$"):
        call()
