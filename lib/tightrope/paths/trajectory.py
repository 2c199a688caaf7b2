"""Gradient descent that keeps its path: every state of the weights, and what every training point said at every step.

*Neighborhoods*, section 14: w_(s+1) = w_s + Σ_i Σ_l a_(i,s,l) ∇f_l(x_i; w_s), with a_(i,s) = −lr/N · ∂L/∂f(x_i; w_s)
(equation 12 for the mean loss; the source's ε, which steps on the summed loss, is lr/N). Fully connected networks
with one activation, written out layer by layer, so that no gradient of a single output is ever formed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from tightrope import progress, refusals, seeds
from tightrope._files import reason
from tightrope.models import nets
from tightrope.models.training import Diverged

Layer = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)

# φ, and φ' from z and φ(z). At a kink φ' is 0, as autograd has it.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relu": (torch.relu, lambda z, a: (z > 0).to(z.dtype)),
    "tanh": (torch.tanh, lambda z, a: 1 - a * a),
}

# The mean loss, and ∂L/∂f of one sample's own loss, (N, K) from logits f (N, K) and y.
LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "cross_entropy": (cross_entropy, lambda f, y: f.softmax(1) - one_hot(y, f.shape[1])),
    "binary": (
        lambda f, y: binary_cross_entropy_with_logits(f, y[:, None].to(f.dtype)),
        lambda f, y: f.sigmoid() - y[:, None],
    ),
    "squared": (lambda f, y: (f - y).square().sum(1).mean(), lambda f, y: 2 * (f - y)),
}


@dataclass(frozen=True)
class Trajectory:
    """A training and its path. N training points of D numbers, T steps, K outputs, P weights.

    x (N, D), y, states (T + 1, P) the weights before each step and after the last, a (T, N, K) the a_(i,s),
    loss (T + 1,) the mean training loss at every state. `states` and `a` lie on disk when they are large.
    """

    x: Tensor
    y: Tensor
    states: Tensor
    a: Tensor
    loss: Tensor
    sizes: tuple[int, ...]
    activation: str
    momentum: float

    @property
    def steps(self) -> int:
        return len(self.a)

    def layers(self, step: int) -> list[Layer]:
        """The weights before step `step` (`step` = T: the trained ones), as layers, on the data's device."""
        refusals.whole(0, self.steps, step=step)
        return layers(self.states[step].to(self.x.device), self.sizes)

    def inputs(self, x: Tensor) -> Tensor:
        """Queries (Q, …) as (Q, D) in the path's precision; ValueError for what the network cannot take."""
        refusals.tensor(("Q", ..., "D"), finite=True, **{"the queries": x})
        flat = x.flatten(1)
        refusals.tensor(
            (len(x), self.sizes[0]), like=self.x[:0].to(x.dtype), **{"the queries, flattened,": flat}
        )
        return flat.to(self.x.dtype)

    def net(self, x: Tensor, step: int | None = None) -> Tensor:
        """Logits (Q, K) of inputs (Q, …) by the trained weights, or by those before `step`. Differentiable."""
        return forward(self.layers(self.steps if step is None else step), self.inputs(x), self.activation)[-1]


class Trained:
    """What a training and its kernel have in common, whatever the kernel: points, losses, a_(i,s) and the network."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self.x, self.y, self.loss, self.steps = trajectory.x, trajectory.y, trajectory.loss, trajectory.steps

    @property
    def weights(self) -> Tensor:
        """a_(i,s) (N, T, K): −lr/N times the loss's derivative at training point i before step s."""
        return self.trajectory.a.transpose(0, 1)

    def net(self, xq: Tensor, step: int | None = None) -> Tensor:
        """Logits (Q, K) of the trained network, or of the one before `step`. Differentiable."""
        return self.trajectory.net(xq, step)


def layers(flat: Tensor, sizes: Sequence[int]) -> list[Layer]:
    """Views into a vector of all weights: layer after layer, weight before bias."""
    views, at = [], 0
    for fan_in, fan_out in pairwise(sizes):
        weight = flat[at : at + fan_in * fan_out].view(fan_out, fan_in)
        at += fan_in * fan_out
        views.append((weight, flat[at : at + fan_out]))
        at += fan_out
    return views


