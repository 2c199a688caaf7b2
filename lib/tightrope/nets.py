"""Networks that take raw pixels: normalisation is their first layer, so every margin is ℓ2 in raw pixels.

Weights are drawn from a generator of their own, never from torch's global one: same seed, same network.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from tightrope import seeds


class Normalise(nn.Module):
    """(x − mean) / std, with `mean` and `std` as buffers: the first layer of every network here.

    `mean`, `std`: a number, one number a channel, or a tensor that broadcasts against a sample (C, H, W).
    `shape`: the shape of one sample; another one is refused with a sentence.
    """

    def __init__(
        self,
        mean: float | Sequence[float] | Tensor,
        std: float | Sequence[float] | Tensor,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.shape = None if shape is None else tuple(shape)
        self.register_buffer("mean", _per_channel(mean))
        self.register_buffer("std", _per_channel(std))
        if not (self.mean.isfinite().all() and (self.std > 0).all() and self.std.isfinite().all()):
            raise ValueError("Normalise needs a finite mean and a positive, finite std.")

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ValueError(f"This network takes float images in [0, 1], not {x.dtype}: convert them first.")
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            raise ValueError(_wrong_shape(self.shape, x))
        return (x - self.mean) / self.std


class Flatten(nn.Module):
    """(N, …) to (N, inputs), for samples that hold `inputs` numbers."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or math.prod(x.shape[1:]) != self.inputs:
            raise ValueError(_wrong_shape((self.inputs,), x))
        return x.flatten(1)


