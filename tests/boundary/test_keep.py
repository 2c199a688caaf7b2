"""What an attack hands back: its first success, its last iterate or its worst, each where the answer is known."""

import copy
import math
import warnings

import foolbox
import pytest
import torch
from tests.boundary.test_attacks import affine

from tightrope import attacks, boxes, data, nets, seeds, spectra, training

FEW = 10


def slope(weight, labels):
    """The direction in which the other of two logits overtakes, a row each."""
    towards = weight[1] - weight[0]
    return torch.where(labels[:, None] == 0, towards, -towards).reshape(-1, 1, 6, 6)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "scaled"])
@pytest.mark.parametrize("keep", ["last", "worst"])
@pytest.mark.parametrize("step", [0.1, 0.5])
@pytest.mark.parametrize("targeted", [False, True])
def test_an_affine_model_s_iterates_lie_on_a_line(loss, keep, step, targeted):
    steep, weight, _, x, labels = affine(n=FEW)
    model = lambda z: 0.05 * steep(z)  # or the published loss rounds its gradient
    towards = slope(weight, labels)
    given = 1 - labels if targeted else labels
    how = {"eps": 1.0, "steps": 5, "step": step, "loss": loss, "keep": keep, "box": None}
    how |= {"targeted": targeted, "random_start": False}
    unit = towards / towards.flatten(1).norm(dim=1)[:, None, None, None]
    a = attacks.pgd(model, x, given, **how)
    torch.testing.assert_close(a.images, x + min(5 * step, 1.0) * unit, rtol=0, atol=1e-12)
    a = attacks.pgd(model, x, given, norm="linf", **how)
    torch.testing.assert_close(a.images, x + min(5 * step, 1.0) * towards.sign(), rtol=0, atol=1e-12)
    del how["random_start"]  # what the gradients add up to points where each of them does
    a = attacks.mi_fgsm(model, x, given, norm="l2", **how)
    torch.testing.assert_close(a.images, x + min(5 * step, 1.0) * unit, rtol=0, atol=1e-12)
    a = attacks.mi_fgsm(model, x, given, **how)
    torch.testing.assert_close(a.images, x + min(5 * step, 1.0) * towards.sign(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("keep", ["last", "worst"])
@pytest.mark.parametrize("name", ["pgd", "shrinking_ball", "fgsm", "square"])
def test_from_a_random_start_the_cube_s_corner_is_reached(name, keep):
    model, weight, _, x, labels = affine(n=FEW)
    corner = x + 0.1 * slope(weight, labels).sign()
    how = {
        "pgd": {"norm": "linf", "steps": 4},
        "shrinking_ball": {"norm": "linf"},
        "square": {"queries": 3_000},
    }
    how["fgsm"] = {"random_start": True, "step": 0.2}
    a = getattr(attacks, name)(model, x, labels, eps=0.1, keep=keep, box=None, **how[name])
    torch.testing.assert_close(a.images, corner, rtol=0, atol=1e-12)
    assert torch.equal(a.found, model(corner).argmax(1) != labels)


def tent(z):
    """Two logits, the second ahead by 0.6 − |z − 0.9|."""
    return torch.cat([torch.zeros_like(z), 0.6 - (z - 0.9).abs()], 1)


@pytest.mark.parametrize(("keep", "there"), [("first", 0.4), ("worst", 0.8), ("last", 1.2)])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "scaled"])
def test_the_three_of_them_on_a_tent(keep, there, loss):
    """Steps of 0.4 from 0: over the edge at 0.4, highest at 0.8, and past the top at 1.2."""
    x = torch.zeros(3, 1, dtype=torch.float64)
    how = {"eps": 2.0, "steps": 3, "step": 0.4, "loss": loss, "box": None, "random_start": False}
    a = attacks.pgd(tent, x, torch.zeros(3, dtype=torch.int64), keep=keep, **how)
    torch.testing.assert_close(a.images, torch.full_like(x, there))
    assert a.found.all()


