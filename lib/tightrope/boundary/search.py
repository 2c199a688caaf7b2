"""What the attacks share: the result, one chunk under attack, and the walk over chunks with all checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tightrope import progress, refusals, seeds
from tightrope.boundary import crossing
from tightrope.models.measured import check_input, frozen

Model = Callable[[Tensor], Tensor]
Box = tuple[float, float] | None
Search = Callable[["Task"], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attack:
    """What an attack on x (N, *shape) came back with.

    images  (N, *shape) the adversarial inputs; where none was found, x itself
    found   (N,) False where the attack failed, which says nothing about other attacks
    start   (N, *shape) x
    """

    images: Tensor
    found: Tensor
    start: Tensor

    def norm(self, p: float = 2) -> Tensor:
        """(N,) ℓp lengths of the perturbations; +inf where none was found."""
        if not (isinstance(p, float) and p == math.inf):
            refusals.number(least=1, p=p)
        length = (self.images - self.start).flatten(1).norm(p=p, dim=1)
        return torch.where(self.found, length, math.inf)


class Task:
    """One chunk under attack: inputs (R, *shape), labels (R,), and what counts as success."""

    def __init__(
        self, net: Model, x: Tensor, labels: Tensor, targeted: bool, box: Box, draws: torch.Generator
    ):
        self.net, self.x, self.labels, self.targeted, self.box, self.draws = (
            net,
            x,
            labels,
            targeted,
            box,
            draws,
        )

    def rows(self, rows: Tensor) -> Task:
        return Task(self.net, self.x[rows], self.labels[rows], self.targeted, self.box, self.draws)

    def over(self, logits: Tensor) -> Tensor:
        """Is the answer adversarial? (R,) bool; logits that overflow answer nothing."""
        return ((logits.argmax(1) == self.labels) == self.targeted) & logits.isfinite().all(1)

    def lead(self, logits: Tensor) -> Tensor:
        """How far behind the boundary, (R,): positive where adversarial."""
        lead = crossing.lead(logits, self.labels)
        return -lead if self.targeted else lead

    def loss(self, logits: Tensor, kind: str = "cross-entropy") -> Tensor:
        """What an attack makes larger, (R,)."""
        if kind == "margin":
            return self.lead(logits)
        if kind == "scaled":
            # Of size one whatever the network's temperature, so that the softmax cannot saturate.
            spread = logits.detach().amax(1, keepdim=True) - logits.detach().amin(1, keepdim=True)
            logits = logits / torch.where(spread > 0, spread, 1)
        value = cross_entropy(logits, self.labels, reduction="none")
        return -value if self.targeted else value

    def climb(self, at: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Logits at `at`, and the gradient of `loss` to it."""
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            logits = self.net(at)
            (slope,) = torch.autograd.grad(self.loss(logits, kind).sum(), at)
        return logits.detach(), slope

    def answer(self, at: Tensor) -> Tensor:
        """Logits at `at`, without a gradient."""
        with torch.no_grad():
            return self.net(at)

    def clip(self, images: Tensor) -> Tensor:
        return images if self.box is None else images.clamp(*self.box)

    def random(self, like: Tensor, draw: str) -> Tensor:
        """`draw` numbers ("normal_", "uniform_") shaped like `like`, in its dtype."""
        return getattr(torch.empty_like(like), draw)(generator=self.draws)


def run(
    search: Search,
    model: Model,
    x: Tensor,
    labels: Tensor,
    targeted: bool,
    box: Box,
    seed: int,
    chunk: int | None,
    name: str,
) -> Attack:
    """`search` on each chunk of x, behind the checks that all attacks share."""
    refusals.function(model=model)
    refusals.tensor(("N", ...), x=x)
    check_input(model, x)
    refusals.labels(x, labels=labels)
    refusals.truth(targeted=targeted)
    if box is not None:
        refusals.interval(box=box)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    size = chunk or (256 if x.device.type == "cpu" else 4096)
    draws = seeds.generator(seed, f"attack: {name}", x.device)
    images, found = [], []
    with frozen(model) as net:
        for part, wanted in progress.track(
            list(zip(x.split(size), labels.split(size), strict=True)), f"{name}, chunk"
        ):
            task = Task(net, part, wanted, targeted, box, draws)
            with torch.no_grad():
                logits = net(part)
                if not images:
                    _check(logits, x, labels, box, len(part))
                ready = task.over(logits)
            adversarial, hit = search(task)
            images.append(torch.where(wide(ready, part), part, adversarial).detach())
            found.append(ready | hit)
    return Attack(torch.cat(images), torch.cat(found), x)


def _check(logits: Tensor, x: Tensor, labels: Tensor, box: Box, n: int) -> None:
    """What can only be told by values, in one look at the device: labels among the classes, inputs in the box."""
    if logits.dim() != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(f"The model must return logits (N, L) with L ≥ 2, not {tuple(logits.shape)}.")
    known = ((labels >= 0) & (labels < logits.shape[1])).all()
    inside = ((x >= box[0]) & (x <= box[1])).all() if box is not None else torch.ones_like(known)
    known, inside = torch.stack([known, inside]).tolist()
    if not known:
        raise ValueError(f"Labels must lie between 0 and {logits.shape[1] - 1}, the model's classes.")
    if not inside:
        raise ValueError(f"Some inputs lie outside the box {tuple(box)}: give another one, or box=None.")


def keep_first(best: Tensor, found: Tensor, images: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the first adversarial image of every row."""
    return torch.where(wide(over & ~found, best), images, best), found | over


def wide(values: Tensor, like: Tensor) -> Tensor:
    """One value a row, shaped to meet `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
