"""Differential training: losses on the differences between scores of opposite classes.

*Cross-entropy loss and low-rank features*, equations (2), (5), (6) and (7). Everything here works on scores, one
number a sample: a (I,) of the class to be put on the positive side, b (J,) of the other. For a linear classifier
a_i = ⟨w, x_i⟩, which is (2); for a network a_i = wᵀφ(x_i), which is (6). Losses are means over the |I|·|J| pairs,
where the source writes sums: the minimiser is the same and a learning rate keeps its meaning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tightrope import refusals

__all__ = [
    "TradeOff",
    "balanced_squares",
    "bias",
    "logistic_pairs",
    "on_labels",
    "scores",
    "squared_pairs",
    "trade_off",
    "with_bias",
]


BLOCK = 2**20  # pairs formed at once


def logistic_pairs(a: Tensor, b: Tensor) -> Tensor:
    """(2) and (6): the mean of log(1 + exp(−(a_i − b_j))) over all pairs, in O(|I| + |J|) memory.

    Every pair is formed, a block of them at a time, and its derivative with it. Raises RuntimeError where a
    gradient is to be differentiated again.
    """
    _check(a, b)
    return _LogisticPairs.apply(a, b)


class _LogisticPairs(torch.autograd.Function):
    """The derivatives by a_i and b_j are −1 and +1 times the mean of σ(b_j − a_i) over what is paired with them."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        total, at_a, at_b = a.new_zeros(()), torch.empty_like(a), torch.zeros_like(b)
        rows = max(1, BLOCK // len(b))
        for part, slopes in zip(a.split(rows), at_a.split(rows), strict=True):
            gaps = part[:, None] - b
            total -= logsigmoid(gaps).sum()
            sigma = gaps.neg_().sigmoid_()
            slopes.copy_(sigma.sum(1))
            at_b += sigma.sum(0)
        pairs = len(a) * len(b)
        ctx.save_for_backward(at_a / -pairs, at_b / pairs)
        return total / pairs

    @staticmethod
    def backward(ctx, by: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            raise RuntimeError("The logistic loss over pairs is differentiable once: leave out create_graph.")
        at_a, at_b = ctx.saved_tensors
        return by * at_a, by * at_b


def squared_pairs(a: Tensor, b: Tensor, gap: float = 1.0) -> Tensor:
    """(7): the mean of (a_i − b_j − gap)² over all pairs, exactly, in O(|I| + |J|).

    The difference of two independent draws has the variances' sum for variance, so the double sum is
    var(a) + var(b) + (mean(a) − mean(b) − gap)²: no pair is ever formed.
    """
    _check(a, b)
    refusals.number(gap=gap)
    return a.var(correction=0) + b.var(correction=0) + (a.mean() - b.mean() - gap) ** 2


def balanced_squares(a: Tensor, b: Tensor, gap: float = 1.0) -> Tensor:
    """The control: squared loss on the labels ±gap/2, each class counting the same, no pairs at all.

    var(a) + (mean(a) − gap/2)² + var(b) + (mean(b) + gap/2)². With a bias c of its own, minimised over c, this is
    (7) with half the weight on its last term: what differential training adds to a squared loss is that the bias is
    gone and the gap counts double.
    """
    _check(a, b)
    refusals.number(gap=gap)
    return (a - gap / 2).square().mean() + (b + gap / 2).square().mean()


def bias(a: Tensor, b: Tensor) -> Tensor:
    """(5): the bias half-way between the lowest positive score and the highest negative one, shape ()."""
    _check(a, b, finite=True)
    return -(a.amin() + b.amax()) / 2


@dataclass(frozen=True)
class TradeOff:
    """The errors of every threshold at once, each (I + J + 1,), the bias falling from the largest to the smallest.

    bias    the sample is called positive where score + bias > 0
    type1   share of the negative class called positive; falls
    type2   share of the positive class called negative; rises
    """

    bias: Tensor
    type1: Tensor
    type2: Tensor


def trade_off(a: Tensor, b: Tensor) -> TradeOff:
    """Type-I and type-II errors of every bias that changes one of them, after (5)."""
    _check(a, b, finite=True)
    values = torch.cat([a, b]).sort().values
    between = (values[1:] + values[:-1]) / 2
    cuts = torch.cat([values[:1] - 1, between, values[-1:] + 1])
    below = lambda scores: torch.searchsorted(scores.sort().values, cuts, right=True) / len(scores)
    return TradeOff(-cuts, 1 - below(b), below(a))


def scores(net: Callable[[Tensor], Tensor], x: Tensor, batch: int = 1_000) -> Tensor:
    """The score (N,) that logits (N, 2) of x (N, …) make: their difference, positive for label 1. No gradient."""
    refusals.function(net=net)
    refusals.samples(net, x=x)
    refusals.whole(1, batch=batch)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in x.split(batch)])
    refusals.tensor((len(x), 2), **{"what net gives": logits})
    return logits.diff(dim=1)[:, 0]


def with_bias(net: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """A copy of a two-class network with the bias that errs least on x (N, …), y (N,): (5) where that errs nowhere.

    A loss on pairs leaves the last bias where it started. Where the classes' scores overlap, the bias is the one of
    `trade_off` with the least sum of both shares of errors. Raises ValueError where the last fully connected layer
    has no bias.
    """
    refusals.instance(nn.Module, net=net)
    refusals.samples(net, x=x)
    refusals.labels(x, 2, y=y)
    if y.amin() == y.amax():
        raise ValueError("y must hold both labels, 0 and 1: a bias lies between two classes.")
    net = copy.deepcopy(net)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1:]
    if not last or last[0].bias is None:
        raise ValueError(
            "The network has no last fully connected layer with a bias: there is none to choose."
        )
    found = scores(net, x)
    a, b = found[y == 1], found[y == 0]
    shift = bias(a, b)
    if not a.amin() > b.amax():
        errors = trade_off(a, b)
        shift = errors.bias[(errors.type1 + errors.type2).argmin()]
    with torch.no_grad():
        last[0].bias[-1] += shift
    return net


def _check(a: Tensor, b: Tensor, finite: bool = False) -> None:
    refusals.tensor(("I",), finite=finite, a=a)
    refusals.tensor(("J",), finite=finite, like=a, b=b)


def on_labels(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A pair loss as a function of logits (N, 2) and labels (N,): the score is their difference, label 1 positive.

    A batch that happens to hold one class only has no pairs, and a loss of zero.
    """

    refusals.function(loss=loss)

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        refusals.tensor(("N", 2), logits=logits)
        refusals.labels(logits, labels=labels)
        scores = (logits[:, 1] - logits[:, 0]).float()
        a, b = scores[labels == 1], scores[labels == 0]
        return loss(a, b) if len(a) and len(b) else 0 * scores.sum()

    return objective
