"""A two-layer ReLU network read off its modules: f(x) = A relu(W x + c) + b, in float64, over flattened raw inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from tightrope.models.perceptrons import layers_of

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
    layers = layers_of(net, x, WANTED)
    if len(layers) != 2:
        raise ValueError(f"{WANTED}, and this one has {len(layers)} layers.")
    (w, c), (a, b) = layers
    return _scaled(w, c, a, b)


def _scaled(w: Tensor, c: Tensor, a: Tensor, b: Tensor) -> TwoLayers:
    size = w.norm(dim=1)
    there = size > 0
    b = b + torch.where(there, 0, c.relu()) @ a.T
    by = torch.where(there, size, 1)
    return TwoLayers(w / by[:, None], torch.where(there, c / by, 0), a * size, b, size)
