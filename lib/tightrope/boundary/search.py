"""What the attacks share: the result, one chunk under attack, and the walk over chunks with all checks."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tightrope import progress, refusals, seeds
from tightrope.boundary import boxes, crossing
from tightrope.boundary.boxes import Box, inside, shortened, wide
from tightrope.models.measured import check_input, measured

Model = Callable[[Tensor], Tensor]
Search = Callable[["Task"], tuple[Tensor, Tensor]]

LOSSES = ("scaled", "margin", "cross-entropy")
KEEPS = ("first", "last", "worst")

# The logits' spread under the scaled loss. Of 1 to 40, and against other measures of size, this is as strong as
# cross-entropy on networks as they come; and from 15 on float32 rounds a softmax to one.
SPREAD = 10.0


@dataclass(frozen=True)
class Attack:
    """What an attack on x (N, *shape) came back with. The robust share is that of rows neither found nor stuck.

    images  (N, *shape) the adversarial inputs; where none was found, x itself. With `keep` "last" or "worst" what the
            attack ended at or liked best, adversarial or not
    found   (N,) whether these are adversarial; False says nothing about other attacks
    stuck   (N,) not found, and no wonder: wherever the row's gradient was asked for it was zero or not finite (for
            the square attack: no query changed the margin), or its logits became NaN or infinite on the way
    start   (N, *shape) x
    passes  {attack: how many rows went through the network in all, with their gradients where it took any}
    """

    images: Tensor
    found: Tensor
    stuck: Tensor
    start: Tensor
    passes: dict[str, int]

    def norm(self, p: float = 2) -> Tensor:
        """(N,) ℓp lengths of the perturbations; +inf where none was found."""
        if not (isinstance(p, float) and p == math.inf):
            refusals.number(least=1, p=p)
        length = (self.images - self.start).flatten(1).norm(p=p, dim=1)
        return torch.where(self.found, length, math.inf)


def distortion(x: Tensor, images: Tensor) -> Tensor:
    """‖images − x‖₂ / √n, (N,): how far images (N, *shape) are from x (N, *shape), of n numbers each.

    Definition 1.8 of *Neighborhoods of adversarial examples*, after Szegedy et al. (2013): so that inputs of different
    sizes compare. Of an `attack`, `distortion(attack.start, attack.images)` counts rows that were not found as 0.
    """
    refusals.tensor(("N", ...), finite=True, x=x)
    refusals.tensor(tuple(x.shape), finite=True, like=x, images=images)
    return (images - x).flatten(1).norm(dim=1) / math.sqrt(x[0].numel())


class Seen:
    """What N rows under attack met on the way, whoever asked."""

    def __init__(self) -> None:
        self.n, self.passes = 0, 0

    def cover(self, n: int, device: torch.device) -> None:
        """Room for n rows, once."""
        if n != self.n:
            self.n, no = n, torch.zeros(n, dtype=torch.bool, device=device)
            self.usable, self.broken = no, no.clone()
            self.undefined, self.saturated = no.clone(), no.clone()

    def clean(self, rows: Tensor, logits: Tensor) -> None:
        """The answers to some rows as they came."""
        self.passes += len(rows)
        self.broken[rows] |= ~logits.isfinite().all(1)

    def stuck(self, found: Tensor) -> Tensor:
        return ~found & (self.broken | ~self.usable)

    def warn(self, stuck: Tensor, name: str, level: int = 4) -> None:
        """One sentence, and one look at the device, where more than one row in a hundred is stuck."""
        causes = {
            "its logits became NaN or infinite on the way": self.broken,
            "their gradient is NaN or infinite": self.undefined,
            "the softmax of logits this large is saturated: leave the loss at 'scaled'": self.saturated,
        }
        rows = torch.stack([stuck, *(stuck & met for met in causes.values())]).sum(1).tolist()
        if rows[0] <= 0.01 * len(stuck):
            return
        why = "the logits do not change with the input, as behind rounding, a threshold or a saturated layer"
        why = next((cause for cause, n in zip(causes, rows[1:], strict=True) if 2 * n >= rows[0]), why)
        warnings.warn(
            f"{name}: {rows[0]} of {len(stuck)} rows are stuck and say nothing about robustness, likely because {why}.",
            stacklevel=level,
        )


class Task:
    """Rows under attack: inputs (R, *shape), labels (R,), and what counts as success.

    `rows` (R,) are their numbers in `seen`, `chunk` the first and last one's of the chunk they were taken from: a row's
    random numbers do not depend on which of its neighbours are still there.
    """

    def __init__(
        self,
        net: Model,
        x: Tensor,
        labels: Tensor,
        targeted: bool,
        box: Box,
        draws: torch.Generator | None,
        seen: Seen,
        rows: Tensor,
        chunk: tuple[int, int],
    ):
        self.net, self.x, self.labels, self.targeted, self.box = net, x, labels, targeted, boxes.read(box)
        self.draws, self.seen, self.numbers, self.chunk = draws, seen, rows, chunk

    def rows(self, rows: Tensor) -> Task:
        part = copy.copy(self)
        part.x, part.labels, part.numbers = self.x[rows], self.labels[rows], self.numbers[rows]
        return part

    def over(self, logits: Tensor) -> Tensor:
        """Is the answer adversarial? (R,) bool; logits that overflow answer nothing."""
        return ((logits.argmax(1) == self.labels) == self.targeted) & logits.isfinite().all(1)

    def lead(self, logits: Tensor) -> Tensor:
        """How far behind the boundary, (R,): positive where adversarial."""
        lead = crossing.lead(logits, self.labels)
        return -lead if self.targeted else lead

    def loss(self, logits: Tensor, kind: str) -> Tensor:
        """What an attack makes larger, (R,).

        "cross-entropy", as published: it depends on the logits' scale, and where they are large its gradient is zero.
        "margin": how far behind the boundary. "scaled": the cross-entropy of logits brought to a spread of `SPREAD`.
        """
        if kind == "margin":
            return self.lead(logits)
        if kind == "scaled":
            spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
            logits = logits / torch.where(spread > 0, spread, 1) * SPREAD
        value = cross_entropy(logits, self.labels, reduction="none")
        return -value if self.targeted else value

    def climb(self, at: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Logits at `at`, and the gradient of `loss` to it: zero where there is none to use."""
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            logits = self.net(at)
            value = self.loss(logits, kind)
            slope = None
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), at, allow_unused=True)
        if kind == "cross-entropy":
            self.seen.saturated[self.numbers] |= value.detach() == 0
        slope = torch.zeros_like(at) if slope is None else slope
        size = slope.detach().flatten(1).abs().amax(1)
        usable = (size > 0) & (size < math.inf)
        self.seen.usable[self.numbers] |= usable
        self.seen.undefined[self.numbers] |= ~(size < math.inf)
        return self._met(logits.detach()), torch.where(wide(usable, slope), slope, 0)

    def answer(self, at: Tensor) -> Tensor:
        """Logits at `at`, without a gradient."""
        with torch.no_grad():
            return self._met(self.net(at))

    def _met(self, logits: Tensor) -> Tensor:
        self.seen.passes += len(logits)
        self.seen.broken[self.numbers] |= ~logits.isfinite().all(1)
        return logits

    def clip(self, images: Tensor) -> Tensor:
        return images if self.box is None else self.box.clip(images)

    def add(self, delta: Tensor, radius: float, norm: str) -> Tensor:
        """x + δ in box and ball, rounded towards x where it must be rounded: no length is beyond `radius`."""
        images = self._plus(inside(delta, radius, norm))
        return self.settle(self.clip(images), radius, norm)

    def settle(self, images: Tensor, radius: float, norm: str) -> Tensor:
        """Images whose pixels are of box and ball, in both where the box is not a box of pixels."""
        if self.box is None or self.box.pixelwise:
            return images
        return self._plus(shortened(self.clip(images) - self.x, radius, norm))

    def _plus(self, delta: Tensor) -> Tensor:
        images = self.x + delta
        beyond = (images - self.x).abs() > delta.abs()
        return torch.where(beyond, torch.nextafter(images, self.x), images)

    def linear(self) -> Tensor:
        """(R,) where the boundary lies if the logits are linear, lead / ‖∇lead‖.

        Where the lead is flat at x and steep further on, as behind a softmax, that is far too long. So shorter ways
        down the slope are tried too, a quarter each of the one before and of the size of the box or of x; the shortest
        that crosses is taken. Without a gradient it is that size.
        """
        logits, slope = self.climb(self.x, "margin")
        lead, (direction, length) = self.lead(logits).abs(), unit(slope)
        size = self.x.flatten(1).norm(dim=1)
        size = torch.where(size > 0, size, 1)
        if self.box is not None:
            size = torch.full_like(size, self.box.width * math.sqrt(self.x[0].numel()))
        distance = torch.where((length > 0) & (lead > 0), lead / length, size)
        for k in range(8):
            shorter = torch.minimum(distance / 4, size * 4 ** (1 - k))
            there = self.clip(self.x + direction * wide(shorter, direction))
            distance = torch.where(self.over(self.answer(there)), shorter, distance)
        return distance

    def yardstick(self) -> Tensor:
        """(R,) what lengths are counted in: the box's width or, without a box, `linear`."""
        if self.box is None:
            return self.linear()
        return torch.full_like(self.x.flatten(1)[:, 0], self.box.width)

    def random(self, draw: str, *shape: int) -> Tensor:
        """(R, *shape) `draw` numbers ("normal_", "uniform_") in the inputs' dtype."""
        first, beyond = self.chunk
        whole = self.x.new_empty(beyond - first, *shape)
        return getattr(whole, draw)(generator=self.draws)[self.numbers - first]


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
    seen: Seen | None = None,
    only: Tensor | None = None,
    of: str = "gradients",
    keep: str = "first",
) -> Attack:
    """`search` on each chunk of x, behind the checks that all attacks share.

    `only` (N,): the rows to attack, the others count as not found. With `seen`, what is met is added to it, and whoever
    gave it warns. `of`: what is asked of the network. `keep` "first": an input that is adversarial as it is stays.
    """
    refusals.function(model=model)
    check_input(model, x, of)
    refusals.tensor(("N", ...), x=x)
    refusals.labels(x, labels=labels)
    refusals.truth(targeted=targeted)
    box = boxes.read(box)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    size = chunk or (256 if x.device.type == "cpu" else 4096)
    met = Seen() if seen is None else seen
    before = met.passes
    with measured(model, x, of=of, chunk=chunk) as (net, x):
        met.cover(len(x), x.device)
        labels = labels.clone()  # they may have been made where no graph can hold them
        images, found = x.clone(), torch.zeros_like(labels, dtype=torch.bool)
        chunks = []
        for first in range(0, len(x), size):
            ends = first, min(first + size, len(x))
            rows = torch.arange(*ends, device=x.device)
            rows = rows if only is None else rows[only[rows]]
            if len(rows):
                chunks.append((rows, ends))
        clean = [net(x[rows]) for rows, _ in chunks]
        if clean:
            _check(torch.cat(clean), x, labels, box)
        todo = list(zip(chunks, clean, strict=True))
        for (rows, ends), logits in progress.track(todo, f"{name}, chunk"):
            draws = seeds.generator(seed, f"attack: {name}, rows from {ends[0]}", x.device)
            task = Task(net, x[rows], labels[rows], targeted, box, draws, met, rows, ends)
            met.clean(rows, logits)
            ready, part = task.over(logits) & (keep == "first"), task.x
            adversarial, hit = search(task)
            images[rows] = torch.where(wide(ready, part), part, adversarial.detach())
            found[rows] = ready | hit
    stuck = met.stuck(found)
    if seen is None:
        met.warn(stuck, name)
    return Attack(images, found, stuck, x, {name: met.passes - before})


