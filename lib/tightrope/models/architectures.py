"""Convolutional networks for photographs, with the stems that 32×32 images need. Chapters say `nets.resnet18`.

Raw pixels in, normalisation first, weights drawn from a generator of their own: as everything in `nets`. Each function
takes `mean` and `std` as `nets.Normalise` does (the defaults are CIFAR-10's), `classes`, `init` and a seed, and gives
a network from raw pixels (N, 3, H, W) to logits (N, classes).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tightrope import refusals, seeds
from tightrope.inputs import data
from tightrope.inputs._torchvision import torchvision
from tightrope.models.layers import Normalise, Numbers, initialise

CIFAR = data.DATA_SETS["cifar10"]


def resnet18(
    seed: int | torch.Generator = 0,
    *,
    classes: int = 10,
    init: str = "he",
    small: bool = True,
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """ResNet-18 (He et al. 2016). `small`: a 3×3 stem without pooling, for 32×32 images; else ImageNet's stem."""
    return _resnet("resnet18", seed, classes, init, small, mean, std)


def resnet50(
    seed: int | torch.Generator = 0,
    *,
    classes: int = 10,
    init: str = "he",
    small: bool = True,
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """ResNet-50, see `resnet18`."""
    return _resnet("resnet50", seed, classes, init, small, mean, std)


def densenet121(
    seed: int | torch.Generator = 0,
    *,
    classes: int = 10,
    init: str = "he",
    small: bool = True,
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """DenseNet-121 (Huang et al. 2017). `small`: a 3×3 stem without pooling, for 32×32 images."""

    refusals.truth(small=small)

    def build() -> nn.Module:
        net = torchvision().models.densenet121(num_classes=classes)
        if small:
            net.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.features.pool0 = nn.Identity()
        return net

    return _network(build, seed, init, mean, std, classes=classes)


def vgg19(
    seed: int | torch.Generator = 0,
    *,
    classes: int = 10,
    init: str = "he",
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """VGG-19 with batch norm for 32×32 images: its five pools leave one pixel of 512 features, one layer reads them."""

    def build() -> nn.Module:
        features = torchvision().models.vgg19_bn().features
        return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))

    return _network(build, seed, init, mean, std, classes=classes)


def fast_resnet(
    seed: int | torch.Generator = 0,
    *,
    widths: Sequence[int] = (48, 96, 192),
    classes: int = 10,
    init: str = "he",
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """A ResNet of one block a width behind a 4×4 stem of stride 2, ours, for CPUs: a twentieth of ResNet-18's cost."""

    refusals.wholes(1, widths=widths)
    refusals.whole(1, **{"the length of widths": len(widths)})

    def build() -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            stem=nn.Sequential(
                nn.Conv2d(3, widths[0], 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(widths[0]),
                nn.ReLU(),
            )
        )
        for k, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False), start=1):
            layers[f"block{k}"] = Residual(before, width, 1 if k == 1 else 2)
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        layers["fc"] = nn.Linear(widths[-1], classes)
        return nn.Sequential(layers)

    return _network(build, seed, init, mean, std, classes=classes)


def resnet9(
    seed: int | torch.Generator = 0,
    *,
    width: int = 64,
    classes: int = 10,
    init: str = "he",
    mean: Numbers = CIFAR.mean,
    std: Numbers = CIFAR.std,
) -> nn.Sequential:
    """ResNet-9 for 32×32 images (D. Page, "How to train your ResNet", 2018): eight convolutions and a linear layer.

    A convolution of `width` channels, three that double the channels and pool, a residual pair after the first and
    the last of these. A width of 32 costs a quarter of the published 64. The output is not scaled.
    """

    def doubled(channels: int) -> nn.Sequential:
        return _convolution(channels, 2 * channels, nn.MaxPool2d(2))

    def build() -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            stem=_convolution(3, width),
            layer1=doubled(width),
            pair1=Pair(2 * width),
            layer2=doubled(2 * width),
            layer3=doubled(4 * width),
            pair3=Pair(8 * width),
            pool=nn.AdaptiveMaxPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(8 * width, classes),
        )
        return nn.Sequential(layers)

    return _network(build, seed, init, mean, std, classes=classes, width=width)


def _convolution(channels: int, width: int, *then: nn.Module) -> nn.Sequential:
    """A 3×3 convolution, what comes right after it, batch norm, ReLU."""
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, *then, nn.BatchNorm2d(width), nn.ReLU())


class Pair(nn.Module):
    """x plus two convolutions of x, ReLU after each (ResNet-9's residual block)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm beside a shortcut (He et al. 2016), the first with the stride."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


def _resnet(
    name: str, seed: int | torch.Generator, classes: int, init: str, small: bool, mean: Numbers, std: Numbers
) -> nn.Sequential:
    refusals.truth(small=small)

    def build() -> nn.Module:
        net = getattr(torchvision().models, name)(num_classes=classes)
        if small:
            net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.maxpool = nn.Identity()
        return net

    return _network(build, seed, init, mean, std, classes=classes)


def _network(
    build: Callable[[], nn.Module],
    seed: int | torch.Generator,
    init: str,
    mean: Numbers,
    std: Numbers,
    **sizes: int,
) -> nn.Sequential:
    """Normalise and what `build` makes, drawn anew: convolutions and linear layers from one seeded generator, batch
    norms as the identity. `build` runs on no device, so that nothing is drawn from torch's global generator."""
    refusals.whole(1, **sizes)
    normalise, generator = Normalise(mean, std), seeds.generator(seed, "weights")
    initialise(normalise, init, generator)  # which has nothing to draw, and refuses what it does not know
    with torch.device("meta"):
        trunk = build()
    trunk.to_empty(device="cpu")
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            initialise(module, init, generator)
    net = nn.Sequential(OrderedDict(normalise=normalise, trunk=trunk))
    return net.to(memory_format=torch.channels_last)
