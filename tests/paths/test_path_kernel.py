"""The kernel sum is the network, to rounding; every entry is autograd's product, integrated."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from tests.oracles.paths import integral, jacobian, kinks, moving_gram, points

from tightrope import data, path_kernel
from tightrope.paths import quadrature
from tightrope.paths.trajectory import Trajectory

DIGITS = data.load("mnist", "train", n=500, seed=0)
QUERIES = data.load("mnist", "test", n=100, seed=0)[0]


def small(steps=15, lr=1.0, **options):
    x, y, xq = points()
    return path_kernel.train(x, y, hidden=5, classes=3, steps=steps, lr=lr, **options), xq


@pytest.mark.parametrize("lr", [0.2, 1.0])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_kernel_sum_is_the_network(lr, dtype, bound):
    path = path_kernel.train(*DIGITS, hidden=100, classes=10, steps=100, lr=lr, seed=0, dtype=dtype)
    net, kernel = path.net(QUERIES), path.predict(QUERIES)
    assert net.shape == kernel.shape == (100, 10)
    assert net.dtype == kernel.dtype == dtype
    assert net.std() > 0.5  # it has learned something, so that agreeing says something
    assert (kernel - net).abs().max() <= bound


def test_the_path_is_plain_gradient_descent():
    """Every state is the one autograd and torch's own SGD reach."""
    path, _ = small(lr=0.5)
    w = path.trajectory.states[0].clone().requires_grad_()
    descent = torch.optim.SGD([w], lr=0.5)
    for s in range(path.steps):
        assert torch.allclose(w, path.trajectory.states[s], rtol=0, atol=1e-13)
        descent.zero_grad()
        (w1, b1), (w2, b2) = [
            (w[a:b].view(-1, k), w[b:c]) for a, b, c, k in ((0, 15, 20, 3), (20, 35, 38, 5))
        ]
        loss = torch.nn.functional.cross_entropy((path.x @ w1.T + b1).relu() @ w2.T + b2, path.y)
        assert torch.allclose(loss, path.loss[s])
        loss.backward()
        descent.step()


def test_the_weights_are_the_loss_s_derivatives():
    path, _ = small(lr=0.7)
    assert path.weights.shape == (12, 15, 3)
    logits = path.net(path.x, 4).requires_grad_()
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, path.y), logits)
    assert torch.allclose(path.weights[:, 4], -0.7 * g)


