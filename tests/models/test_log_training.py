"""SGD in the log domain: gradient descent where floats reach, the rule on its epochs, and a loss no float holds."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tightrope import log_training, nets, seeds, training
from tightrope.models.log_descent import DOWN, LONGEST, UP

EXACT = torch.float64


def blobs(n=70, classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=g)
    return torch.randn(n, 5, generator=g, dtype=EXACT) + 2 * torch.eye(5, dtype=EXACT)[y], y


def separable(seed=0, n=40, gap=0.5, dtype=EXACT):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    x = torch.randn(n, 3, generator=g, dtype=EXACT)
    x[:, 0] = (x[:, 0].abs() + gap) * (2 * y - 1)
    return x.to(dtype), y


def mlp(seed=0, classes=3):
    return nets.mlp(5, (8, 8), classes, seed=seed).double()


def vector(net):
    return torch.cat([t.detach().flatten().clone() for t in (*net.parameters(), *net.buffers())])


def tried(net, x, y, **options):
    """The log, and after each epoch (log loss, weights and buffers)."""
    seen = []
    look = lambda epoch, net, log_loss: seen.append((log_loss, vector(net)))
    return log_training.fit(net, x, y, on_epoch=look, **options), seen


@pytest.mark.parametrize("schedule", ["loss", "constant"])
@pytest.mark.parametrize("seed", range(3))
def test_an_epoch_is_sgd_on_the_plain_loss(seed, schedule):
    x, y = blobs(seed=seed)
    net, plain = mlp(seed), mlp(seed)
    log = log_training.fit(net, x, y, epochs=1, rate=0.02, batch=20, schedule=schedule, seed=seed)
    start = cross_entropy(plain(x), y).item()
    stride = 0.02 / start if schedule == "loss" else 0.02
    order = torch.randperm(len(x), generator=seeds.generator(seed, "batches"))
    for rows in order.split(20):  # 20, 20, 20 and 10
        slopes = torch.autograd.grad(cross_entropy(plain(x[rows]), y[rows]), list(plain.parameters()))
        with torch.no_grad():
            for p, slope in zip(plain.parameters(), slopes, strict=True):
                p -= stride * slope
    assert log.accepted.tolist() == [True]
    torch.testing.assert_close(vector(net), vector(plain), rtol=1e-8, atol=1e-12)
    assert not torch.equal(vector(net), vector(mlp(seed)))
    loss = cross_entropy(plain(x), y).item()
    np.testing.assert_allclose(log.log_loss, [math.log(start), math.log(loss)], rtol=1e-8)
    assert log.log_time[0] == -math.inf
    assert log.log_time[1].item() == pytest.approx(math.log(4 * stride))


def test_a_constant_rate_is_the_book_s_other_training():
    """The same batches from the same seed, the logarithm taken or not."""
    x, y = blobs()
    one, other = mlp(), mlp()
    log = log_training.fit(one, x, y, epochs=6, rate=0.05, batch=20, schedule="constant", seed=4)
    recipe = training.Recipe(lr=0.05, momentum=0.0, batch=20, epochs=6)
    training.fit(other, x, y, recipe, seed=4)
    torch.testing.assert_close(vector(one), vector(other), rtol=1e-9, atol=1e-12)
    assert log.log_time[-1].item() == pytest.approx(math.log(0.05 * 4 * 6))
    assert log.accepted.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("hidden", [(), (8,)], ids=["linear", "two layers"])
def test_down_to_a_loss_no_float_holds(hidden, dtype):
    """10⁻³⁰⁰ and beyond: every number finite, and the log's are what the weights say."""
    x, y = separable(1, gap=2.0, dtype=dtype)
    net = nets.mlp(3, hidden, 2, seed=1).to(dtype)
    log, seen = tried(net, x, y, epochs=300, rate=0.1, batch=20)
    assert log.log_loss[-1] < -300 * math.log(10)
    assert log.log_loss.isfinite().all()
    assert log.log_time[1:][log.accepted.cumsum(0) > 0].isfinite().all()
    assert vector(net).isfinite().all()
    assert (log.log_loss.diff() <= 0).all()
    with torch.no_grad():
        logits = net(x).double().numpy()
    margins = logits[np.arange(len(x)), y] - logits[np.arange(len(x)), 1 - y.numpy()]
    # So far out log(1 + e⁻ᵐ) is e⁻ᵐ.
    by_hand = -margins.min() + math.log(np.exp(margins.min() - margins).sum() / len(x))
    assert log.log_loss[-1].item() == pytest.approx(by_hand, rel=1e-12)
    assert [value for value, _ in seen] == log.log_loss[1:].tolist()


def test_the_rate_and_the_time_follow_the_rule():
    x, y = separable(2)
    log = log_training.fit(nets.mlp(3, (6,), 2, seed=1).double(), x, y, epochs=150, rate=3.0, batch=8)
    assert 0 < log.accepted.sum() < 150  # both kinds of epoch are met
    grown = (LONGEST / -log.log_loss.diff()).clamp_max(UP)
    factor = torch.where(log.accepted, grown, DOWN)[:-1]
    torch.testing.assert_close(log.rate[1:], log.rate[:-1] * factor, rtol=1e-12, atol=0)
    gained = torch.where(log.accepted, (5 * log.rate).log() - log.log_loss[:-1], -math.inf)
    torch.testing.assert_close(log.log_time[1:], gained.logcumsumexp(0), rtol=1e-10, atol=1e-10)
    assert (log.log_loss.diff()[~log.accepted] == 0).all()


