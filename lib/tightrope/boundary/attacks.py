"""Adversarial examples: one pure function an attack, all called alike, batched, on any device.

    attacks.pgd(model, x, labels, eps=1.0, restarts=5).found
    attacks.ddn(model, x, labels).norm()

`model`: any callable from raw inputs (N, *shape) to logits (N, L); a module is attacked in eval mode and given back as
it was. `labels` (N,): what the answer must leave, or, with `targeted=True`, the answer wanted. `box`: the interval
every input number stays in, None for none. An input whose answer is adversarial as it is counts as found, at distance
zero. Random draws come from `seed`; rows are worked on `chunk` at a time, each chunk with draws of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tightrope.boundary.search import Attack, Box, Model, Task, keep_first, run, wide

__all__ = ["Attack", "carlini_wagner", "ddn", "pgd", "square"]

LOSSES = ("cross-entropy", "margin", "scaled")


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
    loss: str = "cross-entropy",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Projected gradient descent inside a ball of radius `eps` (Madry et al. 2018; Kurakin et al. 2016).

    norm "l2": steps along the gradient, brought back to the sphere; "linf": along its sign, clipped. `step` is 2.5 eps
    / steps unless given. `loss`: "cross-entropy", "margin" (the best other logit minus the own) or "scaled"
    (cross-entropy of logits brought to a spread of one, which no saturation can hide). Every iterate is looked at:
    the first adversarial one is kept, and later restarts are spent on the rows that have none.
    """
    if norm not in ("l2", "linf") or loss not in LOSSES:
        raise ValueError(
            f"PGD knows the norms 'l2' and 'linf' and the losses {LOSSES}, not {norm!r} and {loss!r}."
        )
    _at_least(1, steps=steps, restarts=restarts)
    stride = 2.5 * eps / steps if step is None else step
    _positive(eps=eps, step=stride)

    def project(delta: Tensor) -> Tensor:
        if norm == "linf":
            return delta.clamp(-eps, eps)
        length = delta.flatten(1).norm(dim=1)
        return delta * wide((eps / length.clamp_min(eps)), delta)

    def once(task: Task) -> tuple[Tensor, Tensor]:
        delta = torch.zeros_like(task.x)
        if random_start and norm == "linf":
            delta = eps * (2 * task.random(task.x, "uniform_") - 1)
        elif random_start:
            radius = task.random(task.x.flatten(1)[:, 0], "uniform_") ** (1 / task.x[0].numel())
            direction = normalize(task.random(task.x, "normal_").flatten(1)).view_as(task.x)
            delta = eps * direction * wide(radius, task.x)
        images = task.clip(task.x + delta)
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        mine, rows = task, torch.arange(len(task.x), device=task.x.device)
        for k in range(steps + 1):
            logits, slope = mine.climb(images, loss)
            kept, flags = keep_first(best[rows], found[rows], images, mine.over(logits))
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            if k == steps:
                break
            towards = slope.sign() if norm == "linf" else normalize(slope.flatten(1)).view_as(slope)
            images = mine.clip(mine.x + project(images - mine.x + stride * towards))
            if k % 8 == 7:  # rows that are done leave, now and then: it costs a device a stop
                left = (~flags).nonzero().squeeze(1)
                if not len(left):
                    break
                mine, rows, images = mine.rows(left), rows[left], images[left]
        return best, found

    def search(task: Task) -> tuple[Tensor, Tensor]:
        best, found = once(task)
        for _ in range(restarts - 1):
            left = (~found).nonzero().squeeze(1)
            if not len(left):
                break
            images, new = once(task.rows(left))
            best, found = best.index_copy(0, left, images), found.index_copy(0, left, new)
        return best, found

    return run(search, model, x, labels, targeted, box, seed, chunk, "PGD")