def moved(shift: float) -> path_kernel.Path:
    """One step by hand, with kinks at t = 0, 1/4, 1/2 and 1 for the query (1, 0), and a unit that never moves."""
    sizes = (2, 5, 2)
    w1 = torch.tensor([[0.0, 1], [-1, 0], [1, 2], [1, 0], [2, -1]], dtype=torch.float64)
    step = torch.tensor([[1.0, 0], [4, 1], [-2, 0], [-1, 1], [0, 0]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    rest = torch.randn(12, generator=draw, dtype=torch.float64)
    after = rest + torch.randn(12, generator=draw, dtype=torch.float64)
    b1 = torch.full((5,), shift, dtype=torch.float64)
    states = torch.stack([torch.cat([w1.flatten(), b1, rest]), torch.cat([(w1 + step).flatten(), b1, after])])
    x = torch.tensor([[1.0, 0], [0.3, -0.7], [-1, 2]], dtype=torch.float64)
    a = torch.ones(1, 3, 2, dtype=torch.float64)
    return path_kernel.Path(
        Trajectory(x, torch.zeros(3).long(), states, a, torch.zeros(2), sizes, "relu", 0.0)
    )


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_every_entry_is_autograds_product_integrated(shift):
    path = moved(shift)
    w0, w1 = path.trajectory.states
    sizes = path.trajectory.sizes
    xq = torch.tensor([[1.0, 0], [0.5, 0.5], [-0.2, -1.5]], dtype=torch.float64)
    if shift == 0:
        assert {0.25, 0.5} <= set(kinks(w0, w1, sizes, xq[0]))
    blocks = path.kernel(xq)
    assert blocks.shape == (3, 3, 2, 2)
    trace = {
        where: path.gram(xq, path.x, where)
        for where in (("moving", "start"), ("start", "start"), ("moving", "moving"), ("start", "moving"))
    }
    for q, left in enumerate(xq):
        for i, right in enumerate(path.x):
            exact = integral(w0, w1, sizes, left, right)
            assert torch.allclose(blocks[q, i], exact, rtol=1e-13, atol=1e-13)
            for where, values in trace.items():
                moving = tuple(side == "moving" for side in where)
                block = integral(w0, w1, sizes, left, right, moving)
                assert torch.allclose(values[q, i], block.trace() / 2, rtol=1e-13, atol=1e-13)
        for where in ("moving", "start"):
            block = integral(w0, w1, sizes, left, left, (where == "moving",) * 2)
            assert torch.allclose(path.diagonal(xq, where)[q], block.trace() / 2, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("lr", "zero_last"), [(1.0, True), (3.0, False)])
def test_two_moving_points_as_products_are_the_sum_over_pairs_and_units(lr, zero_last):
    x, y = DIGITS[0][:80], DIGITS[1][:80]
    path = path_kernel.train(x, y, hidden=20, steps=12, lr=lr, zero_last=zero_last)
    xq = QUERIES[:30].flatten(1).to(path.x)
    w = [path.trajectory.layers(s)[0] for s in range(13)]
    on = torch.stack([path.x @ weight.T + bias > 0 for weight, bias in w])
    assert (on[1:] != on[:-1]).sum(1).max() > 1  # a unit crosses its kink for two points in the same step
    for left in (xq, path.x):
        exact = moving_gram(path, left, path.x)
        fast = path.gram(left, where=("moving", "moving"))
        assert (fast - exact).abs().max() <= 1e-13 * exact.abs().max()


def test_entries_along_a_real_training():
    path, xq = small(lr=3.0)
    w, sizes = path.trajectory.states, path.trajectory.sizes
    whole = torch.stack(
        [
            torch.stack(
                [sum(integral(w[s], w[s + 1], sizes, q, i) for s in range(path.steps)) for i in path.x[:4]]
            )
            for q in xq[:3]
        ]
    )
    assert sum(len(kinks(w[s], w[s + 1], sizes, q)) for s in range(path.steps) for q in xq[:3]) > 0
    assert torch.allclose(path.kernel(xq[:3])[:, :4], whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9, "lr": 0.3},
        {"batch": 5},
        {"batch": 5, "momentum": 0.8, "zero_last": False, "lr": 0.3},
        {"zero_last": False},
    ],
    ids=["plain", "momentum", "batches", "all", "drawn start"],
)
def test_the_sum_in_all_its_forms(options):
    path, xq = small(**options)
    net, start = path.net(xq), path.net(xq, 0)
    assert bool((start == 0).all()) == options.get("zero_last", True)
    blocks = torch.stack([path.kernel(xq, s) for s in range(path.steps)])
    forms = [
        path.predict(xq),
        start + path.contributions(xq).sum(1),
        start + torch.einsum("sqikl,isl->qk", blocks, path.weights),
    ]
    for form in forms:
        assert torch.allclose(form, net, rtol=0, atol=1e-12)
    assert torch.allclose(path.kernel(xq), blocks.sum(0))
    for step in (0, 1, 7):
        if not options.get("momentum"):
            assert torch.allclose(path.predict(xq, step=step), path.net(xq, step), rtol=0, atol=1e-12)


def test_a_momentum_step_early_on():
    path, xq = small(momentum=0.9, lr=0.3)
    assert torch.allclose(path.predict(xq, step=6), path.net(xq, 6), rtol=0, atol=1e-12)
    ended = path_kernel.train(path.x, path.y, hidden=5, classes=3, steps=6, lr=0.3, momentum=0.9)
    assert torch.allclose(ended.predict(xq), path.predict(xq, step=6))


@pytest.mark.parametrize(("loss", "classes"), [("binary", 1), ("squared", 1), ("squared", 3)])
def test_other_losses(loss, classes):
    x, y, xq = points(classes=2)
    target = y if loss == "binary" else torch.randn(12, classes, dtype=torch.float64)
    path = path_kernel.train(x, target, 6, classes, steps=20, lr=0.05, loss=loss)
    assert path.loss[-1] < path.loss[0]
    assert torch.allclose(path.predict(xq), path.net(xq), rtol=0, atol=1e-12)
    logits = path.net(x, 3).requires_grad_()
    if loss == "binary":
        value = torch.nn.functional.binary_cross_entropy(logits.sigmoid()[:, 0], y.double())
    else:
        value = torch.nn.functional.mse_loss(logits, target, reduction="sum") / 12
    (g,) = torch.autograd.grad(value, logits)
    assert torch.allclose(path.weights[:, 3], -0.05 * g)


def test_the_symmetric_kernel_stays_at_the_training_points():
    path, xq = small()
    both = torch.cat([xq[:2], path.x[:3]])
    off = path.predict(both, symmetric=True) - path.net(both)
    assert off[:2].abs().max() <= 1e-12
    assert off[2:].abs().max() > 1e-6
    assert torch.allclose(
        path.predict(path.x, symmetric=True), path.predict(path.x, by=path_kernel.TANGENT), atol=1e-13
    )
    still = path.kernel(path.x, symmetric=True)
    assert torch.allclose(still, still.permute(1, 0, 3, 2))
    w, sizes = path.trajectory.states[2], path.trajectory.sizes
    product = jacobian(w, sizes, path.x[0]) @ jacobian(w, sizes, path.x[1]).T
    assert torch.allclose(path.kernel(path.x[:1], 2, symmetric=True)[0, 1], product)


