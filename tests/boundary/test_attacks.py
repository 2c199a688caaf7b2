"""Attacks against the one classifier whose answer is known, an affine one, and against foolbox where it is right."""

import math
import warnings
from functools import partial

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
    "cw": lambda *a, **k: attacks.carlini_wagner(*a, steps=100, **k),
    "square": lambda *a, **k: attacks.square(*a, eps=20.0, queries=200, **k),
    "fmn": attacks.fmn,
    "shrinking ball": lambda *a, **k: attacks.shrinking_ball(*a, eps=100.0, **k),
    "lbfgs": attacks.lbfgs,
    "lbfgs, first": lambda *a, **k: attacks.lbfgs(*a, keep="first", **k),
    "mi-fgsm": lambda *a, **k: attacks.mi_fgsm(*a, eps=20.0, **k),
    "mi-fgsm l2": lambda *a, **k: attacks.mi_fgsm(*a, eps=100.0, norm="l2", **k),
    "r+fgsm": lambda *a, **k: attacks.r_fgsm(*a, eps=20.0, alpha=2.0, **k),
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
    x, y = data.load("mnist", "test", n=80)
    net, x = net.double().eval(), noisy(x).double().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).square().sum(), x)
    live = (
        slope.flatten(1).norm(dim=1) > 0
    )  # now and then a digit wakes none of a layer's units: it is rightly stuck
    return net, x.detach()[live][:64], y[live][:64]


@pytest.fixture(scope="module")
def clusters():
    """A small ResNet with a CIFAR stem in float64, fitted to class means plus noise in (0, 1), and samples of these."""
    g = seeds.generator(0, "clusters")
    means = 0.5 + 0.1 * torch.randn(4, 3, 16, 16, generator=g)
    y = torch.arange(400) % 4
    x = (means[y] + 0.15 * torch.randn(400, 3, 16, 16, generator=g)).clamp(0, 1)
    net = nets.fast_resnet(widths=(6, 8, 12), classes=4)
    training.fit(net, x, y, training.Recipe(lr=0.02, epochs=4, batch=40))
    return net.double().eval(), x[:24].double(), y[:24]


