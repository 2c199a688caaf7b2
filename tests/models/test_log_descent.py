"""Descent in the log domain: exact where floats end, and the same path as descent on the loss itself."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch

from tightrope import log_descent, low_rank


def separable(seed=0, n=12, dim=2):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g, dtype=torch.float64)
    x[:, 0] = x[:, 0].abs() + 1
    return x


def test_log_softplus_beyond_every_float():
    getcontext().prec = 60
    for z in (-5_000.0, -745.0, -40.0, -37.0, -36.9, -1.0, 0.0, 3.0, 50.0, 800.0):
        exact = float(((1 + Decimal(z).exp()).ln() if z > -100 else Decimal(z).exp()).ln())
        t = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        value = log_descent.log_softplus(t)
        (slope,) = torch.autograd.grad(value, t)
        assert value.item() == pytest.approx(exact, rel=1e-13, abs=1e-15)
        s = float(1 / (1 + Decimal(-z).exp())) / math.exp(exact) if exact > -700 else 1.0
        assert slope.item() == pytest.approx(s, rel=1e-9)


def test_losses_are_the_usual_ones_where_those_exist():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 4, (9,), generator=g)
    usual = torch.nn.functional.cross_entropy(logits, labels).log()
    torch.testing.assert_close(log_descent.log_cross_entropy(logits, labels), usual)
    m = logits.flatten()
    torch.testing.assert_close(log_descent.log_logistic(m), torch.nn.functional.softplus(-m).mean().log())


def test_the_constant_schedule_is_gradient_descent():
    x = separable()
    w, plain = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    path = log_descent.descend(lambda: log_descent.log_logistic(x @ w), [w], 50, 0.3)
    for _ in range(50):
        loss = torch.log1p(torch.exp(-x @ plain)).mean()
        (slope,) = torch.autograd.grad(loss, plain)
        plain.data -= 0.3 * slope
    torch.testing.assert_close(w, plain, rtol=1e-10, atol=0)
    assert path.step[0] == 0
    assert path.step[-1] == 50
    assert path.log_time[-1].item() == pytest.approx(math.log(50 * 0.3))
    torch.testing.assert_close(path.weights[0][-1], w.detach())


def test_the_loss_schedule_reaches_the_same_place_at_the_same_time():
    """Plain descent for 5,000 steps, and the loss schedule, read off at the same flow time."""
    x = separable(1)
    paths = []
    for schedule, steps, rate in (("constant", 5_000, 0.2), ("loss", 800, 1e-3)):
        w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        paths.append(
            log_descent.descend(
                lambda w=w: log_descent.log_logistic(x @ w),
                [w],
                steps,
                rate,
                schedule=schedule,
                enough=0.95,
                keep=400,
            )
        )
    _, fast = paths
    for log_time in (4.0, 5.5, 6.5):
        at = [
            [np.interp(log_time, p.log_time[1:], column[1:]) for column in (p.log_loss, *p.weights[0].T)]
            for p in paths
        ]
        np.testing.assert_allclose(at[1], at[0], rtol=0.01, atol=0.02)
    assert (fast.log_loss.diff() <= 0).all()


def test_down_to_a_loss_no_float_holds_and_to_the_svm():
    x = separable(2)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    path = log_descent.descend(lambda: log_descent.log_logistic(x @ w), [w], 5_000, 0.1, schedule="loss")
    assert path.log_loss[-1] < -1_000  # floats end at -745
    assert path.log_time[-1] > 1_000
    half = low_rank.max_margin(x, -x)  # x against −x: the SVM through the origin
    cosine = torch.cosine_similarity(w.detach(), half.w, dim=0).item()
    assert math.acos(min(1, cosine)) < 1e-3


def test_a_path_that_is_a_straight_line_does_not_run_away():
    """One point: every step is as good as its slope promises, however long."""
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    path = log_descent.descend(lambda: log_descent.log_logistic(x @ w), [w], 3_000, 0.1, schedule="loss")
    assert path.log_loss.isfinite().all()
    assert -10 * 3_000 - 1 <= path.log_loss[-1] < -10_000
    torch.testing.assert_close(w.detach() / w.detach().norm(), x[0] / 5, rtol=1e-12, atol=0)
