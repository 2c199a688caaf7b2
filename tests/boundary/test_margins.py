"""Margins: exact where a closed form exists, the published loop's own numbers where it does not.

The loop's numbers are one processor's where a gradient is not unique (a flat background ties every max-pool) or where
rounding decides on which side of a kink a step lands. So digits get noise, and agreement is asked for in float64.
"""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.margins import affine_margins, subspace_deepfool
from torch import nn

from tightrope import data, margins, nets, seeds, spectra, synthetic, training

IMAGE = (1, 28, 28)
SAME = 1e-6  # float64's 1e-16, magnified by every step, and far below what another direction would give


def affine(inputs, classes, dtype=torch.float32, seed=0):
    g = seeds.generator(seed, "weights")
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return net.to(dtype)


def closed_form(net, x, spaces):
    weight, bias = net[1].weight, net[1].bias
    bases = [s.basis().flatten(1).T for s in spaces]
    return torch.stack([affine_margins(weight, bias, x, q) for q in bases], dim=1)


def basis(space, dtype=torch.float32):
    return space.basis(dtype=dtype).flatten(1).T


def noisy(x):
    return 0.9 * x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lenet():
    x, y = data.load("mnist", "train", n=6_000, seed=0)
    x = noisy(x)
    net = nets.lenet(seed=0)
    training.fit(net, x, y, replace(training.HMT, epochs=3))
    return net


@pytest.fixture(scope="module")
def digits(lenet):
    """Sixteen test digits on noise, four of them misclassified."""
    x, y = data.load("mnist", "test")
    x = noisy(x)
    wrong = lenet(x).argmax(1) != y
    assert 0.9 < 1 - wrong.double().mean() < 1
    return torch.cat([x[wrong][:4], x[~wrong][:12]])


SPACES = [
    *spectra.dct_windows(IMAGE, size=8, step=1)[::4],
    spectra.full(IMAGE),
    spectra.random_subspace(IMAGE, 40, seed=1),
    spectra.random_subspace(IMAGE, 3, seed=2).complement(),
    spectra.dct_block(IMAGE, 0, 0, 14).complement(),
]


@pytest.fixture(scope="module")
def measured(lenet, digits):
    return margins.deepfool(lenet, digits, SPACES, keep=True)


@pytest.fixture(scope="module")
def tight(lenet, digits):
    return margins.deepfool(lenet, digits, SPACES, tight=20, keep=True)


@pytest.fixture(scope="module")
def double(lenet, digits):
    """The network and the digits in float64."""
    return copy.deepcopy(lenet).double(), digits.double()


@pytest.fixture(scope="module")
def exact(double):
    """What `measured` holds, in float64."""
    return margins.deepfool(*double, SPACES, keep=True)


@pytest.fixture(scope="module")
def looped(double):
    """The loop's (perturbation, steps, label) for the first eight digits, [space][image]."""
    net, x = double
    bases = [None if s.dim == 784 else basis(s, torch.float64) for s in SPACES]
    return [[subspace_deepfool(net, image[None], q) for image in x[:8]] for q in bases]


# --- an affine classifier -------------------------------------------------------------------------------