def test_a_last_iterate_that_has_come_back_is_not_found():
    x = torch.zeros(3, 1, dtype=torch.float64)
    how = {"eps": 2.0, "steps": 1, "step": 1.8, "box": None, "random_start": False}
    labels = torch.zeros(3, dtype=torch.int64)
    for keep in ("last", "worst"):
        a = attacks.pgd(tent, x, labels, keep=keep, **how)
        assert not a.found.any()
    ready = attacks.pgd(tent, x + 0.8, labels, keep="last", **how)  # it leaves, although it need not
    torch.testing.assert_close(ready.images, x + 2.6)
    assert not ready.found.any()
    assert attacks.pgd(tent, x + 0.8, labels, **how).norm().eq(0).all()


def test_the_worst_of_several_restarts():
    """Two tents, and only some starts climb the higher one."""
    tents = lambda z: torch.cat([0 * z, torch.maximum(0.3 - (z + 0.5).abs(), 0.5 - (z - 0.5).abs())], 1)
    x, labels = torch.zeros(40, 1, dtype=torch.float64), torch.zeros(40, dtype=torch.int64)
    how = {
        "eps": 1.0,
        "norm": "linf",
        "steps": 20,
        "step": 0.05,
        "loss": "margin",
        "keep": "worst",
        "box": None,
    }
    heights = [tents(attacks.pgd(tents, x, labels, restarts=n, **how).images)[:, 1] for n in (1, 3, 12)]
    assert (heights[0] <= heights[1]).all()
    assert (heights[1] <= heights[2]).all()
    assert (heights[0] < 0.35).any()
    assert (heights[2] > 0.45).all()


@pytest.mark.parametrize("keep", ["last", "worst"])
def test_what_has_no_meaning_is_refused(keep):
    model, _, _, x, labels = affine(n=2)
    for name in ("ddn", "fmn", "carlini_wagner"):
        with pytest.raises(ValueError, match=r"^keep must be 'shortest': without a radius"):
            getattr(attacks, name)(model, x, labels, keep=keep, box=None)
    with pytest.raises(ValueError, match=rf"^keep must be one of 'first', 'shortest', not '{keep}'"):
        attacks.lbfgs(model, x, labels, keep=keep, box=None)
    with pytest.raises(ValueError, match=r"^keep='last' is the last iterate of one start"):
        attacks.pgd(model, x, labels, eps=1.0, restarts=2, keep="last")
    for name in ("pgd", "fgsm", "r_fgsm", "bim", "mi_fgsm", "shrinking_ball", "square"):
        with pytest.raises(ValueError, match=r"^keep must be one of 'first', 'last', 'worst', not 'best'"):
            getattr(attacks, name)(model, x, labels, eps=1.0, keep="best")


# --- invariants ---------------------------------------------------------------------------------------------


def gated(dtype):
    """A network that is dead on dark images, whatever a small perturbation does to them; bright and dark ones."""
    g = seeds.generator(0, "gated")
    weight, bias = (torch.randn(*shape, generator=g, dtype=dtype) for shape in ((64, 4), (4,)))
    net = lambda z: (z.sum((1, 2, 3)) - 25).relu()[:, None] * (z.flatten(1) @ weight).tanh() + bias
    x = torch.rand(30, 1, 8, 8, generator=g, dtype=dtype)
    x[::5] *= 0.1
    return net, x, torch.arange(30) % 5 == 0


