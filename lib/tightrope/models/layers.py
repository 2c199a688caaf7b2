"""What the book's networks are made of. Weights are drawn from a generator of their own, never from the global one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tightrope import refusals, seeds

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
        if shape is not None:
            refusals.wholes(1, shape=shape)
        self.shape = None if shape is None else tuple(shape)
        self.register_buffer("mean", _per_channel(mean=mean))
        self.register_buffer("std", _per_channel(std=std))
        if not (self.std > 0).all():
            raise ValueError("std must be positive.")

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor) and not x.is_floating_point():
            raise ValueError(f"This network takes float images in [0, 1], not {x.dtype}: convert them first.")
        refusals.tensor(("N", *(self.shape or (...,))), empty=True, **{"what this network takes": x})
        for name, given in (("mean", self.mean), ("std", self.std)):
            if not _broadcasts(given.shape, x.shape[1:]):
                raise ValueError(
                    f"{name} of shape {tuple(given.shape)} does not broadcast against samples {tuple(x.shape[1:])}: "
                    "give a number or a tensor that does."
                )
        return (x - self.mean) / self.std


class Flatten(nn.Module):
    """(N, …) to (N, inputs), for samples that hold `inputs` numbers."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        refusals.whole(1, inputs=inputs)
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1) if isinstance(x, Tensor) and x.dim() > 1 else x
        refusals.tensor(("N", self.inputs), empty=True, **{"what this network takes, flattened,": flat})
        return x.flatten(1)


class TwoLogits(nn.Module):
    """One score s (N, 1) as the logits (−s/2, s/2) of two classes: cross-entropy on them is log(1 + e^{∓s})."""

    def forward(self, s: Tensor) -> Tensor:
        refusals.tensor(("N", 1), empty=True, s=s)
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
    refusals.instance(nn.Module, net=net)
    refusals.choice(("he", "default"), init=init)
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


def _per_channel(**named: Numbers) -> Tensor:
    (value,) = named.values()
    if isinstance(value, Tensor):
        refusals.tensor(finite=True, **named)
        return value.detach().clone()
    refusals.numbers(**named)
    tensor = torch.tensor(value, dtype=torch.float32)
    return tensor.reshape(-1, 1, 1) if tensor.dim() else tensor


def _broadcasts(given: Sequence[int], sample: Sequence[int]) -> bool:
    """Whether a tensor meets a sample without making it larger: then no sample becomes several."""
    pairs = zip(reversed(given), reversed(sample), strict=False)
    return len(given) <= len(sample) and all(size in (1, of) for size, of in pairs)
