"""Chapter 4's attacks against those of another library, on networks they were not tuned on: how many images of 250
these take more, at cross-entropy's median distance and at twice that.

As on the page, an image is taken where any of the chapter's attacks takes it: the search for the shortest, PGD,
Carlini and Wagner's as published and, at twice the distance, those at a radius.
"""

from __future__ import annotations

import math

import torch
from tests.bench.harness import Report
from tests.bench.margins import adv_lib
from torch import Tensor, nn

from tightrope import attacks, pair_losses, progress, training
from tightrope.book import networks

IMAGES = 250


def outside_attacks(profile: str = "quick") -> Report:
    """A network of either loss, seed 100."""
    kinds = ("cross-entropy", "differential")
    report = Report(
        f"Attacks from outside, {IMAGES} test images of planes and horses",
        (
            "network",
            "radius",
            "ours take",
            "shortest alone",
            "FMN-150 more",
            "DDN-300 more",
            "APGD more",
            "all more",
        ),
    )
    epsilon = math.nan
    for kind in progress.track(kinds, "network"):
        net, x, y = _network(kind, profile)
        which = ("ddn", "fmn", "carlini_wagner", "fmn again")
        ours = attacks.strongest(net, x, y, attacks=which, tolerance=0.05).norm()
        epsilon = ours.median().item() if kind == "cross-entropy" else epsilon
        theirs = _outside(net, x, y, epsilon)
        for times in (1, 2):
            radius = times * epsilon
            taken = _taken(net, x, y, ours, radius, whole=times == 2)
            more = {name: (length <= radius) & ~taken for name, length in theirs.items()}
            missed = torch.stack([*more.values()]).any(0).sum().item()
            counts = (f"{int(found.sum())}" for found in (more["FMN"], more["DDN"], more[f"APGD {times}"]))
            report.rows.append(
                (
                    kind,
                    f"{radius:.3f}",
                    f"{int(taken.sum())}",
                    f"{int((ours <= radius).sum())}",
                    *counts,
                    f"{missed}",
                )
            )
            report.bounds.append((f"{kind}, radius {radius:.3f}: images more", missed, "≤", 2))
    return report


def _network(kind: str, profile: str) -> tuple[nn.Module, Tensor, Tensor]:
    plan = networks.book(f"planes {kind}", profile)
    (x, y), (images, labels) = plan.images("train"), plan.images("test")
    net = plan.build(100)
    training.fit(net, x, y, plan.recipe(len(x)), 100)
    net = pair_losses.with_bias(net, x, y) if kind == "differential" else net
    return net.eval(), images[-IMAGES:], labels[-IMAGES:]


def _taken(net: nn.Module, x: Tensor, y: Tensor, shortest: Tensor, radius: float, whole: bool) -> Tensor:
    """Which images (N,) the chapter's attacks take within a radius, with its settings for the paper's sizes."""
    walk = attacks.carlini_wagner(net, x, y, steps=120, searches=3, rate=0.03, constant=3.0, loss="margin")
    found = (shortest <= radius) | (walk.norm() <= radius)
    found |= attacks.pgd(net, x, y, eps=radius, steps=40, loss="cross-entropy").found
    left = (~found).nonzero()[:, 0]
    if whole and len(left):
        found[left] = attacks.strongest(net, x[left], y[left], eps=radius, doublings=1, tolerance=0.02).found
    return found


def _outside(net: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> dict[str, Tensor]:
    """Lengths of their perturbations, infinite where they fool nobody."""
    library = adv_lib()
    fmn, ddn = library["fast_minimum_norm"].fmn, library["decoupled_direction_norm"].ddn
    found = {
        "FMN": fmn(net, x, y, norm=2, steps=150),
        "DDN": ddn(net, x, y, steps=300, levels=None),
    }
    for times in (1, 2):  # with two classes its targeted case is the same attack
        found[f"APGD {times}"] = library["auto_pgd"].apgd(
            net, x, y, eps=times * epsilon, norm=2, loss_function="ce", n_restarts=2
        )

    def length(images: Tensor) -> Tensor:
        far = (images - x).flatten(1).norm(dim=1) * (1 - 1e-5)  # their balls end a rounding further out
        return torch.where(net(images).argmax(1) != y, far, math.inf)

    with torch.no_grad():
        return {name: length(images.detach()) for name, images in found.items()}
