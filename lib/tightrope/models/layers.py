"""What the book's networks are made of. Weights are drawn from a generator of their own, never from the global one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tightrope import seeds

Numbers = float | Sequence[float] | Tensor


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


class TwoLogits(nn.Module):
    """One score s (N, 1) as the logits (−s/2, s/2) of two classes: cross-entropy on them is log(1 + e^{∓s})."""

    def forward(self, s: Tensor) -> Tensor:
        return torch.cat([-s / 2, s / 2], 1)


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


def _per_channel(value: float | Sequence[float] | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().clone()
    tensor = torch.tensor(value, dtype=torch.float32)
    return tensor.reshape(-1, 1, 1) if tensor.dim() else tensor


def _wrong_shape(expected: tuple[int, ...], x: Tensor) -> str:
    want = ", ".join(["N", *map(str, expected)])
    return f"This network takes samples of shape ({want}), not {tuple(x.shape)}."