def mlp(
    inputs: int,
    hidden: Sequence[int] = (500,) * 10,
    classes: int = 2,
    *,
    init: str = "he",
    seed: int | torch.Generator = 0,
    mean: float | Sequence[float] | Tensor = 0.0,
    std: float | Sequence[float] | Tensor = 1.0,
) -> nn.Sequential:
    """A ReLU network with fully connected layers: (N, inputs) or (N, C, H, W) to logits (N, classes).

    The default is the network of HMT's table 1: ten hidden layers of 500. No normalisation unless asked for.
    """
    sizes = [inputs, *hidden, classes]
    if any(size < 1 for size in sizes):
        raise ValueError(f"Every layer of an MLP needs at least one unit, not {sizes}.")
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
    mean: float | Sequence[float] | Tensor = 0.1307,
    std: float | Sequence[float] | Tensor = 0.3081,
) -> nn.Sequential:
    """HMT's LeNet: conv 6 (5×5, padding 2), pool, conv 16 (5×5), pool, 120-84-classes; `net.fc3` is the last.

    (N, C, H, W) raw pixels to logits (N, classes). `mean`, `std`: MNIST's. Parameters come in the order
    conv1, conv2, fc1, fc2, fc3, weight before bias. The ReLU comes after the pool, where it computes the same
    from a quarter of the numbers.
    """
    channels, height, width = shape
    side = [(n // 2 - 4) // 2 for n in (height, width)]
    if channels < 1 or min(side) < 1:
        raise ValueError(f"A LeNet needs images of (C, H, W) with H and W at least 12, not {tuple(shape)}.")
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


class TwoLogits(nn.Module):
    """One score s (N, 1) as the logits (−s/2, s/2) of two classes: cross-entropy on them is log(1 + e^{∓s})."""

    def forward(self, s: Tensor) -> Tensor:
        return torch.cat([-s / 2, s / 2], 1)


def four_layer(
    seed: int | torch.Generator = 0,
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    mean: float | Sequence[float] | Tensor = (0.4914, 0.4822, 0.4465),
    std: float | Sequence[float] | Tensor = (0.247, 0.243, 0.261),
    batch_norm: bool = False,
    centred: bool = False,
    bias: bool = True,
) -> nn.Sequential:
    """Differential training's four-layer network: conv 6 (5×5), pool, conv 16 (5×5), pool, 120-84-1, He init.

    (N, C, H, W) raw pixels to two logits (N, 2) made of one score. `net.relu4` gives the 84 features, `net.fc3` the
    score. The defaults are CIFAR-10's. `batch_norm`: before every ReLU; `centred`: the features lose their mean
    before the last layer; `bias`: whether the last layer has one.
    """
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


class Centre(nn.Module):
    """(N, K) minus its mean over the batch; in eval mode minus the running average of those means."""

    def __init__(self, features: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.mean
        mean = x.mean(0)
        self.mean.lerp_(mean.detach().to(self.mean.dtype), self.momentum)
        return x - mean


def initialise(net: nn.Module, init: str = "he", seed: int | torch.Generator = 0) -> nn.Module:
    """Draw every weight of `net` anew, in place, in the order of `net.modules()`; returns `net`.

    - "he": normal weights of variance 2 / fan-in, zero biases (He et al. 2015).
    - "default": torch's own, weights and biases uniform in ±1/√fan-in.

    Fully connected and convolution layers only: others with parameters are refused.
    """
    if init not in ("he", "default"):
        raise ValueError(f"Unknown initialisation {init!r}: use 'he' or 'default'.")
    generator = seeds.generator(seed, "weights")
    for module in net.modules():
        if not list(module.parameters(recurse=False)):
            continue
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise ValueError(f"initialise draws linear and convolution layers, not {type(module).__name__}.")
        fan_in = module.weight[0].numel()
        with torch.no_grad():
            # Drawn on the generator's device and copied, so that a network on a GPU starts like one on a CPU.
            for tensor in module.parameters(recurse=False):
                draw = torch.empty(tensor.shape, dtype=tensor.dtype, device=generator.device)
                if init == "default":
                    draw.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
                elif tensor is module.weight:
                    draw.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                else:
                    draw.zero_()
                tensor.copy_(draw)
    return net


@contextmanager
def frozen(model: Callable[[Tensor], Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    """`model` ready to be measured: eval mode, no gradients to its weights; as it was when the block ends.

    On a CPU convolutions also get their weights in channels_last order, in which a LeNet's backward pass to
    the input takes less than half the time. A callable that is no `nn.Module` is given back as it is.
    """
    if not isinstance(model, nn.Module):
        yield model
        return
    training = {module: module.training for module in model.modules()}
    weights = {p: (p.requires_grad, p.data) for p in model.parameters()}
    try:
        model.eval()
        for p in weights:
            p.requires_grad_(False)
            if p.dim() == 4 and p.device.type == "cpu":
                p.data = _channels_last(p.data)
        yield model
    finally:
        for module, mode in training.items():
            module.training = mode
        for p, (wanted, data) in weights.items():
            p.data = data
            p.requires_grad_(wanted)


def _channels_last(weight: Tensor) -> Tensor:
    # With one input channel torch takes any order for channels_last already, and then runs the slow kernel:
    # only strides that say so are believed.
    _, channels, height, width = weight.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return torch.empty_strided(weight.shape, strides, dtype=weight.dtype).copy_(weight)


def check_input(model: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Raises ValueError unless x (N, …) is a batch of finite real inputs, in the model's precision, on its device."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or not len(x):
        what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"A measurement takes a batch of real inputs (N, …), not {what}.")
    if not x.isfinite().all():
        raise ValueError("The inputs hold NaN or infinity: a measurement takes finite ones.")
    weight = next(model.parameters(), x) if isinstance(model, nn.Module) else x
    if weight.dtype != x.dtype or weight.device != x.device:
        raise ValueError(
            f"The network is {weight.dtype} on {weight.device}, the inputs are {x.dtype} on {x.device}: "
            "move one of them."
        )


def _per_channel(value: float | Sequence[float] | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().clone()
    tensor = torch.tensor(value, dtype=torch.float32)
    return tensor.reshape(-1, 1, 1) if tensor.dim() else tensor


def _wrong_shape(expected: tuple[int, ...], x: Tensor) -> str:
    want = ", ".join(["N", *map(str, expected)])
    return f"This network takes samples of shape ({want}), not {tuple(x.shape)}."


def __getattr__(name: str) -> object:
    # Networks for photographs have a module of their own, which is built on this one.
    from tightrope import architectures

    if name in architectures.__all__:
        return getattr(architectures, name)
    raise AttributeError(f"tightrope.nets has no {name!r}.")
