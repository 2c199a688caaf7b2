"""The square attack: random search, without gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary.search import Attack, Box, Model, Task, keep_first, run, wide


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
    refusals.whole(1, queries=queries)
    refusals.number(above=0, eps=eps)
    refusals.number(above=0, most=1, share=share)
    refusals.tensor(("N", "C", "H", "W"), x=x)
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
