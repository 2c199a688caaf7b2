"""The guard around a network: what it answers, what it refuses, and that nothing of it has changed afterwards."""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tests import inputs_table
from tests.oracles.margins import affine_margins
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from tightrope import attacks, margins, nets, training
from tightrope.models import measured, outputs

SHAPE = (1, 6, 6)


# --- networks that write, keep, draw and view -------------------------------------------------------------


class InPlace(nn.Module):
    """Normalises its input in place."""

    def forward(self, z: Tensor) -> Tensor:
        return z.sub_(0.3).div_(0.7)


class Counts(nn.Module):
    """Counts its passes: one buffer in place, one replaced, one tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.plain = torch.zeros(2)

    def forward(self, z: Tensor) -> Tensor:
        self.passes += 1
        self.replaced = self.replaced + 1
        self.plain.add_(1)
        return z


class Clamps(nn.Linear):
    """Bounds its own weights before it uses them."""

    def forward(self, z: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(z)


class Views(nn.Conv2d):
    """Reads its weights through a view, which another order of them would not allow."""

    def forward(self, z: Tensor) -> Tensor:
        return conv2d(z, self.weight.view(-1).view(self.weight.shape), self.bias)


class Starts(nn.Module):
    """Sets itself up by the first batch that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.ready = nn.Parameter(torch.zeros(SHAPE)), False

    def forward(self, z: Tensor) -> Tensor:
        if not self.ready:
            self.shift.data.copy_(z.detach().mean(0))
            self.ready = True
        return z - self.shift


class Draws(nn.Module):
    """Draws random numbers, and makes nothing of them."""

    def forward(self, z: Tensor) -> Tensor:
        return z + 0 * torch.rand_like(z)


def head(inputs: int = 36) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(inputs, 3)]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "affine": lambda: nn.Sequential(*head()),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), *head(32)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), *head()),
    "in place": lambda: nn.Sequential(InPlace(), nn.ReLU(inplace=True), *head()),
    "counts": lambda: nn.Sequential(Counts(), *head()),
    "clamps": lambda: nn.Sequential(nn.Flatten(), Clamps(36, 3)),
    "views": lambda: nn.Sequential(nn.Conv2d(1, 2, 1), Views(2, 2, 3), *head(32)),
    "starts": lambda: nn.Sequential(Starts(), *head()),
    "spectral norm": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(36, 3))
    ),
    "draws": lambda: nn.Sequential(Draws(), *head()),
}


class Wrapper:
    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, z: Tensor) -> Tensor:
        return self.net(z)


def kept_in_a_list(net: nn.Module) -> Callable[[Tensor], Tensor]:
    nets_ = [net]
    return lambda z: nets_[0](z)


WRAPPERS: dict[str, Callable[[nn.Module], Callable[[Tensor], Tensor]]] = {
    "none": lambda net: net,
    "lambda": lambda net: lambda z: 100 * net(z),
    "partial": lambda net: partial(lambda inner, z: inner(z), net),
    "object": Wrapper,
    "method": lambda net: net.forward,
    "list": kept_in_a_list,
    "sequential": lambda net: nn.Sequential(net, nn.Identity()),
}


def with_gradients(net: nn.Module) -> None:
    net(torch.rand(4, *SHAPE)).sum().backward()


def partly_frozen(net: nn.Module) -> None:
    next(net.parameters()).requires_grad_(False)
    net.eval()
    next(reversed(list(net.modules()))).train()


def hooked(net: nn.Module) -> None:
    net.eval()
    net.register_forward_hook(lambda module, given, out: None)
    net[-1].register_full_backward_hook(lambda module, into, out: None)


STATES: dict[str, Callable[[nn.Module], object]] = {
    "train": nn.Module.train,
    "eval": nn.Module.eval,
    "gradients": with_gradients,
    "partly frozen": partly_frozen,
    "hooked, channels last": lambda net: (hooked(net), net.to(memory_format=torch.channels_last)),
}

COMBINATIONS = list(itertools.product(NETWORKS, WRAPPERS, STATES))


def bits(tensor: Tensor | None) -> object:
    if tensor is None:
        return None
    values = tensor.detach().contiguous().view(-1).numpy().tobytes()
    return id(tensor), tensor.data_ptr(), tensor.stride(), tensor.dtype, tensor.requires_grad, values


def state(net: nn.Module) -> list[object]:
    """All that a measurement must leave as it is."""
    seen: list[object] = [torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled()]
    for module in net.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                seen.append((name, bits(value)))
            elif isinstance(value, bool):
                seen.append((name, value))
            elif "hooks" in name:
                seen.append((name, None if value is None else list(map(id, value.values()))))
        seen += [(name, bits(p), bits(p.grad)) for name, p in module._parameters.items() if p is not None]
        seen += [(name, bits(b)) for name, b in module._buffers.items()]
    return seen


