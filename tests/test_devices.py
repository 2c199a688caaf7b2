"""A GPU without a GPU: what would make a device wait is counted, and a tensor made on the wrong device is met here.

Fake tensors have a device and a shape and no values: what runs on inputs of device "cuda" under them would run there.
"""

import math
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from tests.stops import counted
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call

from tightrope import adversary, attacks, boxes, margins, nets, pair_losses, spectra, training, views, wedges
from tightrope.boundary import crossing, race, search
from tightrope.boundary.chunks import chunk_rows
from tightrope.boundary.stepping import coordinates, nearest_steps
from tightrope.inputs import dct
from tightrope.models import perturbations

SHAPE = (1, 28, 28)


def stops(call) -> int:
    with counted() as seen:
        call()
    return sum(seen.values())


@pytest.fixture(scope="module")
def task():
    net = nets.lenet(0)
    x = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1))
    return net, x, net(x).argmax(1)


# What does not depend on a count of steps, chunks or rows: the inputs are looked at once, the labels and box once, and
# at the end how many rows are stuck.
ONCE = 3


def test_attacks_wait_for_the_device_three_times_and_pgd_once_more_in_eight_steps(task):
    net, x, y = task
    assert stops(lambda: attacks.ddn(net, x, y, steps=30)) == ONCE
    assert stops(lambda: attacks.carlini_wagner(net, x, y, steps=5, searches=2)) == ONCE
    assert stops(lambda: attacks.fmn(net, x, y, steps=30)) == ONCE
    assert stops(lambda: attacks.lbfgs(net, x, y, steps=9, searches=3)) == ONCE
    assert stops(lambda: attacks.lbfgs(net, x, y, steps=9, searches=3, keep="first")) <= ONCE + 3
    never = 1e-6  # a radius in which nothing is found, so that no row leaves early
    assert stops(lambda: attacks.pgd(net, x, y, eps=never, steps=7)) == ONCE
    assert stops(lambda: attacks.pgd(net, x, y, eps=never, steps=40)) <= ONCE + 40 // 8
    assert stops(lambda: attacks.mi_fgsm(net, x, y, eps=never, steps=40)) <= ONCE + 40 // 8
    assert stops(lambda: attacks.r_fgsm(net, x, y, eps=never)) == ONCE
    assert stops(lambda: attacks.square(net, x, y, eps=never, queries=64)) <= ONCE + 64 // 16
    for keep in ("last", "worst"):  # where no row ever leaves
        assert stops(lambda keep=keep: attacks.pgd(net, x, y, eps=never, steps=20, keep=keep)) == ONCE
        assert stops(lambda keep=keep: attacks.square(net, x, y, eps=never, queries=40, keep=keep)) == ONCE


def test_the_strongest_waits_a_fixed_number_of_times_for_each_attack_it_tries(task):
    net, x, y = task
    how = {"eps": 1e-6, "attacks": ["ddn", "fmn"], "doublings": 1}
    few, many = (stops(lambda n=n: attacks.strongest(net, x, y, steps=n, **how)) for n in (2, 20))
    assert few == many
    # A budget: its two looks at every attack's inputs, who is left (asked twice), and what the budget changed.
    assert many <= 2 * (2 * 4 + 1) + 1


def test_deepfool_waits_once_a_step_of_its_pool_whatever_the_number_of_windows(task):
    net, x, _ = task
    windows = spectra.dct_windows(SHAPE, 8, 4)
    found = []
    waits = stops(lambda: found.append(margins.deepfool(net, x, windows, refine=False)))
    assert waits <= found[0].steps.max() + 6
    assert waits < len(windows) * found[0].steps.max()


def test_crossing_looks_at_every_third_probe(task):
    net, x, y = task
    far = -20 * torch.sign(x - 0.5)
    with torch.no_grad():
        there = net(x + far)
        ends = crossing.Ends(crossing.lead(net(x), y), crossing.lead(there, y), there.argmax(1))
        rows = ends.label != y
        ends = crossing.Ends(*(part[rows] for part in ends))
        probes = []
        count = lambda z: (probes.append(1), net(z))[1]
        waits = stops(lambda: crossing.crossing(count, x[rows], far[rows], y[rows], ends))
    assert rows.any()
    # Leaving rows out is a stop of its own, so two for three probes.
    assert waits <= 2 * math.ceil(len(probes) / 3)


def test_a_race_does_not_wait(task):
    net, x, y = task
    far = -20 * torch.sign(x - 0.5)
    ends = crossing.Ends(*(torch.zeros(len(x)) for _ in "ht"), y)
    one = lambda: race.race(
        net, x, torch.stack([far, x], 1), far, y, ends, lambda v: v, race.sizes(9, 2), 1.0
    )
    assert stops(one) == 0