def test_definition_14_3_is_a_kernel_and_the_continuous_one_is_not_symmetric():
    path, xq = small(lr=3.0)
    start, cross = path.gram(path.x, where=("start", "start")), path.gram(xq)
    joint = torch.cat(
        [torch.cat([start, cross.T], 1), torch.cat([cross, path.gram(xq, xq, ("moving", "moving"))], 1)]
    )
    assert torch.allclose(joint, joint.T, rtol=1e-13, atol=1e-13)
    values = torch.linalg.eigvalsh(joint)
    assert values.min() > -1e-12 * values.max()
    free = path.gram(path.x, path.x)
    assert (free - free.T).abs().max() > 1e-3 * free.abs().max()


@pytest.mark.parametrize("kind", ["left", "midpoint", "gauss"])
def test_rules_converge_to_the_closed_form(kind):
    path, xq = small(lr=3.0)
    errors = [
        (path.predict(xq, by=path_kernel.rule(kind, n)) - path.net(xq)).abs().max()
        for n in (1, 10, 100, 2_000)
    ]
    assert errors[2] > 1e-9  # kinks: no rule with nodes is exact
    assert errors[3] < 0.02 * max(errors[:2])  # of order 1/n, whatever the rule


def test_the_tangent_kernel_converges_with_the_step():
    """Remark 3: error of order ε at fixed ε · T."""
    errors = []
    for k in (1, 4, 16):
        total = 0.0  # over several networks: a kink may hide the order in one
        for seed in range(6):
            x, y, xq = points(seed=seed)
            path = path_kernel.train(x, y, 5, 3, steps=10 * k, lr=0.5 / k, seed=seed)
            total += (path.predict(xq, by=path_kernel.TANGENT) - path.net(xq)).abs().mean().item()
        errors.append(total)
    assert 2.5 < errors[0] / errors[1] < 7
    assert 2.5 < errors[1] / errors[2] < 7


def test_blocks_of_queries_change_nothing(monkeypatch):
    path, xq = small()
    whole = [
        path.predict(xq),
        path.kernel(xq),
        path.contributions(xq),
        path.gram(xq, xq, ("moving", "moving")),
    ]
    monkeypatch.setattr(path_kernel, "BLOCK", 200)
    parts = [
        path.predict(xq),
        path.kernel(xq),
        path.contributions(xq),
        path.gram(xq, xq, ("moving", "moving")),
    ]
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


def test_a_path_longer_than_memory_lies_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here, xq = small()
    disk, _ = small(memory=1_000)
    maps = Path("/proc/self/maps")
    if maps.exists():  # Linux can tell
        assert "tightrope-path-" in maps.read_text()
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(disk.trajectory.states, here.trajectory.states)
    assert torch.allclose(disk.predict(xq), here.predict(xq), rtol=0, atol=1e-13)


def test_shapes_seeds_and_gradients():
    x, y, xq = points(d=4)
    path = path_kernel.train(x.view(12, 1, 2, 2), y, 5, 3, steps=3)
    again = path_kernel.train(x, y, 5, 3, steps=3)
    other = path_kernel.train(x, y, 5, 3, steps=3, seed=1)
    assert torch.equal(path.trajectory.states, again.trajectory.states)
    assert not torch.equal(path.net(xq), other.net(xq))
    assert torch.equal(path.net(xq.view(7, 1, 2, 2)), path.net(xq))
    at = xq.clone().requires_grad_()
    path.net(at).sum().backward()
    assert at.grad.abs().sum() > 0
    assert path.predict(xq.float()).dtype == torch.float64


@pytest.mark.parametrize("case", ["one class", "duplicates", "one point"])
def test_odd_training_sets_give_exact_sums(case):
    x, y, xq = points()
    if case == "one class":
        y = torch.zeros_like(y)
    if case == "duplicates":
        x, y = x[[0, 0, 0, 1, 1]], y[[0, 0, 0, 1, 1]]
    if case == "one point":
        x, y = x[:1], y[:1]
    path = path_kernel.train(x, y, 5, 3, steps=30, lr=0.5)
    assert torch.allclose(path.predict(xq), path.net(xq), rtol=0, atol=1e-12)
    if case == "one class":
        assert (path.net(xq).argmax(1) == 0).all()
    if case == "duplicates":
        spoken = path.contributions(xq)
        assert torch.allclose(spoken[:, 0], spoken[:, 1], rtol=0, atol=1e-13)


def test_closed_form_of_one_unit():
    """relu from −1 to 1: active on the second half, mean 1/4."""
    means = quadrature.relu_means(torch.tensor([-1.0, 1, 2, -1, 0, 0]), torch.tensor([1.0, -1, 4, -2, 0, 1]))
    assert means.on.tolist() == [0.5, 0.5, 1, 0, 0, 1]
    assert means.late.tolist() == [0.375, 0.125, 0.5, 0, 0, 0.5]
    assert means.relu.tolist() == [0.25, 0.25, 3, 0, 0, 0.5]
