"""The square attack: random search, without gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import KEEPS, Attack, Box, Model, Search, Task, keep_first, run, wide

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


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
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """The square attack in ℓ∞ (Andriushchenko et al. 2020): random search, no gradient is ever asked for.

    Images (N, C, H, W) only. Starts at vertical stripes of ±eps; each query repaints one square of the perturbation
    with ±eps, a sign a channel, and keeps it where the margin shrinks. A square covers the fraction `share` of the
    image at first; that is halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the queries. A row whose margin no
    query changed is stuck. `keep` "last" and "worst" come to the same here, as no query ever makes the margin worse.
    """
    search = painting(eps, queries, share, keep)
    name = "square attack"
    return run(search, model, x, labels, targeted, box, seed, chunk, name, of="logits", keep=keep)


def painting(eps: float, queries: int, share: float, keep: str = "first") -> Search:
    """The square attack on one chunk."""
    refusals.whole(1, queries=queries)
    refusals.number(above=0, eps=eps)
    refusals.number(above=0, most=1, share=share)
    refusals.choice(KEEPS, keep=keep)

    def search(task: Task) -> tuple[Tensor, Tensor]:
        if task.x.dim() != 4:
            shape = tuple(task.x.shape)
            raise ValueError(f"The inputs must be images (N, C, H, W) to paint squares on, not {shape}.")
        _, channels, height, width = task.x.shape
        coin = lambda task, *shape: eps * (2.0 * (task.random("uniform_", *shape) < 0.5) - 1).to(task.x)
        images = task.add(coin(task, channels, 1, width).expand_as(task.x), eps, "linf")
        clean = task.lead(task.answer(task.x))
        value = torch.full_like(clean, -math.inf)
        best, found = task.x, torch.zeros_like(task.labels, dtype=torch.bool)
        rows = torch.arange(len(task.x), device=task.x.device)
        new, mine = images, task
        for k in range(queries):
            logits = mine.answer(new)
            lead, over = mine.lead(logits), mine.over(logits)
            mine.seen.usable[mine.numbers] |= lead != clean[rows]
            better = lead > value[rows]
            images = images.index_copy(0, rows, torch.where(wide(better, new), new, images[rows]))
            value = value.index_copy(0, rows, torch.where(better, lead, value[rows]))
            if keep == "first":
                kept, flags = keep_first(best[rows], found[rows], new, over)
            else:
                kept, flags = images[rows], torch.where(better, over, found[rows])
            best, found = best.index_copy(0, rows, kept), found.index_copy(0, rows, flags)
            # Rows that are done leave, now and then: it costs a device a stop.
            if k % 16 == 15 and keep == "first":
                rows = (~found).nonzero().squeeze(1)
                if not len(rows):
                    break
                mine = task.rows(rows)
            part = share / 2 ** sum((k + 1) / queries > h for h in HALVINGS)
            side = min(max(round(math.sqrt(part * height * width)), 1), height, width)
            low = mine.random("uniform_", 2, 1).unbind(1)
            down = torch.arange(height, device=rows.device) - (low[0] * (height - side + 1)).long()
            across = torch.arange(width, device=rows.device) - (low[1] * (width - side + 1)).long()
            square = ((down >= 0) & (down < side))[:, None, :, None]
            square = square & ((across >= 0) & (across < side))[:, None, None]
            paint = mine.add(coin(mine, channels, 1, 1).expand_as(mine.x), eps, "linf")
            new = mine.settle(torch.where(square, paint, images[rows]), eps, "linf")
        return best, found

    return search
