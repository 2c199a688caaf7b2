"""Persistence: closed forms, the source's own algorithm, planted non-monotone classes, and what ends no loop."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tests.oracles.persistence import bracketing
from torch import nn

from tightrope import data, intervals, nets, persistence, training
from tightrope.boundary.surroundings import Around, Behind, around
from tightrope.models.measured import measured

CELLS = [(k, gamma) for k in (1, 2, 3, 5, 10, 50) for gamma in (0.5, 0.7, 0.9) if gamma ** (1 / k) > 0.5]


def orthant(k):
    """x₁ ≥ 0, ..., x_k ≥ 0 as a classifier."""

    def model(x):
        lead = x[:, :k].amin(1)
        return torch.stack([-lead, lead], 1)

    return model


def closed_form(k, gamma):
    """Proposition 4.3, at distance 1 from every sheet."""
    return 1 / stats.norm.ppf(gamma ** (1 / k))


def shell(*radii):
    """Class 0 inside the first radius, 1 up to the second, 0 up to the third, ..."""
    edges = torch.tensor(radii)

    def model(x):
        odd = (x.norm(dim=1)[:, None] > edges).sum(1) % 2
        return nn.functional.one_hot(odd, 2).to(x)

    return model


def mlp(seed=0, classes=5):
    return nets.mlp(20, (8, 6), classes, seed=seed)


POINTS = torch.rand(6, 20, generator=torch.Generator().manual_seed(0))


def covered(repetitions, seed):
    """Of how many repetitions a cell the interval holds the closed form."""
    result = {}
    for k, gamma in CELLS:
        found = persistence.persistence(
            orthant(k), torch.ones(repetitions, max(k, 2)), gamma=gamma, seed=seed
        )
        truth = closed_form(k, gamma)
        result[k, gamma] = int(((found.low <= truth) & (truth <= found.high)).sum())
    return result


def test_the_interval_holds_the_closed_form():
    """Of 1,020 repetitions at least 92 %: an honest 95 % interval misses that once in ten thousand."""
    hits = covered(60, seed=1)
    assert sum(hits.values()) >= 0.92 * 60 * len(CELLS)


@pytest.mark.long
def test_the_interval_holds_the_closed_form_in_every_cell():
    hits = covered(1_000, seed=2)
    assert sum(hits.values()) >= 940 * len(CELLS)
    assert min(hits.values()) >= 920, hits


@pytest.mark.long
def test_the_interval_holds_the_truth_on_a_real_network():
    """20 digits × 200 estimates against where a million draws a digit see the share pass 0.7."""
    x, y = data.load("mnist", "train", n=12_000, seed=0)
    net = nets.mlp(784, (100, 20), 10, seed=0)
    training.fit(net, x, y, training.Recipe("adam", lr=1e-3, epochs=4), seed=0)
    digits = data.load("mnist", "test", n=20, seed=0)[0]
    first = persistence.persistence(net, digits, draws=8_192, seed=99).sigma
    assert first.isfinite().all()
    around = first[:, None] * torch.logspace(-0.06, 0.06, 7, dtype=torch.float64)
    each = [
        persistence.frequencies(net, one[None], at, draws=150_000)
        for one, at in zip(digits, around, strict=True)
    ]
    share = torch.stack([f.stable()[0] for f in each]).numpy()
    truth = torch.tensor([np.interp(-0.7, -p, s) for p, s in zip(share, around.numpy(), strict=True)])
    held = 0
    for seed in range(200):
        found = persistence.persistence(net, digits, seed=seed)
        held += int(((found.low <= truth) & (truth <= found.high)).sum())
    assert held >= 0.92 * 200 * 20, held


def test_the_estimate_is_the_closed_form():
    """Median over 200 points within a hundredth: the error of one is up to a tenth."""
    for k, gamma in CELLS:
        found = persistence.persistence(orthant(k), torch.ones(200, max(k, 2)), gamma=gamma, seed=3)
        assert found.sigma.median().log().item() == pytest.approx(math.log(closed_form(k, gamma)), abs=0.03)
        assert (found.last == found.sigma).double().mean() > 0.95
        assert (found.low <= found.sigma).all()
        assert (found.sigma <= found.high).all()


def test_where_half_of_the_noise_is_lost_at_most_nothing_is_met():
    """A plane leaves more than a half at every σ."""
    found = persistence.persistence(orthant(1), torch.ones(20, 2), gamma=0.45)
    assert found.censored.all()
    assert found.sigma.isinf().all()
    assert found.high.isinf().all()
    assert found.last.isinf().all()
    assert (found.low >= 0.25).all()  # an octave at which the class is surely kept


def test_the_published_algorithm_agrees():
    """Algorithm 1 with many samples, and the pooled estimate, on a network."""
    net = mlp()
    found = persistence.persistence(net, POINTS, draws=20_000, seed=5)
    draws = torch.Generator().manual_seed(0)
    for x, sigma in zip(POINTS, found.sigma, strict=True):
        if sigma.isfinite() and 0.05 < sigma < 10:
            theirs, _ = bracketing(x, net, draws, samples=40_000, precision=0.002)
            assert theirs == pytest.approx(sigma.item(), rel=0.08)


def test_a_shell_gives_both_crossings():
    x = torch.zeros(4, 100)
    once = persistence.persistence(shell(3.0), x)
    back = persistence.persistence(shell(3.0, 30.0), x)
    twice = persistence.persistence(shell(3.0, 30.0, 100.0), x)
    # ‖noise‖ is σ √χ²: exact crossings, with γ = .7.
    at = lambda radius, q: radius / math.sqrt(stats.chi2(100).ppf(q))
    for found in (once, back, twice):
        assert found.sigma.numpy() == pytest.approx(at(3, 0.7), rel=0.03)
        assert not found.censored.any()
    assert torch.equal(once.last, once.sigma)
    assert back.last.isinf().all()
    assert twice.last.numpy() == pytest.approx(at(100, 0.7), rel=0.03)


def test_a_constant_classifier_is_censored_and_costs_a_scan():
    found = persistence.persistence(lambda x: torch.eye(3)[torch.zeros(len(x), dtype=int)], POINTS, cap=8.0)
    assert found.censored.all()
    assert found.low.numpy() == pytest.approx(8)
    assert (found.evaluations <= 16 * 13).all()


def test_a_point_on_the_boundary():
    """Half of any noise is lost there: no persistence above γ = ½, all of it below."""
    model = lambda x: torch.stack([x[:, 0], -x[:, 0]], 1)
    none = persistence.persistence(model, torch.zeros(3, 5), gamma=0.7)
    assert (none.sigma == 0).all()
    assert (none.low == 0).all()
    assert (none.high < 1e-6).all()
    assert not none.censored.any()
    assert persistence.persistence(model, torch.zeros(3, 5), gamma=0.3).censored.all()


@pytest.mark.parametrize("gamma", [0.01, 0.99, 0.999])
def test_gamma_close_to_its_ends(gamma):
    found = persistence.persistence(shell(3.0), torch.zeros(5, 100), gamma=gamma)
    truth = 3 / math.sqrt(stats.chi2(100).ppf(gamma))
    assert found.sigma.numpy() == pytest.approx(truth, rel=0.05)
    assert ((found.low <= truth) & (truth <= found.high)).sum() >= 3


def test_same_seed_same_numbers_whatever_the_chunk():
    net = mlp()
    for fast in (True, False):
        one, two = (persistence.persistence(net, POINTS, fast=fast, chunk=chunk) for chunk in (7, None))
        for name in ("sigma", "low", "high", "last", "evaluations"):
            assert torch.equal(getattr(one, name), getattr(two, name))
        other = persistence.persistence(net, POINTS, fast=fast, seed=1)
        assert not torch.equal(one.sigma, other.sigma)
    a, b = (persistence.frequencies(net, POINTS, [0.1, 1], draws=50, chunk=chunk) for chunk in (3, 1000))
    assert torch.equal(a.counts, b.counts)


def test_a_network_in_train_mode_is_measured_in_eval_mode():
    net = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    net[1].running_mean.uniform_(-1, 1)
    net.eval()
    expected = persistence.persistence(net, POINTS)
    net.train()
    before = net[1].running_mean.clone()
    found = persistence.persistence(net, POINTS)
    assert torch.equal(found.sigma, expected.sigma)
    assert torch.equal(net[1].running_mean, before)
    assert net.training


def test_frequencies_hold_the_closed_form():
    """One classifier, three σ, two points: exact intervals at a level no seed decides."""
    sigma, k = torch.tensor([0.3, 1.0, 3.0]), 3
    found = persistence.frequencies(orthant(k), torch.tensor([[1.0] * 5, [2.0] * 5]), sigma, draws=4_000)
    assert (found.counts.sum(2) == 4_000).all()
    assert torch.equal(found.label, torch.tensor([1, 1]))
    low, high = found.interval(1 - 1e-6)
    truth = torch.from_numpy(stats.norm.cdf(np.array([[1.0], [2.0]]) / sigma.numpy()) ** k)
    assert ((low <= truth) & (truth <= high)).all()


def test_the_interval_of_a_frequency_is_clopper_and_pearsons():
    counts = torch.tensor([[[0, 10], [10, 0], [3, 7]]])
    found = persistence.Frequencies(counts, torch.ones(3, dtype=torch.float64), torch.tensor([0]), 10)
    low, high = found.interval()
    for j, hits in enumerate((0, 10, 3)):
        one = intervals.share(hits, 10)
        assert (low[0, j].item(), high[0, j].item()) == pytest.approx((one.low, one.high), abs=1e-12)


def test_noise_from_a_ball():
    """Before a line in the plane, the ball's radius being σ√2: a segment of a disc."""
    model, d, sigma = orthant(1), 0.8, 1.5
    found = persistence.frequencies(model, torch.tensor([[d, 0.0]]), [sigma], draws=20_000, noise="ball")
    h = d / (sigma * math.sqrt(2))
    truth = 1 - (math.acos(h) - h * math.sqrt(1 - h**2)) / math.pi
    low, high = found.interval(1 - 1e-6)
    assert low.item() <= truth <= high.item()