def test_a_training_waits_once_an_epoch(task):
    _, x, y = task
    few, many = (
        stops(lambda n=n: training.fit(nets.lenet(0), x, y, training.Recipe(epochs=2, batch=n)))
        for n in (12, 2)
    )
    assert few == many


def test_an_attack_takes_no_gradient_that_it_does_not_use(task):
    net, x, y = task
    backward = []
    hooked = lambda z: (z.register_hook(lambda g: backward.append(1)) if z.requires_grad else None, net(z))[1]
    attacks.pgd(hooked, x, y, eps=1e-6, steps=7)
    tried = 1  # on a few rows, before the measurement
    assert len(backward) == tried + 7
    backward.clear()
    attacks.ddn(hooked, x, y, steps=9)
    assert len(backward) == tried + 9


def test_chunks_on_a_gpu_go_by_its_free_memory():
    photo = torch.zeros(2, 3, 224, 224)
    rows = [chunk_rows(photo, 50 * 2**20, free=gib * 2**30) for gib in (4, 16, 64)]
    assert rows == sorted(rows)
    assert rows[0] >= 8
    assert rows[2] > 55


# --- under fake tensors ------------------------------------------------------------------------------------


def indexed(self: torch.Tensor, at) -> torch.Tensor:
    """`self[at]` by operators: torch's own indexing asks CUDA for a device guard, which only a CUDA build has."""
    at = list(at) if isinstance(at, tuple) else [at]
    real = sum(i is not None and i is not Ellipsis for i in at)
    if Ellipsis in [i for i in at if not isinstance(i, torch.Tensor)]:
        k = next(n for n, i in enumerate(at) if i is Ellipsis)
        at[k : k + 1] = [slice(None)] * (self.dim() - real)
    dim, tensors = 0, []
    for i in at:
        if i is None:
            self, dim = torch.unsqueeze(self, dim), dim + 1
        elif isinstance(i, torch.Tensor):
            tensors, dim = [*tensors, *[None] * (dim - len(tensors)), i], dim + 1
        elif isinstance(i, slice):
            low, high, step = i.indices(self.shape[dim])
            self, dim = torch.ops.aten.slice.Tensor(self, dim, low, high, step), dim + 1
        else:
            self = torch.select(self, dim, i)
    return torch.ops.aten.index.Tensor(self, tensors) if tensors else self


