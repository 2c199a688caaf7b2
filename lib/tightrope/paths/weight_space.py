"""A network as a point in the space of its weights: where it stands, what pulls it, and the line between two."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.nn.utils import vector_to_parameters

from tightrope import refusals

__all__ = ["Line", "gradient", "line", "network_at", "position"]


def position(net: nn.Module) -> Tensor:
    """All weights of `net` as one vector (P,), a copy."""
    refusals.instance(nn.Module, net=net)
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def network_at(net: nn.Module, w: Tensor) -> nn.Module:
    """A copy of `net` with the weights w (P,), in eval mode."""
    here = position(net)
    refusals.tensor(tuple(here.shape), finite=True, like=here, w=w)
    other = copy.deepcopy(net).eval()
    vector_to_parameters(w.clone(), other.parameters())
    return other


def gradient(net: nn.Module, x: Tensor, y: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor, Tensor]:
    """The mean cross-entropy's gradient by all weights (P,), the mean loss and the accuracy on x, y."""
    refusals.instance(nn.Module, net=net)
    refusals.samples(net, x=x)
    refusals.labels(x, y=y)
    refusals.whole(1, chunk=chunk)
    weights = list(net.parameters())
    total, loss, right = [torch.zeros_like(w) for w in weights], 0.0, 0.0
    for part, label in zip(x.split(chunk), y.split(chunk), strict=True):
        with torch.enable_grad():
            logits = net(part)
            refusals.labels(part, logits.shape[1], y=label)
            value = cross_entropy(logits, label, reduction="sum")
            for t, g in zip(total, torch.autograd.grad(value, weights), strict=True):
                t.add_(g)
        loss, right = loss + value.detach(), right + (logits.argmax(1) == label).sum()
    return torch.cat([t.flatten() for t in total]) / len(x), loss / len(x), right / len(x)


@dataclass(frozen=True)
class Line:
    """What is met on the way w(t) = w₀ + t (w₁ − w₀), one entry a t.

    pull      ⟨−∇L, (w₁ − w₀)/‖w₁ − w₀‖⟩, how hard the loss's descent direction pulls along the line
    cosine    the same over ‖∇L‖
    loss, accuracy   on the points given
    norm      ‖w(t)‖
    """

    t: Tensor
    pull: Tensor
    cosine: Tensor
    loss: Tensor
    accuracy: Tensor
    norm: Tensor


def line(net: nn.Module, w0: Tensor, w1: Tensor, x: Tensor, y: Tensor, t: Sequence[float]) -> Line:
    """Walk from w0 (P,) to w1 (P,) and look at the loss on x, y at every t (0 is w0, 1 is w1)."""
    here = position(net)
    refusals.tensor(tuple(here.shape), finite=True, like=here, w0=w0, w1=w1)
    refusals.instance((tuple, list), t=t)
    refusals.numbers(t=t)
    way = w1 - w0
    if not way.norm() > 0:
        raise ValueError("The line has no direction: its two ends are the same weights.")
    met = []
    for at in t:
        w = w0 + at * way
        g, loss, accuracy = gradient(network_at(net, w), x, y)
        cosine = cosine_similarity(-g, way, dim=0)
        met.append(torch.stack([cosine * g.norm(), cosine, loss, accuracy, w.norm()]))
    if not torch.stack(met).isfinite().all():
        raise ValueError("The loss leaves the finite numbers on the way from w0 to w1: they lie too far out.")
    return Line(torch.tensor(list(t)), *torch.stack(met).detach().T)