def _check(logits: Tensor, x: Tensor, labels: Tensor, box: boxes.Interval | None) -> None:
    """What values alone tell, in one look at the device: finite logits, labels among the classes, inputs in the box."""
    finite = logits.isfinite().all()
    known = ((labels >= 0) & (labels < logits.shape[1])).all()
    within = box.inside(x).all() if box is not None else torch.ones_like(known)
    finite, known, within = torch.stack([finite, known, within]).tolist()
    if not finite:
        raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
    if not known:
        raise ValueError(f"Labels must lie between 0 and {logits.shape[1] - 1}, the model's classes.")
    if not within:
        raise ValueError(f"Some inputs lie outside the box {box}: give another one, or box=None.")


def keep_shortest(keep: object) -> None:
    """Refuse what an attack without a radius cannot keep."""
    if not (isinstance(keep, str) and keep == "shortest"):
        raise ValueError(
            "keep must be 'shortest': without a radius nothing bounds an attack's last iterate, or its worst."
        )


def keep_first(best: Tensor, found: Tensor, images: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the first adversarial image of every row."""
    return torch.where(wide(over & ~found, best), images, best), found | over


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (R, *shape) at length one, and their lengths (R,), whatever their size; a zero stays one."""
    largest = vectors.flatten(1).abs().amax(1)
    vectors = vectors / wide(torch.where(largest > 0, largest, 1), vectors)
    length = vectors.flatten(1).norm(dim=1)
    return vectors / wide(length.clamp_min(1), vectors), length * largest
