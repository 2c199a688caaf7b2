"""A two-layer ReLU network read off its modules: f(x) = A relu(W x + c) + b, in float64, over flattened raw inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tightrope import refusals
from tightrope.models.nets import Flatten, Normalise, TwoLogits

WANTED = (
    "net must be a two-layer ReLU network, a Sequential of a Linear, a ReLU and a Linear, behind Normalise and Flatten "
    "if there are any"
)


@dataclass(frozen=True)
class TwoLayers:
    """R neurons with weights of length one, their sizes moved to the second layer; C ≥ 2 outputs, d inputs.

    w (R, d), c (R,), so that w x + c is a neuron's signed distance t from its hyperplane; a (C, R), b (C,); size (R,)
    what the weights' length was. One output f has become two, −f/2 and f/2. A neuron without weights is a constant:
    it is in b, and its w, c and a are 0.
    """

    w: Tensor
    c: Tensor
    a: Tensor
    b: Tensor
    size: Tensor

    def distances(self, x: Tensor) -> Tensor:
        """t (N, R) of x (N, d)."""
        return x @ self.w.T + self.c

    def outputs(self, t: Tensor) -> Tensor:
        """(…, C) at distances t (…, R)."""
        return t.relu() @ self.a.T + self.b

    @cached_property
    def span(self) -> tuple[Tensor, Tensor]:
        """q (K, d) with orthonormal rows and v (R, K), K = min(R, d): w = v q. Nothing outside the span matters."""
        q, v = torch.linalg.qr(self.w.T)
        return q.T, v.T


def two_layers(net: nn.Sequential, x: Tensor) -> TwoLayers:
    """The network `net` is on inputs x (N, …); raises ValueError where it is none, and where x is no input of it."""
    refusals.instance(nn.Sequential, net=net)
    refusals.samples(net, x=x)
    layers = list(_layers(net))
    if layers and type(layers[-1]) is TwoLogits:
        layers.pop()
        if not (layers and type(layers[-1]) is nn.Linear and layers[-1].out_features == 1):
            raise ValueError(f"{WANTED}; TwoLogits may follow one output.")
    front, last = layers[:-3], layers[-3:]
    if [type(layer) for layer in last] != [nn.Linear, nn.ReLU, nn.Linear]:
        raise ValueError(f"{WANTED}, and this one is {', '.join(type(one).__name__ for one in layers)}.")
    scale, shift = _front(front, x)
    if scale.shape != (last[0].in_features,):
        raise ValueError(
            f"x must hold {last[0].in_features} numbers a sample in one axis, behind the network's first layers, and "
            f"holds {tuple(scale.shape)}."
        )
    weight, c = _weights(last[0])
    w, c, (a, b) = weight * scale, weight @ shift + c, _weights(last[2])
    if not all(part.isfinite().all() for part in (w, c, a, b)):
        raise ValueError("net holds NaN or infinite weights.")
    if len(b) == 1:
        a, b = torch.cat([-a / 2, a / 2]), torch.cat([-b / 2, b / 2])
    read = _scaled(w, c, a, b)
    theirs = answer(net, x[:8].double())
    ours = read.outputs(read.distances(x[:8].flatten(1).double()))
    if not torch.allclose(theirs, ours, rtol=1e-6, atol=1e-6 * float(theirs.abs().max())):
        raise ValueError(f"{WANTED}, and what this one computes is another function: hooks may change it.")
    return read


def answer(net: nn.Sequential, x: Tensor) -> Tensor:
    """The network's own outputs (N, C), C ≥ 2, for float64 inputs x (N, …), computed in float64."""
    state = chain(net.named_parameters(), net.named_buffers())
    out = functional_call(net, {name: part.detach().double() for name, part in state}, (x,))
    return torch.cat([-out / 2, out / 2], 1) if out.shape[1] == 1 else out


def _layers(net: nn.Sequential) -> Iterator[nn.Module]:
    for layer in net:
        if type(layer) is nn.Sequential:
            yield from _layers(layer)
        elif type(layer) is not nn.Identity:
            yield layer


def _front(layers: list[nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """What the layers before the first Linear do to a sample: x · scale + shift, both in the shape they leave it."""
    scale = torch.ones_like(x[0], dtype=torch.float64)
    shift = torch.zeros_like(scale)
    for layer in layers:
        if type(layer) is Normalise:
            layer(x[:0].new_empty(0, *scale.shape))  # refuses samples of another shape
            scale, shift = scale / layer.std.double(), (shift - layer.mean.double()) / layer.std.double()
        elif type(layer) is Flatten or (
            type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
        ):
            scale, shift = scale.flatten(), shift.flatten()
        else:
            raise ValueError(f"{WANTED}, and this one has a {type(layer).__name__} before them.")
    return scale, shift


def _weights(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()


def _scaled(w: Tensor, c: Tensor, a: Tensor, b: Tensor) -> TwoLayers:
    size = w.norm(dim=1)
    there = size > 0
    b = b + torch.where(there, 0, c.relu()) @ a.T
    by = torch.where(there, size, 1)
    return TwoLayers(w / by[:, None], torch.where(there, c / by, 0), a * size, b, size)
