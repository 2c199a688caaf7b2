"""Adversarial training: the inner step where its answer is known, and a recipe that knows only its protocol."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest
import torch
from tests.stops import counted
from torch import nn
from torch.nn.functional import cross_entropy

from tightrope import adversary, boxes, nets, seeds, spectra, training
from tightrope.boundary.adversary import Adversary
from tightrope.fingerprint import fingerprint
from tightrope.models.training import Recipe, fit

SHAPE = (1, 6, 6)
SPACE = spectra.dct_windows(SHAPE, 3, 3)[0]
RECIPE = Recipe(lr=0.05, epochs=3, batch=16, against=Adversary(eps=0.5, steps=3))
OTHERS = {
    "eps": 0.4,
    "norm": "linf",
    "steps": 4,
    "step": 0.1,
    "random_start": False,
    "loss": "scaled",
    "projection": "dykstra",
    "box": (0.0, 2.0),
    "keep": "worst",
    "subspace": SPACE,
    "watch": (SPACE,),
}


def draws(seed=0):
    return seeds.generator(seed, "adversary")


def pictures(n=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    return (torch.rand(n, *SHAPE, generator=g) + 0.1 * y[:, None, None, None]) / 1.2, y


def small():
    """A network with batch norm, whose averages have seen something, and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)]
        net = nn.Sequential(*head, nn.Linear(64, 3))
        net(pictures()[0])
    return net


def mlp(seed=0):
    return nets.mlp(36, (12,), 3, seed=seed)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_an_affine_network_is_perturbed_by_a_closed_form():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(8) % 2
    towards = (net[1].weight[1] - net[1].weight[0]).detach().expand(8, 36).reshape(8, *SHAPE)
    towards = torch.where((y == 0)[:, None, None, None], towards, -towards)
    unit = lambda v: v / v.flatten(1).norm(dim=1)[:, None, None, None]
    how = {"eps": 0.4, "steps": 3, "step": 0.1, "random_start": False, "box": None}
    for options, delta in (
        ({}, 0.3 * unit(towards)),
        ({"step": 0.2}, 0.4 * unit(towards)),
        ({"norm": "linf"}, 0.3 * towards.sign()),
        ({"subspace": SPACE}, 0.3 * unit(SPACE.project(towards))),
        ({"keep": "worst"}, 0.3 * unit(towards)),
    ):
        images = Adversary(**how | options).perturb(net, x, y, draws())
        torch.testing.assert_close(images, x + delta, rtol=0, atol=1e-12)
    first = Adversary(**how | {"keep": "first"}).perturb(net, x, y, draws())
    unmoved = (first == x).flatten(1).all(1)
    assert torch.equal(unmoved, (net(x).argmax(1) != y) | (net(first).argmax(1) == y))


@pytest.mark.parametrize("keep", ["last", "worst"])
@pytest.mark.parametrize("inside", [None, SPACE])
def test_a_subspace_holds_every_perturbation(keep, inside):
    net, (x, y) = mlp().double(), pictures()
    x = x.double()
    images = Adversary(eps=0.5, box=None, keep=keep, subspace=inside).perturb(net, x, y, draws())
    delta = images - x
    length = delta.flatten(1).norm(dim=1)
    assert (length <= 0.5).all()
    assert (length > 0).all()
    outside = (delta - SPACE.project(delta)).flatten(1).norm(dim=1)
    assert (outside < 1e-12).all() if inside else (outside > 0.1).all()
    starts = Adversary(eps=0.5, box=None, steps=1, step=1e-9, subspace=SPACE).perturb(net, x, y, draws()) - x
    # Uniform in the subspace's ball: of the lengths' dim-th powers half are below a half of the radius's.
    assert 15 <= ((starts.flatten(1).norm(dim=1) / 0.5) ** SPACE.dim < 0.5).sum() <= 35


def test_the_attack_sees_running_statistics_and_leaves_no_trace():
    net, (x, y) = small(), pictures()
    net.train()
    net[1].eval()  # as its owner has it
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()
    how = Adversary(eps=0.5, random_start=False)
    images = how.perturb(net, x, y, draws())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)  # no dropout
    assert not images.requires_grad
    alone = torch.cat([how.perturb(net, x[[i]], y[[i]], draws()) for i in range(5)])  # no row sees another
    torch.testing.assert_close(alone, images[:5], rtol=0, atol=1e-4)


def test_modes_come_back_from_an_attack_that_fails():
    net, (x, y) = small().train(), pictures()
    with pytest.raises(RuntimeError):
        Adversary(eps=0.5).perturb(net, x[..., :2], y, draws())
    assert all(module.training for module in net.modules())