def ddn(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    start: float = 1.0,
    shrink: float = 0.05,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Decoupled direction and norm: a short ℓ2 perturbation (Rony et al. 2019, algorithm 1), without quantisation.

    Each step follows the normalised gradient of the cross-entropy, then puts the perturbation on a sphere whose radius,
    `start` at first, shrinks by the factor 1 − `shrink` where it is adversarial and grows by 1 + `shrink` where it is
    not. The step's length falls from 1 to 0.01 along a cosine.
    """
    _at_least(1, steps=steps)
    _positive(start=start)
    if not 0 < shrink < 1:
        raise ValueError(f"DDN's shrink lies between 0 and 1, not at {shrink}.")

    def search(task: Task) -> tuple[Tensor, Tensor]:
        delta = torch.zeros_like(task.x)
        radius = torch.full_like(task.x.flatten(1)[:, 0], start)
        best, shortest = task.x, torch.full_like(radius, math.inf)
        # On a plateau there is no gradient to follow: any direction is as good, and one for all steps is cheap.
        anywhere = task.random(task.x, "normal_")
        for k in range(steps + 1):
            images = task.clip(task.x + delta)
            logits, slope = task.climb(images, "cross-entropy")
            over, length = task.over(logits), (images - task.x).flatten(1).norm(dim=1)
            better = over & (length < shortest)
            best, shortest = (
                torch.where(wide(better, best), images, best),
                torch.where(better, length, shortest),
            )
            stride = 0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2
            flat = slope.flatten(1).norm(dim=1) == 0
            slope = torch.where(wide(flat, slope), anywhere, slope)
            delta = images - task.x + stride * normalize(slope.flatten(1)).view_as(slope)
            radius = radius * torch.where(over, 1 - shrink, 1 + shrink)
            delta = normalize(delta.flatten(1)).view_as(delta) * wide(radius, delta)
        return best, shortest.isfinite()

    return run(search, model, x, labels, targeted, box, seed, chunk, "DDN")


def carlini_wagner(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 200,
    searches: int = 5,
    rate: float = 0.01,
    constant: float = 1.0,
    confidence: float = 0.0,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Carlini and Wagner's ℓ2 attack (2017, section V): Adam on ‖δ‖² + c · max(−lead, −confidence).

    With a box the search runs in tanh space, so that it cannot be left. c starts at `constant` and is searched over
    `searches` rounds of `steps` each, row by row: ten times larger while nothing is found, then by halving.
    A row that no round reaches is not found. (Foolbox 3.3 gives a black image back for it, and counts that as found
    wherever the model errs on black; leaving those out, the two find the same rows.)
    """
    _at_least(1, steps=steps, searches=searches)
    _positive(rate=rate, constant=constant)
    if confidence < 0:
        raise ValueError(f"The confidence is at least 0, not {confidence}.")

    def search(task: Task) -> tuple[Tensor, Tensor]:
        low, high = task.box or (0.0, 1.0)
        squeeze = lambda image: torch.atanh(((image - low) / (high - low) * 2 - 1) * (1 - 1e-6))
        inside = lambda v: low + (high - low) * (torch.tanh(v) + 1) / 2
        into, out = (squeeze, inside) if task.box is not None else (torch.clone, torch.clone)
        origin = into(task.x)
        c = torch.full_like(task.x.flatten(1)[:, 0], constant)
        lower, upper = torch.zeros_like(c), torch.full_like(c, math.inf)
        best, shortest = task.x, torch.full_like(c, math.inf)
        for _ in range(searches):
            v, first, second = origin.clone(), torch.zeros_like(origin), torch.zeros_like(origin)
            round_found = torch.zeros_like(task.labels, dtype=torch.bool)
            for k in range(steps + 1):
                with torch.enable_grad():
                    at = v.detach().requires_grad_()
                    images = out(at)
                    logits = task.net(images)
                    squares = (images - task.x).flatten(1).square().sum(1)
                    behind = (-task.lead(logits)).clamp_min(-confidence)
                    (slope,) = torch.autograd.grad((squares + c * behind).sum(), at)
                sure = task.over(logits.detach()) & (task.lead(logits.detach()) >= confidence)
                round_found |= sure
                better = sure & (squares.detach() < shortest)
                best = torch.where(wide(better, best), images.detach(), best)
                shortest = torch.where(better, squares.detach(), shortest)
                first, second = first.lerp(slope, 0.1), second.lerp(slope.square(), 0.001)
                adapted = first / (1 - 0.9 ** (k + 1)) / ((second / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
                v = v - rate * adapted
            upper, lower = torch.where(round_found, c, upper), torch.where(round_found, lower, c)
            c = torch.where(upper.isinf(), 10 * c, (lower + upper.clamp_max(1e30)) / 2)
        return best, shortest.isfinite()

    return run(search, model, x, labels, targeted, box, seed, chunk, "Carlini–Wagner")


def square(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    queries: int = 1_000,
    share: float = 0.8,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """The square attack in ℓ∞ (Andriushchenko et al. 2020): random search, no gradient is ever asked for.

    Images (N, C, H, W) only. Starts at vertical stripes of ±eps; each query repaints one square of the perturbation
    with ±eps, a sign a channel, and keeps it where the margin shrinks. A square covers the fraction `share` of the
    image at first; that is halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the queries.
    """
    _at_least(1, queries=queries)
    _positive(eps=eps)
    if not 0 < share <= 1:
        raise ValueError(f"A square covers a share of the image in (0, 1], not {share}.")
    if isinstance(x, Tensor) and x.dim() != 4:
        raise ValueError(f"The square attack paints squares on images (N, C, H, W), not on {tuple(x.shape)}.")
    halvings = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        _, channels, height, width = task.x.shape
        coin = lambda *shape: 2.0 * (torch.rand(*shape, generator=task.draws, device=task.x.device) < 0.5) - 1
        images = task.clip(task.x + eps * coin(len(task.x), channels, 1, width).to(task.x))
        value = torch.full_like(task.x.flatten(1)[:, 0], -math.inf)
        best, found, rows = task.x, torch.zeros_like(task.labels, dtype=torch.bool), torch.arange(len(task.x))
        rows = rows.to(task.x.device)
        new, mine = images, task
        for k in range(queries):
            logits = task.net(new)
            lead, over = mine.lead(logits), mine.over(logits)
            better = lead > value[rows]
            images = images.index_copy(0, rows, torch.where(wide(better, new), new, images[rows]))
            value = value.index_copy(0, rows, torch.where(better, lead, value[rows]))
            kept, flags = keep_first(best[rows], found[rows], new, over)
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            if k % 16 == 15:  # rows that are done leave, now and then: it costs a device a stop
                rows = (~found).nonzero().squeeze(1)
                if not len(rows):
                    break
                mine = task.rows(rows)
            part = share / 2 ** sum((k + 1) / queries > h for h in halvings)
            side = min(max(round(math.sqrt(part * height * width)), 1), height, width)
            low = torch.rand(2, len(rows), 1, generator=task.draws, device=rows.device)
            down = torch.arange(height, device=rows.device) - (low[0] * (height - side + 1)).long()
            across = torch.arange(width, device=rows.device) - (low[1] * (width - side + 1)).long()
            inside = ((down >= 0) & (down < side))[:, None, :, None]
            inside = inside & ((across >= 0) & (across < side))[:, None, None]
            paint = mine.x + eps * coin(len(rows), channels, 1, 1).to(mine.x)
            new = task.clip(torch.where(inside, paint, images[rows]))
        return best, found

    with torch.no_grad():
        return run(search, model, x, labels, targeted, box, seed, chunk, "square attack")


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}.")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number above 0, not {value}.")
