"""Where decisions change along straight lines: labels on a grid, and every change between two of its points found.

A scan sees every region that is wider than its step; what is narrower, it may miss. Unlike an attack it has no
gradient to mislead it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.boundary import crossing
from tightrope.boundary.chunks import chunk_rows
from tightrope.models.measured import check_input, measured

__all__ = ["Changes", "changes", "nearest"]

Model = Callable[[Tensor], Tensor]

PROBES = 16  # points of a line in one look
MOST = 10**6  # points of a line in all


@dataclass(frozen=True)
class Changes:
    """The changes of label along R lines, in order, padded to the longest list: (R, C) each.

    t       where on the line, in lengths of its direction; +inf where there is none
    before  the label at smaller t, after: at larger t; -1 where there is none
    mask    False where there is none
    start   (R,) the label where the line begins
    probes  (R,) points looked at, those of the bracketing left out
    """

    t: Tensor
    before: Tensor
    after: Tensor
    mask: Tensor
    start: Tensor
    probes: Tensor


def changes(
    model: Model,
    x: Tensor,
    directions: Tensor,
    *,
    reach: tuple[float, float],
    step: float,
    chunk: int | None = None,
) -> Changes:
    """Every change of label along x + t·d, for x (R, *shape), directions d (R, *shape) or (*shape), t in `reach`.

    Labels are looked at from reach[0] to reach[1] at points at most `step` apart, in lengths of d, and where two
    neighbours differ the change is found between them to 1e-6 of a step (float32; float64: 1e-12). Two changes within
    one step are seen as one, or as none. Raises ValueError for a direction that is zero or not finite.
    """
    refusals.interval(reach=reach)
    directions = _checked(model, x, directions, step, chunk)
    with measured(model, x, chunk=chunk, of="logits") as (net, x):
        return _Lines(net, x, directions, reach, step, chunk).scan()


def nearest(
    model: Model, x: Tensor, directions: Tensor, *, reach: float, step: float, chunk: int | None = None
) -> Changes:
    """The nearest change along x + t·d on either side of x: C = 1, t between -`reach` and `reach`.

    As `changes`, but both ways from x at once, and only until either has met one.
    """
    refusals.number(above=0, reach=reach)
    directions = _checked(model, x, directions, step, chunk)
    with measured(model, x, chunk=chunk, of="logits") as (net, x):
        both = torch.cat([directions, -directions])
        lines = _Lines(net, torch.cat([x, x]), both, (0.0, reach), step, chunk)
        found = lines.scan(twins=True)
    width = found.t.shape[1]
    t = torch.nn.functional.pad(found.t, (0, 1 - width), value=math.inf).reshape(2, -1)
    way = t.argmin(0, keepdim=True)
    before, after = (
        torch.nn.functional.pad(part, (0, 1 - width), value=-1).reshape(2, -1).gather(0, way).T
        for part in (found.before, found.after)
    )
    t = torch.where(way == 0, t.amin(0), -t.amin(0)).T
    start, _ = found.start.chunk(2)
    return Changes(t, before, after, t.isfinite(), start, found.probes.reshape(2, -1).sum(0))


def _checked(model: Model, x: Tensor, directions: Tensor, step: float, chunk: int | None) -> Tensor:
    """One direction a row, from one for all or one each."""
    refusals.function(model=model)
    check_input(model, x, "logits")
    one = isinstance(directions, Tensor) and directions.ndim < x.ndim
    shape = tuple(x.shape)[one:]
    refusals.tensor(shape, finite=True, like=x, directions=directions)
    refusals.number(above=0, step=step)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    if not directions.flatten(-x.ndim + 1).any(-1).all():
        raise ValueError("directions must not be zero: there is no line along it.")
    return directions.detach().expand_as(x)


class _Lines:
    """R lines that go on together, `PROBES` points a turn."""

    def __init__(
        self,
        net: Model,
        x: Tensor,
        directions: Tensor,
        reach: tuple[float, float],
        step: float,
        chunk: int | None,
    ):
        self.net, self.x, self.directions, self.chunk = net, x, directions, chunk or chunk_rows(x)
        self.low, width = reach[0], reach[1] - reach[0]
        if width > MOST * step:
            raise ValueError(f"reach must be at most {MOST:,} steps of {step:g}, not {width:g} in all.")
        self.cells = max(1, math.ceil(width / step - 1e-9))
        self.step = width / self.cells

    @torch.no_grad()
    def scan(self, twins: bool = False) -> Changes:
        """To the end; twins, lines i and i + R/2, until one of them has met its first change."""
        x, lines = self.x, torch.arange(len(self.x), device=self.x.device)
        logits = self._answers(lines, torch.zeros_like(lines))
        start = label = logits.argmax(1)
        lead = crossing.lead(logits, label)
        probes, found, at = torch.ones_like(lines), [], 0
        while at < self.cells and len(lines):
            progress.report(f"scan: {at:,} of {self.cells:,} steps, {len(lines):,} of {len(x):,} lines")
            cells = torch.arange(at + 1, min(at + PROBES, self.cells) + 1, device=x.device)
            logits = self._answers(lines.repeat_interleave(len(cells)), cells.repeat(len(lines)))
            labels = logits.argmax(1)
            leads = crossing.lead(logits, labels).reshape(len(lines), -1)
            logits, labels = (part.unflatten(0, leads.shape) for part in (logits, labels))
            labels, leads = torch.cat([label[:, None], labels], 1), torch.cat([lead[:, None], leads], 1)
            differ = labels[:, 1:] != labels[:, :-1]
            seen = differ & (differ.cumsum(1) == 1) if twins else differ
            row, k = seen.nonzero().T
            if len(row):
                own = labels[row, k]
                ends = crossing.Ends(leads[row, k], crossing.lead(logits[row, k], own), labels[row, k + 1])
                found.append(self._found(lines[row], at + k, own, ends))
            probes[lines] += len(cells)
            label, lead, at = labels[:, -1], leads[:, -1], at + len(cells)
            if twins:
                on = (~differ.any(1)).reshape(2, -1).all(0).repeat(2)
                lines, label, lead = lines[on], label[on], lead[on]
        return self._table(found, start, probes)

    def _answers(self, lines: Tensor, cells: Tensor) -> Tensor:
        parts = zip(lines.split(self.chunk), cells.split(self.chunk), strict=True)
        logits = torch.cat([self.net(self._points(*part)) for part in parts])
        if not logits.isfinite().all():
            raise ValueError("The model returns NaN or infinite logits along a line.")
        return logits

    def _points(self, lines: Tensor, cells: Tensor) -> Tensor:
        t = (self.low + self.step * cells.to(self.x.dtype)).reshape(-1, *[1] * (self.x.ndim - 1))
        return self.x[lines] + t * self.directions[lines]

    def _found(
        self, lines: Tensor, cells: Tensor, before: Tensor, ends: crossing.Ends
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lines, places, labels before and after, of one change in each of `cells`."""
        place, after = [], []
        for mine in torch.arange(len(lines), device=lines.device).split(self.chunk):
            step = self.step * self.directions[lines[mine]]
            there = crossing.Ends(*(end[mine] for end in ends))
            points = self._points(lines[mine], cells[mine])
            cut, there = crossing.crossing(self.net, points, step, before[mine], there)
            share = cut.flatten(1).norm(dim=1) / step.flatten(1).norm(dim=1)
            place.append(self.low + self.step * (cells[mine] + share))
            after.append(there.label)
        return lines, torch.cat(place), before, torch.cat(after)

    def _table(self, found: list[tuple[Tensor, ...]], start: Tensor, probes: Tensor) -> Changes:
        none = start.new_zeros(0)
        found = [(none, self.x.new_zeros(0), none, none), *found]
        line, place, before, after = (torch.cat(column) for column in zip(*found, strict=True))
        order = line.argsort(stable=True)  # turns come in order, and so stay each line's changes
        line, place = line[order], place[order]
        counts = torch.bincount(line, minlength=len(start))
        column = torch.arange(len(line), device=line.device) - (counts.cumsum(0) - counts)[line]
        shape = len(start), int(counts.amax())
        t, labels = self.x.new_full(shape, math.inf), start.new_full((2, *shape), -1)
        t[line, column] = place
        labels[:, line, column] = torch.stack([before, after])[:, order]
        return Changes(t, *labels, t.isfinite(), start, probes)
