"""Chapter 2: margins of photographs in frequency windows."""

from __future__ import annotations

import torch
from tests.bench.harness import Report, take_turns
from tests.oracles.margins import subspace_deepfool

from tightrope import data, margins, nets, spectra
from tightrope.models import measured

SHAPE, RIVALS = (3, 224, 224), 3


def megabytes(tensors: list[torch.Tensor]) -> float:
    return sum(t.numel() * t.element_size() for t in tensors) / 1e6


def imagenet_windows() -> Report:
    """14 windows of 768 dimensions in 224 x 224 photographs: two cosine matrices each, against written-out bases.

    A basis takes 460 MB, so one window's is written out and timed; the 14 of them are 14 times that.
    """
    x, _ = (
        data.load("imagenet_sample224", "test", 2, seed=0)
        if data.where("imagenet_sample224")
        else (torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)), None)
    )
    windows = spectra.dct_windows(SHAPE, 16, 16)
    gradients = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    window = windows[7]
    basis = window.basis(dtype=torch.float32).flatten(1).T.contiguous()  # (D, d)
    thin = lambda: window.lift(window.coordinates(gradients))
    dense = lambda: ((gradients.flatten(1) @ basis) @ basis.T).view_as(gradients)
    seconds, results = take_turns({"thin": lambda k: thin(), "dense": lambda k: dense()}, rounds=5)
    apart = (results["thin"][0] - results["dense"][0]).abs().max() / results["dense"][0].abs().max()
    held = {"thin": megabytes([window._a.exact, window._b.exact]), "dense": megabytes([basis])}

    net = nets.pretrained("efficientnet_lite0")
    pair, bases = (
        [windows[0], window],
        [windows[0].basis(dtype=torch.float32).flatten(1).T.contiguous(), basis],
    )

    def loop(k: int) -> torch.Tensor:
        return torch.stack(
            [
                torch.stack([subspace_deepfool(net, image[None], q, rivals=RIVALS)[0].norm() for q in bases])
                for image in x
            ]
        )

    with measured.measured(net, x), torch.enable_grad():
        took, margin = take_turns(
            {
                "thin": lambda k: margins.deepfool(net, x, pair, rivals=RIVALS, refine=False).raw,
                "dense": loop,
            },
            rounds=2,
        )
    off = (margin["thin"][0] / margin["dense"][0] - 1).abs().max().item()

    report = Report(
        "Frequency windows of 224 × 224 photographs",
        (
            "way",
            "projecting a gradient, CPU ms",
            "14 windows, MB",
            "DeepFool with EfficientNet-Lite0, CPU s a margin",
        ),
    )
    for name, way in (("thin", "two cosine matrices, batched"), ("dense", "dense bases, the loop")):
        report.rows.append(
            (
                way,
                f"{1e3 * seconds[name] / len(gradients):.2f}",
                f"{14 * held[name]:,.1f}",
                f"{took[name] / margin[name][0].numel():.2f}",
            )
        )
    report.bounds += [
        ("memory of the bases over ours", held["dense"] / held["thin"], "≥", 1_000),
        ("time of a dense projection over ours", seconds["dense"] / seconds["thin"], "≥", 20),
        ("time of the loop's margins over ours", took["dense"] / took["thin"], "≥", 2),
        ("largest relative difference of a projection", apart.item(), "≤", 1e-5),
        # Rounding may decide on one step more, and a step ends within the overshoot.
        ("largest relative difference of a margin", off, "≤", 0.02),
    ]
    return report
