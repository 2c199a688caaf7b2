"""Attacks against the one classifier whose answer is known, an affine one, and against foolbox where it is right."""

import math

import foolbox
import pytest
import torch
from tests.oracles.margins import affine_margins

from tightrope import attacks, data, nets, seeds, training

SHAPE = (1, 6, 6)
LONG = {"steps": 200}
ALL = {
    "pgd l2": lambda *a, **k: attacks.pgd(*a, eps=100.0, **k),
    "pgd linf": lambda *a, **k: attacks.pgd(*a, eps=20.0, norm="linf", **k),
    "ddn": attacks.ddn,
    "cw": lambda *a, **k: attacks.carlini_wagner(*a, steps=100, rate=0.1, **k),
    "square": lambda *a, **k: attacks.square(*a, eps=20.0, queries=200, **k),
}


def affine(classes=2, n=40, seed=0):
    """x ↦ W x + b in float64, points around it, and their labels."""
    g = seeds.generator(seed, "weights")
    weight = torch.randn(classes, math.prod(SHAPE), generator=g, dtype=torch.float64)
    bias = torch.randn(classes, generator=g, dtype=torch.float64)
    x = torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)
    model = lambda z: z.flatten(1) @ weight.T + bias
    return model, weight, bias, x, model(x).argmax(1)


@pytest.fixture(scope="module")
def digits():
    """A LeNet in float64 and digits on noise: nothing is tied, and no rounding turns a step."""
    noisy = lambda x: 0.9 * x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    x, y = data.load("mnist", "train", n=3_000)
    net = nets.lenet(init="he")
    training.fit(net, noisy(x), y, training.Recipe(lr=0.05, epochs=2, batch=64))
    x, y = data.load("mnist", "test", n=64)
    return net.double().eval(), noisy(x).double(), y


@pytest.mark.parametrize("classes", [2, 5])
def test_shortest_perturbations_of_an_affine_model(classes):
    model, weight, bias, x, labels = affine(classes)
    exact = affine_margins(weight, bias, x)
    for attack, slack in (
        (attacks.ddn(model, x, labels, steps=400, box=None), 1.03),
        (attacks.carlini_wagner(model, x, labels, steps=400, searches=9, rate=0.02, box=None), 1.03),
    ):
        norms = attack.norm()
        assert attack.found.all()
        assert (model(attack.images).argmax(1) != labels).all()
        assert (norms >= exact * (1 - 1e-9)).all()
        assert (norms / exact).median() < slack


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "scaled"])
def test_pgd_finds_an_affine_boundary_just_inside_its_ball_and_never_outside(norm, dual, loss):
    model, weight, bias, x, labels = affine()
    gap = (x.flatten(1) @ (weight[1] - weight[0]) + bias[1] - bias[0]).abs()
    exact = gap / (weight[1] - weight[0]).norm(p=dual)
    for share, expected in ((1.1, True), (0.98, False)):  # 2.5 radii of steps turn any start but one opposite
        for margin, point, label in zip(exact[:10], x[:10], labels[:10], strict=True):
            a = attacks.pgd(
                model,
                point[None],
                label[None],
                eps=share * margin.item(),
                norm=norm,
                loss=loss,
                box=None,
                **LONG,
            )
            assert a.found.item() is expected
            if expected:
                p = 2 if norm == "l2" else math.inf
                assert margin * (1 - 1e-9) <= a.norm(p) <= share * margin * (1 + 1e-9)


def test_the_square_attack_never_crosses_before_the_boundary_and_stays_in_its_cube():
    model, weight, bias, x, labels = affine()
    gap = (x.flatten(1) @ (weight[1] - weight[0]) + bias[1] - bias[0]).abs()
    exact = gap / (weight[1] - weight[0]).abs().sum()
    eps = exact.median().item()
    a = attacks.square(model, x, labels, eps=eps, queries=300, box=None)
    assert not a.found[exact > eps].any()
    far = attacks.square(model, x, labels, eps=3 * eps, queries=2_000, box=None)
    assert far.found[exact < eps].all()
    assert (far.norm(math.inf)[far.found] <= 3 * eps + 1e-12).all()
    assert (model(far.images).argmax(1) != labels)[far.found].all()


@pytest.mark.parametrize("name", ALL)
def test_one_contract(name):
    """Box, failure, an input that is adversarial already, targets, same seed and same numbers."""
    model, _, _, x, labels = affine(5)
    box = (float(x.min()), float(x.max()))
    labels[0] = (labels[0] + 1) % 5
    a, b = (ALL[name](model, x, labels, box=box, seed=3) for _ in range(2))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.found, b.found)
    assert a.norm()[0] == 0
    assert a.found.double().mean() > 0.9
    assert (a.images >= box[0]).all()
    assert (a.images <= box[1]).all()
    assert torch.equal(model(a.images).argmax(1) != labels, a.found)
    target = (model(x).argmax(1) + 1) % 5
    t = ALL[name](model, x, target, targeted=True, box=None)
    assert torch.equal(model(t.images).argmax(1) == target, t.found)
    assert t.found.double().mean() > 0.5
    blind = lambda z: torch.tensor([1.0, 0.0], dtype=z.dtype) + 0 * z.flatten(1)[:, :2]
    lost = ALL[name](blind, x, torch.zeros_like(labels), box=None)
    assert not lost.found.any()
    assert torch.equal(lost.images, x)
    assert (lost.norm() == math.inf).all()