@contextlib.contextmanager
def interrupted(after: int):
    """KeyboardInterrupt in the pass through a linear layer that has this number."""
    passes = itertools.count(1)

    def strike(module: nn.Module, given: object) -> None:
        if isinstance(module, nn.Linear) and next(passes) == after:
            raise KeyboardInterrupt

    handle = nn.modules.module.register_module_forward_pre_hook(strike)
    try:
        yield
    finally:
        handle.remove()


def test_there_are_more_than_two_hundred_combinations():
    assert len(COMBINATIONS) >= 200


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_left_bit_for_bit_as_it_was(name):
    x, y = torch.rand(5, *SHAPE), torch.tensor([0, 1, 2, 0, 1])
    kept = x.clone()
    calls = {
        "deepfool": lambda model: margins.deepfool(model, x, max_steps=2),
        "pgd": lambda model: attacks.pgd(model, x, y, eps=0.1, steps=2),
        "square": lambda model: attacks.square(model, x, y, eps=0.1, queries=2),
        "accuracy": lambda model: training.accuracy(model, x, y),
    }
    turns = itertools.cycle(calls)
    interrupts = itertools.cycle(range(1, 7))
    for wrapper, prepared in itertools.product(WRAPPERS, STATES):
        net = NETWORKS[name]()
        STATES[prepared](net)
        model = WRAPPERS[wrapper](net)
        before = state(net)
        call = next(turns)
        with contextlib.suppress(ValueError):  # a sentence is an answer too
            calls[call](model)
        assert state(net) == before, (wrapper, prepared, call)
        call, when = next(turns), next(interrupts)
        with interrupted(when), contextlib.suppress(ValueError, KeyboardInterrupt):
            calls[call](model)
        assert state(net) == before, (wrapper, prepared, call, when)
        assert torch.equal(x, kept)


def test_an_interrupt_reaches_the_caller():
    with interrupted(3), pytest.raises(KeyboardInterrupt):
        margins.deepfool(NETWORKS["affine"](), torch.rand(5, *SHAPE))


def test_one_network_measured_by_four_threads_and_within_a_measurement():
    net = NETWORKS["batch norm"]()
    net(torch.rand(20, *SHAPE))
    x = torch.rand(6, *SHAPE)
    alone = margins.deepfool(copy.deepcopy(net), x).norm
    before, found, gate = state(net), [], threading.Barrier(4)

    def work(k: int) -> None:
        gate.wait()
        found.extend(margins.deepfool(net, x).norm for _ in range(3))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    with measured.measured(net, x):
        margins.deepfool(net, x)
        assert not net.training
        assert not net[0].weight.requires_grad
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    for norm in found:
        torch.testing.assert_close(norm, alone)
    assert state(net) == before


# --- right --------------------------------------------------------------------------------------------------


@pytest.fixture
def affine() -> SimpleNamespace:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x = torch.rand(5, *SHAPE)
    truth = affine_margins(net[1].weight.detach(), net[1].bias.detach(), x)
    return SimpleNamespace(net=net, x=x, truth=truth, weight=net[1].weight, bias=net[1].bias)


def fixed(net: nn.Module, size: int) -> Callable[[Tensor], Tensor]:
    def forward(z: Tensor) -> Tensor:
        return net(z.view(size, *SHAPE))

    return forward


class ModelOutput(dict):
    """As in transformers: a dict with attributes."""

    logits = property(lambda self: self["logits"])


RIGHT: dict[str, Callable[[SimpleNamespace], Callable[[Tensor], object]]] = {
    "a tuple": lambda at: lambda z: (at.net(z), z.mean()),
    "a list": lambda at: lambda z: [at.net(z)],
    "an object with logits": lambda at: lambda z: SimpleNamespace(logits=at.net(z), loss=None),
    "a dict with logits": lambda at: lambda z: {"logits": at.net(z)},
    "a model output": lambda at: lambda z: ModelOutput(logits=at.net(z)),
    "wider logits": lambda at: lambda z: at.net(z).double(),
    "functional": lambda at: lambda z: linear(z.flatten(1), at.weight, at.bias),
    "writes on its input": lambda at: lambda z: at.net(z.mul_(2).div_(2)),
    "writes without gradients": lambda at: lambda z: at.net(z if z.requires_grad else z.add_(0)),
    "one batch size: all": lambda at: fixed(at.net, 5),
    "one batch size: four": lambda at: fixed(at.net, 4),
    "one batch size: one": lambda at: fixed(at.net, 1),
    "dropout in eval mode": lambda at: nn.Sequential(nn.Dropout(), at.net),
    "log-probabilities": lambda at: lambda z: at.net(z).log_softmax(1),
    "scores that sum to one": lambda at: lambda z: at.net(z) + (1 - at.net(z).sum(1, keepdim=True)) / 3,
}


