"""Descent against autograd, the lemma after any number of steps, scores of weights we made, the network that exists."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize_scalar
from tests.stops import counted
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from tightrope import attacks, averaging, clusters, margins, pair_losses, universal
from tightrope.models.training import Diverged

F64 = torch.float64
# By way of the inner products of all samples where N < 2 D, by way of the weights elsewhere.
SIZES = [pytest.param(40, 30, id="gram"), pytest.param(90, 20, id="weights")]


def data(n=40, dim=30, k=4, **options):
    return clusters.sample(n, k=k, dim=dim, **options)


def by_autograd(d, m, fine, steps, rate, w, b):
    """The slides' formulas, a neuron at a time, and torch's own derivatives."""
    x, k = d.x.double(), len(d.means)
    w, b = w.clone().requires_grad_(), b.clone().requires_grad_()
    outputs = k if fine else 2

    def loss() -> Tensor:
        hidden = [torch.relu(x @ w[r] + b[r]) for r in range(outputs * m)]
        f = [sum(hidden[m * o : m * (o + 1)]) / m for o in range(outputs)]
        if fine:
            return cross_entropy(torch.stack(f, 1), d.cluster)
        return softplus(-(2 * d.y - 1) * (f[1] - f[0])).mean()

    losses = []
    for _ in range(steps):
        losses.append(loss())
        by_w, by_b = torch.autograd.grad(losses[-1], (w, b))
        with torch.no_grad():
            w -= rate * by_w
            b -= rate * by_b
    return w.detach(), b.detach(), torch.stack([*losses, loss()]).detach()


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize(("n", "dim"), SIZES)
@pytest.mark.parametrize(("steps", "atol"), [(1, 1e-13), (40, 1e-11)])
def test_descent_is_autograds(n, dim, fine, steps, atol):
    d = data(n, dim)
    ours = averaging.train(d, 3, steps=steps, rate=0.02, fine=fine, dtype=F64)
    w, b, loss = by_autograd(d, 3, fine, steps, 0.02, ours.w0, ours.b0)
    assert (w - ours.w0).norm(dim=1).min() > 1e-3
    torch.testing.assert_close(ours.w, w, atol=atol, rtol=0)
    torch.testing.assert_close(ours.b, b, atol=atol, rtol=0)
    torch.testing.assert_close(ours.loss, loss, atol=1e-12, rtol=0)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize(("n", "dim"), SIZES)
@pytest.mark.parametrize("steps", [0, 1, 10, 300])
def test_coefficients_make_up_the_weights_after_any_number_of_steps(n, dim, fine, steps):
    d = data(n, dim)
    found = averaging.train(d, 3, steps=steps, rate=0.02, fine=fine, dtype=F64)
    means, noise = d.means.double(), d.x.double() - d.means.double()[d.cluster]
    torch.testing.assert_close(
        found.w0 + found.lam @ means + found.sigma @ noise, found.w, atol=1e-10, rtol=0
    )
    torch.testing.assert_close(found.b0 + found.sigma.sum(1), found.b, atol=1e-10, rtol=0)
    of_cluster = torch.stack([found.sigma[:, d.cluster == j].sum(1) for j in range(4)], 1)
    torch.testing.assert_close(found.lam, of_cluster, atol=1e-13, rtol=0)


def test_least_squares_finds_the_coefficients_that_descent_kept():
    d = data(40, 50)
    found = averaging.train(d, 3, steps=30, rate=0.02, dtype=F64)
    means, noise = d.means.double(), d.x.double() - d.means.double()[d.cluster]
    parts = averaging.decompose(found.w, found.w0, means, noise)
    torch.testing.assert_close(parts.lam, found.lam, atol=1e-10, rtol=0)
    torch.testing.assert_close(parts.sigma, found.sigma, atol=1e-10, rtol=0)
    assert parts.residual.max() < 1e-10
    aside = torch.linalg.svd(torch.cat([means, noise]))[2][-1]  # orthogonal to all of them
    parts = averaging.decompose(found.w + 3 * aside, found.w0, means, noise)
    torch.testing.assert_close(parts.residual, torch.full((6,), 3.0, dtype=F64))
    torch.testing.assert_close(parts.lam, found.lam, atol=1e-10, rtol=0)


def test_weights_with_many_decompositions_are_refused():
    d = data(40, 43)
    w = torch.zeros(1, 43)
    with pytest.raises(ValueError, match="many decompositions"):
        averaging.decompose(w, w, d.means, d.xi)
    twice = torch.cat([d.xi[:5], d.xi[:1]])
    with pytest.raises(ValueError, match="many decompositions"):
        averaging.decompose(w, w, d.means, twice)


def test_the_start_is_the_slides():
    d = clusters.sample(2, k=2, dim=400)
    one = averaging.train(d, 100, steps=0, rate=1.0)
    small = averaging.train(d, 100, steps=0, rate=1.0, scale=0.01)
    assert one.w.std() * 20 == pytest.approx(1, abs=0.02)  # six standard deviations
    assert one.b.std() * 400 == pytest.approx(1, abs=0.3)
    assert abs(one.w.mean()) * 20 < 0.03
    torch.testing.assert_close(small.w, one.w / 100)
    torch.testing.assert_close(small.b, one.b / 100)
    assert torch.equal(one.w, one.w0)
    assert not one.sigma.any()


@pytest.mark.parametrize("fine", [False, True])
def test_float32_is_float64_rounded(fine):
    d = data(100, 200)
    single, double = (
        averaging.train(d, 3, steps=50, rate=0.01, fine=fine, dtype=t) for t in (torch.float32, F64)
    )
    for name in ("w", "b", "sigma", "lam", "loss"):
        ours, exact = getattr(single, name), getattr(double, name)
        assert ours.dtype == torch.float32
        assert (ours - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize("fine", [False, True])
def test_the_network_is_a_classifier_to_everything_here(fine):
    d = data(60, 50, seed=2)
    found = averaging.train(d, 2, steps=600, rate=0.02, fine=fine)
    net, y = found.net(), d.cluster if fine else d.y
    assert net(d.x).shape == (60, 4 if fine else 2)
    assert cross_entropy(net(d.x), y).item() == pytest.approx(found.loss[-1].item(), rel=1e-4)
    two = nn.Sequential(net, averaging.Merge((d.signs + 1) // 2)) if fine else net
    f = net(d.x).detach()
    largest = torch.stack([f[:, 2:].amax(1), f[:, :2].amax(1)], 1) if fine else f
    torch.testing.assert_close(two(d.x).detach(), largest)
    torch.testing.assert_close(pair_losses.scores(two, d.x), largest[:, 1] - largest[:, 0])
    assert (two(d.x).argmax(1) == d.y).all()
    assert [p.requires_grad for p in net.parameters()] == [True, True, False]
    shortest, linear = attacks.ddn(net, d.x, y, box=None), margins.deepfool(net, d.x)
    # Where no neuron of the other outputs is on, all may go off before one goes on, and then no gradient is left.
    assert shortest.found.double().mean() > 0.8
    assert linear.found.double().mean() > 0.8
    assert (net(shortest.images).argmax(1) != y)[shortest.found].all()


def test_no_step_waits_for_the_device():
    d = data()
    with counted() as few:
        averaging.train(d, steps=2, rate=0.01)
    with counted() as many:
        averaging.train(d, steps=50, rate=0.01)
    assert few == many


def test_clusters_of_one_s_own_are_looked_at():
    d = data()
    for name, wrong in {
        "y": d.y + 1,
        "cluster": d.cluster + 1,
        "signs": d.signs - 1,
        "means": d.means[:, 1:],
    }.items():
        with pytest.raises(ValueError, match=f"data.{name} must"):
            averaging.train(replace(d, **{name: wrong}), steps=1, rate=0.1)


def test_a_rate_that_is_too_large_says_so():
    d = data()
    with pytest.raises(Diverged, match="smaller rate"):
        averaging.train(d, 3, steps=3, rate=1e38)


def test_scores_of_weights_we_made():
    signs = torch.tensor([1, 1, 1, 1, -1, -1, -1])
    rows = [
        ([2, 2, 2, 2, 0, 0, 0], 1, 1, 0, 0),  # all alike
        ([0, 0, 3, 0, 0, 0, 0], 1, 0, 1, 0),  # one
        ([1, 0, 1, 0, 0, 0, 0], 1, 1 / 3, 1 / 3, 0),  # half of them
        ([1, 1, 1, 1, -2, 0, 1], 1, 1, 0, 2),  # with the other class's
        ([5, 5, 0, 0, 1, 1, 1], -1, 1, 0, 5),
        ([0, 0, 0, 0, 2, -9, -9], -1, 0, 1, 0),  # what is negative is not learnt
        ([0, 0, 0, 0, 3, 1, 0], -1, (16 / 10 - 1) / 2, (9 / 4 - 1) / 2, 0),
    ]
    lam, sign, averages, decouples, other = zip(*rows, strict=True)
    lam, sign = torch.tensor(lam).double(), torch.tensor(sign)
    for factor in (1, 1e-200, 1e200):
        found = averaging.scores(factor * lam, signs, sign)
        torch.testing.assert_close(found.averaging, torch.tensor(averages).double())
        torch.testing.assert_close(found.decoupling, torch.tensor(decouples).double())
        torch.testing.assert_close(found.other, torch.tensor(other).double())
        assert found.learnt.all()


def test_neurons_that_never_learnt_are_masked():
    signs, sign = torch.tensor([1, 1, -1, -1]), torch.tensor([1, 1, 1, -1])
    lam = torch.tensor([[1.0, 1, 0, 0], [0.001, 0, 0, 0], [-1, -1, 2, 2], [0, 0, 0, 0]])
    found = averaging.scores(lam, signs, sign)
    assert found.learnt.tolist() == [True, False, False, False]
    assert averaging.scores(lam, signs, sign, floor=1e-4).learnt.tolist() == [True, True, False, False]
    for value in (found.averaging, found.decoupling, found.other):
        assert value[1:].tolist() == [0, 0, 0]
    assert not averaging.scores(0 * lam, signs, sign).learnt.any()
    with pytest.raises(ValueError, match="two clusters"):
        averaging.scores(lam, torch.tensor([1, -1, -1, -1]), sign)


def test_cosines_are_averages_over_an_output():
    means = 5 * torch.eye(3)[:2]
    w = torch.tensor([[1.0, 0, 0], [1.0, 1, 0], [0, -2.0, 0], [0, 0, 0]])
    found = averaging.cosines(w, means, torch.tensor([1, 1, 0, 0]))
    torch.testing.assert_close(found, torch.tensor([[0, -0.5], [(1 + 0.5**0.5) / 2, 0.5**1.5]]))
    with pytest.raises(ValueError, match="every output"):
        averaging.cosines(w, means, torch.tensor([2, 2, 0, 0]))


@pytest.mark.parametrize("positive", [1, 2, 5])
def test_the_explicit_network_is_as_robust_at_the_means_as_can_be(positive):
    d = clusters.sample(1, k=10, dim=64, positive=positive, seed=1)
    net, y = averaging.explicit(d.means, d.signs), (d.signs + 1) // 2
    assert (net(d.means).argmax(1) == y).all()
    radius = (64 / 2) ** 0.5
    for i in range(
        10
    ):  # towards a mean of the other class it turns half-way, and towards one of its own never
        for j in range(10):
            line = d.means[i] + torch.tensor([0.499, 0.501])[:, None] * (d.means[j] - d.means[i])
            turned = net(line).argmax(1) != y[i]
            assert turned.tolist() == [False, bool(d.signs[i] != d.signs[j])]
    # Within the radius nothing turns: less of its own mean, more of any q others', in all proportions.
    g = torch.Generator().manual_seed(0)
    weight = torch.rand(4_000, 10, generator=g) * (
        torch.rand(4_000, 10, generator=g) < torch.rand(4_000, 1, generator=g)
    )
    for i in range(10):
        toward = weight.clone()
        toward[:, i] = -2 * torch.rand(4_000, generator=g)
        step = torch.nn.functional.normalize(toward @ d.means, dim=1)
        assert (net(d.means[i] + 0.999 * radius * step).argmax(1) == y[i]).all()
    found = attacks.ddn(net, d.means, y, box=None, steps=50)
    assert found.found.any()
    assert found.norm()[found.found].min() >= radius * (1 - 1e-4)


def test_no_number_of_clusters_is_nearer_than_one_with_the_explicit_network_s_threshold():
    """Its docstring's problem, solved numerically: min u² + q t² with q (t − τ) = 1 − u − τ."""
    nearest = []
    for q in range(1, 51):
        length = lambda u, q=q: u**2 + q * (averaging.THRESHOLD + (1 - u - averaging.THRESHOLD) / q) ** 2
        nearest.append(minimize_scalar(length).fun)
    assert nearest[0] == pytest.approx(0.5)
    assert min(nearest[1:]) > 0.5
    assert (1 - averaging.THRESHOLD) ** 2 > 0.5