@pytest.fixture
def fake(monkeypatch):
    """Fake tensors, with zeros for gradients: a torch without CUDA has no stream to run a backward pass on."""
    monkeypatch.setattr(torch, "enable_grad", torch.no_grad)
    monkeypatch.setattr(torch.Tensor, "requires_grad_", lambda self, wanted=True: self)
    zeros = lambda of: (
        (torch.zeros_like(of),) if isinstance(of, torch.Tensor) else tuple(map(torch.zeros_like, of))
    )
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs, **options: zeros(inputs))
    monkeypatch.setattr(torch.Tensor, "__getitem__", indexed)
    monkeypatch.setattr(torch.Tensor, "__invert__", lambda self: torch.bitwise_not(self))
    monkeypatch.setattr(torch.Tensor, "__setitem__", lambda self, at, value: indexed(self, at) + value)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, other: (self + other, self)[1])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def on_gpu(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def moved(net: nn.Module, fake) -> nn.Module:
    """The network with parameters and buffers on the GPU, as a function of its input."""
    state = {
        k: torch.empty_like(v, device="cuda") for k, v in [*net.named_parameters(), *net.named_buffers()]
    }
    return lambda x: functional_call(net, state, (x,))


NETS = {
    "mlp": (lambda: nets.mlp(784, (20,), 10, mean=0.5, std=0.2), SHAPE),
    "lenet": (lambda: nets.lenet(0), SHAPE),
    "four_layer": (lambda: nets.four_layer(0, batch_norm=True, centred=True), (3, 32, 32)),
    "fast_resnet": (lambda: nets.fast_resnet(0), (3, 32, 32)),
    "resnet9": (lambda: nets.resnet9(0, width=8), (3, 32, 32)),
    "resnet18": (lambda: nets.resnet18(0), (3, 32, 32)),
    "densenet121": (lambda: nets.densenet121(0), (3, 32, 32)),
    "vgg19": (lambda: nets.vgg19(0), (3, 32, 32)),
}


@pytest.mark.parametrize("name", NETS)
def test_every_network_answers_on_the_device_of_its_input(name, request):
    make, shape = NETS[name]
    net = make().eval()
    fake = request.getfixturevalue("fake")
    assert moved(net, fake)(on_gpu(2, *shape)).device.type == "cuda"


@contextmanager
def flips_forgotten():
    """Fake matrices are not remembered for the tests that come."""
    dct._flipper_as.cache_clear(), dct._keeper_as.cache_clear()
    try:
        yield
    finally:
        dct._flipper_as.cache_clear(), dct._keeper_as.cache_clear()


@pytest.mark.parametrize("way", views.WAYS)
def test_every_view_stays_on_the_device(way, fake):
    with flips_forgotten():
        assert views.view(f"{way} mnist").see(on_gpu(3, *SHAPE)).device.type == "cuda"


SPACES = {
    "full": lambda: spectra.full(SHAPE),
    "span": lambda: spectra.span(torch.eye(784)[5].reshape(SHAPE), torch.eye(784)[9].reshape(SHAPE)),
    "complement": lambda: spectra.span(torch.eye(784)[5].reshape(SHAPE)).complement(),
    "window": lambda: spectra.dct_windows(SHAPE, 8, 10)[0],
    "random": lambda: spectra.random_subspace(SHAPE, 4),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_subspace_stays_on_the_device(name, request):
    space = SPACES[name]()
    request.getfixturevalue("fake")
    x = on_gpu(3, *SHAPE)
    assert space.coordinates(x).device.type == "cuda"
    assert space.project(x).device.type == "cuda"


def test_a_step_of_every_measurement_stays_on_the_device(monkeypatch, request):
    net, space = nets.lenet(0), spectra.dct_windows(SHAPE, 8, 10)[0]
    model = moved(net, request.getfixturevalue("fake"))
    x, y = on_gpu(4, *SHAPE), on_gpu(4, dtype=torch.int64)
    ends = crossing.Ends(on_gpu(4), on_gpu(4), y)
    monkeypatch.setattr(race.seeds, "generator", lambda *given: None)
    starts = torch.stack([x, x, x], 1)
    best, after, start = race.race(model, x, starts, x, y, ends, space.project, [3, 2, 1], 1.0)
    assert {t.device.type for t in (best, *after, start)} == {"cuda"}
    draws, seen = torch.Generator(), search.Seen()
    seen.cover(4, x.device)
    for targeted in (False, True):
        task = search.Task(model, x, y, targeted, (0.0, 1.0), draws, seen, y, (0, 4))
        for loss in search.LOSSES:
            assert {t.device.type for t in task.climb(x, loss)} == {"cuda"}
        assert task.clip(x).device.type == task.over(task.answer(x)).device.type == "cuda"
    gaps, slopes = on_gpu(9, 4), coordinates(space, on_gpu(9, 4, *SHAPE))
    classes = on_gpu(9, 4, dtype=torch.int64)
    step, ok = nearest_steps(space, gaps, slopes, classes, 1e-6, count=3)
    assert {step.device.type, ok.device.type} == {"cuda"}


ATTACKS = {
    "pgd": (attacks.pgd, {"eps": 1.0, "steps": 3}),
    "pgd, largest change": (attacks.pgd, {"eps": 0.1, "steps": 3, "norm": "linf", "loss": "scaled"}),
    "pgd, last": (attacks.pgd, {"eps": 1.0, "steps": 3, "keep": "last"}),
    "pgd, worst": (attacks.pgd, {"eps": 1.0, "steps": 3, "restarts": 2, "keep": "worst"}),
    "pgd, flipped box": (
        attacks.pgd,
        {"eps": 1.0, "steps": 3, "box": boxes.Flipped(), "projection": "dykstra"},
    ),
    "fgsm": (attacks.fgsm, {"eps": 0.1, "random_start": True, "box": boxes.Flipped()}),
    "r_fgsm": (attacks.r_fgsm, {"eps": 0.1, "box": boxes.Flipped()}),
    "bim": (attacks.bim, {"eps": 0.1, "steps": 3}),
    "mi_fgsm": (attacks.mi_fgsm, {"eps": 0.1, "steps": 3}),
    "mi_fgsm, worst": (attacks.mi_fgsm, {"eps": 1.0, "steps": 3, "norm": "l2", "keep": "worst"}),
    "lbfgs": (attacks.lbfgs, {"steps": 3, "searches": 2}),
    "lbfgs, no box": (attacks.lbfgs, {"steps": 3, "searches": 2, "box": None, "loss": "cross-entropy"}),
    "lbfgs, first": (attacks.lbfgs, {"steps": 3, "searches": 1, "box": boxes.Flipped(), "keep": "first"}),
    "ddn": (attacks.ddn, {"steps": 3}),
    "carlini_wagner": (attacks.carlini_wagner, {"steps": 2, "searches": 2}),
    "carlini_wagner, as published": (attacks.carlini_wagner, {"steps": 2, "searches": 2, "loss": "margin"}),
    "carlini_wagner, no box": (attacks.carlini_wagner, {"steps": 2, "searches": 2, "box": None}),
    "square": (attacks.square, {"eps": 0.1, "queries": 3}),
    "square, worst": (attacks.square, {"eps": 0.1, "queries": 3, "keep": "worst", "box": boxes.Flipped()}),
    "fmn": (attacks.fmn, {"steps": 3}),
    "fmn, no box": (attacks.fmn, {"steps": 3, "box": None}),
    "shrinking_ball": (attacks.shrinking_ball, {"eps": 1.0, "steps": 3}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_stays_on_the_device(name, monkeypatch, request):
    """Whole, but for the looks at values before and after, which fake tensors do not have."""
    net = nets.lenet(0)
    model = moved(net, request.getfixturevalue("fake"))
    for check in ("check_input", "_check"):
        monkeypatch.setattr(search, check, lambda *given: None)
    monkeypatch.setattr(search, "measured", lambda model, x, **options: nullcontext((model, x)))
    monkeypatch.setattr(search.Seen, "warn", lambda *given: None)
    monkeypatch.setattr(search.seeds, "generator", lambda *given: None)
    attack, options = ATTACKS[name]
    with flips_forgotten():
        found = attack(model, on_gpu(4, *SHAPE), on_gpu(4, dtype=torch.int64), **options)
    assert {t.device.type for t in (found.images, found.found, found.stuck)} == {"cuda"}


ADVERSARIES = {
    "last": {},
    "worst": {"keep": "worst", "norm": "linf"},
    "flipped box": {"box": boxes.Flipped(), "projection": "dykstra"},
    "subspace": {"subspace": SPACES["window"](), "box": None},
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_adversary_stays_on_the_device(name, request):
    net, watch = nets.lenet(0), (SPACES["window"](), SPACES["span"]())
    net = moved(net, request.getfixturevalue("fake"))

    class Moved(nn.Module):
        def forward(self, x):
            return net(x)

    foe, x = adversary.Adversary(eps=1.0, steps=2, **ADVERSARIES[name]), on_gpu(4, *SHAPE)
    with flips_forgotten():
        images = foe.perturb(Moved(), x, on_gpu(4, dtype=torch.int64), None)
    assert images.device.type == "cuda"
    moves = perturbations.Perturbations(watch)
    moves.add(images - x, on_gpu(4, dtype=torch.bool))
    with pytest.raises(DataDependentOutputException):  # all is on one device, and has no values to read
        moves.numbers()


@pytest.mark.parametrize("angles", [(0.0, 0.0), (0.3, -0.2)])
def test_every_wedge_stays_on_the_device_and_does_not_wait(angles, request):
    w = wedges.wedge(9, angles)
    assert stops(lambda: (w(torch.ones(3, 9)), w.contains(torch.ones(3, 9)))) == 0
    request.getfixturevalue("fake")
    try:
        for answer in (w, w.contains, w.sheets):
            assert answer(on_gpu(4, 9)).device.type == "cuda"
    finally:
        wedges._turns.cache_clear()  # fake cosines are not remembered for the tests that come


@pytest.mark.parametrize(
    "loss", [pair_losses._LogisticPairs.forward, pair_losses.squared_pairs, pair_losses.balanced_squares]
)
def test_every_pair_loss_stays_on_the_device(loss, fake):
    context = [SimpleNamespace(save_for_backward=lambda *kept: None)] * (loss.__name__ == "forward")
    assert loss(*context, on_gpu(5), on_gpu(7)).device.type == "cuda"


def test_a_tensor_on_the_wrong_device_is_met(fake):
    """The test of the tests: what they look for does fail under fake tensors."""
    with pytest.raises(Exception, match="device"):
        on_gpu(3) + torch.ones(3)


def test_cudnn_is_left_on_inside_a_training():
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
            return x

    net = nn.Sequential(Looks(), nn.Flatten(), nn.Linear(4, 2))
    training.fit(net, torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]), training.Recipe(epochs=1))
    assert {enabled for enabled, _ in seen} == {True}
    assert seen[-1] == (True, False)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_is_in_the_precision_of_its_recipe(precision):
    seen = set()

    class Looks(nn.Module):
        def forward(self, x):
            if self.training:
                seen.add(str(x.dtype).removeprefix("torch."))
            return x

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), Looks())
    training.fit(
        net, torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]), training.Recipe(precision=precision)
    )
    assert seen == {precision}
    assert net[1].weight.dtype == torch.float32