def test_easy_data_do_not_run_away():
    """One direction fits all: without a bound the rate, and with it log L̂'s fall, grows by 2^(1/5) an epoch."""
    x = torch.tensor([[3.0, 4.0]], dtype=EXACT).repeat(4, 1)
    y = torch.ones(4, dtype=torch.int64)
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nets.TwoLogits()).double()
    log = log_training.fit(nets.initialise(net), x, y, epochs=300, rate=0.1, batch=2)
    assert -2 * LONGEST * 300 < log.log_loss[-1] < -LONGEST * 300 / 4
    w = next(net.parameters()).detach()[0]
    torch.testing.assert_close(w / w.norm(), x[0] / 5, rtol=0.01, atol=0.01)


def test_an_epoch_undone_leaves_no_trace_and_its_batches_are_drawn_anew():
    x, y = blobs()
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    nets.initialise(net[0], seed=0), nets.initialise(net[3], seed=1)
    start, batches = vector(net), []
    net.register_forward_pre_hook(lambda net, given: batches.append(given[0]) if net.training else None)
    log, seen = tried(net, x, y, epochs=3, rate=1e6, batch=35)
    assert not log.accepted.any()
    assert all(torch.equal(weights, start) for _, weights in seen)
    first, second = batches[:2], batches[2:4]
    assert not torch.equal(torch.cat(first), torch.cat(second))
    for drawn in (first, second):
        assert torch.equal(torch.cat(drawn).sort(0).values, x.sort(0).values)
    assert (log.log_time == -math.inf).all()
    assert log.rate.tolist() == pytest.approx([1e6, 1e6 * DOWN, 1e6 * DOWN**2])


def test_a_leap_by_an_outlier_s_gradient_is_undone():
    """A batch that is wrong as it is met: its slope over a tiny L̂ throws the weights to where the loss is lower."""
    x = torch.tensor([[1.0, 0.0]], dtype=EXACT).repeat(40, 1)
    y = torch.ones(40, dtype=torch.int64)
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nets.TwoLogits()).double()
    start = torch.tensor([[30.0, -60.0]], dtype=EXACT)
    with torch.no_grad():
        net[0].weight.copy_(start)
    # Margins are 30; in training the outlier's are −30, and its slope raises the others'.
    net.register_forward_pre_hook(lambda net, given: (given[0] + net.training * torch.eye(2).double()[1],))
    log = log_training.fit(net, x, y, epochs=2, rate=0.1, batch=40)
    assert log.accepted.tolist() == [False, False]
    assert torch.equal(net[0].weight, start)


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule", ["loss", "constant"])
@pytest.mark.parametrize("killed_in", [1, 7, 12])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, killed_in, schedule):
    x, y = separable(3, dtype=torch.float32)
    make = lambda: nets.mlp(3, (6,), 2, seed=1)
    options = {"epochs": 12, "rate": 2.0, "batch": 8, "schedule": schedule, "seed": 5}
    through = make()
    whole, seen = tried(through, x, y, **options)
    if schedule == "loss":
        assert 0 < whole.accepted.sum() < 12
    path = tmp_path / "deep" / "net.ckpt"

    def stop(epoch, net, log_loss):
        if epoch == killed_in:
            raise Killed

    with pytest.raises(Killed):
        log_training.fit(make(), x, y, checkpoint=path, on_epoch=stop, **options)
    net = make()
    log, rest = tried(net, x, y, checkpoint=path, **options)
    assert torch.equal(vector(net), vector(through))
    for name in ("log_loss", "log_time", "rate", "accepted"):
        assert torch.equal(getattr(log, name), getattr(whole, name))
    assert [value for value, _ in rest] == [value for value, _ in seen[killed_in:]]


def test_another_call_s_checkpoint_is_replaced(tmp_path):
    x, y = blobs()
    path = tmp_path / "net.ckpt"
    options = {"epochs": 2, "rate": 0.05, "batch": 20}
    log_training.fit(mlp(), x, y, seed=1, checkpoint=path, **options)
    one, other = mlp(), mlp()
    log_training.fit(one, x, y, seed=2, checkpoint=path, **options)
    log_training.fit(other, x, y, seed=2, **options)
    assert torch.equal(vector(one), vector(other))


def test_batches_come_from_the_seed_alone():
    x, y = blobs()
    ends = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        net = mlp()
        log_training.fit(net, x, y, epochs=3, rate=0.05, batch=20, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(vector(net))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_constant_rate_stands_still_where_the_loss_is_below_every_float():
    x, y = separable()
    net = nn.Sequential(nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-5e3, 0, 0], [5e3, 0, 0]]))
    before = vector(net)
    log = log_training.fit(net, x, y, epochs=3, rate=0.1, batch=8, schedule="constant")
    assert torch.equal(vector(net), before)
    assert (log.log_loss == log.log_loss[0]).all()
    assert log.log_loss[0] < -745  # where float64 ends


def test_without_a_gradient_the_rate_stays_a_float():
    x, y = blobs(n=4)
    net = nn.Sequential(nn.Linear(5, 3, bias=False)).double()
    before = vector(net)
    log = log_training.fit(net, 0 * x, y, epochs=30, rate=1e299, batch=4)
    assert log.accepted.all()
    assert log.rate.max() == 1e300
    assert torch.equal(vector(net), before)


def test_a_constant_rate_too_large_is_one_sentence():
    x, y = blobs()
    with pytest.raises(training.Diverged, match=r"diverged in epoch \d: use a smaller rate than 1e\+200"):
        log_training.fit(mlp(), x, y, epochs=3, rate=1e200, batch=20, schedule="constant")
