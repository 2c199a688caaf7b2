"""Chapter 1: margins against the published loop, and against attack libraries."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from types import ModuleType
from unittest.mock import patch

import torch
from tests.bench.harness import Report, take_turns
from tests.oracles.margins import subspace_deepfool
from torch import Tensor, nn

from tightrope import attacks, data, margins, nets, spectra, training
from tightrope.book import networks
from tightrope.boundary import search
from tightrope.inputs._torchvision import torchvision
from tightrope.models import measured


@dataclass
class Pass:
    """One forward pass of `rows` inputs, with a graph or without, and the backward passes made through it."""

    rows: int
    graph: bool
    backward: int = 0


@contextmanager
def passes(net: nn.Module):
    """Every pass through `net` in the block, in order."""
    seen: list[Pass] = []

    def forward(module, inputs, out):
        one = Pass(len(out), out.requires_grad)
        seen.append(one)
        if out.requires_grad:
            out.register_hook(lambda grad: setattr(one, "backward", one.backward + 1))

    handle = net.register_forward_hook(forward)
    try:
        yield seen
    finally:
        handle.remove()


def bare(net: nn.Module, seen: list[Pass], x: Tensor) -> None:
    """The same passes through the network alone, at the same batch sizes: nothing can take less."""
    with measured.measured(net, x), torch.enable_grad():
        for one in seen:
            at = x[torch.arange(one.rows) % len(x)].requires_grad_(one.graph)
            with torch.set_grad_enabled(one.graph):
                out = net(at)
            for k in range(one.backward):
                torch.autograd.grad(out[:, k % out.shape[1]].sum(), at, retain_graph=k + 1 < one.backward)


@cache
def lenet() -> nn.Module:
    """A LeNet by the published recipe, a fifth of its epochs."""
    x, y = data.load("mnist", "train")
    net, _ = networks.trained(nets.lenet, x, y, replace(training.HMT, epochs=6), warn=print)
    return net.requires_grad_(False)


@cache
def digits(n: int) -> Tensor:
    return data.load("mnist", "test", n=n, seed=0)[0]


def subspace_margins() -> Report:
    """Against the published loop, and against the passes through the network that the algorithm needs."""
    net, x, rounds = lenet(), digits(72), 6
    spaces = spectra.dct_windows((1, 28, 28), size=8, step=1)
    bases = [s.basis(dtype=torch.float32).flatten(1).T for s in spaces]
    parts = x.chunk(rounds)  # the loop does a part of the digits in each round, ours do all of them in all

    def loop(k: int) -> Tensor:
        rows = [[subspace_deepfool(net, image[None], q)[0].norm() for q in bases] for image in parts[k]]
        return torch.tensor(rows)

    with (
        measured.measured(net, x),
        torch.enable_grad(),
    ):  # the loop gets the weights laid out as our own calls have them
        with passes(net) as ours:
            margins.deepfool(net, x, spaces, refine=False)
        with passes(net) as theirs:
            loop(0)
        seconds, results = take_turns(
            {
                "loop": loop,
                "raw": lambda k: margins.deepfool(net, x, spaces, refine=False).raw,
                "bare": lambda k: bare(net, ours, x),
                "refined": lambda k: margins.deepfool(net, x, spaces).norm,
                "tight": lambda k: margins.deepfool(net, x, spaces, tight=20).norm,
            },
            rounds,
        )
    seconds["loop"] *= rounds
    looped, (raw, *_) = torch.cat(results["loop"]), results["raw"]
    apart = (raw / looped - 1).abs()  # a gradient at a tie is not unique: two right kernels part there

    def row(label: str, name: str, values: Tensor | None, seen: list[Pass] | None, images: int) -> None:
        gradients = (
            "" if seen is None else f"{sum(p.rows * p.backward for p in seen) / images / len(spaces):.1f}"
        )
        each, times = 1e3 * seconds[name] / len(x) / len(spaces), seconds["loop"] / seconds[name]
        median = "" if values is None else f"{values.median():.3f}"
        report.rows.append((label, f"{each:.2f}", f"{times:.1f}", gradients, median))

    report = Report(
        f"Subspace DeepFool, LeNet, {len(x)} digits × {len(spaces)} windows of 8×8",
        ("method", "CPU ms a margin", "times the loop's speed", "gradients a margin", "median ℓ2"),
    )
    row("published loop", "loop", looped, theirs, len(parts[0]))
    row("`margins.deepfool`, raw", "raw", raw, ours, len(x))
    row("the same passes, bare network", "bare", None, ours, len(x))
    row("`margins.deepfool`, refined", "refined", results["refined"][0], None, len(x))
    row("`margins.deepfool`, `tight=20`", "tight", results["tight"][0], None, len(x))
    report.bounds += [
        ("CPU time of the loop over ours, raw", seconds["loop"] / seconds["raw"], "≥", 11),
        ("share of the network's own time in ours, raw", seconds["bare"] / seconds["raw"], "≥", 1.0),
        (
            "share of margins that part from the loop's by more than 1e-4",
            (apart > 1e-4).float().mean().item(),
            "≤",
            0.03,
        ),
    ]
    return report


def full_space_margins() -> Report:
    """Against attack libraries. All get the network with its weights laid out as our own calls have them."""
    net, x = lenet(), digits(256)
    with torch.no_grad():
        own = net(x).argmax(1)
    foolbox, libraries = _foolbox(net), adv_lib()
    ours = {
        "DeepFool | ours, raw": lambda k: margins.deepfool(net, x, refine=False, keep=True).delta,
        "DeepFool | ours, refined": lambda k: margins.deepfool(net, x, keep=True).delta[:, 0],
        "DeepFool + 20 steps | ours, `tight=20`": lambda k: margins.deepfool(
            net, x, tight=20, keep=True
        ).delta[:, 0],
    }
    others = {
        "DeepFool | foolbox": lambda k: foolbox("L2DeepFoolAttack", x, own, steps=100),
        "DeepFool | adv-lib": lambda k: libraries["deepfool"].df(net, x, own) - x,
        "DDN, 100 steps | foolbox": lambda k: foolbox("DDNAttack", x, own, steps=100),
        "DDN, 100 steps | adv-lib": lambda k: (
            libraries["decoupled_direction_norm"].ddn(net, x, own, steps=100) - x
        ),
        "SuperDeepFool | adv-lib": lambda k: libraries["superdeepfool"].sdf(net, x, own) - x,
        "DDN, 100 steps | plain loop, no box": lambda k: unboxed_ddn(net, x, own, steps=100),
    }
    with measured.measured(net, x), torch.enable_grad():
        seconds, results = take_turns(ours | others, rounds=3)
    report = Report(
        f"Full space, LeNet, {len(x)} digits",
        ("method", "by", "box [0, 1]", "success", "median ℓ2", "CPU s"),
    )
    medians = {}
    for name, (delta, *_) in results.items():
        delta = delta.reshape(x.shape)
        with torch.no_grad():
            # A refined margin ends on the boundary itself: a thousandth further it has to be past it.
            past = net(x + 1.001 * delta).argmax(1) != own
        length = torch.where(past, delta.flatten(1).norm(dim=1), math.inf)
        medians[name] = length.median().item()
        boxed = "no" if name in ours or "no box" in name else "yes"
        success = f"{past.double().mean():.2f}"
        report.rows.append(
            (*name.split(" | "), boxed, success, f"{medians[name]:.3f}", f"{seconds[name]:.2f}")
        )
    tight = "DeepFool + 20 steps | ours, `tight=20`"
    best = min(("DDN, 100 steps | adv-lib", "SuperDeepFool | adv-lib"), key=medians.get)
    unboxed = "DDN, 100 steps | plain loop, no box"
    report.bounds += [
        (
            f"median of tight margins, against the best of adv-lib ({best.split(' |')[0]})",
            medians[tight],
            "≤",
            medians[best],
        ),
        ("its CPU seconds, against that one's", seconds[tight], "≤", seconds[best]),
        ("its median, against DDN's without a box, within 3 %", medians[tight], "≤", 1.03 * medians[unboxed]),
        ("its CPU seconds, against that one's", seconds[tight], "≤", seconds[unboxed]),
    ]
    return report


def checks() -> Report:
    """What it costs that a network is looked at before it is measured, and gets copies of its inputs."""
    net, x = lenet(), digits(256)
    y = net(x).argmax(1)
    ways = {
        "`margins.deepfool`, full space": lambda k: margins.deepfool(net, x),
        "`attacks.pgd`, 40 steps": lambda k: attacks.pgd(net, x, y, eps=1.0),
    }
    report = Report(
        f"The checks, LeNet, {len(x)} digits",
        ("method", "CPU s", "over the same without checks, median of seven"),
    )
    unchecked = lambda model, x, **options: nullcontext((model, x))
    for name, call in ways.items():

        def without(k: int, call: Callable[[int], object] = call) -> object:
            with measured.measured(net, x), ExitStack() as stack:
                for module in (margins, search):
                    stack.enter_context(patch.object(module, "measured", unchecked))
                return call(k)

        turns = [take_turns({"with": call, "without": without}, rounds=1)[0] for _ in range(7)]
        ratio = median(turn["with"] / turn["without"] for turn in turns)
        report.rows.append((name, f"{median(turn['with'] for turn in turns):.2f}", f"{ratio:.3f}"))
        report.bounds.append((f"{name}: what the checks cost", ratio, "≤", 1.05))
    return report


def unboxed_ddn(net: nn.Module, x: Tensor, own: Tensor, steps: int, radius: float = 1.0) -> Tensor:
    """Rony et al.'s attack as published, but for the box and the quantisation: our margins have neither."""
    delta, radius = torch.zeros_like(x), torch.full((len(x),), radius)
    best, shortest = torch.zeros_like(x), torch.full((len(x),), math.inf)
    for step in range(steps):
        at = (x + delta).requires_grad_()
        logits = net(at)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, own, reduction="sum"), at)
        over, length = logits.argmax(1) != own, delta.flatten(1).norm(dim=1)
        better = over & (length < shortest)
        best[better], shortest[better] = delta[better], length[better]
        stride = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = delta + stride * nn.functional.normalize(gradient.flatten(1)).view_as(x)
        radius = torch.where(over, 0.95 * radius, 1.05 * radius)
        delta = nn.functional.normalize(delta.flatten(1)).view_as(x) * radius.view(-1, 1, 1, 1)
    return best


def _foolbox(net: nn.Module) -> Callable[..., Tensor]:
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")

    def attack(name: str, x: Tensor, own: Tensor, **options) -> Tensor:
        return getattr(foolbox.attacks, name)(**options)(model, x, own, epsilons=None)[0] - x

    return attack


def adv_lib() -> dict[str, ModuleType]:
    """adv-lib's attack modules. It imports torchvision, and a plotting server's client that nothing here uses."""
    torchvision()
    if "visdom" not in sys.modules:
        sys.modules["visdom"] = ModuleType("visdom")
        sys.modules["visdom"].Visdom = object
    names = ("deepfool", "decoupled_direction_norm", "superdeepfool", "fast_minimum_norm", "auto_pgd")
    try:
        return {name: importlib.import_module(f"adv_lib.attacks.{name}") for name in names}
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error}: `make bench` installs it (pip install --no-deps adv-lib==0.2.8)."
        ) from None