@pytest.mark.parametrize("kind", RIGHT)
def test_margins_are_exact_whatever_the_network_returns_or_does(kind, affine):
    model = RIGHT[kind](affine)
    found = margins.deepfool(model, affine.x)
    torch.testing.assert_close(found.norm[:, 0].double(), affine.truth, rtol=1e-5, atol=1e-7)
    labels = affine.net(affine.x).argmax(1)
    assert training.accuracy(model, affine.x, labels) == 1
    plain = attacks.pgd(affine.net, affine.x, labels, eps=0.2, steps=5, loss="margin")
    attack = attacks.pgd(model, affine.x, labels, eps=0.2, steps=5, loss="margin")
    assert torch.equal(attack.found, plain.found)
    torch.testing.assert_close(attack.images, plain.images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", outputs.HALVES)
def test_half_networks_are_measured_on_a_float32_copy_and_it_is_said(dtype, affine):
    net = affine.net.to(dtype)
    truth = affine_margins(net[1].weight.detach(), net[1].bias.detach(), affine.x.to(dtype))
    for x in (affine.x.to(dtype), affine.x.to(dtype).float()):
        with pytest.warns(UserWarning, match="float32 copy") as said:
            found = margins.deepfool(net, x)
        assert said[0].filename == __file__
        with pytest.warns(UserWarning, match="float32 copy") as said:
            attacks.pgd(net, x, found.origin, eps=0.1, steps=1)
        assert said[0].filename == __file__
        torch.testing.assert_close(found.norm[:, 0].double(), truth, rtol=1e-5, atol=1e-7)
    assert net[1].weight.dtype == dtype


def test_the_callers_modes_change_no_margin(affine):
    exact = lambda m: torch.testing.assert_close(m.norm[:, 0].double(), affine.truth, rtol=1e-5, atol=1e-7)
    other = copy.deepcopy(affine.net)
    with torch.inference_mode():
        x = affine.x + 0
        exact(margins.deepfool(affine.net, x))
        exact(margins.deepfool(copy.deepcopy(affine.net), affine.x))
        labels = affine.net(affine.x).argmax(1)
        inside = attacks.pgd(affine.net, affine.x, labels, eps=0.1, steps=2)
        training.fit(other, x, labels, training.Recipe(epochs=1))
        with pytest.raises(ValueError, match="inference_mode"):
            training.fit(copy.deepcopy(affine.net), x, labels, training.Recipe(epochs=1))
    exact(margins.deepfool(affine.net, x))
    assert torch.equal(attacks.pgd(affine.net, affine.x, labels, eps=0.1, steps=2).images, inside.images)
    with torch.no_grad():
        exact(margins.deepfool(affine.net, affine.x))
    exact(margins.deepfool(affine.net, affine.x.clone().requires_grad_()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact(margins.deepfool(affine.net, affine.x))
    with torch.device("meta"):
        exact(margins.deepfool(affine.net, affine.x))
        attacks.ddn(affine.net, affine.x, affine.net(affine.x).argmax(1), steps=3)
    torch.set_default_dtype(torch.float64)
    try:
        exact(margins.deepfool(affine.net, affine.x))
        assert attacks.ddn(affine.net, affine.x, torch.zeros(5).long(), steps=3).images.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_are_laid_out_anew_only_where_nothing_changes():
    x = torch.rand(4, 2, 9, 9)
    orders = []

    class Looks(nn.Conv2d):
        def forward(self, z: Tensor) -> Tensor:
            orders.append(self.weight.stride())
            return super().forward(z)

    class Other(Looks):
        """Another function of its weights in another order: it reads them as they lie in memory."""

        def forward(self, z: Tensor) -> Tensor:
            orders.append(self.weight.stride())
            return conv2d(z, self.weight.as_strided(self.weight.shape, (18, 9, 3, 1)), self.bias)

    for layer, faster in ((Looks(2, 2, 3), True), (Other(2, 2, 3), False)):
        net = nn.Sequential(layer, nn.Flatten(), nn.Linear(98, 3))
        with measured.measured(net, x) as (inside, _):
            orders.clear()
            values = inside(x)
            assert (orders[-1] != (18, 9, 3, 1)) == faster
        torch.testing.assert_close(values, net(x))


def test_a_network_that_views_its_weights_is_measured_in_their_own_order():
    net = nn.Sequential(Views(2, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(98, 3))
    same = nn.Sequential(nn.Conv2d(2, 2, 3), *net[1:])
    same[0].load_state_dict(net[0].state_dict())
    x, y = torch.rand(5, 2, 9, 9), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(margins.deepfool(net, x).norm, margins.deepfool(same, x).norm)
    square = [attacks.square(model, x, y, eps=0.1, queries=5).images for model in (net, same)]
    torch.testing.assert_close(*square)
    assert training.accuracy(net, x, y) == training.accuracy(same, x, y)


def test_a_row_alone_is_the_row_in_a_batch_of_one_size(affine):
    with measured.measured(fixed(affine.net, 4), affine.x) as (net, x):
        assert torch.equal(net(x[:1]), net(x)[:1])
        assert net(torch.cat([x, x])).shape == (10, 3)
        at = x.clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(net(at)[:, 0].sum(), at)
        torch.testing.assert_close(slope.flatten(1), affine.weight[0].expand(5, -1).detach())


def test_accuracy_is_that_of_eval_mode_and_moves_no_average():
    net = NETWORKS["batch norm"]()
    x = torch.rand(40, *SHAPE)
    net(x)
    labels = copy.deepcopy(net).eval()(x).argmax(1)
    before = state(net)
    assert training.accuracy(net, x, labels) == 1
    assert training.accuracy(net, x, (labels + 1) % 3) == 0
    assert state(net) == before


def test_activations_are_looked_at_in_train_mode_and_move_no_average():
    net = NETWORKS["batch norm"]()
    x = torch.rand(9, *SHAPE)
    before = state(net)
    assert nets.activations(net, x, "2").shape == (9, 32)
    assert state(net) == before


def test_training_reads_logits_where_they_are(affine):
    class Answers(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: Tensor) -> object:
            return SimpleNamespace(logits=self.net(z))

    plain, recipe = copy.deepcopy(affine.net), training.Recipe(lr=0.1, batch=2, epochs=2)
    y = torch.tensor([0, 1, 2, 0, 1])
    training.fit(plain, affine.x, y, recipe)
    training.fit(Answers(affine.net), affine.x, y, recipe, 0, affine.x, y)
    assert torch.equal(plain[1].weight, affine.net[1].weight)


# --- or one sentence ------------------------------------------------------------------------------------------


def quantised() -> nn.Module:
    class Eight(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return (255 * z).byte().float() / 255

    return nn.Sequential(Eight(), *head())


def half_inside(net: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda z: net(z.bfloat16()).float()


SENTENCES: dict[str, tuple[str, Callable[[], object]]] = {
    "batch norm in train mode": ("call net.eval", lambda: WRAPPERS["lambda"](NETWORKS["batch norm"]())),
    "dropout in train mode": ("Dropout inside", lambda: WRAPPERS["object"](NETWORKS["dropout"]())),
    "batch statistics": (
        "without running statistics",
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), *head(32)),
    ),
    "randomness": ("draws random", lambda: lambda z: torch.randn(len(z), 3) + 0 * z.sum()),
    "neighbours": ("whole batch", lambda: lambda z: (z - z.mean(0)).flatten(1)),
    "one logit": ("nets.TwoLogits()", lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 1))),
    "one dimension": ("nets.TwoLogits()", lambda: lambda z: z.flatten(1).sum(1)),
    "labels": ("look like labels|looks like labels", lambda: lambda z: z.flatten(1).argmax(1)),
    "whole numbers": ("real logits", lambda: lambda z: z.flatten(1).long()),
    "a map of logits": ("L >= 2", lambda: nn.Conv2d(1, 3, 3)),
    "a text": ("wrap it", lambda: lambda z: "cat"),
    "bfloat16 inside": ("too coarse", lambda: lambda z: z.flatten(1).bfloat16()),
    "half weights inside": ("half weights", lambda: half_inside(nn.Sequential(*head()).bfloat16())),
    "NaN": ("NaN", lambda: lambda z: z.flatten(1) * torch.nan),
    "endless": ("infinite", lambda: lambda z: z.flatten(1) / 0),
    "another device": ("on meta", lambda: lambda z: z.flatten(1).to("meta")),
    "weights missing": ("lazy layers", lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))),
}
GRADIENTS: dict[str, tuple[str, Callable[[], object]]] = {
    "probabilities": ("logits that go into", lambda: nn.Sequential(*head(), nn.Softmax(1))),
    "detached": ("no gradient", lambda: lambda z: z.flatten(1).detach()),
    "detached, but for the weights": ("no gradient", quantised),
}


