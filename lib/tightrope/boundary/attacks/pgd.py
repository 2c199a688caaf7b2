"""Projected gradient descent, in ℓ2 and ℓ∞, and its cases: the fast gradient sign method, that after a random step, and
that repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary import boxes
from tightrope.boundary.search import (
    KEEPS,
    LOSSES,
    Attack,
    Box,
    Model,
    Search,
    Task,
    keep_first,
    run,
    unit,
    wide,
)
from tightrope.inputs.subspaces import Subspace

PROJECTIONS = ("in turn", "dykstra")


def pgd(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "l2",
    steps: int = 40,
    step: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: str = "scaled",
    projection: str = "in turn",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Projected gradient descent inside a ball of radius `eps` (Madry et al. 2018; Kurakin et al. 2016).

    norm "l2": steps along the gradient, brought back to the sphere; "linf": along its sign, clipped. `step` is 2.5 eps
    / steps unless given. Every iterate is looked at: the first adversarial one is kept, and later restarts are spent on
    the rows that have none. No perturbation that counts is longer than `eps`, roundings included.

    `keep`: "first" success; "last" iterate, of one start; "worst" iterate of all restarts, which is that of highest
    loss or, since the scaled one does not compare between iterates, there of the largest margin.

    `loss`: "scaled" (cross-entropy of logits brought to a spread of ten) or "margin" (the best other logit minus the
    own), which do not depend on the scale of the logits, or "cross-entropy": as published, exempt from that, and
    stuck where it saturates.

    `projection`: an iterate is brought into the ball and then into the box, or, with "dykstra", to the nearest point
    that lies in both.
    """
    refusals.truth(random_start=random_start)
    walk = Walk(eps, norm, steps, step, loss, random_start, projection)
    return run(ascent(walk, restarts, keep), model, x, labels, targeted, box, seed, chunk, "PGD", keep=keep)


