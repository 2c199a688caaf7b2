"""Slow and plain versions of what the library computes, written from the sources: what tests hold it against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def subspace_deepfool(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    basis: Tensor | None = None,
    *,
    overshoot: float = 0.02,
    max_steps: int = 100,
    rivals: int = 10,
) -> tuple[Tensor, int, int]:
    """The published loop: one image (1, *shape), one subspace, one class at a time.

    `basis` (D, d) has orthonormal columns; None is the full space. Returns the perturbation 1.02 r (1, *shape),
    the steps taken and the label reached, which is the starting one where `max_steps` did not do.
    """
    image = image.detach()
    with torch.no_grad():
        ranked = net(image)[0].sort(descending=True, stable=True).indices[:rivals].tolist()
    start = label = ranked[0]
    r = torch.zeros_like(image)
    steps = 0
    while label == start and steps < max_steps:
        at = (image + r).requires_grad_()
        logits = net(at)[0]
        towards_own = torch.autograd.grad(logits[start], at, retain_graph=True)[0]
        nearest, best = float("inf"), None
        for k in ranked[1:]:
            w = torch.autograd.grad(logits[k], at, retain_graph=True)[0] - towards_own
            gap = (logits[k] - logits[start]).detach().abs().item()
            flat = w.flatten() if basis is None else basis.T @ w.flatten()
            distance = gap / flat.norm().item()
            if distance < nearest:
                nearest, best = distance, w
        direction = best if basis is None else (basis @ (basis.T @ best.flatten())).reshape(image.shape)
        r = r + max(nearest, 1e-4) * direction / direction.norm()
        steps += 1
        with torch.no_grad():
            label = net(image + (1 + overshoot) * r)[0].argmax().item()
    return (1 + overshoot) * r, steps, label


def affine_margins(weight: Tensor, bias: Tensor, x: Tensor, basis: Tensor | None = None) -> Tensor:
    """Exact margins (N,) of the classifier x ↦ W x + b in a subspace: min_k |f_k − f_0| / ‖Qᵀ(w_k − w_0)‖.

    W (L, D), b (L,), x (N, …), Q (D, d) with orthonormal columns or None. In float64 whatever comes in.
    """
    weight, bias, x = weight.double(), bias.double(), x.flatten(1).double()
    basis = torch.eye(x.shape[1], dtype=torch.float64) if basis is None else basis.double()
    logits = x @ weight.T + bias
    own = logits.argmax(1)
    gaps = logits.gather(1, own[:, None]) - logits
    lengths = ((weight[None] - weight[own][:, None]) @ basis).norm(dim=2)
    distances = gaps / lengths  # the own class gives 0 / 0
    return distances.scatter(1, own[:, None], torch.inf).amin(1)
