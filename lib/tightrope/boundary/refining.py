"""From where DeepFool ended to a shorter perturbation: back to the boundary, to nearer classes, and along it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from tightrope import progress
from tightrope.boundary import crossing, race
from tightrope.boundary.rivals import reach, seeming_distances
from tightrope.boundary.stepping import Search, coordinates, nearest_steps
from tightrope.inputs.subspaces import Subspace


class Refinement:
    """What becomes of the rows that a search found: delta (J · n, *shape), which are shortened in place.

    passes  backward passes spent here; start: the one of the race that each row came from, 0 DeepFool's end
    missed  how many rows have more classes that look nearer than were looked at
    """

    def __init__(self, search: Search, delta: Tensor, tight: int, wider: int):
        self.search, self.delta, self.tight, self.wider, self.missed = search, delta, tight, wider, 0
        self.passes, self.start = torch.zeros_like(search.steps), torch.zeros_like(search.steps)

    def run(self) -> None:
        """Bring the found rows of `delta` back to the boundary, in place, then let others race them there."""
        search = self.search
        found = list(compress(range(len(self.delta)), search.found.tolist()))
        for mine in self._chunks(found, 1, "refining"):
            self._cross(torch.tensor(mine, device=self.delta.device), 1 / search.scale)
        if self.wider and search.logits.shape[1] > search.ranked.shape[1]:
            self._widen(found)
        if self.tight:
            for count in sorted(set(search.starts)):
                racing = [row for row in found if search.starts[row // len(search.x)] == count]
                for mine in self._chunks(racing, count, "tightening"):
                    self._race(mine, count)

    def _chunks(self, rows: list[int], starts: int, what: str) -> Iterator[list[int]]:
        size = max(1, self.search.chunk // starts)
        for done in range(0, len(rows), size):
            progress.report(f"margins: {what} {done:,} of {len(rows):,} rows")
            yield rows[done : done + size]

    def _cross(self, rows: Tensor, guess: float | None = None) -> None:
        sample = rows % len(self.search.x)
        ends = crossing.Ends(
            self.search.lead_here[sample], self.search.lead_there[rows], self.search.label[rows]
        )
        part = (self.search.net, self.search.x[sample], self.delta[rows], self.search.origin[sample], ends)
        self.delta[rows], ends = crossing.crossing(*part, guess=guess)
        self.search.lead_there[rows], self.search.label[rows] = ends.there, ends.label

    def _widen(self, found: list[int]) -> None:
        """Where a class outside of the rivals looks nearer, go and see: classes in the order in which they seem."""
        for mine in self._chunks(found, 1, "looking for nearer rivals"):
            spaces, sizes = self.search.slices(mine)
            rows = torch.tensor(mine, device=self.search.x.device)
            for j, part in zip(spaces, rows.split(sizes), strict=True):
                self.missed += self._look_wider(self.search.spaces[j], part)

    def _look_wider(self, space: Subspace, rows: Tensor) -> int:
        """How many rows of one subspace have classes left that look nearer."""
        sample, length = rows % len(self.search.x), length_of(self.delta[rows])
        x, logits, origin = self.search.x[sample], self.search.logits[sample], self.search.origin[sample]
        seem, draws = seeming_distances(
            self.search.net, x, logits, origin, space, length, self.search.ranked[sample]
        )
        near = torch.arange(len(rows), device=x.device)
        for turn in range(self.wider + 1):
            near = near[seem[near].amin(1) < reach(draws[near]) * length[near]]
            if not len(near) or turn == self.wider:
                break
            rival = seem[near].argmin(1, keepdim=True)
            seem[near] = seem[near].scatter(1, rival, math.inf)
            gaps, grads = self.search.linearise(
                rows[near], torch.cat([origin[near, None], rival], 1), at_x=True
            )
            step, ok = nearest_steps(space, gaps, coordinates(space, grads), rival.T, self.search.equal)
            step = self.search.scale * step[0]
            with torch.no_grad():
                there = self.search.net(x[near] + step)
            label = there.argmax(1)
            shorter = length_of(step) < self.search.scale * length[near]
            go = ok[0] & there.isfinite().all(1) & (label != origin[near]) & shorter
            self.passes[rows[near]] += 1
            mine = near[go]
            if len(mine):
                ends = crossing.Ends(
                    self.search.lead_here[sample[mine]], crossing.lead(there[go], origin[mine]), label[go]
                )
                cut, ends = crossing.crossing(
                    self.search.net, x[mine], step[go], origin[mine], ends, guess=1 / self.search.scale
                )
                better = length_of(cut) < length[mine]
                at = rows[mine][better]
                self.delta[at], length[mine[better]] = cut[better], length_of(cut[better])
                self.search.lead_there[at], self.search.label[at] = ends.there[better], ends.label[better]
        return len(near)

    def _race(self, mine: list[int], count: int) -> None:
        """Rows, in ascending order, of subspaces in which `count` starts race."""
        rows = torch.tensor(mine, device=self.search.x.device)
        sample, part = rows % len(self.search.x), self.delta[rows]
        spaces, sizes = self.search.slices(mine)
        # Past the boundary, where it is known to have another label: on it, rounding would say which.
        field = [1.01 * part[:, None]]
        if count > 1:
            where = zip(spaces, sample.split(sizes), strict=True)
            linear = torch.cat([self.search.linear[j][at] for j, at in where])
            usable = length_of(linear.flatten(0, 1)).reshape(linear.shape[:2]) > 0
            usable = usable.reshape(*usable.shape, *[1] * (self.search.x.ndim - 1))
            field.append(torch.where(usable, linear, field[0]))
        ends = crossing.Ends(
            self.search.lead_here[sample], self.search.lead_there[rows], self.search.label[rows]
        )
        plan = race.sizes(self.tight, count)
        best, ends, start = race.race(
            self.search.net,
            self.search.x[sample],
            torch.cat(field, 1),
            part,
            self.search.origin[sample],
            ends,
            partial(_project, [self.search.spaces[j] for j in spaces], sizes),
            plan,
            noise=float(count > 1),
        )
        self.delta[rows], self.search.lead_there[rows], self.search.label[rows] = best, ends.there, ends.label
        self.start[rows] = start.clamp_min(0)
        self.passes[rows] += sum(plan)
        self._cross(rows)


def _project(spaces: list[Subspace], sizes: list[int], vectors: Tensor) -> Tensor:
    """Vectors (sum(sizes) · Q, *shape), Q beside each other for every row, each onto its row's subspace."""
    if len(spaces) == 1:
        return spaces[0].project(vectors)
    each = len(vectors) // sum(sizes)
    parts = zip(spaces, vectors.split([each * size for size in sizes]), strict=True)
    return torch.cat([space.project(part) for space, part in parts])


def length_of(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)
