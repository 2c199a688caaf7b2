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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.boundary import crossing
from tightrope.inputs.subspaces import Subspace, full
from tightrope.models.measured import check_input, frozen

__all__ = ["Margins", "deepfool"]

Model = Callable[[Tensor], Tensor]

FLOOR = 1e-4  # DeepFool's shortest step: below it float32 stalls on the boundary
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
    """

    norm: Tensor
    raw: Tensor
    found: Tensor
    label: Tensor
    steps: Tensor
    origin: Tensor
    delta: Tensor | None = None
    names: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Margins:
        """The margins in the subspace of that name. Raises ValueError where none, or more than one, has it."""
        if self.names.count(name) != 1:
            listed = ", ".join(map(repr, self.names))
            raise ValueError(
                f"{self.names.count(name)} of these subspaces are called {name!r}: they are {listed}."
            )
        j = [self.names.index(name)]
        columns = (self.norm, self.raw, self.found, self.label, self.steps)
        delta = None if self.delta is None else self.delta[:, j]
        return Margins(*(column[:, j] for column in columns), self.origin, delta, (name,))

    def quantile(self, q: float | Sequence[float], *, raw: bool = False) -> Tensor:
        """Quantiles over the samples, (J,) or (len(q), J). Censored rows count as larger than every found
        one: a quantile that falls among them is +inf, never an average of what was not measured."""
        refusals.numbers(least=0, most=1, q=q)
        refusals.truth(raw=raw)
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
    refusals.function(model=model)
    refusals.tensor(("N", ...), x=x)
    check_input(model, x)
    spaces = full(x.shape[1:]) if subspaces is None else subspaces
    spaces = list(spaces) if isinstance(spaces, tuple | list) else [spaces]
    refusals.whole(1, **{"the number of subspaces": len(spaces)})
    for space in spaces:
        refusals.instance(Subspace, subspaces=space)
        refusals.tensor(("N", *space.shape), **{f"x beside {space!r}": x})
    refusals.number(least=0, overshoot=overshoot)
    refusals.whole(1, max_steps=max_steps)
    refusals.whole(2, rivals=rivals)
    refusals.whole(0, tight=tight)
    refusals.truth(refine=refine, keep=keep)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    size = x[0].numel() * x.element_size() * max(rivals, len(spaces))
    blocks = x.split(max(1, BLOCK_BYTES // size))
    with frozen(model) as net:
        rows = chunk or _chunk(net, x, rivals)
        parts = [
            _Search(net, block, spaces, overshoot, max_steps, rivals, rows).run(refine, tight, keep)
            for block in blocks
        ]
    columns = [
        [getattr(part, field.name) for part in parts] for field in fields(Margins) if field.name != "names"
    ]
    joined = (None if column[0] is None else torch.cat(column) for column in columns)
    return Margins(*joined, tuple(space.name for space in spaces))


class _Search:
    """All searches from one block of n samples in J subspaces. Row j * n + i is sample i in subspace j, so
    that rows in ascending order lie in one contiguous slice per subspace."""

    def __init__(self, net: Model, x: Tensor, spaces: list[Subspace], overshoot, max_steps, rivals, chunk):
        self.net, self.x, self.spaces = net, x, spaces
        self.scale, self.max_steps, self.chunk = 1 + overshoot, max_steps, chunk
        with torch.no_grad():
            logits = torch.cat([net(part) for part in x.split(chunk)])
        _check_logits(logits, len(x))
        self.ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :rivals]
        self.origin = self.ranked[:, 0]
        rows = len(x) * len(spaces)
        self.r = x.new_zeros(rows, *x.shape[1:])
        self.steps = torch.zeros(rows, dtype=torch.int64, device=x.device)
        self.label = self.origin.repeat(len(spaces))
        self.found = torch.zeros(rows, dtype=torch.bool, device=x.device)
        self.lost = torch.zeros_like(self.found)
        self.lead_here = crossing.lead(logits, self.origin)
        self.lead_there = x.new_zeros(rows)

    def run(self, refine: bool, tight: int, keep: bool) -> Margins:
        self._first_steps()
        self._further_steps()
        delta = self.scale * self.r
        raw = torch.where(self.found, _length(delta), math.inf)
        if refine or tight:
            self._shorten(delta, tight)
        delta *= self.found.reshape(-1, *[1] * (delta.ndim - 1))
        norm = torch.where(self.found, _length(delta), math.inf)
        table = [
            column.reshape(len(self.spaces), -1).T
            for column in (torch.minimum(norm, raw), raw, self.found, self.label, self.steps)
        ]
        kept = delta.reshape(len(self.spaces), *self.x.shape).transpose(0, 1) if keep else None
        return Margins(*table, self.origin, kept)

    # The first step is taken at x itself: one Jacobian serves every subspace.
    def _first_steps(self) -> None:
        for samples in torch.arange(len(self.x), device=self.x.device).split(self.chunk):
            gaps, grads = self._linearise(samples)
            for j in range(len(self.spaces)):
                self._move(samples + j * len(self.x), [j], [len(samples)], gaps, grads)
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

    def _linearise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """f_k - f_0 (K-1, R) and its gradients (K-1, R, *shape) at x + r, for the rivals k = 1 ... K-1."""
        sample = rows % len(self.x)
        with torch.enable_grad():
            at = (self.x[sample] + self.r[rows]).requires_grad_()
            logits = self.net(at)
            f = logits.gather(1, self.ranked[sample]).T
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
            step, ok = _nearest(self.spaces[j], gap, grad)
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

    def _shorten(self, delta: Tensor, tight: int) -> None:
        """Bring the found rows of `delta` back to the boundary, in place, after `tight` steps along it."""
        found = list(compress(range(len(self.r)), self.found.tolist()))
        for done in range(0, len(found), self.chunk):
            progress.report(f"margins: refining {done:,} of {len(found):,} rows")
            mine = found[done : done + self.chunk]
            rows = torch.tensor(mine, device=self.x.device)
            sample = rows % len(self.x)
            x, origin, part = self.x[sample], self.origin[sample], delta[rows]
            ends = crossing.Ends(self.lead_here[sample], self.lead_there[rows], self.label[rows])
            part, ends = crossing.crossing(self.net, x, part, origin, ends, guess=1 / self.scale)
            if tight:
                spaces, sizes = self._slices(mine)
                project = partial(_project, [self.spaces[j] for j in spaces], sizes)
                part, ends = crossing.shorten(self.net, x, part, origin, ends, project, tight)
                part, ends = crossing.crossing(self.net, x, part, origin, ends)
            delta[rows], self.label[rows] = part, ends.label

    def _slices(self, rows: list[int]) -> tuple[list[int], list[int]]:
        """The subspaces of rows in ascending order, and how many rows lie in each."""
        sizes = Counter(row // len(self.x) for row in rows)
        return list(sizes), list(sizes.values())


def _project(spaces: list[Subspace], sizes: list[int], vectors: Tensor) -> Tensor:
    return torch.cat([s.project(part) for s, part in zip(spaces, vectors.split(sizes), strict=True)])


def _length(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


def _nearest(space: Subspace, gaps: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """DeepFool's step inside one subspace: towards the rival whose linearised boundary is nearest. Rows
    without a usable gradient get a step of zero and False."""
    c = space.coordinates(grads.flatten(0, 1)).reshape(*grads.shape[:2], -1)
    length = c.norm(dim=2)
    distance, k = torch.where(length > 0, gaps.abs() / length, math.inf).min(0)
    pick = torch.arange(len(k), device=k.device)
    ok = distance.isfinite()
    size = torch.where(ok, distance.clamp_min(FLOOR) / length[k, pick], 0)
    ok &= size.isfinite()
    return space.lift(c[k, pick] * torch.where(ok, size, 0)[:, None]), ok


def chunk_rows(x: Tensor, row_bytes: int = 0, free: int | None = None) -> int:
    """How many rows of x (N, *shape) one pass takes.

    On a CPU (`free` None) what counts is that a chunk's activations stay in cache; on a GPU with `free` bytes that
    rows of `row_bytes` each fill half of it.
    """
    if free is None:
        return max(8, min(256, 2**18 // x[0].numel()))
    return max(1, min(8192, free // (2 * row_bytes)))


def _chunk(net: Model, x: Tensor, rivals: int) -> int:
    if x.device.type != "cuda":
        return chunk_rows(x)
    free = torch.cuda.mem_get_info(x.device)[0]
    free += torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
    return chunk_rows(x, row_bytes(net, x[:1], rivals), free)


def row_bytes(net: Model, x: Tensor, rivals: int) -> int:
    """What one row like x (1, *shape) takes while it is linearised: what autograd keeps of the forward pass, as much
    again for the backward pass, and a gradient a rival."""

    def kept(x: Tensor) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net(x.detach().requires_grad_())
        return sum(sizes.values())

    # The second row's share: weights are kept too, but not once a row.
    return 2 * (kept(torch.cat([x, x])) - kept(x)) + (rivals + 4) * x.numel() * x.element_size()


def _check_logits(logits: Tensor, n: int) -> None:
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            f"The model must return logits (N, L) with L >= 2, not {tuple(logits.shape)} for {n} inputs."
        )
    if not logits.isfinite().all():
        raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