@pytest.mark.parametrize("classes", [2, 5])
def test_shortest_perturbations_of_an_affine_model(classes):
    model, weight, bias, x, labels = affine(classes)
    exact = affine_margins(weight, bias, x)
    for attack, slack in (
        (attacks.ddn(model, x, labels, steps=400, box=None), 1.03),
        (attacks.carlini_wagner(model, x, labels, box=None), 1.03),
        (attacks.fmn(model, x, labels, steps=400, box=None), 1.03),
        (attacks.lbfgs(model, x, labels, box=None), 1.03),
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
    blind = lambda z: torch.tensor([2.0, 0.0], dtype=z.dtype) + 0 * z.flatten(1)[:, :2]
    with pytest.warns(UserWarning, match="40 of 40 rows are stuck.*rounding"):
        lost = ALL[name](blind, x, torch.zeros_like(labels), box=None)
    assert not lost.found.any()
    assert lost.stuck.all()
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
    try_ = lambda restarts: attacks.pgd(model, x, labels, eps=1.0, norm="linf", restarts=restarts, box=None)
    with pytest.warns(UserWarning, match="rows are stuck"):
        one = try_(1)
    assert (one.found ^ one.stuck).all()
    assert one.stuck.any()
    assert try_(40).found.all()


@pytest.mark.parametrize(
    "attack", [partial(attacks.pgd, eps=1.0, norm="linf", random_start=False), attacks.ddn]
)
def test_logits_of_a_thousand_leave_cross_entropy_stuck_and_no_other_loss(attack):
    x, labels = torch.zeros(20, 2, dtype=torch.float64), torch.zeros(20, dtype=torch.int64)
    steep = lambda z: torch.stack([1e3 * (0.5 - z[:, 0]), 0 * z[:, 0]], 1)
    for loss in ("margin", "scaled"):
        assert attack(steep, x, labels, loss=loss, box=None).found.all()
    far = lambda z: steep(z) + torch.tensor([1e6, 0.0])  # no random direction gets there
    with pytest.warns(UserWarning, match="20 of 20 rows are stuck.*'scaled'"):
        assert attack(far, x, labels, loss="cross-entropy", box=(-1.0, 1.0)).stuck.all()


def test_pgd_takes_foolbox_steps(digits):
    net, x, y = digits
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    typical, met = attacks.ddn(net, x, y).norm().median().item(), []
    for norm, kind, eps in (
        ("l2", foolbox.attacks.L2PGD, typical),
        ("linf", foolbox.attacks.LinfPGD, 0.06 * typical),
    ):
        theirs = kind(abs_stepsize=eps / 8, steps=20, random_start=False)(model, x, y, epsilons=eps)[2]
        ours = attacks.pgd(
            net, x, y, eps=eps, norm=norm, step=eps / 8, steps=20, random_start=False, loss="cross-entropy"
        )
        # The last iterate is theirs, the first adversarial one ours: we can only find more.
        assert (ours.found | ~theirs).all()
        assert (ours.found != theirs).sum() <= 2
        met += theirs.tolist()
    assert 0.1 < sum(met) / len(met) < 0.9


def test_short_perturbations_are_no_longer_than_foolbox_s(digits):
    net, x, y = (digits[0], *(part[:32] for part in digits[1:]))
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    for ours, theirs in (
        (attacks.ddn(net, x, y, loss="cross-entropy"), foolbox.attacks.DDNAttack(steps=100)),
        (
            attacks.carlini_wagner(net, x, y, steps=60, searches=3, rate=0.05, constant=1.0, loss="margin"),
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
        ours = attacks.carlini_wagner(
            net, x, y, steps=60, searches=1, rate=0.03, constant=constant, loss="margin"
        )
        assert (ours.found != (success & ~black)).sum() <= 2  # a row or two may lie on the edge of a round
        failed.append(success & black)
        both = ours.found & success & ~black & (ours.norm() > 0)
        met.append((ours.norm() / (raw - x).flatten(1).norm(dim=1))[both])
    assert torch.cat(failed).any()
    assert torch.cat(met).median() == pytest.approx(1, abs=0.02)


# What each attack finds at a radius where it finds some rows, or how short it gets.
SCALE_FREE = ("pgd scaled", "ddn", "fmn")
INVARIANT = {
    "pgd l2": lambda eps, *a, **k: attacks.pgd(*a, eps=eps, steps=10, **k),
    "pgd linf": lambda eps, *a, **k: attacks.pgd(*a, eps=eps / 20, steps=10, norm="linf", **k),
    "pgd margin": lambda eps, *a, **k: attacks.pgd(*a, eps=eps, steps=10, loss="margin", restarts=2, **k),
    "ddn": lambda eps, *a, **k: attacks.ddn(*a, steps=40, **k),
    "cw": lambda eps, *a, **k: attacks.carlini_wagner(*a, steps=20, searches=2, **k),
    "square": lambda eps, *a, **k: attacks.square(*a, eps=eps / 3, queries=40, **k),
    "fmn": lambda eps, *a, **k: attacks.fmn(*a, steps=40, **k),
    "shrinking ball": lambda eps, *a, **k: attacks.shrinking_ball(*a, eps=eps, steps=10, **k),
    "lbfgs": lambda eps, *a, **k: attacks.lbfgs(*a, steps=15, searches=5, **k),
    "mi-fgsm": lambda eps, *a, **k: attacks.mi_fgsm(*a, eps=eps / 20, **k),
    "mi-fgsm l2": lambda eps, *a, **k: attacks.mi_fgsm(*a, eps=1.5 * eps, norm="l2", loss="margin", **k),
    "r+fgsm": lambda eps, *a, **k: attacks.r_fgsm(*a, eps=eps / 4, **k),
    "strongest": lambda eps, *a, **k: attacks.strongest(
        *a, eps=eps, steps=5, doublings=1, attacks=SCALE_FREE, **k
    ),
}


@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize("task", ["digits", "clusters"])
def test_neither_the_scale_of_the_logits_nor_the_units_of_the_box_matter(name, task, request):
    net, x, y = request.getfixturevalue(task)
    x, y = x[:12], y[:12]
    eps = attacks.ddn(net, x, y, steps=40).norm().median().item()
    attack = INVARIANT[name]
    plain = attack(eps, net, x, y)
    assert plain.found.any()

    def same(there, unit=1.0):
        assert torch.equal(plain.found, there.found)
        assert not there.stuck.any()
        met = plain.found
        assert torch.allclose(there.norm()[met] / unit, plain.norm()[met], rtol=0.01)

    for scale in (1e-3, 1e20):
        same(attack(eps, lambda z, by=scale: by * net(z), x, y))
    for low, high in ((-1.0, 1.0), (0.0, 255.0)):
        unit = high - low
        inner = lambda z, low=low, unit=unit: net((z - low) / unit)
        same(attack(unit * eps, inner, low + unit * x, y, box=(low, high)), unit)
    free = attack(eps, net, x, y, box=None)
    there = attack(100 * eps, lambda z: 1e-3 * net(z / 100), 100 * x, y, box=None)
    assert torch.equal(free.found, there.found)
    assert torch.allclose(there.norm()[free.found] / 100, free.norm()[free.found], rtol=0.01)


def hidden(kind, net):
    """The network, behind what leaves its gradient without use."""
    if kind == "rounding":
        return lambda z: net(torch.round(z * 32) / 32)
    if kind == "NaN gradient":  # the root of a zero that stays one
        return lambda z: net(z) + 0 * (z - z.detach()).flatten(1).square().sum(1, keepdim=True).sqrt()
    return lambda z: net(z) + 0 * (z.detach() - 0.999).neg().log().sum((1, 2, 3))[:, None]


KINDS = {
    "rounding": "rounding",
    "NaN gradient": "gradient is NaN",
    "NaN on the way": "logits became NaN",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["pgd l2", "pgd linf", "ddn", "cw", "square", "fmn", "shrinking ball", "strongest", "lbfgs", "mi-fgsm"],
)
def test_what_an_attack_cannot_see_through_is_stuck_and_told(name, kind, digits):
    net, x, y = digits
    x = 0.998 * x[:16]
    y = net(x).argmax(1)
    attack = partial(INVARIANT[name], 0.3, hidden(kind, net), x, y)
    if name == "square" and kind != "NaN on the way":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not attack().stuck.any()
        return
    with pytest.warns(UserWarning, match=f"rows are stuck.*{KINDS[kind]}") as said:
        a = attack()
    assert len(said) == 1
    assert a.stuck.any()
    assert not (a.stuck & a.found).any()
    if kind != "NaN on the way":
        assert (a.stuck | a.found).all()


@pytest.mark.parametrize("name", INVARIANT)
def test_an_honest_row_is_never_stuck(name, digits):
    net, x, y = digits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = INVARIANT[name](1e-3, net, x[:16], y[:16])
    assert not a.stuck.any()
    if name not in ("ddn", "cw", "fmn", "lbfgs"):
        assert not a.found.all()


def test_carlini_and_wagner_s_defaults_find_what_ddn_finds_at_ten_times_its_passes(digits):
    net, x, y = (digits[0], *(part[:6] for part in digits[1:]))
    ddn, cw = attacks.ddn(net, x, y), attacks.carlini_wagner(net, x, y)
    assert sum(cw.passes.values()) <= 10 * sum(ddn.passes.values())
    assert cw.found.sum() >= ddn.found.sum()
    assert cw.norm().median() <= 1.1 * ddn.norm().median()


def test_no_number_lies_beyond_the_radius_over_a_million_rows():
    """Labels in stripes of a few thousandths: half of what a first step lands on is adversarial."""
    fine = lambda z: torch.stack([torch.sin(5e3 * z.flatten(1).square().sum(1)), torch.zeros(len(z))], 1)
    g = seeds.generator(0, "radius")
    once = {"steps": 1, "random_start": False, "chunk": 2**17}
    for n, side, radii in ((250_000, 1, (8 / 255, 0.1, 1e-3, 0.3)), (30, 150, (8 / 255, 0.5))):
        x = torch.rand(n, 3, side, side, generator=g)
        labels = fine(x).argmax(1)
        for eps in radii:
            for norm, p in (("linf", math.inf), ("l2", 2)):
                a = attacks.pgd(fine, x, labels, eps=eps, norm=norm, step=3 * eps, **once)
                reached = a.norm(p)[a.found]
                assert len(reached) > 0.2 * n
                assert (reached <= eps).all()
                assert reached.max() > 0.999 * eps
                if norm == "linf":
                    assert ((a.images - x).abs() <= eps).all()
            s = attacks.square(fine, x[:1000], labels[:1000], eps=eps, queries=2)
            assert ((s.images - x[:1000]).abs() <= eps).all()


def test_the_shrinking_ball_counts_only_what_lies_inside_the_radius(digits):
    net, x, y = digits
    for norm, p, part in (("l2", 2, 1), ("linf", math.inf, 20)):
        eps = attacks.ddn(net, x, y, steps=20).norm().median().item() / part
        a = attacks.shrinking_ball(net, x, y, eps=eps, norm=norm, steps=20)
        assert (a.norm(p) <= eps)[a.found].all()
        assert torch.equal(net(a.images).argmax(1) != y, a.found)
        assert 0 < a.found.sum() < len(x)


STRONG = {"steps": 10, "restarts": 2}
ALONE = {
    "pgd scaled": partial(attacks.pgd, loss="scaled"),
    "pgd margin": partial(attacks.pgd, loss="margin"),
    "pgd cross-entropy": partial(attacks.pgd, loss="cross-entropy"),
    "shrinking ball": attacks.shrinking_ball,
}


def distilled(net):
    """A network that hides its gradients from the published loss: logits a thousand times as large."""
    return lambda z: 1e3 * net(z)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steep", [False, True])
def test_the_strongest_finds_what_each_attack_finds_alone(norm, steep, digits):
    net, x, y = (digits[0], *(part[:20] for part in digits[1:]))
    model = distilled(net) if steep else net
    eps = 0.9 * attacks.ddn(net, x, y, steps=20).norm().median().item() / (1 if norm == "l2" else 20)
    w = attacks.strongest(model, x, y, norm=norm, eps=eps, chunk=8, seed=5, doublings=1, **STRONG)
    how = {"eps": eps, "norm": norm, "chunk": 8, "seed": 5, **STRONG}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cross-entropy, where it is stuck
        alone = {name: attack(model, x, y, **how) for name, attack in ALONE.items()}
        if norm == "l2":
            alone["ddn"] = attacks.ddn(model, x, y, steps=10, chunk=8, seed=5)
            alone["fmn"] = attacks.fmn(model, x, y, steps=10, chunk=8, seed=5)
        else:
            alone["square"] = attacks.square(model, x, y, eps=eps, queries=100, chunk=8, seed=5)
    assert set(w.names) == set(alone)
    p = 2 if norm == "l2" else math.inf
    for a in alone.values():
        assert w.found[a.norm(p) <= eps].all()
    assert 0 < w.found.sum() < len(x)
    assert (w.norm(p)[w.found] <= eps).all()
    assert torch.equal(net(w.images).argmax(1) != y, w.found)
    assert not w.stuck.any()
    assert w.moved >= 0
    assert set(w.attack[w.found & (w.norm() > 0)].tolist()) <= set(range(len(w.names)))
    assert (w.attack[~w.found] == -1).all()
    # Rows that the first attack found leave, so that a later one of equal steps takes fewer passes.
    assert w.passes["pgd margin"] < w.passes["pgd scaled"]


def test_the_shortest_of_several_is_no_longer_than_each_alone(digits):
    net, x, y = (digits[0], *(part[:12] for part in digits[1:]))
    w = attacks.strongest(net, x, y, attacks=("ddn", "fmn", "carlini_wagner"), steps=20, doublings=1, seed=2)
    assert w.names == ("ddn", "fmn", "carlini_wagner")
    for a in (
        attacks.ddn(net, x, y, steps=20, seed=2),
        attacks.fmn(net, x, y, steps=20, seed=2),
        attacks.carlini_wagner(net, x, y, steps=20, seed=2),
    ):
        assert (w.norm() <= a.norm() * (1 + 1e-9)).all()
    assert w.moved >= 0
    assert sum(w.passes.values()) > 0


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_the_strongest_knows_the_radius_of_an_affine_model(norm, dual):
    model, weight, bias, x, labels = affine()
    gap = (x.flatten(1) @ (weight[1] - weight[0]) + bias[1] - bias[0]).abs()
    exact = gap / (weight[1] - weight[0]).norm(p=dual)
    eps = exact.median().item()
    w = attacks.strongest(model, x, labels, norm=norm, eps=eps, box=None, steps=50)
    assert w.found[exact < 0.99 * eps].all()
    assert not w.found[exact > eps].any()
    if norm == "l2":
        short = attacks.strongest(model, x, labels, box=None)
        assert (short.norm() >= exact * (1 - 1e-9)).all()
        assert (short.norm() / exact).median() < 1.02


def test_the_strongest_goes_on_from_the_shortest_so_far(digits):
    """No row gets longer, what few steps left too long gets shorter, and an affine model's radius is met."""
    net, x, y = (digits[0], *(part[:20] for part in digits[1:]))
    first, both = (
        attacks.strongest(net, x, y, attacks=names, steps=10, doublings=1)
        for names in (("ddn",), ("ddn", "fmn again"))
    )
    assert (both.norm() <= first.norm()).all()
    assert both.norm().median() < first.norm().median()
    assert torch.equal(net(both.images).argmax(1) != y, both.found)
    model, weight, bias, x, labels = affine()
    gap = (x.flatten(1) @ (weight[1] - weight[0]) + bias[1] - bias[0]).abs()
    w = attacks.strongest(model, x, labels, attacks=("ddn", "fmn again"), box=None)
    torch.testing.assert_close(w.norm(), gap / (weight[1] - weight[0]).norm(), rtol=0.01, atol=0)


def test_the_strongest_says_what_a_doubling_changed():
    """An affine model far away: nothing moves, and one doubling is enough. A blind one: all rows are stuck."""
    model, _, _, x, labels = affine()
    w = attacks.strongest(model, x, labels, eps=1e-6, box=None, steps=8)
    assert w.moved == 0
    assert w.passes["ddn"] == len(x) * (
        (8 + 2 + 9) + (16 + 2 + 9)
    )  # each budget: clean, its steps, the last, linear
    near = attacks.strongest(model, x, labels, eps=1e3, box=None, steps=8)
    assert near.found.all()
    assert near.moved == 0
    assert near.passes["fmn"] == 0
    blind = lambda z: torch.tensor([2.0, 0.0], dtype=z.dtype) + 0 * z.flatten(1)[:, :2]
    with pytest.warns(UserWarning, match="strongest: 40 of 40 rows are stuck") as said:
        lost = attacks.strongest(blind, x, torch.zeros_like(labels), eps=1.0, box=None, steps=4)
    assert len(said) == 1
    assert lost.stuck.all()
