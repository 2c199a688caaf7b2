"""Posterior and evidence against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from tests.oracles.paths import points

from tightrope import gaussian_process, path_kernel


def problem(kernel, outputs=1):
    rng = np.random.default_rng(0)
    x, xq, y = rng.normal(size=(30, 4)), rng.normal(size=(9, 4)), rng.normal(size=(30, outputs))
    matrices = [torch.tensor(m) for m in (kernel(x), kernel(xq, x), kernel.diag(xq))]
    return x, xq, y, *matrices


@pytest.mark.parametrize("kernel", [RBF(1.3), DotProduct(0.7) ** 2], ids=["rbf", "polynomial"])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_against_scikit_learn(kernel, scale):
    x, xq, y, k, cross, diagonal = problem(kernel)
    ours = gaussian_process.fit(k, torch.tensor(y), noise=0.1, scale=scale)
    alpha = 0.1 * scale * k.diagonal().mean().item()
    theirs = GaussianProcessRegressor(ConstantKernel(scale) * kernel, alpha=alpha, optimizer=None).fit(x, y)
    mean, std = theirs.predict(xq, return_std=True)
    assert np.allclose(ours.mean(cross)[:, 0].numpy(), mean, rtol=1e-9, atol=1e-10)
    assert np.allclose(ours.variance(cross, diagonal).numpy(), std**2, rtol=1e-7, atol=1e-9)
    assert ours.evidence == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-10)


def test_the_scale_in_closed_form_is_the_best():
    _, _, y, k, *_ = problem(RBF(1.3), outputs=3)
    best = gaussian_process.fit(k, torch.tensor(y), noise=0.1)
    for factor in (0.5, 0.9, 1.1, 2):
        other = gaussian_process.fit(k, torch.tensor(y), noise=0.1, scale=best.scale * factor)
        assert other.evidence < best.evidence


def test_the_noise_of_largest_evidence_is_taken():
    _, _, y, k, *_ = problem(RBF(1.3))
    y = torch.tensor(y)
    each = [gaussian_process.fit(k, y, noise=n) for n in (1e-6, 1e-1, 1.0)]
    assert gaussian_process.fit(k, y, noise=(1e-6, 1e-1, 1.0)).evidence == max(p.evidence for p in each)


def test_with_a_path_kernel():
    x, y, xq = points()
    path = path_kernel.train(x, y, 20, 3, steps=20, lr=0.5)
    k = path.gram(x, where=("start", "start"))
    process = gaussian_process.fit(k, torch.eye(3)[y], noise=1e-8)
    assert (process.mean(k) - torch.eye(3)[y]).abs().max() < 1e-2
    at_training = process.variance(k, k.diagonal())
    away = process.variance(path.gram(10 * xq), path.diagonal(10 * xq))
    assert at_training.max() < 1e-3 * away.min()


BAD = [
    ("symmetric", torch.tensor([[1.0, 0.5], [0.2, 1.0]]), {}),
    ("not positive definite", torch.tensor([[1.0, 2.0], [2.0, 1.0]]), {}),
    ("NaN", torch.tensor([[float("nan"), 0], [0, 1.0]]), {}),
    (r"kernel .* \(N, N\)", torch.ones(2, 3), {}),
    ("above 0", torch.eye(2), {"noise": 0.0}),
    ("length of noise", torch.eye(2), {"noise": ()}),
    ("above 0", torch.eye(2), {"scale": -1.0}),
]


@pytest.mark.parametrize(("says", "kernel", "options"), BAD)
def test_what_is_no_kernel_is_refused(says, kernel, options):
    with pytest.raises(ValueError, match=says):
        gaussian_process.fit(kernel, torch.ones(2), **options)