def test_the_explicit_network_leaves_noise_out():
    d = clusters.sample(2_000, k=10, dim=400, seed=4)
    net = averaging.explicit(d.means, d.signs)
    assert (net.relu1(net.fc1(d.x)) > 0).equal(torch.nn.functional.one_hot(d.cluster, 10) == 1)
    assert (net(d.x).argmax(1) == d.y).all()


def test_the_explicit_network_of_means_at_other_angles():
    d = clusters.sample(1, k=6, dim=30, cosine=0.3, norms=(1.0, 2.0, 3.0, 1.0, 2.0, 3.0))
    net = averaging.explicit(d.means, d.signs)
    torch.testing.assert_close(net.fc1(d.means), torch.eye(6) - 0.25, atol=1e-5, rtol=0)
    found = attacks.ddn(net, d.means, (d.signs + 1) // 2, box=None)
    assert found.found.any()
    assert found.norm()[found.found].min() >= torch.linalg.svdvals(d.means)[-1] / 2**0.5 * (1 - 1e-4)
    with pytest.raises(ValueError, match="independent"):
        averaging.explicit(torch.cat([d.means, d.means[:1]]), torch.cat([d.signs, d.signs[:1]]))


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_two_labels_average_and_fine_labels_decouple(scale):
    """Eight seeds, small: the means of the scores lie on opposite sides of a wide gap, every time."""
    for seed in range(8):
        d = clusters.sample(150, k=6, dim=200, seed=seed)
        coarse, fine = (
            averaging.train(d, steps=150, rate=0.02, scale=scale, fine=f, seed=seed).scores()
            for f in (False, True)
        )
        assert coarse.averaging[coarse.learnt].mean() > fine.averaging[fine.learnt].mean() + 0.4
        assert fine.decoupling[fine.learnt].mean() > coarse.decoupling[coarse.learnt].mean() + 0.4


def test_the_averaging_network_falls_to_one_short_direction():
    d = clusters.sample(400, k=10, dim=400, seed=3)
    z = universal.direction(d.means, d.signs)
    found = averaging.train(d, steps=200, rate=0.02, scale=0.01).net()
    short = universal.flipping_norm(found, d.x, d.y, z, reach=40.0)
    assert short < (400 / 2) ** 0.5 / 1.2  # the explicit network's radius, at means
    assert (
        universal.flipping_norm(averaging.explicit(d.means, d.signs), d.x, d.y, z, reach=60.0) > 1.5 * short
    )
    assert math.isinf(universal.flipping_norm(found, d.x, d.y, z, reach=short / 2))


@pytest.mark.parametrize("how", ["largest", "probability"])
def test_merged_outputs_decide_for_a_group(how):
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = torch.tensor([1, 0, 1, 0, 0])
    found = averaging.Merge(groups, how)(logits)
    if how == "largest":
        assert torch.equal(found.argmax(1), groups[logits.argmax(1)])
    else:
        probabilities = logits.softmax(1)
        expected = torch.stack([probabilities[:, groups == g].sum(1) for g in (0, 1)], 1)
        assert torch.allclose(found.exp(), expected, rtol=1e-12)


def test_two_ways_to_merge_differ_where_many_small_ones_outweigh_a_large_one():
    logits, groups = torch.tensor([[1.0, 0.9, 0.9]]), torch.tensor([0, 1, 1])
    assert averaging.Merge(groups)(logits).argmax() == 0
    assert averaging.Merge(groups, "probability")(logits).argmax() == 1


def test_groups_must_be_counted_through():
    with pytest.raises(ValueError, match="from 0 to the largest"):
        averaging.Merge(torch.tensor([0, 2]))