@pytest.mark.parametrize("name", ALL)
def test_chunks_cover_every_row_and_the_network_comes_back_as_it_was(name):
    net = nets.mlp(36, (16,), 3).double()
    net.fc1.weight.requires_grad_(False)
    x = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = net(x).argmax(1)
    before = [p.clone() for p in net.parameters()]
    a = ALL[name](net, x, labels, chunk=3, box=None)
    assert a.images.shape == x.shape
    assert a.found.any()
    assert torch.equal(net(a.images).argmax(1) != labels, a.found)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert all(map(torch.equal, before, net.parameters()))


def test_restarts_and_losses_find_what_one_start_misses():
    """A shelf: the logits are constant around x but for a far corner, which only a random start can meet."""
    x = torch.zeros(20, 2, dtype=torch.float64)
    model = lambda z: torch.stack([torch.zeros_like(z[:, 0]), 5 * (z[:, 0] - 0.6).relu() - 0.1], 1)
    labels = torch.zeros(20, dtype=torch.int64)
    one, many = (attacks.pgd(model, x, labels, eps=1.0, norm="linf", restarts=k, box=None) for k in (1, 40))
    assert not one.found.all()
    assert many.found.all()
    # Logits of a thousand: the softmax is one, its gradient zero, and only the other two losses see a way.
    steep = lambda z: torch.stack([1e3 * (0.5 - z[:, 0]), 0 * z[:, 0]], 1)
    found = {
        loss: attacks.pgd(steep, x, labels, eps=1.0, norm="linf", random_start=False, loss=loss, box=None)
        .found.all()
        .item()
        for loss in ("cross-entropy", "margin", "scaled")
    }
    assert found == {"cross-entropy": False, "margin": True, "scaled": True}


def test_pgd_takes_foolbox_steps(digits):
    net, x, y = digits
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    typical, met = attacks.ddn(net, x, y).norm().median().item(), []
    for norm, kind, eps in (
        ("l2", foolbox.attacks.L2PGD, typical),
        ("linf", foolbox.attacks.LinfPGD, 0.06 * typical),
    ):
        theirs = kind(abs_stepsize=eps / 8, steps=20, random_start=False)(model, x, y, epsilons=eps)[2]
        ours = attacks.pgd(net, x, y, eps=eps, norm=norm, step=eps / 8, steps=20, random_start=False)
        # The last iterate is theirs, the first adversarial one ours: we can only find more.
        assert (ours.found | ~theirs).all()
        assert (ours.found != theirs).sum() <= 2
        met += theirs.tolist()
    assert 0.1 < sum(met) / len(met) < 0.9


def test_short_perturbations_are_no_longer_than_foolbox_s(digits):
    net, x, y = (digits[0], *(part[:32] for part in digits[1:]))
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    for ours, theirs in (
        (attacks.ddn(net, x, y), foolbox.attacks.DDNAttack(steps=100)),
        (
            attacks.carlini_wagner(net, x, y, steps=60, searches=3, rate=0.05, constant=1.0),
            foolbox.attacks.L2CarliniWagnerAttack(3, 60, stepsize=0.05, initial_const=1.0),
        ),
    ):
        raw, _, success = theirs(model, x, y, epsilons=None)
        length = torch.where(success, (raw - x).flatten(1).norm(dim=1), math.inf)
        assert ours.norm().median() <= 1.02 * length.median()


def test_carlini_and_wagner_find_what_foolbox_does_but_for_its_black_images(digits):
    """Too few rounds for most rows: black images in foolbox's answer, which count where the net errs on black."""
    net, x, y = (digits[0], *(part[:32] for part in digits[1:]))
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    failed, met = [], []
    for constant in (0.3, 0.1, 0.03, 0.01):  # small ones let the image stay where it is
        how = {"steps": 60, "initial_const": constant, "binary_search_steps": 1, "stepsize": 0.03}
        raw, _, success = foolbox.attacks.L2CarliniWagnerAttack(**how)(model, x, y, epsilons=None)
        black = raw.flatten(1).amax(1) == 0
        ours = attacks.carlini_wagner(net, x, y, steps=60, searches=1, rate=0.03, constant=constant)
        assert (ours.found != (success & ~black)).sum() <= 2  # a row or two may lie on the edge of a round
        failed.append(success & black)
        both = ours.found & success & ~black & (ours.norm() > 0)
        met.append((ours.norm() / (raw - x).flatten(1).norm(dim=1))[both])
    assert torch.cat(failed).any()
    assert torch.cat(met).median() == pytest.approx(1, abs=0.02)
