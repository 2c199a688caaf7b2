"""Networks that take raw pixels: normalisation is their first layer, so every margin is ℓ2 in raw pixels.

The small ones are here; those for photographs are in `architectures`, ImageNet's in `pretrained`, and all of them are
`nets.something`. Same seed, same network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from tightrope import refusals
from tightrope.models.architectures import densenet121, fast_resnet, resnet9, resnet18, resnet50, vgg19
from tightrope.models.layers import Centre, Flatten, Normalise, Numbers, TwoLogits, initialise
from tightrope.models.loans import borrowed
from tightrope.models.pretrained import pretrained

__all__ = [
    "Flatten",
    "Normalise",
    "TwoLogits",
    "activations",
    "c_ch",
    "densenet121",
    "fast_resnet",
    "four_layer",
    "initialise",
    "lenet",
    "mlp",
    "pretrained",
    "resnet9",
    "resnet18",
    "resnet50",
    "vgg19",
]


def mlp(
    inputs: int,
    hidden: Sequence[int] = (500,) * 10,
    classes: int = 2,
    *,
    init: str = "he",
    seed: int | torch.Generator = 0,
    mean: Numbers = 0.0,
    std: Numbers = 1.0,
) -> nn.Sequential:
    """A ReLU network with fully connected layers: (N, inputs) or (N, C, H, W) to logits (N, classes).

    The default is the network of HMT's table 1: ten hidden layers of 500. No normalisation unless asked for.
    """
    refusals.whole(1, inputs=inputs, classes=classes)
    refusals.wholes(1, hidden=hidden)
    sizes = [inputs, *hidden, classes]
    identity = isinstance(mean, int | float) and isinstance(std, int | float) and (mean, std) == (0, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if not identity:
        layers["normalise"] = Normalise(mean, std)
    layers["flatten"] = Flatten(inputs)
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{k}"] = skip_init(nn.Linear, fan_in, fan_out)
        if k < len(sizes) - 1:
            layers[f"relu{k}"] = nn.ReLU()
    return initialise(nn.Sequential(layers), init, seed)


def lenet(
    seed: int | torch.Generator = 0,
    *,
    init: str = "default",
    shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    mean: Numbers = 0.1307,
    std: Numbers = 0.3081,
) -> nn.Sequential:
    """HMT's LeNet: conv 6 (5×5, padding 2), pool, conv 16 (5×5), pool, 120-84-classes; `net.fc3` is the last.

    (N, C, H, W) raw pixels to logits (N, classes). `mean`, `std`: MNIST's. Parameters come in the order
    conv1, conv2, fc1, fc2, fc3, weight before bias. The ReLU comes after the pool, where it computes the same
    from a quarter of the numbers.
    """
    refusals.wholes(1, 3, shape=shape)
    refusals.whole(1, classes=classes)
    channels, height, width = shape
    refusals.whole(12, **{"the height in shape": height, "the width in shape": width})
    side = [(n // 2 - 4) // 2 for n in (height, width)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        normalise=Normalise(mean, std, shape),
        conv1=skip_init(nn.Conv2d, channels, 6, 5, padding=2),
        pool1=nn.MaxPool2d(2),
        relu1=nn.ReLU(),
        conv2=skip_init(nn.Conv2d, 6, 16, 5),
        pool2=nn.MaxPool2d(2),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        fc1=skip_init(nn.Linear, 16 * side[0] * side[1], 120),
        relu3=nn.ReLU(),
        fc2=skip_init(nn.Linear, 120, 84),
        relu4=nn.ReLU(),
        fc3=skip_init(nn.Linear, 84, classes),
    )
    return initialise(nn.Sequential(layers), init, seed)


def c_ch(
    channels: int,
    seed: int | torch.Generator = 0,
    *,
    mean: Numbers = 0.1307,
    std: Numbers = 0.3081,
) -> nn.Sequential:
    """NAE's C-Ch (its table 3): four convolutions of `channels` (5×5, no padding), pool, 256-10; `net.fc2` is the last.

    (N, 1, 28, 28) raw pixels to logits (N, 10), by way of 24, 20, 16, 12 and, pooled, 6 pixels a side. `mean`, `std`:
    MNIST's. The table names no activation, and the text one ReLU between the pool and the hidden layer; we take one
    after every convolution too, without which all four were one linear map. Torch's default initialisation.
    """
    refusals.whole(1, channels=channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise(mean, std, (1, 28, 28)))
    for k in range(1, 5):
        layers[f"conv{k}"] = skip_init(nn.Conv2d, 1 if k == 1 else channels, channels, 5)
        if k == 4:  # as in `lenet`, the ReLU after the pool computes the same from a quarter of the numbers
            layers["pool1"] = nn.MaxPool2d(2)
        layers[f"relu{k}"] = nn.ReLU()
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = skip_init(nn.Linear, channels * 6 * 6, 256)
    layers["relu5"] = nn.ReLU()
    layers["fc2"] = skip_init(nn.Linear, 256, 10)
    return initialise(nn.Sequential(layers), "default", seed)


def four_layer(
    seed: int | torch.Generator = 0,
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    mean: Numbers = (0.4914, 0.4822, 0.4465),
    std: Numbers = (0.247, 0.243, 0.261),
    batch_norm: bool = False,
    centred: bool = False,
    bias: bool = True,
) -> nn.Sequential:
    """Differential training's four-layer network: conv 6 (5×5), pool, conv 16 (5×5), pool, 120-84-1, He init.

    (N, C, H, W) raw pixels to two logits (N, 2) made of one score. `net.relu4` gives the 84 features, `net.fc3` the
    score. The defaults are CIFAR-10's. `batch_norm`: before every ReLU; `centred`: the features lose their mean
    before the last layer; `bias`: whether the last layer has one.
    """
    refusals.truth(batch_norm=batch_norm, centred=centred, bias=bias)
    start = lenet(seed, init="he", shape=shape, classes=1, mean=mean, std=std)
    if not bias:
        start.fc3.register_parameter("bias", None)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in start.named_children():
        if name == "fc3" and centred:
            # What is subtracted is the batch's mean in training, its running average after.
            layers["centre"] = Centre(84)
        layers[name] = layer
        if batch_norm and name.startswith(("conv", "fc")) and name != "fc3":
            conv = isinstance(layer, nn.Conv2d)
            layers[f"norm_{name}"] = (
                nn.BatchNorm2d(layer.out_channels) if conv else nn.BatchNorm1d(layer.out_features)
            )
    layers["logits"] = TwoLogits()
    return nn.Sequential(layers)


def activations(net: nn.Module, x: Tensor, layer: str, batch: int = 1_000) -> Tensor:
    """What the layer of that name ("relu4", "trunk.avgpool") puts out for x (N, …), flattened to (N, K); no gradient.

    `net` is asked in the mode it is in and is as it was afterwards. Raises ValueError for a layer it does not have.
    """
    refusals.instance(nn.Module, net=net)
    refusals.samples(net, x=x)
    refusals.whole(1, batch=batch)
    refusals.instance(str, layer=layer)
    layers = dict(net.named_modules())
    if layer not in layers:
        raise ValueError(f"The network has no layer {layer!r}: it has {', '.join(filter(None, layers))}.")
    seen: list[Tensor] = []
    hook = layers[layer].register_forward_hook(lambda module, given, out: seen.append(out.flatten(1)))
    try:
        with borrowed(net), torch.no_grad():
            for part in x.split(batch):
                net(part.clone())
    finally:
        hook.remove()
    return torch.cat(seen)