def fgsm(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    step: float | None = None,
    random_start: bool = False,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """The fast gradient sign method: one step of `pgd`, of length `eps` (Goodfellow et al. 2015).

    With a random start it is 1.25 eps long (Wong et al. 2020); Tramèr et al. (2018) start at a corner of a smaller
    cube, as `r_fgsm` does. norm "l2": the step is along the gradient itself. The rest is as in `pgd`.
    """
    refusals.truth(random_start=random_start)
    refusals.number(above=0, eps=eps)
    step = eps * (1.25 if random_start else 1.0) if step is None else step
    walk = Walk(eps, norm, 1, step, loss, random_start)
    return run(ascent(walk, 1, keep), model, x, labels, targeted, box, seed, chunk, "FGSM", keep=keep)


def r_fgsm(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    alpha: float | None = None,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """R+FGSM: the fast gradient sign method after a small random step, in ℓ∞ (Tramèr et al. 2018, equation 7).

    x' = x + α sign(N(0, I)), and from there (eps − α) sign(∇ loss(x')): both lie in the box, and no number of the
    second moves further than `eps` from x. `alpha` is eps / 2 unless given (theirs), and below eps. Where x' is
    adversarial already, the "first" success is x'. The rest is as in `pgd`.
    """
    refusals.number(above=0, eps=eps)
    alpha = eps / 2 if alpha is None else alpha
    refusals.number(above=0, below=eps, alpha=alpha)
    walk = _FromCorner(eps, "linf", 1, eps - alpha, loss)
    return run(ascent(walk, 1, keep), model, x, labels, targeted, box, seed, chunk, "R+FGSM", keep=keep)


def bim(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    step: float | None = None,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """The basic iterative method, or iterative FGSM: `pgd` that starts at x (Kurakin et al. 2016, section 2.2).

    Their targeted one (section 2.3) has `targeted=True` and as `labels` the classes wanted, there the least likely. The
    rest is as in `pgd`; nothing is drawn.
    """
    walk = Walk(eps, norm, steps, step, loss, random_start=False)
    return run(ascent(walk, 1, keep), model, x, labels, targeted, box, seed, chunk, "BIM", keep=keep)


@dataclass(frozen=True)
class Walk:
    """How one start of PGD walks. The ball's radius is `wider` · eps at first, and eps from half of the steps on.

    With a `subspace` every perturbation lies in it: it starts there, and follows the gradient's projection.
    """

    eps: float
    norm: str
    steps: int
    step: float | None
    loss: str
    random_start: bool = True
    projection: str = "in turn"
    wider: float = 1.0
    subspace: Subspace | None = None

    def __post_init__(self) -> None:
        refusals.choice(("l2", "linf"), norm=self.norm)
        refusals.choice(LOSSES, loss=self.loss)
        refusals.choice(PROJECTIONS, projection=self.projection)
        refusals.whole(1, steps=self.steps)
        refusals.number(above=0, eps=self.eps)
        if self.step is not None:
            refusals.number(above=0, step=self.step)

    def radius(self, k: int) -> float:
        """The ball's at the k-th iterate."""
        return self.eps * max(1.0, self.wider - (self.wider - 1) * k / (self.steps / 2))

    def start(self, task: Task) -> Tensor:
        """The first iterate: x, or uniform in the ball."""
        radius, shape = self.radius(0), task.x.shape[1:]
        if not self.random_start:
            return task.x
        if self.norm == "linf":
            return task.add(radius * (2 * task.random("uniform_", *shape) - 1), radius, "linf")
        numbers = task.x[0].numel() if self.subspace is None else self.subspace.dim
        length = radius * task.random("uniform_") ** (1 / numbers)
        direction, _ = unit(self._part(task.random("normal_", *shape)))
        return task.add(direction * wide(length, task.x), radius, "l2")

    def move(self, task: Task, images: Tensor, slope: Tensor, k: int) -> Tensor:
        """The iterate after the k-th, whose gradient is `slope`."""
        towards = slope.sign() if self.norm == "linf" else unit(self._part(slope))[0]
        stride = 2.5 * self.radius(k) / self.steps if self.step is None else self.step
        delta, radius = images - task.x + stride * towards, self.radius(k + 1)
        if self.projection == "dykstra" and task.box is not None:
            delta = boxes.dykstra(task.x, delta, radius, self.norm, task.box)
        return task.add(delta, radius, self.norm)

    def last(self, task: Task) -> Tensor:
        """The last iterate, which nobody has looked at."""
        images = self.start(task)
        for k in range(self.steps):
            images = self.move(task, images, task.climb(images, self.loss)[1], k)
        return images

    def counts(self, task: Task, images: Tensor, k: int) -> Tensor:
        """Whether the k-th iterate lies inside eps: (R,) bool."""
        if self.radius(k) <= self.eps:
            return torch.ones_like(task.labels, dtype=torch.bool)
        order = 2 if self.norm == "l2" else math.inf
        return (images - task.x).flatten(1).norm(p=order, dim=1) <= self.eps

    def _part(self, vectors: Tensor) -> Tensor:
        return vectors if self.subspace is None else self.subspace.project(vectors)


class _FromCorner(Walk):
    """A walk that starts at a random corner of the cube that its step leaves of the ball."""

    def start(self, task: Task) -> Tensor:
        alpha = self.eps - self.step
        return task.add(alpha * task.random("normal_", *task.x.shape[1:]).sign(), alpha, "linf")


def ascent(walk: Walk, restarts: int, keep: str = "first") -> Search:
    """PGD on one chunk."""
    refusals.whole(1, restarts=restarts)
    refusals.choice(KEEPS, keep=keep)
    if keep == "last" and restarts > 1:
        raise ValueError("keep='last' is the last iterate of one start: restarts must be 1, or keep 'worst'.")

    def once(task: Task) -> tuple[Tensor, Tensor]:
        images = walk.start(task)
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        mine, rows = task, torch.arange(len(task.x), device=task.x.device)
        for k in range(walk.steps + 1):
            # The last iterate is only looked at.
            logits, slope = mine.climb(images, walk.loss) if k < walk.steps else (mine.answer(images), None)
            over = mine.over(logits) & walk.counts(mine, images, k)
            kept, flags = keep_first(best[rows], found[rows], images, over)
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            if k == walk.steps:
                break
            images = walk.move(mine, images, slope, k)
            if k % 8 == 7:  # rows that are done leave, now and then: it costs a device a stop
                left = (~flags).nonzero().squeeze(1)
                if not len(left):
                    break
                mine, rows, images = mine.rows(left), rows[left], images[left]
        return best, found

    def first(task: Task) -> tuple[Tensor, Tensor]:
        best, found = once(task)
        for _ in range(restarts - 1):
            left = (~found).nonzero().squeeze(1)
            if not len(left):
                break
            images, new = once(task.rows(left))
            best, found = best.index_copy(0, left, images), found.index_copy(0, left, new)
        return best, found

    def last(task: Task) -> tuple[Tensor, Tensor]:
        images = walk.last(task)
        return images, task.over(task.answer(images))

    def worst(task: Task) -> tuple[Tensor, Tensor]:
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        highest = torch.full_like(task.x.flatten(1)[:, 0], -math.inf)
        judge = "margin" if walk.loss == "scaled" else walk.loss  # scaled, two classes lose only by the sign
        for _ in range(restarts):
            images = walk.start(task)
            for k in range(walk.steps + 1):
                logits, slope = (
                    task.climb(images, walk.loss) if k < walk.steps else (task.answer(images), None)
                )
                value = task.loss(logits, judge)
                better = (value > highest) & walk.counts(task, images, k)
                best = torch.where(wide(better, best), images, best)
                found = torch.where(better, task.over(logits), found)
                highest = torch.where(better, value, highest)
                if k < walk.steps:
                    images = walk.move(task, images, slope, k)
        return best, found

    return {"first": first, "last": last, "worst": worst}[keep]