def test_a_perturbed_training_is_the_plain_loop():
    """Against a loop written down: batches as without an adversary, draws from a generator of its own."""
    x, y = pictures()
    x = x.double()
    net, plain = mlp().double(), mlp().double()
    fit(net, x, y, RECIPE, seed=5)
    optimizer = torch.optim.SGD(plain.parameters(), RECIPE.lr, RECIPE.momentum)
    order, noise = seeds.generator(5, "batches"), seeds.generator(5, "adversary")
    for _ in range(3):
        for rows in torch.randperm(50, generator=order).split(16):
            images = RECIPE.against.perturb(plain, x[rows], y[rows], noise)
            optimizer.zero_grad()
            cross_entropy(plain(images), y[rows]).backward()
            optimizer.step()
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-9, atol=1e-12)
    assert not torch.equal(weights(net), weights(mlp().double()))


@dataclass(frozen=True)
class Recorded:
    """An adversary that is none of the library's: it adds noise, and remembers it."""

    size: float = 0.1
    watch: tuple = (SPACE, spectra.full(SHAPE))
    kept: tuple = ([], [])

    def check(self, x):
        pass

    def perturb(self, net, x, y, generator):
        delta = self.size * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        self.kept[0].append((delta + x) - x)
        self.kept[1].append(net(x + delta).argmax(1) != y)
        return x + delta


def test_an_adversary_that_does_nothing_changes_nothing():
    x, y = pictures()
    net, plain = mlp(), mlp()
    fit(net, x, y, replace(RECIPE, against=Recorded(size=0.0, kept=([], []))))
    fit(plain, x, y, replace(RECIPE, against=None))
    assert torch.equal(weights(net), weights(plain))


def test_a_log_keeps_what_was_added():
    x, y = pictures()
    x = x.double()
    noise = Recorded(kept=([], []))
    log = fit(mlp().double(), x, y, replace(RECIPE, against=noise))
    delta, wrong = (torch.cat(parts).split(50) for parts in noise.kept)
    assert len(log.perturbations) == log.epochs == len(delta) == 3
    for seen, added, found in zip(log.perturbations, delta, wrong, strict=True):
        length = added.flatten(1).norm(dim=1)
        sizes = [length, *spectra.energy(added, noise.watch).T]
        for spread, size in zip([seen.length, *seen.energy], sizes, strict=True):
            assert spread.median == pytest.approx(size.quantile(0.5).item())
            assert spread.high == pytest.approx(size.quantile(0.95).item())
            assert spread.mean == pytest.approx(size.mean().item())
        assert seen.found == found.double().mean()
        assert seen.energy[1].mean == pytest.approx(length.square().mean().item())  # all of space has it all
    assert fit(mlp(), *pictures(), replace(RECIPE, against=None)).perturbations == ()


class Killed(Exception):
    pass


@pytest.mark.parametrize("how", [{}, {"norm": "linf"}, {"box": None, "subspace": SPACE, "watch": (SPACE,)}])
@pytest.mark.parametrize("killed_in", [1, 2])
def test_a_killed_training_ends_with_the_same_weights_and_log(tmp_path, how, killed_in):
    x, y = pictures()
    recipe = replace(RECIPE, against=replace(RECIPE.against, **how))
    through, net = small(), small()
    for module in (through, net):
        module[4] = nn.Identity()  # dropout draws from torch's own generator
    whole = fit(through, x, y, recipe, 3, x, y)

    def stop(epoch, net):
        if epoch == killed_in:
            raise Killed

    with pytest.raises(Killed):
        fit(net, x, y, recipe, 3, x, y, checkpoint=tmp_path / "net", on_epoch=stop)
    again = small()
    again[4] = nn.Identity()
    log = fit(again, x, y, recipe, 3, x, y, checkpoint=tmp_path / "net")
    assert torch.equal(weights(again), weights(through))
    assert all(torch.equal(a, b) for a, b in zip(again.buffers(), through.buffers(), strict=True))
    assert log == whole
    assert len(log.perturbations) == 3


DIES = """
import os, signal, sys, torch
from tightrope import adversary, nets, training
g = torch.Generator().manual_seed(0)
x, y = torch.rand(100, 1, 6, 6, generator=g), torch.randint(0, 3, (100,), generator=g)
net, calls = nets.mlp(36, (8,), 3), 0
def die(module, args):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
net.register_forward_pre_hook(die)
recipe = training.Recipe(lr=.05, epochs=4, batch=32, against=adversary.Adversary(eps=.5, steps=3))
log = training.fit(net, x, y, recipe, checkpoint=sys.argv[1])
print(sum(p.double().abs().sum().item() for p in net.parameters()).hex(), log, calls)
"""