@pytest.mark.parametrize("kind", [*SENTENCES, *GRADIENTS])
def test_what_cannot_be_measured_stops_with_one_sentence(kind):
    says, make = (SENTENCES | GRADIENTS)[kind]
    x, y = torch.rand(5, *SHAPE), torch.zeros(5, dtype=torch.int64)
    calls = [
        lambda model: margins.deepfool(model, x),
        lambda model: attacks.pgd(model, x, y, eps=0.1),
        lambda model: attacks.ddn(model, x, y),
        lambda model: attacks.carlini_wagner(model, x, y),
    ]
    if kind not in GRADIENTS:
        calls.append(lambda model: attacks.square(model, x, y, eps=0.1))
        if kind not in ("bfloat16 inside", "half weights inside"):  # accuracy takes any precision
            calls.append(lambda model: training.accuracy(model, x, y))
    for call in calls:
        with pytest.raises(ValueError, match=says.replace("(", r"\(").replace(")", r"\)")) as said:
            call(make())
        assert str(said.value).endswith(".")
        assert "\n" not in str(said.value)


INPUTS: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "bytes": ("divide by 255", lambda: torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)),
    "bytes as floats": ("divide by 255", lambda: torch.randint(0, 256, (5, 1, 28, 28)).float()),
    "channels behind": ("permute", lambda: torch.rand(5, 28, 28, 1)),
    "one image": ("x[None]", lambda: torch.rand(1, 28, 28)),
    "one row": ("x[None]", lambda: torch.rand(784)),
    "another size": ("does not take inputs (N, 1, 32, 32)", lambda: torch.rand(5, 1, 32, 32)),
    "another precision": ("move one", lambda: torch.rand(5, 1, 28, 28, dtype=torch.float64)),
    "an array": ("as a tensor, not ndarray", lambda: torch.rand(5, 1, 28, 28).numpy()),
    "NaN": ("NaN", lambda: torch.full((5, 1, 28, 28), torch.nan)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_that_a_network_does_not_take_name_their_cure(kind):
    says, make = INPUTS[kind]
    with pytest.raises(ValueError, match=re.escape(says)):
        margins.deepfool(nets.lenet(0), make())


def test_the_table_of_inputs_and_functions_holds_nothing_but_right_and_sentences():
    wrong = {
        (name, function): said
        for name, row in inputs_table.table().items()
        for function, said in row.items()
        if said.startswith("!")
    }
    assert not wrong


def test_one_row_at_a_time_is_a_function_of_its_row(affine):
    centred = lambda z: affine.net(z - z.mean(0) + (z[0] if len(z) == 1 else 0))
    with pytest.raises(ValueError, match="chunk=1"):
        margins.deepfool(centred, affine.x)
    found = margins.deepfool(centred, affine.x, chunk=1)
    torch.testing.assert_close(found.norm[:, 0].double(), affine.truth, rtol=1e-5, atol=1e-7)


def wave(by: float):
    """Two logits w·x and −w·x, and `by` more in a batch than alone."""
    w = torch.linspace(-1, 1, 20)
    return lambda x: torch.stack([x @ w, -(x @ w)], 1) + by * (len(x) > 1)


@pytest.mark.parametrize("of", ["logits", "gradients"])
def test_rounding_on_a_boundary_is_no_dependence_on_the_batch(of):
    """Where both logits of two classes are next to zero, what is rounded is larger than they are."""
    x = torch.ones(5, 20) + 1e-7 * torch.arange(5)[:, None]
    with measured.measured(wave(1e-6), x, of=of) as (net, _):
        assert net(x).abs().max() < 1e-4
    with pytest.raises(ValueError, match="no function of its row"), measured.measured(wave(0.1), x, of=of):
        pass


def test_a_nan_beyond_the_first_rows_is_met_too(affine):
    def model(z: Tensor) -> Tensor:
        return affine.net(z) + torch.where(z.flatten(1)[:, :1] > 5, torch.nan, 0)

    x = torch.cat([affine.x] * 8)
    x[33] = 6
    y = torch.zeros(40, dtype=torch.int64)
    for call in (
        lambda: training.accuracy(model, x, y),
        lambda: attacks.square(model, x, y, eps=0.1, box=None, chunk=7),
        lambda: attacks.pgd(model, x, y, eps=0.1, box=None, chunk=7),
        lambda: margins.deepfool(model, x),
    ):
        with pytest.raises(ValueError, match="NaN"):
            call()
