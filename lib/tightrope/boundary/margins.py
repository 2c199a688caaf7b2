"""Distance to the decision boundary inside subspaces: subspace DeepFool, batched and refined.

*Hold me tight*, definitions 1 and 2: the margin of x in S is the length of the shortest delta in S with
F(x + delta) != F(x). `deepfool` follows the published algorithm, row by row the same numbers, for all samples
and all subspaces at once; then it does what the published code leaves out: it goes back along the final
direction to the boundary, and marks the rows whose boundary was never met.

Where the gradient is not unique (inputs of a max-pool that tie, as on a black background), rounding picks one,
and two right kernels may part: on digits one to three rows in a hundred.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.boundary import crossing, race
from tightrope.boundary.chunks import chunk_of
from tightrope.boundary.rivals import nearest, reach, seeming_distances
from tightrope.inputs.subspaces import Subspace, full
from tightrope.models.measured import check_input, frozen

__all__ = ["Margins", "deepfool"]

Model = Callable[[Tensor], Tensor]

FLOOR = 1e-4  # DeepFool's shortest step: below it float32 stalls on the boundary
WIDER = 64  # classes outside of the rivals that are looked at one by one
BLOCK_BYTES = 2**28  # what the perturbations or the Jacobian of one block of samples may take


@dataclass(frozen=True)
class Margins:
    """Margins of N samples in J subspaces, in the units of the input (ℓ2). Fields are (N, J) unless they say so.

    norm    the margin: length of the shortest perturbation found, refined; +inf where the boundary was not met
    raw     the same as DeepFool left it, (1 + overshoot) ‖r‖; +inf where the boundary was not met
    found   False marks a censored row: its margin is larger than anything tried
    label   the label on the far side of the boundary; the sample's own prediction where not found
    steps   linearisations DeepFool took
    origin  (N,) the predicted label each search started from
    delta   (N, J, *shape) the perturbations of length `norm`, zero where not found; None unless asked for
    names   of the subspaces: `m["u₁"]` is the margins in that one, J = 1
    passes  backward passes spent on the row (the Jacobian at x, which the subspaces share, counts in each)
    start   which start of the race the margin came from: 0 DeepFool's end, k >= 1 the k-th nearest linearised
            rival; -1 where not found
    """

    norm: Tensor
    raw: Tensor
    found: Tensor
    label: Tensor
    steps: Tensor
    origin: Tensor
    delta: Tensor | None = None
    names: tuple[str, ...] = ()
    passes: Tensor | None = None
    start: Tensor | None = None

    def __getitem__(self, name: str) -> Margins:
        """The margins in the subspace of that name. Raises ValueError where none, or more than one, has it."""
        if self.names.count(name) != 1:
            listed = ", ".join(map(repr, self.names))
            raise ValueError(
                f"{self.names.count(name)} of these subspaces are called {name!r}: they are {listed}."
            )
        j = [self.names.index(name)]
        by_space = ("norm", "raw", "found", "label", "steps", "delta", "passes", "start")
        columns = {column: getattr(self, column) for column in by_space}
        mine = {column: None if value is None else value[:, j] for column, value in columns.items()}
        return replace(self, **mine, names=(name,))

    def quantile(self, q: float | Sequence[float], *, raw: bool = False) -> Tensor:
        """Quantiles over the samples, (J,) or (len(q), J). Censored rows count as larger than every found
        one: a quantile that falls among them is +inf, never an average of what was not measured."""
        values = (self.raw if raw else self.norm).sort(0).values
        at = torch.as_tensor(q, dtype=values.dtype, device=values.device) * (len(values) - 1)
        low, high = values[at.floor().long()], values[at.ceil().long()]
        part = (at - at.floor()).unsqueeze(-1)
        between = torch.lerp(low.nan_to_num(posinf=0.0), high.nan_to_num(posinf=0.0), part)
        return torch.where(low.isinf() | (high.isinf() & (part > 0)), math.inf, between)


def deepfool(
    model: Model,
    x: Tensor,
    subspaces: Subspace | Sequence[Subspace] | None = None,
    *,
    overshoot: float = 0.02,
    max_steps: int = 100,
    rivals: int = 10,
    refine: bool = True,
    tight: int = 0,
    starts: int | None = None,
    keep: bool = False,
    chunk: int | None = None,
) -> Margins:
    """Margins of x (N, *shape) in each of J subspaces (default: the full space, J = 1).

    `model` is any callable from raw inputs (N, *shape) to logits (N, L), L >= 2; a module is measured in eval
    mode and given back as it was. The search starts at the predicted label, right or wrong. Rivals are the
    `rivals` largest logits of the clean input, its own among them, ranked once. At x + r each step solves the
    linearised problem for the nearest rival k, |f_k - f_0| / ‖P_S ∇(f_k - f_0)‖ (at least 1e-4), and moves r
    that far inside S; it ends when x + (1 + overshoot) r has another label (*Hold me tight*, section 2, and its
    code). There is no box: the question is where the boundary lies, not what a camera could see.

    With `refine` the margin is then measured along the final direction, to a relative 1e-6 (float32) or 1e-12
    (float64): on an affine classifier the exact margin in S, elsewhere an upper bound, never above `raw`.

    DeepFool's direction is not the shortest one. `tight` steps of `crossing.shorten` (20 do well; each costs one
    forward and one backward pass a row, where a DeepFool step costs `rivals`) turn it inside S before the last
    refinement. `keep` returns the perturbations too.

    A row is censored when its gradients vanish in S, its logits overflow, or `max_steps` do not flip it.
    Rows are worked on `chunk` at a time (default: what suits the device and the size of an input).
    """
    check_input(model, x)
    spaces = [full(x.shape[1:])] if subspaces is None else subspaces
    spaces = [spaces] if isinstance(spaces, Subspace) else list(spaces)
    _check(x, spaces, overshoot, max_steps, rivals, tight, starts, chunk)
    racing = [_starts(space, tight, starts, rivals) for space in spaces]
    size = x[0].numel() * x.element_size() * max(rivals, sum(racing))
    blocks = x.split(max(1, BLOCK_BYTES // size))
    with frozen(model) as net:
        rows = chunk or chunk_of(net, x, rivals)
        parts = [
            _Search(net, block, spaces, overshoot, max_steps, rivals, rows, tight, racing).run(refine, keep)
            for block in blocks
        ]
    columns = {
        field.name: [getattr(part, field.name) for part in parts]
        for field in fields(Margins)
        if field.name != "names"
    }
    joined = (None if column[0] is None else torch.cat(column) for column in columns.values())
    return Margins(**dict(zip(columns, joined, strict=True)), names=tuple(space.name for space in spaces))


class _Search:
    """All searches from one block of n samples in J subspaces. Row j * n + i is sample i in subspace j, so
    that rows in ascending order lie in one contiguous slice per subspace."""

    def __init__(
        self,
        net: Model,
        x: Tensor,
        spaces: list[Subspace],
        overshoot,
        max_steps,
        rivals,
        chunk,
        tight,
        starts,
    ):
        self.net, self.x, self.spaces = net, x, spaces
        self.scale, self.max_steps, self.chunk, self.tight = 1 + overshoot, max_steps, chunk, tight
        self.equal = race.slack(x)
        with torch.no_grad():
            logits = torch.cat([net(part) for part in x.split(chunk)])
        _check_logits(logits, len(x))
        self.logits = logits
        self.ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :rivals]
        self.origin = self.ranked[:, 0]
        self.starts = [min(count, self.ranked.shape[1]) for count in starts]
        self.linear: list[list[Tensor]] = [[] for _ in spaces]
        rows = len(x) * len(spaces)
        self.r = x.new_zeros(rows, *x.shape[1:])
        self.steps = torch.zeros(rows, dtype=torch.int64, device=x.device)
        self.further, self.start = torch.zeros_like(self.steps), torch.full_like(self.steps, -1)
        self.label = self.origin.repeat(len(spaces))
        self.found = torch.zeros(rows, dtype=torch.bool, device=x.device)
        self.lost = torch.zeros_like(self.found)
        self.lead_here = crossing.lead(logits, self.origin)
        self.lead_there = x.new_zeros(rows)

    def run(self, refine: bool, keep: bool) -> Margins:
        self._first_steps()
        self._further_steps()
        delta = self.scale * self.r
        raw = torch.where(self.found, _length(delta), math.inf)
        if refine or self.tight:
            self._shorten(delta)
        delta *= self.found.reshape(-1, *[1] * (delta.ndim - 1))
        norm = torch.where(self.found, _length(delta), math.inf)
        passes = self.steps * (self.ranked.shape[1] - 1) + self.further
        start = torch.where(self.found, self.start.clamp_min(0), -1)
        *table, passes, start = (
            column.reshape(len(self.spaces), -1).T
            for column in (torch.minimum(norm, raw), raw, self.found, self.label, self.steps, passes, start)
        )
        kept = delta.reshape(len(self.spaces), *self.x.shape).transpose(0, 1) if keep else None
        return Margins(*table, self.origin, kept, passes=passes, start=start)

    # The first step is taken at x itself: one Jacobian serves every subspace.
    def _first_steps(self) -> None:
        for samples in torch.arange(len(self.x), device=self.x.device).split(self.chunk):
            gaps, grads = self._linearise(samples)
            for j in range(len(self.spaces)):
                self._move(samples + j * len(self.x), [j], [len(samples)], gaps, grads)
                if self.starts[j] > 1:
                    classes = self.ranked[samples, 1:].T
                    steps, ok = _nearest(self.spaces[j], gaps, grads, classes, self.equal, self.starts[j] - 1)
                    usable = steps * ok.reshape(*ok.shape, *[1] * (self.x.ndim - 1))
                    self.linear[j].append(usable.transpose(0, 1))
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
            self._move(rows, *self._slices(pool), *self._linearise(rows))
            self._look(rows)
            pool = list(compress(pool, self._active(rows).tolist()))
            progress.report(f"margins: {len(every) - len(pool) - len(waiting):,} of {len(every):,} rows")

    def _active(self, rows: Tensor) -> Tensor:
        return ~(self.found[rows] | self.lost[rows]) & (self.steps[rows] < self.max_steps)

    def _linearise(
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

    def _move(self, rows: Tensor, spaces: list[int], sizes: list[int], gaps: Tensor, grads: Tensor) -> None:
        """One step of every row that is still open, each inside its own subspace."""
        parts = zip(rows.split(sizes), spaces, gaps.split(sizes, 1), grads.split(sizes, 1), strict=True)
        for mine, j, gap, grad in parts:
            classes = self.ranked[mine % len(self.x), 1:].T
            step, ok = (part[0] for part in _nearest(self.spaces[j], gap, grad, classes, self.equal))
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

    def _shorten(self, delta: Tensor) -> None:
        """Bring the found rows of `delta` back to the boundary, in place, then let others race them there."""
        found = list(compress(range(len(self.r)), self.found.tolist()))
        for mine in self._chunks(found, 1, "refining"):
            self._cross(delta, torch.tensor(mine, device=self.x.device), 1 / self.scale)
        if self.logits.shape[1] > self.ranked.shape[1]:
            self._widen(delta, found)
        if self.tight:
            for count in sorted(set(self.starts)):
                racing = [row for row in found if self.starts[row // len(self.x)] == count]
                for mine in self._chunks(racing, count, "tightening"):
                    self._race(delta, mine, count)

    def _chunks(self, rows: list[int], starts: int, what: str) -> Iterator[list[int]]:
        size = max(1, self.chunk // starts)
        for done in range(0, len(rows), size):
            progress.report(f"margins: {what} {done:,} of {len(rows):,} rows")
            yield rows[done : done + size]

    def _cross(self, delta: Tensor, rows: Tensor, guess: float | None = None) -> None:
        sample = rows % len(self.x)
        ends = crossing.Ends(self.lead_here[sample], self.lead_there[rows], self.label[rows])
        part = (self.net, self.x[sample], delta[rows], self.origin[sample], ends)
        delta[rows], ends = crossing.crossing(*part, guess=guess)
        self.lead_there[rows], self.label[rows] = ends.there, ends.label

    def _widen(self, delta: Tensor, found: list[int]) -> None:
        """Where a class outside of the rivals looks nearer, go and see: classes in the order in which they seem."""
        missed = 0
        for mine in self._chunks(found, 1, "looking for nearer rivals"):
            spaces, sizes = self._slices(mine)
            rows = torch.tensor(mine, device=self.x.device)
            for j, part in zip(spaces, rows.split(sizes), strict=True):
                missed += self._look_wider(self.spaces[j], delta, part)
        if missed:
            warnings.warn(
                f"{missed} margins may be too long: more than {WIDER} classes outside of the rivals look nearer; "
                "raise `rivals`.",
                stacklevel=4,
            )

    def _look_wider(self, space: Subspace, delta: Tensor, rows: Tensor) -> int:
        """How many rows of one subspace have classes left that look nearer."""
        sample, length = rows % len(self.x), _length(delta[rows])
        x, logits, origin = self.x[sample], self.logits[sample], self.origin[sample]
        seem, draws = seeming_distances(self.net, x, logits, origin, space, length, self.ranked[sample])
        near = torch.arange(len(rows), device=x.device)
        for turn in range(WIDER + 1):
            near = near[seem[near].amin(1) < reach(draws[near]) * length[near]]
            if not len(near) or turn == WIDER:
                break
            rival = seem[near].argmin(1, keepdim=True)
            seem[near] = seem[near].scatter(1, rival, math.inf)
            gaps, grads = self._linearise(rows[near], torch.cat([origin[near, None], rival], 1), at_x=True)
            step, ok = _nearest(space, gaps, grads, rival.T, self.equal)
            step = self.scale * step[0]
            with torch.no_grad():
                there = self.net(x[near] + step)
            label = there.argmax(1)
            shorter = _length(step) < self.scale * length[near]
            go = ok[0] & there.isfinite().all(1) & (label != origin[near]) & shorter
            self.further[rows[near]] += 1
            mine = near[go]
            if len(mine):
                ends = crossing.Ends(
                    self.lead_here[sample[mine]], crossing.lead(there[go], origin[mine]), label[go]
                )
                cut, ends = crossing.crossing(
                    self.net, x[mine], step[go], origin[mine], ends, guess=1 / self.scale
                )
                better = _length(cut) < length[mine]
                at = rows[mine][better]
                delta[at], length[mine[better]] = cut[better], _length(cut[better])
                self.lead_there[at], self.label[at] = ends.there[better], ends.label[better]
        return len(near)

    def _race(self, delta: Tensor, mine: list[int], count: int) -> None:
        """Rows, in ascending order, of subspaces in which `count` starts race."""
        rows = torch.tensor(mine, device=self.x.device)
        sample, part = rows % len(self.x), delta[rows]
        spaces, sizes = self._slices(mine)
        # Past the boundary, where it is known to have another label: on it, rounding would say which.
        field = [1.01 * part[:, None]]
        if count > 1:
            where = zip(spaces, sample.split(sizes), strict=True)
            linear = torch.cat([torch.cat(self.linear[j])[at] for j, at in where])
            usable = _length(linear.flatten(0, 1)).reshape(linear.shape[:2]) > 0
            usable = usable.reshape(*usable.shape, *[1] * (self.x.ndim - 1))
            field.append(torch.where(usable, linear, field[0]))
        ends = crossing.Ends(self.lead_here[sample], self.lead_there[rows], self.label[rows])
        plan = race.sizes(self.tight, count)
        best, ends, start = race.race(
            self.net,
            self.x[sample],
            torch.cat(field, 1),
            part,
            self.origin[sample],
            ends,
            partial(_project, [self.spaces[j] for j in spaces], sizes),
            plan,
            noise=float(count > 1),
        )
        delta[rows], self.lead_there[rows], self.label[rows] = best, ends.there, ends.label
        self.start[rows] = start
        self.further[rows] += sum(plan)
        self._cross(delta, rows)

    def _slices(self, rows: list[int]) -> tuple[list[int], list[int]]:
        """The subspaces of rows in ascending order, and how many rows lie in each."""
        sizes = Counter(row // len(self.x) for row in rows)
        return list(sizes), list(sizes.values())


def _project(spaces: list[Subspace], sizes: list[int], vectors: Tensor) -> Tensor:
    each = len(vectors) // sum(sizes)
    parts = zip(spaces, vectors.split([each * size for size in sizes]), strict=True)
    return torch.cat([space.project(part) for space, part in parts])


def _starts(space: Subspace, tight: int, starts: int | None, rivals: int) -> int:
    """How many starts race in a subspace: one in a small one; else as many as take 5/7 of the passes before all but
    the last are out, one a rival at most."""
    if starts is None:
        starts = 1
        while 2 * space.dim >= math.prod(space.shape) and 7 * (starts + 1) * (starts + 2) <= 5 * tight:
            starts += 1
    return max(1, min(starts, rivals, tight))


def _length(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


def _nearest(
    space: Subspace, gaps: Tensor, grads: Tensor, classes: Tensor, equal: float, count: int = 1
) -> tuple[Tensor, Tensor]:
    """DeepFool's steps inside one subspace: towards the `count` rivals whose linearised boundaries are nearest, the
    nearest first. (count, R, *shape) and (count, R): False without a usable gradient, and then the step is zero."""
    c = space.coordinates(grads.flatten(0, 1)).reshape(*grads.shape[:2], -1)
    length = c.norm(dim=2)
    distances = torch.where(length > 0, gaps.abs() / length, math.inf)
    k = nearest(distances, classes, count, equal)
    distance, pick = distances.gather(0, k), torch.arange(k.shape[1], device=k.device)
    ok = distance.isfinite()
    size = torch.where(ok, distance.clamp_min(FLOOR) / length.gather(0, k), 0)
    ok &= size.isfinite()
    steps = space.lift((c[k, pick] * torch.where(ok, size, 0)[..., None]).flatten(0, 1))
    return steps.unflatten(0, k.shape), ok


def _check(
    x: Tensor,
    spaces: list[Subspace],
    overshoot: float,
    max_steps: int,
    rivals: int,
    tight: int,
    starts,
    chunk,
) -> None:
    if not spaces:
        raise ValueError("There is no subspace to measure in; leave `subspaces` out for the full space.")
    for space in spaces:
        if not isinstance(space, Subspace):
            raise ValueError(f"A margin is measured in a spectra.Subspace, not in {type(space).__name__}.")
        if space.shape != tuple(x.shape[1:]):
            raise ValueError(
                f"{space!r} holds inputs of shape {space.shape}, but x has {tuple(x.shape[1:])}."
            )
    if not 0 <= overshoot < math.inf:
        raise ValueError(f"The overshoot must be a number of at least 0, not {overshoot}.")
    if max_steps < 1 or rivals < 2 or tight < 0 or (chunk is not None and chunk < 1):
        raise ValueError(
            "DeepFool needs max_steps >= 1, rivals >= 2, tight >= 0 and chunk >= 1, "
            f"not {max_steps}, {rivals}, {tight} and {chunk}."
        )
    if starts is not None:
        refusals.whole(1, starts=starts)


def _check_logits(logits: Tensor, n: int) -> None:
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            f"The model must return logits (N, L) with L >= 2, not {tuple(logits.shape)} for {n} inputs."
        )
    if not logits.isfinite().all():
        raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
