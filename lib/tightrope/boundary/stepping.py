"""DeepFool's steps, for many samples and subspaces at once, row by row those of the published loop."""

from __future__ import annotations

import math
from collections import Counter
from itertools import compress

import torch
from torch import Tensor

from tightrope import progress
from tightrope.boundary import crossing
from tightrope.boundary.crossing import Model
from tightrope.boundary.rivals import nearest, slack
from tightrope.boundary.stem import composed
from tightrope.inputs.subspaces import Subspace

FLOOR = 1e-4  # DeepFool's shortest step: below it float32 stalls on the boundary


class Search:
    """DeepFool from one block of n samples in J subspaces. Row j * n + i is sample i in subspace j, so that rows in
    ascending order lie in one contiguous slice per subspace.

    r       (J · n, *shape) where `run` left them; a row is `found` where x + scale · r has another label
    linear  [j] (n, starts[j] - 1, *shape): steps from x to the nearest linearised rivals, zero where there is none
    """

    def __init__(
        self,
        net: Model,
        x: Tensor,
        spaces: list[Subspace],
        overshoot: float,
        max_steps: int,
        rivals: int,
        chunk: int,
        starts: list[int],
    ):
        self.net, self.x, self.spaces = net, x, spaces
        self.scale, self.max_steps, self.chunk = 1 + overshoot, max_steps, chunk
        self.equal = slack(x)
        with torch.no_grad():
            logits = torch.cat([net(part) for part in x.split(chunk)])
        if not logits.isfinite().all():
            raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
        self.logits = logits
        self.ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :rivals]
        self.origin = self.ranked[:, 0]
        self.starts = [min(count, self.ranked.shape[1]) for count in starts]
        self.linear = [x.new_empty(len(x), count - 1, *x.shape[1:]) for count in self.starts]
        rows = len(x) * len(spaces)
        self.r = x.new_zeros(rows, *x.shape[1:])
        self.steps = torch.zeros(rows, dtype=torch.int64, device=x.device)
        self.label = self.origin.repeat(len(spaces))
        self.found = torch.zeros(rows, dtype=torch.bool, device=x.device)
        self.lost = torch.zeros_like(self.found)
        self.lead_here = crossing.lead(logits, self.origin)
        self.lead_there = x.new_zeros(rows)
        self.stem = composed(net, x, self.ranked, spaces, chunk, self.equal)

    def run(self) -> None:
        self._first_steps()
        self._further_steps()

    # The first step is taken at x itself: one Jacobian serves every subspace.
    def _first_steps(self) -> None:
        for samples in torch.arange(len(self.x), device=self.x.device).split(self.chunk):
            gaps, grads = self.linearise(samples)
            for j, space in enumerate(self.spaces):
                slopes = coordinates(space, grads)
                self._move(samples + j * len(self.x), [j], [len(samples)], gaps, [slopes])
                if self.starts[j] > 1:
                    classes = self.ranked[samples, 1:].T
                    steps, ok = nearest_steps(space, gaps, slopes, classes, self.equal, self.starts[j] - 1)
                    usable = steps * ok.reshape(*ok.shape, *[1] * (self.x.ndim - 1))
                    self.linear[j][samples] = usable.transpose(0, 1)
        for rows in torch.arange(len(self.r), device=self.x.device).split(self.chunk):
            self._look(rows)

    # From then on a pool of rows is kept full: who is done leaves, the next in line comes in. The host keeps the
    # rows' numbers, and with them their subspaces: all that it asks the device, once a step, is who goes on.
    def _further_steps(self) -> None:
        every = torch.arange(len(self.r), device=self.x.device)
        waiting = list(compress(range(len(every)), self._active(every).tolist()))
        pool = []
        while pool or waiting:
            room = self.chunk - len(pool)
            pool, waiting = pool + waiting[:room], waiting[room:]
            rows = torch.tensor(pool, device=self.x.device)
            spaces, sizes = self.slices(pool)
            self._move(rows, spaces, sizes, *self._inside(rows, spaces, sizes))
            self._look(rows)
            pool = list(compress(pool, self._active(rows).tolist()))
            progress.report(f"margins: {len(every) - len(pool) - len(waiting):,} of {len(every):,} rows")

    def _active(self, rows: Tensor) -> Tensor:
        return ~(self.found[rows] | self.lost[rows]) & (self.steps[rows] < self.max_steps)

    def linearise(
        self, rows: Tensor, ranked: Tensor | None = None, at_x: bool = False
    ) -> tuple[Tensor, Tensor]:
        """f_k - f_0 (K-1, R) and its gradients (K-1, R, *shape) at x + r, or at x, for the classes of `ranked` (R, K),
        the origin first (default: the rivals)."""
        sample = rows % len(self.x)
        ranked = self.ranked[sample] if ranked is None else ranked
        with torch.enable_grad():
            at = (self.x[sample] if at_x else self.x[sample] + self.r[rows]).requires_grad_()
            logits = self.net(at)
            f = logits.gather(1, ranked).T
            gaps = f[1:] - f[0]
            if not gaps.requires_grad:
                raise ValueError(
                    "The model's logits carry no gradient to its input: measure it before it is detached."
                )
            last = len(gaps) - 1
            grads = [torch.autograd.grad(g.sum(), at, retain_graph=k < last)[0] for k, g in enumerate(gaps)]
        return gaps.detach(), torch.stack(grads)

    def _inside(self, rows: Tensor, spaces: list[int], sizes: list[int]) -> tuple[Tensor, list[Tensor]]:
        """f_k - f_0 (K-1, R) at x + r and its gradients' coordinates, (K-1, r, d) a subspace."""
        if self.stem is None:
            gaps, grads = self.linearise(rows)
            parts = zip(spaces, grads.split(sizes, 1), strict=True)
            return gaps, [coordinates(self.spaces[j], part) for j, part in parts]
        sample = rows % len(self.x)
        parts = zip(spaces, self.r[rows].split(sizes), strict=True)
        parts = [(j, self.spaces[j].coordinates(part)) for j, part in parts]
        return self.stem.linearise(self.x[sample], sample, self.ranked[sample], parts)

    def _move(
        self, rows: Tensor, spaces: list[int], sizes: list[int], gaps: Tensor, slopes: list[Tensor]
    ) -> None:
        """One step of every row that is still open, each inside its own subspace."""
        for mine, j, gap, slope in zip(rows.split(sizes), spaces, gaps.split(sizes, 1), slopes, strict=True):
            classes = self.ranked[mine % len(self.x), 1:].T
            step, ok = (part[0] for part in nearest_steps(self.spaces[j], gap, slope, classes, self.equal))
            go = self._active(mine) & ok
            self.r[mine] += step * go.reshape(-1, *[1] * (step.ndim - 1))
            self.lost[mine] |= ~ok
            self.steps[mine] += go

    def _look(self, rows: Tensor) -> None:
        """Is the label at x + (1 + overshoot) r another one?"""
        sample = rows % len(self.x)
        with torch.no_grad():
            logits = self.net(self.x[sample] + self.scale * self.r[rows])
        label = logits.argmax(1)
        new = ~(self.found[rows] | self.lost[rows])
        finite = logits.isfinite().all(1)
        flipped = new & finite & (label != self.origin[sample])
        self.lost[rows] |= new & ~finite
        self.found[rows] |= flipped
        self.label[rows] = torch.where(flipped, label, self.label[rows])
        self.lead_there[rows] = torch.where(
            flipped, crossing.lead(logits, self.origin[sample]), self.lead_there[rows]
        )

    def slices(self, rows: list[int]) -> tuple[list[int], list[int]]:
        """The subspaces of rows in ascending order, and how many rows lie in each."""
        sizes = Counter(row // len(self.x) for row in rows)
        return list(sizes), list(sizes.values())


def coordinates(space: Subspace, grads: Tensor) -> Tensor:
    """The coordinates (K, R, d) of grads (K, R, *shape)."""
    return space.coordinates(grads.flatten(0, 1)).unflatten(0, grads.shape[:2])


def nearest_steps(
    space: Subspace, gaps: Tensor, slopes: Tensor, classes: Tensor, equal: float, count: int = 1
) -> tuple[Tensor, Tensor]:
    """DeepFool's steps inside one subspace: towards the `count` rivals whose linearised boundaries are nearest, the
    nearest first, from gaps (K-1, R) and the coordinates of their gradients (K-1, R, d). (count, R, *shape) and
    (count, R): False without a usable gradient, and then the step is zero."""
    length = slopes.norm(dim=2)
    distances = torch.where(length > 0, gaps.abs() / length, math.inf)
    k = nearest(distances, classes, count, equal)
    distance, pick = distances.gather(0, k), torch.arange(k.shape[1], device=k.device)
    ok = distance.isfinite()
    size = torch.where(ok, distance.clamp_min(FLOOR) / length.gather(0, k), 0)
    ok &= size.isfinite()
    steps = space.lift((slopes[k, pick] * torch.where(ok, size, 0)[..., None]).flatten(0, 1))
    return steps.unflatten(0, k.shape), ok
