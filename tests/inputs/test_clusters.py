"""Clusters have the centres, labels and noise they claim to have, and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tightrope import clusters


def test_clusters_means_are_orthogonal_and_as_long_as_they_should_be():
    for norms, wanted in ((None, [7.0] * 4), (3.0, [3.0] * 4), ((1.0, 2.0, 3.0, 4.0), [1.0, 2.0, 3.0, 4.0])):
        d = clusters.sample(5, k=4, dim=49, norms=norms, seed=1)
        gram = d.means.double() @ d.means.double().T
        torch.testing.assert_close(gram, torch.tensor(wanted).double().square().diag(), atol=1e-5, rtol=0)
    assert d.x.dtype == d.means.dtype == torch.float32
    assert d.y.dtype == d.cluster.dtype == d.signs.dtype == torch.int64


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_clusters_means_have_one_angle_between_every_two(k, part, seed):
    low = -1 / (k - 1)
    cosine = low + part * (1 - low)
    d = clusters.sample(1, k=k, dim=12, cosine=cosine, norms=tuple(range(1, k + 1)), seed=seed)
    unit = d.means.double() / d.means.double().norm(dim=1, keepdim=True)
    wanted = torch.full((k, k), cosine, dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(unit @ unit.T, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(d.means.norm(dim=1), torch.arange(1.0, k + 1), atol=0, rtol=1e-5)


def test_clusters_are_labelled_by_their_sign_and_drawn_alike():
    d = clusters.sample(20_000, k=10, dim=12, positive=2, seed=3)
    assert d.signs.tolist() == [1, 1] + [-1] * 8
    assert torch.equal(2 * d.y - 1, d.signs[d.cluster])
    assert stats.chisquare(d.cluster.bincount(minlength=10).numpy()).pvalue > 1e-6
    assert clusters.sample(1, k=5).signs.sum() == -1  # half, rounded down


def test_clusters_noise_is_standard_and_tells_nothing():
    d = clusters.sample(3_000, k=3, dim=8, noise=2.0, seed=2)
    assert stats.kstest(d.xi.flatten().numpy() / 2, "norm").pvalue > 1e-6
    assert stats.ttest_ind(d.xi[d.y == 0].numpy(), d.xi[d.y == 1].numpy()).pvalue.min() > 1e-6
    x, means = d.x.double(), d.means.double()
    torch.testing.assert_close(means[d.cluster] + d.xi.double(), x, atol=1e-5, rtol=0)
    still = clusters.sample(20, k=3, dim=8, noise=0.0)
    assert torch.equal(still.x, still.means[still.cluster])


def test_clusters_directions_are_uniform():
    first = torch.stack([clusters.sample(1, k=2, dim=5, norms=1.0, seed=s).means for s in range(400)])
    share = (first.square() * 5).mean(0) - 1  # a squared coordinate of a random direction is 1/5 in the mean
    assert share.abs().max() < 0.4  # six standard deviations
    assert first.mean(0).abs().max() < 0.15


def test_a_test_set_of_clusters_shares_the_means_and_not_the_points():
    train, test = (
        clusters.sample(20, dim=30, seed=1),
        clusters.sample(20, dim=30, seed=2, rotation_seed=1),
    )
    assert torch.equal(train.means, test.means)
    assert not torch.equal(train.xi, test.xi)
    assert torch.equal(train.x, clusters.sample(20, dim=30, seed=1).x)
    assert not torch.equal(train.means, clusters.sample(20, dim=30, seed=2).means)


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 1},
        {"dim": 3},
        {"positive": 0},
        {"positive": 4},
        {"cosine": 1.0},
        {"cosine": -0.34},
        {"norms": 0.0},
        {"norms": (1.0, 2.0)},
        {"noise": -1.0},
    ],
)
def test_clusters_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        clusters.sample(5, **{"k": 4, "dim": 9} | bad)
