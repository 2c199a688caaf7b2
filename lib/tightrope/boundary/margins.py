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
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary import line_scan
from tightrope.boundary.chunks import chunk_of
from tightrope.boundary.refining import Refinement, length_of
from tightrope.boundary.stepping import Search
from tightrope.inputs.subspaces import Subspace, full
from tightrope.models.measured import check_input, measured

__all__ = ["Margins", "along", "cost", "deepfool"]

Model = Callable[[Tensor], Tensor]

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
    starts: int | None = None,
    wider: int = 64,
    keep: bool = False,
    chunk: int | None = None,
) -> Margins:
    """Margins of x (N, *shape) in each of J subspaces (default: the full space, J = 1).

    `model` is any callable from raw inputs (N, *shape) to logits (N, L), L >= 2; a module is measured in eval
    mode and given back as it was. The search starts at the predicted label, right or wrong. Rivals are the
    `rivals` largest logits of the clean input, its own among them, ranked once. At x + r each step solves the
    linearised problem for the nearest rival k, |f_k - f_0| / ‖P_S ∇(f_k - f_0)‖ (at least 1e-4), and moves r
    that far inside S; it ends when x + (1 + overshoot) r has another label (*Hold me tight*, section 2, and its
    code). There is no box: the question is where the boundary lies, not what a camera could see. Rivals that are
    equally far, up to rounding, are taken by class: a row's result depends on no other row.

    With `refine` the margin is then measured along the final direction, to a relative 1e-6 (float32) or 1e-12
    (float64): on an affine classifier the exact margin in S, elsewhere an upper bound, never above `raw`. Where there
    are more classes than `rivals`, eight to 32 random directions in S say how near the others seem, and those that
    may be nearer are gone to, `wider` a row at most (more are said in a warning; 0: none is looked for). That costs
    as many forward passes a row, and a backward pass a class gone to: with 1,000 classes 15 and 0.3 where they are
    random, 55 and 14 where twenty each are alike. There the published rivals miss the nearest class in half of the
    rows, by factors of up to 16; this did in one row of 5,760 (affine classifiers of 100 and 1,000 classes in 196
    dimensions). On a photograph's network with few `rivals` it may take longer than all the rest.

    DeepFool's direction is not the shortest one. `tight` is what a race between several starts (`boundary.race`) may
    spend on a row, in passes forward and back, where a DeepFool step costs `rivals` - 1 back; then it is refined
    again. By default one start races in a subspace of fewer than half of the dimensions, and in larger ones three
    with tight=20, four with 28 or 40, five with 48; `starts` says another number. Length over the best known
    one, mean / 95th percentile, on test images that chose nothing here (256 digits, 256 digits, 40 photos; full
    space, float32):

        preset                LeNet          adversarially trained   ResNet-8      CPU time over `tight=0`
        tight=0               1.50 / 1.87    1.58 / 2.09             1.18 / 1.49   1
        tight=20  quick       1.037 / 1.16   1.046 / 1.20            1.028 / 1.08  2.4 to 2.8
        tight=28              1.025 / 1.11   1.032 / 1.13            1.017 / 1.07  2.9 to 3.3
        tight=40  tight       1.019 / 1.10   1.024 / 1.11            1.007 / 1.03  3.6 to 4.5
        DDN, 50 steps         1.050 / 1.17   1.082 / 1.25            1.28 / 2.25   2.7 to 3.5

    `keep` returns the perturbations too.

    A row is censored when its gradients vanish in S, its logits overflow, or `max_steps` do not flip it.
    Rows are worked on `chunk` at a time (default: what suits the device and the size of an input).
    """
    refusals.function(model=model)
    check_input(model, x)
    refusals.tensor(("N", ...), x=x)
    spaces = full(x.shape[1:]) if subspaces is None else subspaces
    spaces = list(spaces) if isinstance(spaces, tuple | list) else [spaces]
    refusals.whole(1, **{"the number of subspaces": len(spaces)})
    for space in spaces:
        refusals.instance(Subspace, subspaces=space)
        refusals.tensor(("N", *space.shape), **{f"x beside {space!r}": x})
    refusals.number(least=0, overshoot=overshoot)
    refusals.whole(1, max_steps=max_steps)
    refusals.whole(2, rivals=rivals)
    refusals.whole(0, tight=tight, wider=wider)
    if starts is not None:
        refusals.whole(1, starts=starts)
    refusals.truth(refine=refine, keep=keep)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    racing = [_starts(space, tight, starts, rivals) for space in spaces]
    with measured(model, x, chunk=chunk) as (net, x):
        size = x[0].numel() * x.element_size() * max(rivals, sum(racing))
        blocks = x.split(max(1, BLOCK_BYTES // size))
        rows = chunk or chunk_of(net, x, rivals)
        parts, missed = [], 0
        for block in blocks:
            search = Search(net, block, spaces, overshoot, max_steps, rivals, rows, racing)
            search.run()
            part, more = _measured(search, refine, tight, wider, keep)
            parts.append(part)
            missed += more
    if missed:
        warnings.warn(
            f"{missed} margins may be too long: more than {wider} classes outside of the rivals look nearer: "
            "raise `wider` or `rivals`.",
            stacklevel=2,
        )
    columns = {
        field.name: [getattr(part, field.name) for part in parts]
        for field in fields(Margins)
        if field.name != "names"
    }
    joined = (None if column[0] is None else torch.cat(column) for column in columns.values())
    return Margins(**dict(zip(columns, joined, strict=True)), names=tuple(space.name for space in spaces))


def along(
    model: Model,
    x: Tensor,
    direction: Tensor,
    *,
    reach: float,
    step: float,
    keep: bool = False,
    chunk: int | None = None,
) -> Margins:
    """Margins of x (N, *shape) along one direction d, (*shape) or one a sample (N, *shape), both ways; J = 1.

    The labels at x + t·d/‖d‖ are looked at from x on, at points at most `step` apart up to |t| = `reach`, and the first
    change on either side is found between two of them (`line_scan`): the exact margin in span{d}, but for regions
    narrower than `step`, which a scan may miss and DeepFool jumps. A sample with no change within `reach` is censored.
    `raw` is `norm`; `steps` counts the points looked at.
    """
    refusals.truth(keep=keep)
    refusals.function(model=model)
    check_input(model, x, "logits")
    shape = tuple(x.shape)[isinstance(direction, Tensor) and direction.ndim < x.ndim :]
    refusals.tensor(shape, finite=True, like=x, direction=direction)
    largest = direction.detach().flatten(-x.ndim + 1).abs().amax(-1)
    if not largest.all():
        raise ValueError("direction must not be zero: there is no line along it.")
    wide = [-1, *[1] * (x.ndim - 1)]
    direction = (direction.detach() / largest.reshape(wide)).expand_as(x)  # a square of it may overflow
    direction = direction / length_of(direction).reshape(wide)
    scan = line_scan.nearest(model, x, direction, reach=reach, step=step, chunk=chunk)
    norm, found, none = scan.t.abs(), scan.mask, torch.zeros_like(scan.after)
    label = torch.where(found, scan.after, scan.start[:, None])
    t = torch.where(found, scan.t, 0).reshape(-1, 1, *wide[1:])
    delta = t * direction[:, None] if keep else None
    steps, start = scan.probes[:, None], torch.where(found, none, -1)
    return Margins(norm, norm, found, label, steps, scan.start, delta, ("line",), none, start)


def cost(
    model: Model,
    x: Tensor,
    subspaces: Subspace | Sequence[Subspace] | None = None,
    *,
    seconds: float = 1.0,
    **options: Any,
) -> float:
    """About how many seconds `deepfool` would take with these arguments on this machine.

    It is tried on more and more of the samples x (N, *shape), for about `seconds` in all; `options` are `deepfool`'s.
    """
    refusals.number(above=0, seconds=seconds)
    check_input(model, x)
    n, spent = 1, 0.0
    while True:
        began = time.perf_counter()
        deepfool(model, x[:n], subspaces, **options)
        took = time.perf_counter() - began
        spent += took
        if n == len(x) or spent + 2 * took > seconds:
            return took * len(x) / n
        n = min(2 * n, len(x))


def _measured(search: Search, refine: bool, tight: int, wider: int, keep: bool) -> tuple[Margins, int]:
    """The margins of a search that has run, and how many of them may have been missed by far."""
    delta, found, count = search.scale * search.r, search.found, len(search.spaces)
    raw = torch.where(found, length_of(delta), math.inf)
    refinement = Refinement(search, delta, tight, wider)
    if refine or tight:
        refinement.run()
    delta *= found.reshape(-1, *[1] * (delta.ndim - 1))
    norm = torch.minimum(torch.where(found, length_of(delta), math.inf), raw)
    passes = search.steps * (search.ranked.shape[1] - 1) + refinement.passes
    start = torch.where(found, refinement.start, -1)
    table = (
        column.reshape(count, -1).T
        for column in (norm, raw, found, search.label, search.steps, passes, start)
    )
    *table, passes, start = table
    kept = delta.reshape(count, *search.x.shape).transpose(0, 1) if keep else None
    return Margins(*table, search.origin, kept, passes=passes, start=start), refinement.missed


def _starts(space: Subspace, tight: int, starts: int | None, rivals: int) -> int:
    """How many starts race in a subspace: one in a small one; else as many as take 5/7 of the passes before all but
    the last are out, one a rival at most."""
    if starts is None:
        starts = 1
        while 2 * space.dim >= math.prod(space.shape) and 7 * (starts + 1) * (starts + 2) <= 5 * tight:
            starts += 1
    return max(1, min(starts, rivals, tight))
