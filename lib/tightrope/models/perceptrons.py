"""A ReLU network of full layers read off its modules: weights and biases in float64, over flattened raw inputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tightrope import refusals
from tightrope.models.nets import Flatten, Normalise, TwoLogits

Layers = list[tuple[Tensor, Tensor]]


def layers_of(net: nn.Sequential, x: Tensor, wanted: str) -> Layers:
    """Weights (H, d) and biases (H,) of each layer of `net` on inputs x (N, …), ReLUs between them, C ≥ 2 outputs.

    What stands before the first Linear (Normalise, Flatten) is in its weights; one output f has become two, −f/2 and
    f/2. Raises ValueError, beginning with `wanted`, for another network, and where x is no input of it.
    """
    refusals.instance(nn.Sequential, net=net)
    refusals.samples(net, x=x)
    modules = list(_unrolled(net))
    if modules and type(modules[-1]) is TwoLogits:
        modules.pop()
        if not (modules and type(modules[-1]) is nn.Linear and modules[-1].out_features == 1):
            raise ValueError(f"{wanted}; TwoLogits may follow one output.")
    first = next((i for i, module in enumerate(modules) if type(module) is nn.Linear), len(modules))
    kinds = [type(module) for module in modules[first:]]
    if len(kinds) < 3 or kinds != [nn.Linear, *[nn.ReLU, nn.Linear] * (len(kinds) // 2)]:
        raise ValueError(f"{wanted}, and this one is {', '.join(type(one).__name__ for one in modules)}.")
    scale, shift = _front(modules[:first], x, wanted)
    if scale.shape != (modules[first].in_features,):
        raise ValueError(
            f"x must hold {modules[first].in_features} numbers a sample in one axis, behind the network's first "
            f"layers, and holds {tuple(scale.shape)}."
        )
    (weight, bias), *later = (_weights(module) for module in modules[first::2])
    layers = [(weight * scale, weight @ shift + bias), *later]
    if not all(part.isfinite().all() for part in chain.from_iterable(layers)):
        raise ValueError("net holds NaN or infinite weights.")
    weight, bias = layers[-1]
    if len(bias) == 1:
        layers[-1] = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    theirs, ours = answer(net, x[:8].double()), _answered(layers, x[:8].flatten(1).double())
    if not torch.allclose(theirs, ours, rtol=1e-6, atol=1e-6 * float(theirs.abs().max())):
        raise ValueError(f"{wanted}, and what this one computes is another function: hooks may change it.")
    return layers


def answer(net: nn.Sequential, x: Tensor) -> Tensor:
    """The network's own outputs (N, C), C ≥ 2, for float64 inputs x (N, …), computed in float64."""
    state = chain(net.named_parameters(), net.named_buffers())
    out = functional_call(net, {name: part.detach().double() for name, part in state}, (x,))
    return torch.cat([-out / 2, out / 2], 1) if out.shape[1] == 1 else out


def _answered(layers: Layers, x: Tensor) -> Tensor:
    for weight, bias in layers[:-1]:
        x = (x @ weight.T + bias).relu()
    return x @ layers[-1][0].T + layers[-1][1]


def _unrolled(net: nn.Sequential) -> Iterator[nn.Module]:
    for layer in net:
        if type(layer) is nn.Sequential:
            yield from _unrolled(layer)
        elif type(layer) is not nn.Identity:
            yield layer


def _front(modules: list[nn.Module], x: Tensor, wanted: str) -> tuple[Tensor, Tensor]:
    """What stands before the first Linear does to a sample: x · scale + shift, both in the shape they leave it."""
    scale = torch.ones_like(x[0], dtype=torch.float64)
    shift = torch.zeros_like(scale)
    for module in modules:
        if type(module) is Normalise:
            module(x[:0].new_empty(0, *scale.shape))  # refuses samples of another shape
            scale, shift = scale / module.std.double(), (shift - module.mean.double()) / module.std.double()
        elif type(module) is Flatten or (
            type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
        ):
            scale, shift = scale.flatten(), shift.flatten()
        else:
            raise ValueError(f"{wanted}, and this one has a {type(module).__name__} before them.")
    return scale, shift


def _weights(module: nn.Linear) -> tuple[Tensor, Tensor]:
    weight = module.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().double()
