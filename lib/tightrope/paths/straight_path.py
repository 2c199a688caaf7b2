"""Path kernels of deeper networks and other activations: by quadrature, or exactly by another kernel.

With more than one hidden layer the gradient along a straight step is no polynomial of t on an interval, and the
path kernel ∫₀¹ ∇f(x; w_s(t)) ∇f(x_i; w_s)ᵀ dt (*Neighborhoods*, equation 16) needs a rule with nodes. Its error is
known: the exact sum is the network. The *secant* form needs no integral. The change of a product is exactly
Δ(W a) = W̄ Δa + ΔW ā with means W̄, ā of a step's two ends, and Δφ = (Δφ/Δz) Δz; carried through the layers this
writes the step's change as Σ_i k_s(x, x_i) a_(i,s) to rounding. But it is a *different kernel*: it sees a step's
ends and not the way between them.

What is written as a sum may be the logits or, with `of="log_probabilities"`, ℓ = log softmax(f), whose gradient is
∇ℓ = (I − 1 pᵀ) ∇f with p = softmax(f). Under cross-entropy every step then says the same, lr/N at the label:
ℓ(x; w_T) = ℓ(x; w₀) + lr/N Σ_i K(x, x_i) e_(y_i) with the one kernel K = Σ_s k_s (equation 100, ŷ a log-probability).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.paths.quadrature import TANGENT, Rule, rule
from tightrope.paths.trajectory import ACTIVATIONS, Trained, descend, forward, signals, slopes

__all__ = ["SECANT", "DeepPath", "KernelSum", "rule", "train"]

BLOCK = 2**23  # numbers in the largest temporary tensor
SECANT = "secant"
MIDPOINTS = rule("midpoint", 16)
Of = Literal["logits", "log_probabilities"]
Where = Literal["moving", "start"]


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

    `by` is a `rule`, or SECANT for the exact form that is another kernel, of the logits only. `of`: the outputs that
    are written as a sum, "logits" or "log_probabilities".
    """

    def __repr__(self) -> str:
        n, sizes = len(self.x), "-".join(map(str, self.trajectory.sizes))
        return f"DeepPath({n} points, {sizes} {self.trajectory.activation}, {self.steps} steps)"

    @torch.no_grad()
    def predict(self, xq: Tensor, by: Rule | str = MIDPOINTS, *, of: Of = "logits") -> KernelSum:
        """The kernel sum over training points and steps, and how far it is from the network."""
        x = self.trajectory.inputs(xq)
        _refuse(by, of)
        output = torch.Tensor.clone if of == "logits" else _log_probabilities
        widest = max(self.trajectory.sizes[1:]) * self.trajectory.sizes[-1]
        parts = x.split(max(1, BLOCK // (len(self.x) + widest)))
        value = output(self.net(xq, 0)) + torch.cat([self._sum(part, by, of) for part in parts])
        return KernelSum(value, (value - output(self.net(xq))).abs().amax(1))

    def _sum(self, x: Tensor, by: Rule | str, of: Of) -> Tensor:
        total = x.new_zeros(len(x), self.trajectory.sizes[-1])
        for s in progress.track(range(self.steps), "kernel, step"):
            a = self.trajectory.a[s].to(x.device)
            entering, carried = self._training(s, a)
            for side in self._sides(x, s, by, of):
                for here, back, there, said in zip(side.entering, side.back, entering, carried, strict=True):
                    spread = (here @ there.T + 1) @ said
                    total += side.weight * (back @ spread.unsqueeze(2)).squeeze(2)
        return total

    @torch.no_grad()
    def kernel(
        self,
        xq: Tensor,
        by: Rule | str = MIDPOINTS,
        step: int | None = None,
        *,
        of: Of = "logits",
        other: Tensor | None = None,
        where: tuple[Where, Where] = ("moving", "start"),
    ) -> Tensor:
        """The blocks (Q, N, K, K) between queries and `other` (the training points), of one step or summed over all.

        `where` says at which weights each side's gradient is taken, as in `path_kernel.Path.gram`: all along w_s(t)
        ("moving") or at w_s ("start"). Definition 14.3 has training points at the start and all others moving.
        """
        x, z = self.trajectory.inputs(xq), self.x if other is None else self.trajectory.inputs(other)
        k = self.trajectory.sizes[-1]
        refusals.whole(0, self.steps - 1, **refusals.given(step=step))
        _refuse(by, of)
        for side in where:
            refusals.choice(("moving", "start"), where=side)
        if by == SECANT and where != ("moving", "start"):
            raise ValueError(
                "The secant has the queries moving and the others at the start: leave `where` out."
            )
        if where == ("start", "start"):
            by = TANGENT
        out = []
        for part in x.split(max(1, BLOCK // (k * k * len(z)))):
            total = x.new_zeros(len(part), len(z), k, k)
            for s in range(self.steps) if step is None else (step,):
                both = (
                    self._where(points, s, by, of, side)
                    for points, side in zip((part, z), where, strict=True)
                )
                for left, right in zip(*both, strict=True):
                    for here, back, there, said in zip(
                        left.entering, left.back, right.entering, right.back, strict=True
                    ):
                        inner = here @ there.T + 1
                        blocks = (back.flatten(0, 1) @ said.flatten(0, 1).T).view(len(part), k, -1, k)
                        total += left.weight * inner[..., None, None] * blocks.transpose(1, 2)
            out.append(total)
        return torch.cat(out)

    def _training(self, s: int, top: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The training side of step s, at w_s: what enters each layer, and `top` carried back to its output."""
        net = self.trajectory.layers(s)
        entering, before, _ = forward(net, self.x, self.trajectory.activation)
        return entering, signals(net, slopes(before, entering, self.trajectory.activation), top)

    def _where(self, x: Tensor, s: int, by: Rule | str, of: Of, where: Where) -> Iterator[_Side]:
        """One side of step s at every node: moving, or the start again and again."""
        if where == "moving":
            yield from self._sides(x, s, by, of)
        else:
            (start,) = self._sides(x, s, TANGENT, of)
            yield from [start] * (len(by.nodes) if isinstance(by, Rule) else 1)

    def _sides(self, x: Tensor, s: int, by: Rule | str, of: Of) -> Iterator[_Side]:
        """The moving side of step s at every node, or its one secant."""
        kind = self.trajectory.activation
        first, last = self.trajectory.layers(s), self.trajectory.layers(s + 1)
        k = self.trajectory.sizes[-1]
        eye = torch.eye(k, dtype=x.dtype, device=x.device).expand(len(x), k, k)
        if isinstance(by, Rule):
            for t, weight in zip(by.nodes, by.weights, strict=True):
                net = [
                    (torch.lerp(w, v, t), torch.lerp(b, c, t))
                    for (w, b), (v, c) in zip(first, last, strict=True)
                ]
                entering, before, logits = forward(net, x, kind)
                top = eye if of == "logits" else eye - logits.softmax(1)[:, None]  # ∂ℓ_k/∂f_j
                yield _Side(weight, entering, signals(net, slopes(before, entering, kind), top))
        else:
            net = [((w + v) / 2, b) for (w, b), (v, _) in zip(first, last, strict=True)]
            one, two = forward(first, x, kind), forward(last, x, kind)
            entering = [(u + v) / 2 for u, v in zip(one[0], two[0], strict=True)]
            steep = [
                _secant(z, after, a, b, kind)
                for z, after, a, b in zip(one[1], two[1], one[0][1:], two[0][1:], strict=True)
            ]
            yield _Side(1.0, entering, signals(net, steep, eye))


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _refuse(by: object, of: object) -> None:
    """A rule or the secant, and outputs that it can write as a sum."""
    refusals.instance((Rule, str), by=by)
    if isinstance(by, str):
        refusals.choice((SECANT,), by=by)
    refusals.choice(("logits", "log_probabilities"), of=of)
    if by == SECANT and of != "logits":
        raise ValueError("The secant form is of the logits: give a rule for the log-probabilities.")


def _secant(z: Tensor, end: Tensor, a: Tensor, b: Tensor, activation: str) -> Tensor:
    """Δφ/Δz from (z, a) to (end, b), and φ' where nothing moved. Both activations' slopes lie in [0, 1]."""
    ratio = ((b - a) / (end - z)).clamp(0, 1)
    return torch.where(end == z, ACTIVATIONS[activation][1](z, a), ratio)