def forward(net: Sequence[Layer], x: Tensor, activation: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What enters each layer [(N, D), (N, H₁), …], the pre-activations [(N, H₁), …], the logits (N, K)."""
    act = ACTIVATIONS[activation][0]
    entering, before = [x], []
    for weight, bias in net[:-1]:
        before.append(torch.addmm(bias, entering[-1], weight.T))
        entering.append(act(before[-1]))
    weight, bias = net[-1]
    return entering, before, torch.addmm(bias, entering[-1], weight.T)


def slopes(before: Sequence[Tensor], entering: Sequence[Tensor], activation: str) -> list[Tensor]:
    """φ'(z) at every hidden layer."""
    slope = ACTIVATIONS[activation][1]
    return [slope(z, a) for z, a in zip(before, entering[1:], strict=True)]


def signals(net: Sequence[Layer], steep: Sequence[Tensor], top: Tensor) -> list[Tensor]:
    """`top` (N, K) or (N, M, K) carried back to every layer's output: [(…, H₁), …, (…, K)].

    With `top` = a_i this is Σ_l a_(i,l) ∂f_l/∂z; with M = K rows of the identity it is ∂f/∂z, one row an output.
    """
    back = [top]
    for (weight, _), slope in zip(reversed(net[1:]), reversed(steep), strict=True):
        back.insert(0, back[0] @ weight * (slope if top.dim() == 2 else slope.unsqueeze(1)))
    return back


@torch.no_grad()
def descend(
    x: Tensor,
    y: Tensor,
    hidden: Sequence[int],
    classes: int,
    *,
    steps: int,
    lr: float,
    seed: int,
    loss: str = "cross_entropy",
    activation: str = "relu",
    momentum: float = 0.0,
    batch: int | None = None,
    zero_last: bool = True,
    dtype: torch.dtype | None = None,
    memory: int = 2**30,
) -> Trajectory:
    """`steps` steps of gradient descent on the mean loss; see `path_kernel.train` for the arguments.

    Raises ValueError for arguments and data that make no training, `Diverged` when it leaves the finite range.
    """
    refusals.wholes(1, hidden=hidden)
    refusals.whole(1, **{"the length of hidden": len(hidden)}, classes=classes, steps=steps)
    x, y = _data(x, y, loss, classes, dtype)
    refusals.number(above=0, lr=lr)
    refusals.number(least=0, below=1, momentum=momentum)
    refusals.choice(tuple(ACTIVATIONS), activation=activation)
    refusals.whole(1, len(x), **refusals.given(batch=batch))
    refusals.truth(zero_last=zero_last)
    refusals.number(least=0, memory=memory)
    n, sizes = len(x), (x.shape[1], *hidden, classes)
    w = _start(sizes, seed, zero_last).to(x)
    states, a = _storage((steps + 1, len(w)), (steps, n, classes), x, memory)
    states[0] = w
    value, gradient = LOSSES[loss]
    batches = _batches(n, batch or n, steps, seeds.generator(seed, "batches", x.device))
    velocity, losses = torch.zeros_like(w), []
    for s, rows in enumerate(progress.track(batches, "step")):
        net = layers(w, sizes)
        entering, before, logits = forward(net, x, activation)
        losses.append(value(logits, y))
        said = gradient(logits, y).to(x.dtype) * (-lr / n)
        if rows is not None:
            said = torch.zeros_like(said).index_copy(0, rows, said[rows] * (n / len(rows)))
        back = signals(net, slopes(before, entering, activation), said)
        increment = [(d.T @ e, d.sum(0)) for d, e in zip(back, entering, strict=True)]
        velocity = momentum * velocity + torch.cat([t.flatten() for pair in increment for t in pair])
        w = w + velocity
        a[s], states[s + 1] = said, w
    losses.append(value(forward(layers(w, sizes), x, activation)[-1], y))
    history = torch.stack(losses)
    bad = ~history.isfinite()
    if bad.any() or not w.isfinite().all():
        at = int(bad.int().argmax()) if bad.any() else steps
        raise Diverged(
            f"The training left the finite numbers at step {at} of {steps} with lr={lr:g}: use a smaller one."
        )
    return Trajectory(x, y, states, a, history, sizes, activation, momentum)


def _start(sizes: Sequence[int], seed: int, zero_last: bool) -> Tensor:
    """He's initialisation, the last layer zero if wanted: then the first output is 0 for every input."""
    net = nets.mlp(sizes[0], sizes[1:-1], sizes[-1], seed=seed)
    weights = [p.detach().flatten() for p in net.parameters()]
    if zero_last:
        weights[-2] = torch.zeros_like(weights[-2])
    return torch.cat(weights)


def _batches(n: int, batch: int, steps: int, generator: torch.Generator) -> Sequence[Tensor | None]:
    """The rows of each step's mini-batch, every point once an epoch; None for all of them."""
    if batch >= n:
        return [None] * steps
    parts: list[Tensor] = []
    while len(parts) < steps:
        parts += torch.randperm(n, generator=generator, device=generator.device).split(batch)
    return parts[:steps]


def _storage(first: Sequence[int], second: Sequence[int], like: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """Two tensors beside `like`; when they take more than `memory` bytes together, in one memory-mapped file.

    The file loses its name at once, so that nothing stays behind however the process ends.
    """
    sizes = [math.prod(first), math.prod(second)]
    need = sum(sizes) * like.element_size()
    if need <= memory:
        return like.new_zeros(first), like.new_zeros(second)
    try:
        with tempfile.NamedTemporaryFile(prefix="tightrope-path-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a crash in mid-path
                os.posix_fallocate(file.fileno(), 0, need)
            else:
                os.truncate(file.fileno(), need)
            whole = torch.from_file(file.name, shared=True, size=sum(sizes), dtype=like.dtype)
    except OSError as error:
        raise OSError(
            f"This path takes {need:,} bytes, more than the {memory:,} of memory it may, and the folder for "
            f"temporary files cannot hold it ({reason(error)}): set TMPDIR to a larger disk."
        ) from error
    return whole[: sizes[0]].view(first), whole[sizes[0] :].view(second)


def _data(x: Tensor, y: Tensor, loss: str, classes: int, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """x as (N, D), and y as the loss takes it."""
    refusals.choice(tuple(LOSSES), loss=loss)
    refusals.choice((None, torch.float32, torch.float64), dtype=dtype)
    refusals.tensor(("N", ..., "D"), finite=True, x=x)
    x = x.detach().flatten(1).to(dtype or (torch.float32 if x.is_cuda else torch.float64))
    if loss == "squared":
        refusals.instance(Tensor, y=y)
        refusals.tensor((len(x), *[classes] * (y.ndim != 1 or classes != 1)), finite=True, y=y)
        target = y.detach().to(x).reshape(len(x), -1)
        return x, target
    if (loss == "binary") != (classes == 1):
        raise ValueError("Binary cross-entropy has one output, cross-entropy two or more: set classes.")
    refusals.labels(x, max(2, classes), y=y)
    return x, y
