"""How far a ReLU network of full layers is affine around a point: the inputs on which the same units are on.

There every logit is affine, and every piece of a decision boundary a plane. The input of each unit is affine as well,
so the faces of the region follow exactly from what the layers are at one point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tightrope import refusals
from tightrope.models.perceptrons import layers_of

__all__ = ["first_kink", "inradius"]

NUMBERS = 2**23  # of the slopes of a block's units
WANTED = (
    "net must be a ReLU network of full layers, a Sequential of Linear and ReLU in turn, behind Normalise and Flatten "
    "if there are any"
)


def inradius(net: nn.Sequential, x: Tensor) -> Tensor:
    """The radius (N,) of the largest ball around each of x (N, *shape) on which `net` is affine, float64.

    min over units of |z_j| / ‖∇z_j‖, z_j being what unit j's ReLU is given: exact, as each z_j is affine up to the
    first face. +inf where no unit depends on x. Raises ValueError for a network that is none of full layers.
    """
    found = []
    for units in _blocks(net, x):
        far = [_quotient(z.abs(), slope.norm(dim=-1)) for z, slope in units]
        found.append(torch.cat(far, 1).amin(1))
    return torch.cat(found)


def first_kink(net: nn.Sequential, x: Tensor, direction: Tensor) -> Tensor:
    """The least t > 0 (N,), in lengths of the direction, at which x + t d meets a face of its region; +inf for none.

    x, direction (N, *shape): along a ray it is the least −z_j / ∂_d z_j that is positive. Float64.
    """
    refusals.tensor(("N", ...), finite=True, x=x)
    refusals.tensor(tuple(x.shape), finite=True, like=x, direction=direction)
    found, done = [], 0
    for units in _blocks(net, x):
        d = direction[done : done + len(units[0][0])].detach().flatten(1).double()
        t = torch.cat([_quotient(-z, (slope @ d[:, :, None])[..., 0]) for z, slope in units], 1)
        found.append(torch.where(t > 0, t, math.inf).amin(1))
        done += len(d)
    return torch.cat(found)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """a / b, +inf where b is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), math.inf)


def _blocks(net: nn.Sequential, x: Tensor) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """For some rows of x at a time: of each hidden layer what its ReLUs are given (R, H) and the slopes (R, H, d)."""
    *hidden, _ = layers_of(net, x, WANTED)
    flat = x.detach().flatten(1).double()
    widest = max(len(bias) for _, bias in hidden) * flat.shape[1]
    for at in flat.split(max(1, NUMBERS // widest)):
        units: list[tuple[Tensor, Tensor]] = []
        z, slope = at, None
        for weight, bias in hidden:
            slope = weight.expand(len(at), -1, -1) if slope is None else weight @ (slope * (z > 0)[..., None])
            z = (z if not units else z.relu()) @ weight.T + bias
            units.append((z, slope))
        yield units