def test_persistence_along_a_segment_falls_with_the_distance():
    """An affine classifier: persistence is the distance over Φ⁻¹(γ), on either side."""
    start, end = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, -1.0]])
    model = lambda x: torch.stack([-x[:, 1], x[:, 1]], 1)
    t = torch.tensor([0.0, 0.25, 0.75, 1.0])
    found = persistence.along(model, start, end, t, draws=8_000)
    assert found.sigma.shape == (1, 4)
    assert found.label.tolist() == [[1, 1, 0, 0]]
    truth = torch.tensor([1.0, 0.5, 0.5, 1.0]) / stats.norm.ppf(0.7)
    assert found.sigma[0].numpy() == pytest.approx(truth.numpy(), rel=0.15)


def sampler(net, x, fast=True, kind="gaussian"):
    with measured(net, x, of="labels") as (inside, x), torch.no_grad():
        return around(inside, x, kind, torch.Generator().manual_seed(0), None, fast)


def test_noise_behind_a_linear_layer_has_its_mean_and_covariance():
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = nets.mlp(36, (7,), 3, mean=0.25, std=0.5).double()
    found = sampler(net, x)
    assert isinstance(found, Behind)
    w, b = net.fc1.weight / 0.5, net.fc1.bias
    torch.testing.assert_close(found.root.T @ found.root, (w @ w.T).detach(), rtol=1e-9, atol=1e-12)
    mean = ((x.flatten(1) - 0.25) @ w.T + b).detach()
    torch.testing.assert_close(found.stem.here, mean, rtol=1e-9, atol=1e-12)


