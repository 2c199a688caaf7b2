"""Mini-batch training to losses no float holds: SGD on exp(log ℓ − log L̂), with a step as large as the loss is small.

The max-margin experiment of *Feature averaging*, after Lyu and Li (2020): every step of an epoch is rate · ∇ℓ_B / L̂,
with ℓ_B the mini-batch's mean cross-entropy and L̂ the training set's where the epoch began. Only logarithms of losses
are formed, and their difference is of ordinary size. An epoch that leaves the training loss higher is undone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tightrope import progress, refusals, seeds
from tightrope.fingerprint import fingerprint
from tightrope.models import outputs
from tightrope.models.log_descent import DOWN, LONGEST, UP, log_cross_entropy
from tightrope.models.resuming import State
from tightrope.models.training import Diverged, _check, _check_alone, _same_every_time

__all__ = ["Log", "fit"]

CHUNK = 1_000  # samples the training loss is computed on at once
SLOWEST, FASTEST = (
    1e-300,
    1e300,
)  # a network that no step moves, or none may, would take its rate out of the floats
SLACK = math.log(2)  # batch norm and rounding make a batch's loss another one than in the training loss


@dataclass(frozen=True)
class Log:
    """What `fit` saw of E epochs, those that were undone included; on the CPU, float64 but for `accepted`.

    log_loss  (E + 1,) natural logarithm of the training loss of the weights that were kept, before training first
    log_time  (E + 1,) logarithm of the sum of all steps that were kept, each rate / L̂ or rate; −inf first
    rate      (E,) the epoch's
    accepted  (E,) False where the epoch was undone; the sum of these is what the source counts as epochs
    """

    log_loss: Tensor
    log_time: Tensor
    rate: Tensor
    accepted: Tensor


@torch.inference_mode(False)
def fit(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    rate: float,
    batch: int = 100,
    schedule: str = "loss",
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    on_epoch: Callable[[int, nn.Module, float], None] | None = None,
) -> Log:
    """Train `net` in place on x (N, …) float and y (N,) int64 by plain SGD, and leave it in eval mode.

    schedule "loss": steps of rate · ∇ℓ_B / L̂. After an epoch that has not raised the training loss the rate grows by
    2^(1/5); any other is undone, weights and buffers exactly, the rate divided by 2^(1/10), and the next epoch draws
    new batches. Undone is also what is not finite, and an epoch in which one batch alone held more than twice the
    training loss L̂: it had then been raised, and a step that long may leap to a lower one. Ours: L̂ starts as the
    network's own loss, the source's as log(classes); and the rate grows by less, or falls, where log L̂ would else
    fall by more than 10 in an epoch, far from any of the source's, for on easy data the rule runs away.
    "constant": steps of rate · ∇ℓ_B, all kept; they come to nothing where ℓ_B is below the weights' smallest float.

    `epochs` counts those undone too: one costs as much as another. `on_epoch(epoch, net, log_loss)` is called after
    each from 1, in eval mode, with the weights that were kept. `checkpoint` is `training.fit`'s: a file from which a
    killed call goes on to the same weights. Logits are made float64: a float32 network's loss is as exact as they are.

    Raises ValueError for data that do not fit the network and `Diverged` where a constant rate ends in no number.
    """
    refusals.instance(nn.Module, net=net)
    refusals.whole(1, epochs=epochs, batch=batch)
    refusals.number(above=0, rate=rate)
    refusals.choice(("constant", "loss"), schedule=schedule)
    refusals.whole(0, seed=seed)
    refusals.function(**refusals.given(on_epoch=on_epoch))
    _check(net, x=x, y=y)
    if len(x) % batch == 1 or batch == 1:
        _check_alone(net, x, batch)
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    net.to(memory_format=layout)
    weights = [p for p in net.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("This network has no parameter that may be trained: they are all frozen.")
    generator = seeds.generator(seed, "batches", x.device)
    state = State(net, torch.optim.SGD(weights, lr=1.0), generator)
    keep = None
    if checkpoint is not None:
        refusals.instance((str, os.PathLike), checkpoint=checkpoint)
        keep = Path(checkpoint)
        whole = (net, x, y, epochs, float(rate), batch, schedule, seed, x.device.type, torch.__version__)
        state.restore(keep, fingerprint("log_training", *whole))
    if not state.loss:
        state.loss = [_log_loss(net, x, y, layout).item()]

    # The state's numbers of an epoch, beside its log loss: the rate, whether it was accepted, the log time after it.
    for _ in progress.track(range(epochs - len(state.moves)), "epoch", total=epochs, start=len(state.moves)):
        _try(state, x, y, rate, batch, schedule, layout)
        if keep is not None and not state.save(keep):
            keep = None
        if on_epoch is not None:
            on_epoch(len(state.moves), net, state.loss[-1])
    net.eval()
    state.optimizer.zero_grad(set_to_none=True)
    rates, accepted, log_time = torch.tensor(state.moves, dtype=torch.float64).T
    log_loss = torch.tensor(state.loss, dtype=torch.float64)
    log_time = torch.cat([log_time.new_full((1,), -math.inf), log_time])
    return Log(log_loss, log_time, rates.clone(), accepted.bool())


def _try(
    state: State, x: Tensor, y: Tensor, rate: float, batch: int, schedule: str, layout: torch.memory_format
) -> None:
    """One epoch, and what the schedule makes of it, written into `state`."""
    log_time, reference = -math.inf, 0.0
    if state.moves:
        last, accepted, log_time = state.moves[-1]
        fall = state.loss[-2] - state.loss[-1]
        rate = last if schedule == "constant" else _next(last, bool(accepted), fall)
    if schedule == "loss":
        reference = state.loss[-1]
    tensors = [*state.net.parameters(), *state.net.buffers()]
    kept = [t.detach().clone() for t in tensors]
    order = torch.randperm(len(x), generator=state.generators[0], device=x.device)
    batches = order.split(batch)
    worst = _epoch(state, x, y, batches, math.log(rate) - reference, layout)
    largest = nn.utils.get_total_norm([p.detach() for p in state.net.parameters()], math.inf)
    # The epoch's one wait for the device.
    log_loss, worst, largest = torch.stack(
        [_log_loss(state.net, x, y, layout), worst, largest.double()]
    ).tolist()
    accepted = math.isfinite(log_loss) and math.isfinite(largest)
    if schedule == "constant" and not accepted:
        raise Diverged(
            f"Training diverged in epoch {len(state.moves) + 1}: use a smaller rate than {rate:g}, or the schedule "
            "that undoes such an epoch."
        )
    if schedule == "loss":
        accepted = accepted and log_loss <= reference and worst <= reference + SLACK
    if accepted:
        log_time = float(np.logaddexp(log_time, math.log(rate) + math.log(len(batches)) - reference))
    else:
        log_loss = reference
        with torch.no_grad():
            for t, old in zip(tensors, kept, strict=True):
                t.copy_(old)
    state.loss.append(log_loss)
    state.moves.append([rate, float(accepted), log_time])


def _next(rate: float, accepted: bool, fall: float) -> float:
    factor = UP if fall <= LONGEST / UP else LONGEST / fall
    return min(max(rate * (factor if accepted else DOWN), SLOWEST), FASTEST)


def _epoch(
    state: State,
    x: Tensor,
    y: Tensor,
    batches: tuple[Tensor, ...],
    log_step: float,
    layout: torch.memory_format,
) -> Tensor:
    """SGD over the batches, in place; the log of the most that one of them added to the training loss."""
    state.net.train()
    worst = torch.full((), -math.inf, dtype=torch.float64, device=x.device)
    # The caller's autocast would reach the backward pass.
    with torch.enable_grad(), _same_every_time(), torch.autocast(x.device.type, enabled=False):
        for rows in progress.track(batches, "batch"):
            images = x[rows].contiguous(memory_format=layout)
            log_loss = log_cross_entropy(outputs.logits(state.net(images)).double(), y[rows])
            state.optimizer.zero_grad(set_to_none=True)
            (log_loss + log_step).exp().backward()
            state.optimizer.step()
            worst = torch.maximum(worst, log_loss.detach() + math.log(len(rows) / len(x)))
    return worst


def _log_loss(net: nn.Module, x: Tensor, y: Tensor, layout: torch.memory_format) -> Tensor:
    """log of the mean cross-entropy on all of x, y; leaves the network in eval mode."""
    net.eval()
    parts = []
    with torch.no_grad(), _same_every_time(), torch.autocast(x.device.type, enabled=False):
        for images, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
            logits = outputs.logits(net(images.contiguous(memory_format=layout))).double()
            parts.append(log_cross_entropy(logits, labels) + math.log(len(labels)))
    return torch.stack(parts).logsumexp(0) - math.log(len(x))