def die(path, call):
    command = [sys.executable, "-c", DIES, str(path), str(call)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    done = die(tmp_path_factory.mktemp("whole") / "net", -1)
    assert done.returncode == 0, done.stderr
    return done.stdout.rsplit(" ", 1)


@pytest.mark.parametrize("at", [0.3, 0.8])
def test_a_training_killed_hard_in_the_middle_of_an_attack_goes_on(tmp_path, at, whole):
    expected, calls = whole
    assert die(tmp_path / "net", round(at * int(calls))).returncode == -9
    again = die(tmp_path / "net", -1)
    assert again.returncode == 0, again.stderr
    assert again.stdout.rsplit(" ", 1)[0] == expected


@pytest.mark.parametrize("name", OTHERS)
def test_every_field_has_a_part_in_the_name(name):
    assert set(OTHERS) == {field.name for field in fields(Adversary)}
    plain = Adversary(eps=0.5, box=None) if name == "subspace" else Adversary(eps=0.5)
    other = replace(plain, **{name: OTHERS[name]})
    recipes = [replace(RECIPE, against=given) for given in (plain, replace(plain), other, None)]
    names = [fingerprint(recipe) for recipe in recipes]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_inner_step_costs_its_passes_and_no_wait():
    x, y = pictures()
    seen = []
    for steps, looks in ((1, 0), (5, 0)):
        net = mlp()
        count: Callable = lambda module, given: seen.append(torch.is_grad_enabled())
        net.register_forward_pre_hook(count)
        seen.clear()
        with counted() as waits:
            Adversary(eps=0.5, steps=steps).perturb(net, x, y, draws())
        assert len(seen) == steps + looks
        assert sum(waits.values()) == 0
    epochs = []
    for batch in (25, 5):
        with counted() as waits:
            fit(mlp(), x, y, replace(RECIPE, batch=batch, epochs=2))
        epochs.append(sum(waits.values()))
    assert epochs[0] == epochs[1]


def test_half_precision_trains_too():
    x, y = pictures()
    net = mlp()
    log = fit(net, x, y, replace(RECIPE, precision="bfloat16", epochs=8))
    assert log.loss[-1] < log.loss[0]
    assert weights(net).dtype == torch.float32
    assert log.perturbations[-1].length.high <= 0.5


def test_flipped_images_are_perturbed_in_the_flipped_box():
    x, y = pictures()
    flipped = spectra.flip(x)
    with pytest.raises(ValueError, match=r"outside the adversary's box \(0\.0, 1\.0\)"):
        fit(mlp(), flipped, y, RECIPE)
    there = Adversary(eps=0.5, box=boxes.Flipped())
    images = there.perturb(mlp(), flipped, y, draws())
    assert boxes.Flipped().inside(images).all()
    assert ((images - flipped).flatten(1).norm(dim=1) <= 0.5).all()
    assert fit(mlp(), flipped, y, replace(RECIPE, against=there)).epochs == 3


def test_what_cannot_be_is_refused_in_a_sentence():
    for bad in ({"eps": 0.0}, {"norm": "l1"}, {"steps": 0}, {"step": -1.0}, {"random_start": 1}, {"loss": "hinge"},
                {"projection": "none"}, {"box": (1.0, 0.0)}, {"keep": "best"}, {"subspace": "low"},
                {"watch": [SPACE]}, {"watch": (1,)}):  # fmt: skip
        with pytest.raises(ValueError, match=rf"\b{next(iter(bad))}\b"):
            Adversary(**{"eps": 1.0} | bad)
    for bad in ({}, {"box": None, "norm": "linf"}):
        with pytest.raises(ValueError, match="in a subspace needs norm='l2' and box=None"):
            Adversary(eps=1.0, subspace=SPACE, **bad)
    for bad in ("pgd", object(), 3):
        with pytest.raises(ValueError, match=r"^against must be"):
            Recipe(against=bad)
    with pytest.raises(ValueError, match=r"^against must be made before it is given"):
        Recipe(against=Adversary)
    x, y = pictures()
    with pytest.raises(ValueError, match=r"^x must be a real tensor"):
        fit(mlp(), x, y, replace(RECIPE, against=Adversary(eps=1.0, watch=(spectra.full((1, 5, 5)),))))
    assert isinstance(RECIPE.against, training.Perturber)
    assert adversary.Adversary(eps=math.pi).eps == math.pi
