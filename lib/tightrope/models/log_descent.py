"""Full-batch gradient descent to losses far below the smallest float: the loss lives in the log domain.

Gradient descent on a loss L with an exponential tail needs 1/L steps to reach L, and no float holds e⁻¹⁰⁰⁰. Both
ends meet in log L: its gradient ∇L / L is of ordinary size for ever, and descending along it follows the same path as
descending along ∇L, only faster. `Path.log_time` says how long gradient flow on L itself would have taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import progress, refusals

__all__ = ["Path", "descend", "log_cross_entropy", "log_logistic", "log_softplus"]

UP, DOWN = 2**0.2, 2**-0.1  # what a step that lowered the loss does to the rate, and one that did not
LONGEST = 10.0  # by how much one step may lower log L


def log_softplus(z: Tensor) -> Tensor:
    """log log(1 + eᶻ), elementwise; where eᶻ is less than rounding it is z itself."""
    refusals.tensor(empty=True, z=z)
    small = z < -37
    value = torch.logaddexp(z.clamp_min(-37), torch.zeros_like(z)).log()
    return torch.where(small, z, value)


def log_logistic(margins: Tensor) -> Tensor:
    """log of the mean of log(1 + e⁻ᵐ) over all margins m, of any shape."""
    refusals.tensor(margins=margins)
    return torch.logsumexp(log_softplus(-margins).flatten(), 0) - math.log(margins.numel())


def log_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """log of the mean cross-entropy of logits (N, L) and labels (N,)."""
    refusals.tensor(("N", "L"), logits=logits)
    # Whether the classes are there is a look at the values: on a GPU the look-up itself stops.
    refusals.labels(logits, None if logits.is_cuda else logits.shape[1], labels=labels)
    own = logits.gather(1, labels[:, None])
    rest = logits.scatter(1, labels[:, None], -math.inf).logsumexp(1, keepdim=True)
    return log_logistic(own - rest)


@dataclass(frozen=True)
class Path:
    """A descent, looked at after K of its steps.

    step      (K,) steps tried until then, the first 0
    log_loss  (K,) natural logarithm of the loss
    log_time  (K,) logarithm of the time Σ rate that gradient flow on the loss itself takes to get there; −inf first
    weights   for each parameter a tensor (K, *shape)
    """

    step: Tensor
    log_loss: Tensor
    log_time: Tensor
    weights: tuple[Tensor, ...]


def descend(
    log_loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    steps: int,
    rate: float,
    *,
    schedule: str = "constant",
    enough: float = 0.9,
    keep: int = 100,
) -> Path:
    """Gradient descent in place on `parameters`, which `log_loss()` computes the logarithm of the loss L from.

    schedule "constant": p ← p − rate ∇L, plain gradient descent, whatever L underflows to. "loss": steps of
    rate / L, which is rate ∇log L. A step is taken back, and the rate divided by 2^(1/10), where it lowers log L by
    less than the share `enough` of what its slope promises; else the rate grows by 2^(1/5). With 0 any lower loss
    will do, as in published code; near 1 the path is gradient flow's. No step promises to lower log L by more than
    10, so that what it leaves unbalanced between the samples stays bounded.
    `keep` steps are recorded, evenly spaced in log(step).

    Any dtype and device; nothing waits for the device. Raises ValueError for a loss that is not finite at the start
    and for arguments that describe no descent.
    """
    refusals.function(log_loss=log_loss)
    refusals.instances(Tensor, parameters=parameters)
    if not all(p.is_leaf and p.requires_grad for p in parameters):
        raise ValueError("parameters must be leaf tensors that require a gradient.")
    refusals.choice(("constant", "loss"), schedule=schedule)
    refusals.number(least=0, below=1, enough=enough)
    refusals.number(above=0, rate=rate)
    refusals.whole(1, steps=steps)
    refusals.whole(2, keep=keep)
    value, slopes = _look(log_loss, parameters)
    refusals.tensor((), finite=True, **{"log_loss() at the start": value})
    rate = torch.full_like(value, rate)
    log_time = torch.full_like(value, -math.inf)
    wanted = {0, *(round((steps + 1) ** (k / (keep - 1))) - 1 for k in range(keep))}
    seen: list[tuple[int, Tensor, Tensor, list[Tensor]]] = []

    def record(step: int) -> None:
        seen.append((step, value, log_time, [p.detach().clone() for p in parameters]))

    record(0)
    for step in progress.track(range(1, steps + 1), "descent"):
        square = sum(slope.square().sum() for slope in slopes)
        if schedule == "loss":
            rate = torch.minimum(rate, LONGEST / square)
        stride = rate * value.exp() if schedule == "constant" else rate
        before = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, slope in zip(parameters, slopes, strict=True):
                p -= stride * slope
        new, new_slopes = _look(log_loss, parameters)
        if schedule == "loss":
            ok = (new < value) & (value - new >= enough * stride * square)
            with torch.no_grad():
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(torch.where(ok, p, old))
            new_slopes = [torch.where(ok, a, b) for a, b in zip(new_slopes, slopes, strict=True)]
            # Flow on log L for `rate` is flow on L for ∫ ds / L, with log L falling evenly by `fall` on the way.
            fall = (value - new).clamp_min(1e-12)
            passed = rate.log() - new + (-torch.expm1(-fall) / fall).log()
            gained = torch.logaddexp(log_time, passed)
            log_time = torch.where(ok, gained, log_time)
            rate = rate * torch.where(ok, UP, DOWN)
            new = torch.where(ok, new, value)
        else:
            log_time = torch.logaddexp(log_time, rate.log())
        value, slopes = new, new_slopes
        if step in wanted:
            record(step)
    return Path(
        torch.tensor([s for s, *_ in seen]),
        torch.stack([v for _, v, *_ in seen]),
        torch.stack([t for _, _, t, _ in seen]),
        tuple(torch.stack(column) for column in zip(*(w for *_, w in seen), strict=True)),
    )


def _look(log_loss: Callable[[], Tensor], parameters: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    with torch.enable_grad():
        value = log_loss()
        refusals.tensor((), **{"log_loss()": value})
        if not value.requires_grad:
            raise ValueError("log_loss() must depend on the parameters, and what it gives has no gradient.")
        slopes = torch.autograd.grad(value, parameters, materialize_grads=True)
    return value.detach(), list(slopes)
