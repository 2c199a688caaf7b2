"""Points of a boundary against boundaries known exactly: a wedge, a ball, an affine classifier."""

import math

import pytest
import torch

from tightrope import anatomy, nets, wedges


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ball(x):
    """Class 1 within 2 of the origin."""
    m = 2 - x.flatten(1).norm(dim=1)
    return torch.stack([-m / 2, m / 2], 1)


def affine(x):
    w = draw(3, 6, seed=5).to(x.dtype)
    return x.flatten(1) @ w.T + torch.tensor([0.3, -0.2, 0.0], dtype=x.dtype)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 3e-6), (torch.float64, 1e-11)])
def test_a_point_between_two_lies_on_the_boundary_and_on_their_segment(dtype, near):
    x = torch.nn.functional.normalize(draw(50, 2, 3, dtype=dtype).flatten(1)).reshape(50, 2, 3)
    on = anatomy.between(ball, x, 4 * x)
    assert on.found.all()
    assert on.before.tolist() == [1] * 50
    assert on.after.tolist() == [0] * 50
    torch.testing.assert_close(on.images, 2 * x, rtol=near, atol=near)
    back = anatomy.between(ball, 4 * x, x, chunk=7)
    torch.testing.assert_close(back.images, 2 * x, rtol=near, atol=near)


def test_a_cloud_goes_to_the_parent_of_the_other_class():
    w = wedges.orthant(4, 1)
    parents = torch.tensor([[-1.0, 0, 0, 0], [1.0, 2, 0, 0]], dtype=torch.float64)
    cloud = 0.3 * draw(40, 4)
    on = anatomy.project(w, cloud, how="parents", parents=parents)
    assert on.found.all()
    assert on.images[:, 0].abs().max() < 1e-11
    towards = torch.where(cloud[:, :1] > 0, parents[:1], parents[1:]) - cloud
    way = on.images - cloud
    torch.testing.assert_close(
        way / way.norm(dim=1, keepdim=True), towards / towards.norm(dim=1, keepdim=True)
    )


@pytest.mark.parametrize("how", ["gradient", "nearest"])
def test_from_inside_a_wedge_the_nearest_sheet_is_met(how):
    w = wedges.wedge(5, (0.3, -0.2))
    inside = w.inside([0.5, 1.0, 2.0]) + torch.tensor([[0.3, 0, 0, 0, 0]], dtype=torch.float64)
    on = anatomy.project(w, inside, how=how)
    assert on.found.all()
    torch.testing.assert_close(on.images, w.to_boundary(inside), rtol=1e-5, atol=1e-5)


def test_a_ball_is_met_where_it_is_nearest_and_its_normals_are_its_radii():
    cloud = 3 * draw(60, 5, seed=2)
    on = anatomy.project(ball, cloud, how="nearest")
    assert on.found.all()
    radii = torch.nn.functional.normalize(cloud)
    torch.testing.assert_close(on.images, 2 * radii, rtol=1e-4, atol=1e-4)
    sign = torch.where(on.after == 1, -1.0, 1.0)[:, None]
    torch.testing.assert_close(
        anatomy.normals(ball, on, chunk=11), sign * torch.nn.functional.normalize(on.images)
    )


def test_normals_are_those_of_the_two_classes_that_meet():
    x = draw(30, 2, 3, seed=8)
    on = anatomy.project(affine, x, how="gradient")
    w = draw(3, 6, seed=5)
    expected = torch.nn.functional.normalize(w[on.after] - w[on.before]).reshape(30, 2, 3)
    torch.testing.assert_close(anatomy.normals(affine, on), expected)
    angle = anatomy.incidence(on.images - x, anatomy.normals(affine, on))
    assert angle.max() < 1e-7


def test_where_no_boundary_is_met_the_point_stays():
    flat = lambda x: torch.stack([x.flatten(1)[:, 0] * 0 + 1, x.flatten(1)[:, 0] * 0], 1)
    x = draw(4, 3)
    on = anatomy.project(flat, x, how="gradient")
    assert not on.found.any()
    assert torch.equal(on.images, x)
    assert torch.equal(on.before, on.after)
    assert torch.equal(anatomy.normals(flat, on), torch.zeros(4, 3, dtype=torch.float64))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.3, math.pi / 2])
def test_the_angle_of_incidence_is_that_between_line_and_normal(angle):
    normal = torch.tensor([[0.0, 0, 1], [0, 0, -5], [0, 0, 1e-200]], dtype=torch.float64)
    line = torch.tensor([[math.sin(angle), 0, math.cos(angle)]], dtype=torch.float64).repeat(3, 1)
    assert anatomy.incidence(line, normal).tolist() == pytest.approx([angle] * 3, rel=1e-12, abs=1e-15)


def test_a_network_is_measured_as_it_answers_in_eval_mode():
    layers = (
        torch.nn.Flatten(),
        torch.nn.Linear(12, 20),
        torch.nn.ReLU(),
        torch.nn.Dropout(),
        torch.nn.Linear(20, 5),
    )
    net = nets.initialise(torch.nn.Sequential(*layers), "he", 1)
    x = draw(40, 1, 3, 4, dtype=torch.float32, seed=3)
    with torch.no_grad():
        labels = net.eval()(x).argmax(1)
    net.train()
    first = labels != labels[0]
    assert first.any()
    on = anatomy.between(net, x[:1].expand(int(first.sum()), -1, -1, -1), x[first])
    assert net.training
    assert torch.equal(on.before, labels[:1].expand(len(on.before)))
    with torch.no_grad():
        logits = net.eval()(on.images)
    gap = logits.gather(1, on.after[:, None]) - logits.gather(1, on.before[:, None])
    assert gap.abs().max() < 1e-3 * logits.abs().max()


X = torch.tensor([[1.0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: anatomy.between(ball, X, 1.5 * X), "x and other must differ in their label: pair 0"),
        (lambda: anatomy.between(ball, X, 4 * X[:1]), r"other must be a finite real tensor \(2, 3\)"),
        (lambda: anatomy.between(ball, X, X * math.nan), "other must be a finite real tensor"),
        (lambda: anatomy.project(ball, X), "parents are needed"),
        (lambda: anatomy.project(ball, X, how="nearest", parents=X), "parents are needed"),
        (lambda: anatomy.project(ball, X, parents=X), "parents must differ in their label: both have 1"),
        (lambda: anatomy.project(ball, X, how="near"), "how must be one of"),
        (lambda: anatomy.incidence(X, 0 * X), "direction and normal must not be zero"),
        (lambda: anatomy.normals(ball, X), "on must be"),
    ],
)
def test_what_has_no_boundary_is_refused(call, says):
    with pytest.raises(ValueError, match=rf"^{says}.*\.$"):
        call()
