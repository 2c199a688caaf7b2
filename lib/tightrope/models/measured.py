"""A model made ready to be measured, and inputs that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def frozen(model: Callable[[Tensor], Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    """`model` ready to be measured: eval mode, no gradients to its weights; as it was when the block ends.

    On a CPU float32 convolutions also get their weights in channels_last order, in which a LeNet's backward pass
    to the input takes less than half the time; in float64 it would take more. A callable that is no `nn.Module` is
    given back as it is.
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
            if p.dim() == 4 and p.dtype == torch.float32 and p.device.type == "cpu":
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
