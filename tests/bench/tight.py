"""The race for tight margins against walks of other libraries, all without a box, on rows that chose nothing in it.

Lengths are compared row by row with the best known one: the shortest of everything in the table and of long races.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from tests.bench.harness import Report, take_turns
from tests.bench.margins import adv_lib, lenet, unboxed_ddn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tightrope import data, margins, nets, progress, spectra, training
from tightrope.book import networks
from tightrope.models import measured

LONG = ({"tight": 400, "starts": 9}, {"tight": 250, "starts": 5}, {"tight": 120, "starts": 4})


def hardened(epochs: int = 3, eps: float = 1.5) -> nn.Module:
    """A LeNet trained on what three steps of gradient ascent inside an ℓ2 ball make of its images."""
    x, y = data.load("mnist", "train", n=20_000, seed=0)
    net, draws, batch = nets.lenet(seed=1), torch.Generator().manual_seed(0), 128
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    length = lambda d: d.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1).clamp_min(1e-12)
    total = epochs * math.ceil(len(x) / batch)
    done = 0
    for _ in progress.track(range(epochs), "epoch"):
        for rows in torch.randperm(len(x), generator=draws).split(batch):
            part = min(1, 3 * done / total)
            optimizer.param_groups[0]["lr"] = 0.1 * min(3 * done / total, 1.5 * (1 - done / total))
            delta = 0.5 * normalize(torch.randn(x[rows].shape, generator=draws).flatten(1)).reshape_as(
                x[rows]
            )
            for _ in range(3):
                at = (x[rows] + delta).requires_grad_()
                (ascent,) = torch.autograd.grad(cross_entropy(net(at), y[rows], reduction="sum"), at)
                delta = delta + 0.7 * part * eps * ascent / length(ascent)
                delta = delta * (part * eps / length(delta)).clamp_max(1)
            optimizer.zero_grad()
            cross_entropy(net(x[rows] + delta), y[rows]).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            done += 1
    return net.requires_grad_(False).eval()


def resnet() -> nn.Module:
    """A narrow residual network on CIFAR-10, two epochs."""
    x, y = data.load("cifar10", "train")
    recipe = replace(training.HMT, epochs=2)
    build = partial(nets.resnet9, width=8)
    return networks.trained(build, x, y, recipe, warn=print)[0].requires_grad_(False)


def tight_margins() -> list[Report]:
    """Three networks, full space; the last where CIFAR-10 is at hand."""
    digits, _ = data.load("mnist", "test")
    reports = [
        against("LeNet", lenet(), digits[-256:]),
        against("LeNet, adversarially trained", hardened(), digits[-256:]),
    ]
    try:
        photos, _ = data.load("cifar10", "test")
    except data.DataMissing as error:
        print(f"No residual network: {error}")
        return reports
    return [*reports, against("ResNet-9 of width 8", resnet(), photos[-48:])]


def against(title: str, net: nn.Module, x: Tensor, rounds: int = 3) -> Report:
    with torch.no_grad():
        own = net(x).argmax(1)
    walks = {
        f"`tight={tight}`": lambda k, tight=tight: margins.deepfool(net, x, tight=tight, keep=True).delta[
            :, 0
        ]
        for tight in (20, 28, 40)
    }
    walks["DDN, 50 steps, first radius 1"] = lambda k: unboxed_ddn(net, x, own, steps=50)
    walks["DDN, 50 steps, first radius .2"] = lambda k: unboxed_ddn(net, x, own, steps=50, radius=0.2)
    walks |= {f"{name}, adv-lib": partial(call, x=x, own=own) for name, call in unboxed(net).items()}
    with (
        measured.measured(net, x),
        torch.enable_grad(),
    ):  # all get the weights laid out as our own calls have them
        seconds, results = take_turns(walks, rounds)
        longest = [margins.deepfool(net, x, **way).norm[:, 0] for way in LONG]
    lengths = {}
    for name, (delta, *_) in results.items():
        with torch.no_grad():
            past = net(x + (1 + 1e-4) * delta.reshape(x.shape)).argmax(1) != own
        lengths[name] = torch.where(past, delta.flatten(1).norm(dim=1), math.inf)
    best = torch.stack([*lengths.values(), *longest]).amin(0)
    report = Report(
        f"Tight margins, {title}, {len(x)} test images, full space, no box",
        ("method", "length over the best known: mean", "95th percentile", "not found", "CPU s"),
    )
    for name, length in lengths.items():
        ratio = length / best
        found = ratio[ratio.isfinite()]
        missed = f"{(~ratio.isfinite()).sum()}"
        report.rows.append(
            (name, f"{found.mean():.3f}", f"{found.quantile(0.95):.3f}", missed, f"{seconds[name]:.2f}")
        )
    mean = lambda name: (lengths[name] / best).mean().item()
    rival = min((name for name in lengths if not name.startswith("`")), key=mean)
    report.bounds += [
        (
            f"mean ratio of `tight=28`, against the best other's ({rival})",
            mean("`tight=28`"),
            "≤",
            mean(rival),
        ),
        ("its CPU seconds, against that one's", seconds["`tight=28`"], "≤", seconds[rival]),
    ]
    return report


def unboxed(net: nn.Module, wide: float = 10.0) -> dict[str, Callable[..., Tensor]]:
    """adv-lib's attacks, which keep [0, 1], on inputs drawn together around .5: their box is `wide` times ours."""
    library = adv_lib()
    far = lambda z: net((z - 0.5) * wide + 0.5)

    def call(attack: Callable, k: int, *, x: Tensor, own: Tensor, **options) -> Tensor:
        drawn = (x - 0.5) / wide + 0.5
        return (attack(far, drawn, own, **options) - drawn) * wide

    fmn = library["fast_minimum_norm"].fmn
    return {
        "FMN, 100 steps": partial(call, fmn, norm=2, steps=100, α_init=1 / wide),
        "SuperDeepFool": partial(call, library["superdeepfool"].sdf),
    }


def tight_windows() -> Report:
    """Windows of 8×8 cosines: what a pass more buys."""
    net, x = lenet(), data.load("mnist", "test")[0][-48:]
    spaces = spectra.dct_windows((1, 28, 28), size=8, step=4)
    ways = {f"`tight={tight}`": {"tight": tight} for tight in (10, 20, 30)} | {"refined": {}}
    with measured.measured(net, x), torch.enable_grad():
        calls = {
            name: lambda k, way=way: margins.deepfool(net, x, spaces, **way) for name, way in ways.items()
        }
        seconds, results = take_turns(calls, rounds=3)
        best = margins.deepfool(net, x, spaces, tight=200).norm
    report = Report(
        f"Tight margins, LeNet, {len(x)} digits × {len(spaces)} windows of 8×8",
        ("method", "length over `tight=200`: mean", "95th percentile", "CPU ms a margin"),
    )
    for name, (m, *_) in results.items():
        ratio = (m.norm / best).flatten()
        each = f"{1e3 * seconds[name] / best.numel():.2f}"
        report.rows.append((name, f"{ratio.mean():.3f}", f"{ratio.quantile(0.95):.3f}", each))
    return report