LOOKS = {
    "pgd l2": (attacks.pgd, "l2", {"steps": 9}),
    "pgd linf": (attacks.pgd, "linf", {"steps": 9, "norm": "linf"}),
    "pgd l2, nearest": (attacks.pgd, "l2", {"steps": 4, "projection": "dykstra"}),
    "pgd linf, nearest": (attacks.pgd, "linf", {"steps": 4, "norm": "linf", "projection": "dykstra"}),
    "fgsm": (attacks.fgsm, "linf", {}),
    "fgsm, random start": (attacks.fgsm, "l2", {"norm": "l2", "random_start": True}),
    "r+fgsm": (attacks.r_fgsm, "linf", {}),
    "bim": (attacks.bim, "linf", {}),
    "mi-fgsm": (attacks.mi_fgsm, "linf", {}),
    "mi-fgsm l2": (attacks.mi_fgsm, "l2", {"norm": "l2", "step": 0.2}),
    "shrinking ball": (attacks.shrinking_ball, "l2", {"steps": 8}),
    "square": (attacks.square, "linf", {"queries": 40}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", [boxes.Interval(), boxes.Flipped(), None], ids=str)
@pytest.mark.parametrize("keep", ["first", "last", "worst"])
@pytest.mark.parametrize("name", LOOKS)
def test_ball_box_and_label(name, keep, box, dtype):
    attack, norm, how = LOOKS[name]
    net, x, dead = gated(dtype)
    seen = net
    if isinstance(box, boxes.Flipped):
        net, x = (lambda z: seen(spectra.flip(z))), spectra.flip(x)
    labels = net(x).argmax(1)
    eps = 0.5 if norm == "l2" else 0.05
    for targeted in (False, True):
        given = (labels + targeted) % 4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the dead rows
            a = attack(net, x, given, eps=eps, keep=keep, box=box, targeted=targeted, seed=3, **how)
        length = (a.images - x).flatten(1).norm(p=2 if norm == "l2" else math.inf, dim=1)
        assert (length <= eps).all()
        assert box is None or box.inside(a.images).all()
        if box == boxes.Interval():
            assert ((a.images >= 0) & (a.images <= 1)).all()
        assert torch.equal((net(a.images).argmax(1) == given) == targeted, a.found)
        assert not a.found[dead].any()
        unmoved = length == 0
        if keep == "first":
            assert torch.equal(a.images[~a.found], x[~a.found])
        elif keep == "last":
            assert not unmoved[~dead].any()
            if name in ("fgsm", "bim", "mi-fgsm", "mi-fgsm l2"):  # nothing is drawn
                assert (
                    length[dead] <= 1e2 * torch.finfo(dtype).eps
                ).all()  # what flipping back and forth rounds


# --- the cases of PGD, and foolbox ---------------------------------------------------------------------------


def test_the_fast_gradient_sign_method_and_its_repetition_are_pgd():
    model, _, _, x, labels = affine(5)
    for keep in ("first", "last", "worst"):
        one = attacks.fgsm(model, x, labels, eps=0.3, keep=keep, box=None)
        same = {"norm": "linf", "random_start": False, "keep": keep, "box": None}
        assert torch.equal(
            one.images, attacks.pgd(model, x, labels, eps=0.3, steps=1, step=0.3, **same).images
        )
        many = attacks.bim(model, x, labels, eps=0.3, keep=keep, box=None)
        assert torch.equal(many.images, attacks.pgd(model, x, labels, eps=0.3, steps=10, **same).images)
    target = (labels + 1) % 5
    there = attacks.bim(model, x, target, eps=0.5, targeted=True, keep="last", box=None)
    nearer = lambda z: model(z).log_softmax(1).gather(1, target[:, None]).squeeze(1)
    assert (nearer(there.images) > nearer(x)).all()
    starts = [
        attacks.fgsm(model, x, labels, eps=0.3, random_start=True, keep="last", seed=seed, box=None).images
        for seed in (0, 0, 1)
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_step_from_a_random_corner_is_the_published_one():
    """What the network is shown is x', a corner of the cube of α; what comes back lies eps − α further."""
    net, x, _ = gated(torch.float64)
    x = x[x.sum((1, 2, 3)) > 26]  # alive, and at every corner
    labels, seen = net(x).argmax(1), []
    shown = lambda z: (seen.append(z.detach().clone()), net(z))[1]
    for eps, alpha in ((0.1, None), (0.1, 0.02)):
        seen.clear()
        how = {"loss": "cross-entropy", "keep": "last", "box": None}
        a = attacks.r_fgsm(shown, x, labels, eps=eps, alpha=alpha, **how)
        alpha = eps / 2 if alpha is None else alpha
        corner, end = seen[-2:]
        torch.testing.assert_close((corner - x).abs(), torch.full_like(x, alpha), rtol=0, atol=1e-12)
        assert 0.4 < (corner > x).double().mean() < 0.6  # of more than a thousand
        at = corner.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(net(at), labels, reduction="sum")
        (towards,) = torch.autograd.grad(loss, at)
        torch.testing.assert_close(end, corner + (eps - alpha) * towards.sign(), rtol=0, atol=1e-12)
        torch.testing.assert_close(a.images, end, rtol=0, atol=0)
    starts = [attacks.r_fgsm(net, x, labels, eps=0.1, keep="last", seed=seed).images for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.fixture(scope="module")
def lenet():
    x, y = data.load("mnist", "train", n=3_000)
    net = nets.lenet(init="he")
    training.fit(net, x, y, training.Recipe(lr=0.05, epochs=2, batch=64))
    return net.eval()


F, TWENTY = foolbox.attacks, {"steps": 20, "random_start": False}
THEIRS = {
    "fgsm": (attacks.fgsm, "linf", {}, lambda eps: F.LinfFastGradientAttack()),
    "fgsm l2": (attacks.fgsm, "l2", {}, lambda eps: F.L2FastGradientAttack()),
    "bim": (attacks.bim, "linf", {}, lambda eps: F.LinfBasicIterativeAttack(abs_stepsize=eps / 4, steps=10)),
    "bim l2": (attacks.bim, "l2", {}, lambda eps: F.L2BasicIterativeAttack(abs_stepsize=eps / 4, steps=10)),
    "pgd": (attacks.pgd, "linf", TWENTY, lambda eps: F.LinfPGD(abs_stepsize=eps / 8, **TWENTY)),
    "pgd l2": (attacks.pgd, "l2", TWENTY, lambda eps: F.L2PGD(abs_stepsize=eps / 8, **TWENTY)),
}


@pytest.mark.parametrize(
    ("name", "targeted"),
    [*((name, False) for name in THEIRS), *((name, True) for name in THEIRS if name[0] != "f")],
)  # foolbox has no targeted FGSM
@pytest.mark.parametrize("kind", ["noise", "digits"])
def test_success_is_foolbox_s(name, kind, targeted, lenet):
    """On all of 256 inputs without ties, noisy digits in float64; on nearly all of 256 digits as they are."""
    ours, norm, how, theirs = THEIRS[name]
    net = lenet
    x, labels = data.load("mnist", "test", n=256)
    if kind == "noise":
        g = seeds.generator(0, "noise")
        x = (0.2 + 0.5 * x + 0.2 * torch.rand(x.shape, generator=g)).double()
        net = copy.deepcopy(lenet).double()
        labels = net(x).argmax(1)
    labels = net(x).topk(2).indices[:, 1] if targeted else labels
    eps = {"noise": {"linf": 0.03, "l2": 0.3}, "digits": {"linf": 0.05, "l2": 1.0}}[kind][norm]
    criterion = foolbox.criteria.TargetedMisclassification(labels) if targeted else labels
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    success = theirs(eps)(model, x, criterion, epsilons=eps)[2]
    how = how | {"norm": norm, "loss": "cross-entropy", "keep": "last", "targeted": targeted}
    a = ours(net, x, labels, eps=eps, **how)
    assert success.any()
    assert not success.all()
    same = (a.found == success).double().mean()
    assert same == 1 if kind == "noise" else same >= 0.98
