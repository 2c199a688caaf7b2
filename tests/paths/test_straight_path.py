"""Deeper networks: the secant form is exact, quadrature says how far it is, and the two are different kernels."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.paths import jacobian

from tightrope import data, path_kernel, straight_path
from tightrope.paths.straight_path import SECANT, rule

DIGITS = data.load("mnist", "train", n=200, seed=0)
QUERIES = data.load("mnist", "test", n=50, seed=0)[0]


def small(activation="tanh", hidden=(5, 4), **options):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, generator=draw, dtype=torch.float64)
    y = torch.randint(0, 3, (8,), generator=draw)
    xq = torch.randn(4, 3, generator=draw, dtype=torch.float64)
    options = {"steps": 10, "lr": 0.5, "zero_last": False} | options
    return straight_path.train(x, y, hidden, 3, activation=activation, **options), xq


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_secant_form_is_exact_with_four_hidden_layers(activation):
    path = straight_path.train(*DIGITS, hidden=(50, 50, 50, 50), steps=60, lr=0.1, activation=activation)
    kernel = path.predict(QUERIES, SECANT)
    assert path.loss[-1] < 0.9 * path.loss[0]
    assert (kernel.value - path.net(QUERIES)).abs().max() <= 1e-12
    assert torch.allclose(kernel.error, (kernel.value - path.net(QUERIES)).abs().amax(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("by", [SECANT, rule("gauss", 6)], ids=["secant", "gauss"])
def test_blocks_add_up_to_the_sum(activation, by):
    path, xq = small(activation)
    blocks = [path.kernel(xq, by, s) for s in range(path.steps)]
    assert blocks[0].shape == (4, 8, 3, 3)
    together = path.net(xq, 0) + torch.einsum("sqikl,isl->qk", torch.stack(blocks), path.weights)
    assert torch.allclose(together, path.predict(xq, by).value, rtol=0, atol=1e-12)
    assert torch.allclose(path.kernel(xq, by), sum(blocks))


def test_quadrature_entries_are_autograds():
    path, xq = small()
    w, sizes = path.trajectory.states, path.trajectory.sizes
    three = rule("gauss", 3)
    blocks = path.kernel(xq, three, 4)
    for q in range(4):
        for i in range(8):
            exact = sum(
                weight
                * jacobian(torch.lerp(w[4], w[5], t), sizes, xq[q], "tanh")
                @ jacobian(w[4], sizes, path.x[i], "tanh").T
                for t, weight in zip(three.nodes, three.weights, strict=True)
            )
            assert torch.allclose(blocks[q, i], exact, rtol=1e-12, atol=1e-12)


def test_smooth_networks_converge_fast_and_the_error_is_the_truth():
    path, xq = small()
    errors = [path.predict(xq, rule("gauss", n)).error.max().item() for n in (1, 2, 4, 8)]
    for error, share in zip(errors[1:], (0.5, 1e-3, 1e-8), strict=True):
        assert error < share * errors[0]


def test_two_layers_agree_with_the_closed_form():
    closed = path_kernel.train(*DIGITS, hidden=20, steps=10, lr=0.5)
    path = straight_path.train(*DIGITS, hidden=(20,), steps=10, lr=0.5)
    assert torch.equal(closed.trajectory.states, path.trajectory.states)
    nodes = rule("midpoint", 8)
    assert torch.allclose(closed.predict(QUERIES, by=nodes), path.predict(QUERIES, nodes).value, atol=1e-12)
    assert torch.allclose(
        closed.kernel(QUERIES[:3], by=nodes), path.kernel(QUERIES[:3], nodes), rtol=1e-11, atol=1e-11
    )


def test_the_secant_is_another_kernel():
    path, xq = small(lr=3.0)
    exact = path.kernel(xq, rule("gauss", 24))
    finer = path.kernel(xq, rule("gauss", 48))
    secant = path.kernel(xq, SECANT)
    assert (secant - exact).abs().max() > 100 * (finer - exact).abs().max()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_nothing_moves_no_division_by_zero(activation):
    """Equal ends: the secant slope falls back to the derivative."""
    path, xq = small(activation, lr=1e-300)
    assert torch.allclose(path.trajectory.states[0], path.trajectory.states[-1], rtol=0, atol=1e-290)
    secant = path.kernel(xq, SECANT)
    assert secant.isfinite().all()
    if activation == "tanh":  # at a kink a ReLU's secant is not its derivative, however short the step
        assert torch.allclose(secant, path.kernel(xq, rule("left", 1)))


def test_blocks_of_queries_change_nothing(monkeypatch):
    path, xq = small()
    whole = path.predict(xq, SECANT).value, path.kernel(xq)
    monkeypatch.setattr(straight_path, "BLOCK", 40)
    assert torch.allclose(path.predict(xq, SECANT).value, whole[0], rtol=0, atol=1e-13)
    assert torch.allclose(path.kernel(xq), whole[1], rtol=1e-13)


ALL, GAUSS = "log_probabilities", rule("gauss", 8)


def test_log_probabilities_are_one_kernel_machine():
    path, xq = small(hidden=(6,), steps=40)
    K = path.kernel(xq, GAUSS, of=ALL)
    own = K[:, torch.arange(8), :, path.y].sum(0)  # Σ_i K(x, x_i) e_{y_i}
    machine = path.net(xq, 0).log_softmax(1) + 0.5 / 8 * own
    assert torch.allclose(machine, path.net(xq).log_softmax(1), rtol=0, atol=1e-12)
    assert torch.allclose(machine, path.predict(xq, GAUSS, of=ALL).value, rtol=0, atol=1e-12)
    assert path.predict(xq, GAUSS, of=ALL).error.max() <= 1e-12


def test_its_kernel_is_symmetric_and_positive():
    path, xq = small(hidden=(6,), steps=5)
    ours = path.kernel(path.x, of=ALL, where=("start", "start"))
    cross = path.kernel(xq, of=ALL)
    new = path.kernel(xq, of=ALL, other=xq, where=("moving", "moving"))
    blocks = torch.cat([torch.cat([ours, cross.permute(1, 0, 3, 2)], 1), torch.cat([cross, new], 1)])
    matrix = blocks.transpose(1, 2).reshape(36, 36)
    assert torch.allclose(matrix, matrix.T)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() >= -1e-10 * values.max()


def test_log_probability_blocks_are_autograds():
    path, xq = small()
    w, sizes = path.trajectory.states[4], path.trajectory.sizes
    blocks = path.kernel(xq, rule("left", 1), 4, of=ALL)
    slope = lambda x: (torch.eye(3) - path.net(x[None], 4).softmax(1)) @ jacobian(w, sizes, x, "tanh")
    assert torch.allclose(blocks[1, 2], slope(xq[1]) @ slope(path.x[2]).T, rtol=1e-12, atol=1e-12)


def test_the_two_ways_of_writing_agree_on_a_lead():
    path, xq = small(lr=3.0)
    lead = lambda of: path.predict(xq, rule("gauss", 2), of=of).value.diff(dim=1)
    assert torch.allclose(lead("logits"), lead(ALL), rtol=0, atol=1e-12)


def test_a_secant_is_of_logits_and_of_queries_that_move():
    path, xq = small()
    with pytest.raises(ValueError, match="the logits"):
        path.predict(xq, SECANT, of=ALL)
    with pytest.raises(ValueError, match="leave `where` out"):
        path.kernel(xq, SECANT, where=("start", "start"))
    with pytest.raises(ValueError, match="of must be"):
        path.kernel(xq, of="probabilities")