# 784 products are summed in one order or another: 784 · 2⁻²⁴ ≈ 5e-5.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-10)])
def test_affine_margins_are_exact_in_every_kind_of_subspace(dtype, tolerance):
    net = affine(784, 10, dtype)
    x = torch.rand(60, *IMAGE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    best, second = net(x).topk(2).values.T
    x = x[best - second > 3]  # a gap close to the rounding of its logits has no five digits to compare
    assert len(x) > 20
    spaces = [
        *SPACES,
        *[spectra.random_subspace(IMAGE, d, seed=d) for d in (1, 2, 10, 783)],
        spectra.span(*torch.randn(4, *IMAGE, generator=torch.Generator().manual_seed(2)).double()),
    ]
    m = margins.deepfool(net, x, spaces)
    exact = closed_form(net, x, spaces)
    assert m.found.all()
    assert (m.steps == 1).all()
    torch.testing.assert_close(m.norm.double(), exact, rtol=tolerance, atol=0)
    torch.testing.assert_close(m.raw.double(), 1.02 * exact, rtol=tolerance, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.integers(2, 40), classes=st.integers(2, 14), share=st.floats(0, 1), seed=st.integers(0, 2**31)
)
def test_affine_margins_are_exact_at_any_size(inputs, classes, share, seed):
    net = affine(inputs, classes, torch.float64, seed)
    x = torch.randn(5, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    space = spectra.random_subspace((inputs,), 1 + int(share * (inputs - 1)), seed=seed)
    m = margins.deepfool(net, x, space, rivals=classes)
    # Boundaries nearer than DeepFool's shortest step are stepped over, but the way back finds them.
    torch.testing.assert_close(m.norm, closed_form(net, x, [space]), rtol=1e-9, atol=1e-12)
    assert m.found.all()
    assert (m.norm <= m.raw).all()


def test_the_label_reached_is_the_nearest_rival():
    net = affine(20, 6, torch.float64)
    x = torch.randn(40, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    m = margins.deepfool(net, x)
    weight, bias = net[1].weight, net[1].bias
    for i in range(len(x)):
        own = m.origin[i].item()
        assert own == net(x[i : i + 1]).argmax().item()
        pairs = {
            k: affine_margins(weight[[own, k]], bias[[own, k]], x[i : i + 1]).item()
            for k in range(6)
            if k != own
        }
        assert m.label[i, 0].item() == min(pairs, key=pairs.get)


# --- a trained LeNet -----------------------------------------------------------------------------------


def test_every_row_is_the_published_loops(exact, looped):
    assert exact.norm.dtype == torch.float64
    for j in range(len(SPACES)):
        for i, (delta, steps, label) in enumerate(looped[j]):
            assert exact.raw[i, j].item() == pytest.approx(delta.norm().item(), rel=SAME)
            assert exact.steps[i, j].item() == steps
            assert exact.found[i, j].item() == (label != exact.origin[i].item())
    assert exact.found.all()


def test_rounding_parts_few_rows(measured, exact):
    """In float32 a step may land on the other side of a kink, and that row goes its own way."""
    assert torch.equal(measured.found, exact.found)
    apart = (measured.raw / exact.raw - 1).abs() > 1e-3
    assert apart.double().mean() < 0.1


@pytest.mark.parametrize("which", ["measured", "tight"])
def test_refined_margins_lie_on_the_boundary(lenet, digits, which, request):
    m = request.getfixturevalue(which)
    assert m.found.all()
    assert (m.norm <= m.raw).all()
    assert (m.label != m.origin[:, None]).all()
    for j, space in enumerate(SPACES):
        delta = m.delta[:, j]
        torch.testing.assert_close(delta.flatten(1).norm(dim=1), m.norm[:, j], rtol=1e-5, atol=0)
        torch.testing.assert_close(space.project(delta), delta, rtol=0, atol=1e-4)
        with torch.no_grad():
            past, before = (lenet(digits + t * delta).argmax(1) for t in (1.001, 0.99))
        assert torch.equal(past, m.label[:, j])
        assert torch.equal(before, m.origin)


def test_refined_perturbations_have_the_loops_direction(exact, looped):
    for j in range(len(SPACES)):
        loop = torch.cat([delta for delta, _, _ in looped[j]])
        cosine = nn.functional.cosine_similarity(exact.delta[:8, j].flatten(1), loop.flatten(1))
        assert cosine.min() > 1 - SAME


def test_tight_margins_are_shorter_everywhere_and_much_in_the_full_space(measured, tight):
    assert torch.equal(tight.raw, measured.raw)
    assert (tight.norm <= measured.norm * (1 + 1e-5)).all()
    full = [s.dim for s in SPACES].index(784)
    assert (tight.norm / measured.norm)[:, full].median() < 0.95


def test_refining_shortens_and_is_an_option(double, exact):
    plain = margins.deepfool(*double, SPACES[:3], refine=False)
    assert torch.equal(plain.norm, plain.raw)
    torch.testing.assert_close(plain.raw, exact.raw[:, :3], rtol=SAME, atol=0)
    assert (exact.norm / exact.raw).median() < 0.99


def test_misclassified_images_stay_in_and_start_at_their_prediction(lenet, digits, measured):
    assert torch.equal(measured.origin, lenet(digits).argmax(1))
    full = measured.norm[:, [s.dim for s in SPACES].index(784)]
    assert full[:4].median() < full[4:].median()  # they lie nearer to the boundary


def test_neither_order_nor_company_nor_chunks_matter(double, exact):
    net, x = double
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    back = list(reversed(range(len(SPACES))))
    for other in (
        margins.deepfool(net, x[order], [SPACES[j] for j in back]),
        margins.deepfool(net, x[order], [SPACES[j] for j in back], chunk=7),
    ):
        same = replace(exact, **{
            f: getattr(exact, f)[order][:, back] for f in ("norm", "raw", "found", "label", "steps")
        })  # fmt: skip
        torch.testing.assert_close(other.norm, same.norm, rtol=SAME, atol=0)
        torch.testing.assert_close(other.raw, same.raw, rtol=SAME, atol=0)
        assert torch.equal(other.label, same.label)
        assert torch.equal(other.steps, same.steps)
    alone = margins.deepfool(net, x[5:6], SPACES[2])
    torch.testing.assert_close(alone.norm[0, 0], exact.norm[5, 2], rtol=SAME, atol=0)


def test_the_same_call_gives_the_same_numbers(lenet, digits, measured):
    again = margins.deepfool(lenet, digits, SPACES, keep=True)
    assert torch.equal(again.norm, measured.norm)
    assert torch.equal(again.delta, measured.delta)


def test_the_network_is_left_as_it_was(lenet, digits):
    lenet.train()
    before = {n: (p.requires_grad, p.stride(), p.clone()) for n, p in lenet.named_parameters()}
    x = digits[:2].clone().requires_grad_()
    margins.deepfool(lenet, x)
    assert all(m.training for m in lenet.modules())
    lenet.eval()
    for name, p in lenet.named_parameters():
        assert (p.requires_grad, p.stride()) == before[name][:2]
        assert torch.equal(p, before[name][2])
        assert p.grad is None
    assert x.grad is None
    assert torch.equal(x, digits[:2])


# --- a boundary with a known nearest point ---------------------------------------------------------------


class Ellipse(nn.Module):
    """Label 1 outside of x₁²/9 + x₂² = 1, in the plane of the first two of D coordinates."""

    def forward(self, x):
        value = x[:, 0] ** 2 / 9 + x[:, 1] ** 2 - 1
        return torch.stack([torch.zeros_like(value), value], dim=1)


def test_tight_steps_find_the_nearest_point_of_an_ellipse():
    angle = torch.linspace(0, 2 * math.pi, 1_000_001, dtype=torch.float64)
    ellipse = torch.stack([3 * angle.cos(), angle.sin()], dim=1)
    x = torch.zeros(4, 5, dtype=torch.float64)
    x[:, :2] = torch.tensor([[1.9, 0.2], [1.5, -0.3], [-2.4, 0.1], [4.0, 2.0]])
    exact = torch.stack([(ellipse - p).norm(dim=1).min() for p in x[:, :2]])
    plain, tight = (margins.deepfool(Ellipse(), x, tight=k).norm[:, 0] for k in (0, 100))
    assert (plain >= exact - 1e-9).all()
    assert (plain / exact).max() > 1.02  # or there is nothing to show here
    torch.testing.assert_close(tight, exact, rtol=2e-3, atol=0)
    assert (tight >= exact - 1e-9).all()


def test_tight_steps_leave_an_exact_margin_alone():
    net = affine(20, 6, torch.float64)
    x = torch.randn(20, 20, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    space = spectra.random_subspace((20,), 7, seed=0)
    m = margins.deepfool(net, x, space, tight=20)
    torch.testing.assert_close(m.norm, closed_form(net, x, [space]), rtol=1e-10, atol=0)


# --- vectors, two classes, few rivals ---------------------------------------------------------------------


def test_vectors_and_two_classes():
    train, test = synthetic.t1(1_500, dim=30, seed=0), synthetic.t1(12, dim=30, seed=1, rotation_seed=0)
    net = nets.mlp(30, (40, 40), seed=0)
    training.fit(net, train.x, train.y, replace(training.TABLE1, epochs=5, stop_at=None))
    net, x = net.double(), test.x.double()
    u1 = spectra.span(test.u[0])
    spaces = [u1, u1.complement(), spectra.random_subspace((30,), 3, seed=0)]
    m = margins.deepfool(net, x, spaces)
    for j, space in enumerate(spaces):
        for i in range(len(x)):
            delta, steps, label = subspace_deepfool(net, x[i : i + 1], basis(space, torch.float64))
            assert m.found[i, j].item() == (label != m.origin[i].item())
            if m.found[i, j]:
                assert m.raw[i, j].item() == pytest.approx(delta.norm().item(), rel=SAME)
                assert m.steps[i, j].item() == steps
    assert m.found[:, 0].all()
    assert m.norm[:, 0].median() < m.norm[:, 1].median()  # the boundary lies across u₁


def test_rivals_are_the_largest_logits_of_the_clean_input():
    net = affine(20, 12, torch.float64)
    x = torch.randn(60, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    few, all_ = (margins.deepfool(net, x, rivals=k, refine=False) for k in (2, 12))
    for i in range(len(x)):
        delta, _, _ = subspace_deepfool(net, x[i : i + 1], rivals=2)
        assert few.raw[i, 0].item() == pytest.approx(delta.norm().item(), rel=1e-9)
    assert (few.raw > all_.raw * 1.01).any()


def test_overshoot_is_applied_as_published():
    net = affine(20, 4, torch.float64)
    x = torch.randn(10, 20, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    exact = closed_form(net, x, [spectra.full((20,))])
    for overshoot in (0.02, 0.3):
        m = margins.deepfool(net, x, overshoot=overshoot)
        torch.testing.assert_close(m.raw, (1 + overshoot) * exact)
        torch.testing.assert_close(m.norm, exact)


# --- what was not found ------------------------------------------------------------------------------------


def assert_censored(m, rows):
    assert not m.found[rows].any()
    assert torch.isinf(m.norm[rows]).all()
    assert torch.isinf(m.raw[rows]).all()
    assert torch.equal(m.label[rows], m.origin[:, None].expand_as(m.label)[rows])
    assert not any(getattr(m, f).isnan().any() for f in ("norm", "raw"))


def test_a_constant_classifier_has_no_margin():
    net = affine(784, 5)
    with torch.no_grad():
        net[1].weight.zero_()
    m = margins.deepfool(net, torch.rand(6, *IMAGE), SPACES[:4])
    assert_censored(m, torch.ones_like(m.found))


def test_a_subspace_without_gradient_is_censored_beside_one_with():
    net = affine(10, 3, torch.float64)
    with torch.no_grad():
        net[1].weight[:, 7:] = 0
    axes = torch.eye(10, dtype=torch.float64)
    dead, alive = spectra.span(*axes[7:]), spectra.span(*axes[:7])
    x = torch.randn(8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    m = margins.deepfool(net, x, [dead, alive], tight=5, keep=True)
    assert_censored(m, torch.tensor([[True, False]]).expand(8, 2))
    assert not m.delta[:, 0].any()
    assert m.found[:, 1].all()
    torch.testing.assert_close(m.norm[:, 1:], closed_form(net, x, [alive]))


def test_too_few_steps_censor_exactly_the_rows_that_the_loop_does_not_flip(double, exact):
    m = margins.deepfool(*double, SPACES, max_steps=2)
    assert torch.equal(m.found, exact.steps <= 2)
    assert 0 < m.found.sum() < m.found.numel()
    assert_censored(m, ~m.found)
    torch.testing.assert_close(m.norm[m.found], exact.norm[m.found], rtol=SAME, atol=0)
    assert (m.steps[~m.found] == 2).all()


def test_a_boundary_out_of_sight_is_censored():
    """A ReLU that is off everywhere near: the gradient is zero although the label changes far away."""
    net = nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for p, value in zip(
            net.parameters(), ([[1.0, 0, 0]], [-50.0], [[0.0], [1.0]], [0.5, 0.0]), strict=True
        ):
            p.copy_(torch.tensor(value))
    m = margins.deepfool(net, torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert_censored(m, torch.ones_like(m.found))


def test_quantiles_count_a_censored_row_as_longer_than_all():
    norm = torch.tensor([[1.0, 4], [2, math.inf], [3, math.inf], [math.inf, math.inf], [5, math.inf]])
    found = norm.isfinite()
    zeros = torch.zeros_like(norm, dtype=torch.int64)
    m = margins.Margins(norm, norm, found, zeros, zeros, zeros[:, 0])
    assert m.quantile(0.5).tolist() == [3, math.inf]
    assert m.quantile([0.0, 0.25, 0.125]).tolist() == [[1, 4], [2, math.inf], [1.5, math.inf]]
    assert m.quantile(1.0).tolist() == [math.inf, math.inf]
    for q in (-0.1, 1.5, [0.5, 2], math.nan, "0.5"):
        with pytest.raises(ValueError, match=r"q must be a finite number at least 0 and at most 1"):
            m.quantile(q)


# --- what does not fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net, x: margins.deepfool(net, x[:0]), r"\(N, …\)"),
        (lambda net, x: margins.deepfool(net, x.long()), "int64"),
        (lambda net, x: margins.deepfool(net, x.double()), "float"),
        (lambda net, x: margins.deepfool(net, x[0, 0, 0]), "batch|shape"),
        (lambda net, x: margins.deepfool(net, x[:, 0]), r"\(N, 1, 28, 28\)"),
        (lambda net, x: margins.deepfool(net, x * math.nan), "NaN"),
        (lambda net, x: margins.deepfool(net, x / 0), "NaN or inf"),
        (lambda net, x: margins.deepfool(net, x, []), "number of subspaces"),
        (lambda net, x: margins.deepfool(net, x, spectra.full((784,))), r"\(N, 784\)"),
        (lambda net, x: margins.deepfool(net, x, [torch.eye(784)]), "Subspace"),
        (lambda net, x: margins.deepfool(net, x, overshoot=-0.1), "overshoot"),
        (lambda net, x: margins.deepfool(net, x, overshoot=math.nan), "overshoot"),
        (lambda net, x: margins.deepfool(net, x, max_steps=0), "max_steps"),
        (lambda net, x: margins.deepfool(net, x, rivals=1), "rivals"),
        (lambda net, x: margins.deepfool(net, x, chunk=0), "chunk"),
        (lambda net, x: margins.deepfool(net, x, tight=-1), "tight"),
        (lambda net, x: margins.deepfool(lambda v: net(v)[:, :1], x), "L >= 2"),
        (lambda net, x: margins.deepfool(lambda v: net(v)[0], x), "logits"),
        (lambda net, x: margins.deepfool(lambda v: net(v) * math.nan, x), "NaN"),
        (lambda net, x: margins.deepfool(lambda v: net(v).detach(), x), "gradient"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call(nets.lenet(), torch.rand(3, *IMAGE, generator=torch.Generator().manual_seed(0)))
    assert "\n" not in str(error.value)


def test_margins_are_found_by_the_name_of_their_subspace():
    spaces = [spectra.span(torch.eye(6)[0], name="u₁"), spectra.full((6,)), spectra.random_subspace((6,), 2)]
    net = nets.mlp(6, (8,), 3, seed=1)
    m = margins.deepfool(net, torch.randn(5, 6), spaces, keep=True)
    for j, space in enumerate(spaces):
        one = m[space.name]
        assert torch.equal(one.norm, m.norm[:, j : j + 1])
        assert torch.equal(one.delta, m.delta[:, j : j + 1])
        assert torch.equal(one.quantile(0.5), m.quantile(0.5)[j : j + 1])
    with pytest.raises(
        ValueError, match="0 of these subspaces are called 'u2': they are 'u₁', 'full space', 'random'"
    ):
        m["u2"]


def test_the_cost_is_told_after_a_little_of_it(monkeypatch):
    """A clock that ticks with every row that goes through the network."""
    net, clock = nets.mlp(5, (4,), 3), [0.0]

    def ticking(z):
        clock[0] += 1e-3 * len(z)
        return net(z)

    monkeypatch.setattr("tightrope.boundary.margins.time.perf_counter", lambda: clock[0])
    x = torch.randn(400, 5)
    told = margins.cost(ticking, x, seconds=1.0)
    tried, clock[0] = clock[0], 0.0
    margins.deepfool(ticking, x)
    assert tried < 2
    assert clock[0] / 2 < told < clock[0] * 2


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e20])
def test_margins_do_not_depend_on_the_logits_scale(scale):
    net, x = nets.mlp(6, (20, 20), 4, seed=1).double(), torch.randn(30, 6, dtype=torch.float64)
    plain, scaled = (margins.deepfool(f, x, tight=20) for f in (net, lambda z: scale * net(z)))
    assert torch.allclose(scaled.norm, plain.norm, rtol=1e-4)
    assert torch.equal(scaled.found, plain.found)


@pytest.mark.parametrize(("low", "width"), [(-1.0, 2.0), (0.0, 255.0)])
def test_margins_are_in_the_units_of_the_input(low, width):
    net, x = nets.mlp(6, (20, 20), 4, seed=1).double(), torch.rand(30, 6, dtype=torch.float64)
    plain = margins.deepfool(net, x, tight=20)
    there = margins.deepfool(lambda z: net((z - low) / width), low + width * x, tight=20)
    assert torch.allclose(there.norm / width, plain.norm, rtol=1e-4)
