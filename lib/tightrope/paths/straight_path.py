"""Path kernels of deeper networks and other activations: by quadrature, or exactly by another kernel.

With more than one hidden layer the gradient along a straight step is no polynomial of t on an interval, and the
path kernel ∫₀¹ ∇f(x; w_s(t)) ∇f(x_i; w_s)ᵀ dt (*Neighborhoods*, equation 16) needs a rule with nodes. Its error is
known: the exact sum is the network. The *secant* form needs no integral. The change of a product is exactly
Δ(W a) = W̄ Δa + ΔW ā with means W̄, ā of a step's two ends, and Δφ = (Δφ/Δz) Δz; carried through the layers this
writes the step's change as Σ_i k_s(x, x_i) a_{i,s} to rounding. But it is a *different kernel*: it sees a step's
ends and not the way between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.paths.quadrature import Rule, rule
from tightrope.paths.trajectory import ACTIVATIONS, Trained, descend, forward, signals, slopes

__all__ = ["SECANT", "DeepPath", "KernelSum", "rule", "train"]

BLOCK = 2**23  # numbers in the largest temporary tensor
SECANT = "secant"
MIDPOINTS = rule("midpoint", 16)


class KernelSum(NamedTuple):
    """A kernel sum (Q, K) and its error: the largest distance to the network's own logits, (Q,)."""

    value: Tensor
    error: Tensor


class _Side(NamedTuple):
    """One node of a rule: its weight, what enters each layer (Q, …), what is carried back to its output (Q, K, …)."""

    weight: float
    entering: list[Tensor]
    back: list[Tensor]


def train(
    x: Tensor,
    y: Tensor,
    hidden: Sequence[int] = (50, 50, 50, 50),
    classes: int = 10,
    steps: int = 100,
    lr: float = 0.05,
    seed: int = 0,
    *,
    activation: str = "relu",
    loss: str = "cross_entropy",
    batch: int | None = None,
    zero_last: bool = True,
    dtype: torch.dtype | None = None,
    memory: int = 2**30,
) -> DeepPath:
    """Train a fully connected network with hidden layers `hidden` and "relu" or "tanh", and keep its path.

    The other arguments, and the errors, are those of `path_kernel.train`.
    """
    options = {"activation": activation, "loss": loss, "batch": batch, "zero_last": zero_last}
    more = {"steps": steps, "lr": lr, "seed": seed, "dtype": dtype, "memory": memory}
    return DeepPath(descend(x, y, hidden, classes, **options, **more))


class DeepPath(Trained):
    """A training of any depth and its kernels. N training points, Q queries, T steps, K outputs.

    `by` is a `rule`, or SECANT for the exact form that is another kernel.
    """

    def __repr__(self) -> str:
        n, sizes = len(self.x), "-".join(map(str, self.trajectory.sizes))
        return f"DeepPath({n} points, {sizes} {self.trajectory.activation}, {self.steps} steps)"

    @torch.no_grad()
    def predict(self, xq: Tensor, by: Rule | str = MIDPOINTS) -> KernelSum:
        """The kernel sum over training points and steps, and how far it is from the network."""
        x = self.trajectory.inputs(xq)
        widest = max(self.trajectory.sizes[1:]) * self.trajectory.sizes[-1]
        parts = x.split(max(1, BLOCK // (len(self.x) + widest)))
        value = self.net(xq, 0) + torch.cat([self._sum(part, by) for part in parts])
        return KernelSum(value, (value - self.net(xq)).abs().amax(1))

    def _sum(self, x: Tensor, by: Rule | str) -> Tensor:
        total = x.new_zeros(len(x), self.trajectory.sizes[-1])
        for s in progress.track(range(self.steps), "kernel, step"):
            a = self.trajectory.a[s].to(x.device)
            entering, carried = self._training(s, a)
            for side in self._sides(x, s, by):
                for here, back, there, said in zip(side.entering, side.back, entering, carried, strict=True):
                    spread = (here @ there.T + 1) @ said
                    total += side.weight * (back @ spread.unsqueeze(2)).squeeze(2)
        return total

    @torch.no_grad()
    def kernel(self, xq: Tensor, by: Rule | str = MIDPOINTS, step: int | None = None) -> Tensor:
        """The blocks over training points (Q, N, K, K), of one step or summed over all."""
        x, k = self.trajectory.inputs(xq), self.trajectory.sizes[-1]
        refusals.whole(0, self.steps - 1, **refusals.given(step=step))
        out = []
        for part in x.split(max(1, BLOCK // (k * k * len(self.x)))):
            total = x.new_zeros(len(part), len(self.x), k, k)
            for s in range(self.steps) if step is None else (step,):
                eye = torch.eye(k, dtype=x.dtype, device=x.device).expand(len(self.x), k, k)
                entering, carried = self._training(s, eye)
                for side in self._sides(part, s, by):
                    for here, back, there, said in zip(
                        side.entering, side.back, entering, carried, strict=True
                    ):
                        inner = here @ there.T + 1
                        blocks = (back.flatten(0, 1) @ said.flatten(0, 1).T).view(len(part), k, -1, k)
                        total += side.weight * inner[..., None, None] * blocks.transpose(1, 2)
            out.append(total)
        return torch.cat(out)

    def _training(self, s: int, top: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The training side of step s, at w_s: what enters each layer, and `top` carried back to its output."""
        net = self.trajectory.layers(s)
        entering, before, _ = forward(net, self.x, self.trajectory.activation)
        return entering, signals(net, slopes(before, entering, self.trajectory.activation), top)

    def _sides(self, x: Tensor, s: int, by: Rule | str) -> Iterator[_Side]:
        """The query side of step s at every node, or its one secant."""
        kind = self.trajectory.activation
        first, last = self.trajectory.layers(s), self.trajectory.layers(s + 1)
        k = self.trajectory.sizes[-1]
        eye = torch.eye(k, dtype=x.dtype, device=x.device).expand(len(x), k, k)
        refusals.instance((Rule, str), by=by)
        if isinstance(by, Rule):
            for t, weight in zip(by.nodes, by.weights, strict=True):
                net = [
                    (torch.lerp(w, v, t), torch.lerp(b, c, t))
                    for (w, b), (v, c) in zip(first, last, strict=True)
                ]
                entering, before, _ = forward(net, x, kind)
                yield _Side(weight, entering, signals(net, slopes(before, entering, kind), eye))
        else:
            refusals.choice((SECANT,), by=by)
            net = [((w + v) / 2, b) for (w, b), (v, _) in zip(first, last, strict=True)]
            one, two = forward(first, x, kind), forward(last, x, kind)
            entering = [(u + v) / 2 for u, v in zip(one[0], two[0], strict=True)]
            steep = [
                _secant(z, after, a, b, kind)
                for z, after, a, b in zip(one[1], two[1], one[0][1:], two[0][1:], strict=True)
            ]
            yield _Side(1.0, entering, signals(net, steep, eye))


def _secant(z: Tensor, end: Tensor, a: Tensor, b: Tensor, activation: str) -> Tensor:
    """Δφ/Δz from (z, a) to (end, b), and φ' where nothing moved. Both activations' slopes lie in [0, 1]."""
    ratio = ((b - a) / (end - z)).clamp(0, 1)
    return torch.where(end == z, ACTIVATIONS[activation][1](z, a), ratio)