class Skips(nn.Module):
    """Sees its input twice: what lies behind its first layer is not all."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(20, 6), nn.Linear(26, 3)

    def forward(self, x):
        return self.two(torch.cat([self.one(x).relu(), x], 1))


class Wanders(nn.Module):
    """Its first layer is linear, but not in x."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(20, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.two(self.one(x**2).relu())


def test_noise_is_drawn_behind_the_first_layer_only_where_the_network_fits():
    assert isinstance(sampler(mlp(), POINTS), Behind)
    assert type(sampler(mlp(), POINTS, fast=False)) is Around
    assert type(sampler(mlp(), POINTS, kind="ball")) is Around
    assert type(sampler(nets.mlp(20, (15,), 3), POINTS)) is Around  # as many numbers to draw
    assert type(sampler(Skips(), POINTS)) is Around
    assert type(sampler(Wanders(), POINTS)) is Around
    assert type(sampler(nets.lenet(), torch.rand(2, 1, 28, 28))) is Around
    assert type(sampler(orthant(3), POINTS)) is Around


def test_fast_and_plain_noise_agree():
    """Counts of classes by either, as two samples of one law."""
    net = mlp(3)
    for x in POINTS[:3]:
        counts = [
            persistence.frequencies(net, x[None], [2.0], draws=20_000, fast=fast).counts[0, 0]
            for fast in (True, False)
        ]
        both = torch.stack(counts).numpy()
        both = both[:, both.sum(0) > 0]
        assert both.shape[1] == 1 or stats.chi2_contingency(both).pvalue > 1e-5


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"gamma": 1.0}, "gamma must be"),
        ({"draws": 3}, "draws must be"),
        ({"cap": 0.0}, "cap must be"),
        ({"noise": "laplace"}, "noise must be"),
        ({"fast": 1}, "fast must be"),
        ({"chunk": 0}, "chunk must be"),
    ],
)
def test_bad_arguments(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        persistence.persistence(mlp(), POINTS, **how)


def test_bad_sigmas():
    with pytest.raises(ValueError, match="Every sigma must be above 0"):
        persistence.frequencies(mlp(), POINTS, [0.0, 1.0])


def test_bytes_are_refused():
    with pytest.raises(ValueError, match="divide by 255"):
        persistence.persistence(
            lambda x: x.float().flatten(1)[:, :3], torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        )
