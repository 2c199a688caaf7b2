"""Points on a decision boundary, found in three ways, and which way the boundary faces there.

*Neighborhoods of adversarial examples*, section 31, which samples around a point of the boundary and brings the
samples onto it, and definition 30.1's angle.

    at = anatomy.between(net, x, other)               # one point of the boundary for each pair
    cloud = at.images[:1] + 0.1 * torch.randn(2_000, 1, 28, 28)
    on = anatomy.project(net, cloud, how="parents", parents=torch.cat([x[:1], other[:1]]))
    anatomy.normals(net, on)                          # unit gradients of the two logits' difference
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.boundary import crossing, margins, search
from tightrope.boundary.chunks import chunk_rows
from tightrope.models.measured import check_input, measured

__all__ = ["WAYS", "OnBoundary", "between", "incidence", "normals", "project"]

Model = Callable[[Tensor], Tensor]

WAYS = ("parents", "gradient", "nearest")


@dataclass(frozen=True)
class OnBoundary:
    """Points of a decision boundary, N of them.

    images  (N, *shape), behind the boundary by 1e-6 (float64: 1e-12) of the way gone; the point given where not found
    before  (N,) the label that the way to it began with
    after   (N,) the label on the other side; `before` where not found
    found   (N,) False where no boundary was met
    """

    images: Tensor
    before: Tensor
    after: Tensor
    found: Tensor


def between(model: Model, x: Tensor, other: Tensor, *, chunk: int | None = None) -> OnBoundary:
    """A point of the boundary on each segment from x to other, (N, *shape) both, of different labels.

    Bracketing finds *a* change of label, if there are several; `line_scan.changes` finds all. Raises ValueError for
    a pair of one label: no boundary need lie between them.
    """
    refusals.function(model=model)
    check_input(model, x, "logits")
    refusals.tensor(tuple(x.shape), finite=True, like=x, other=other)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    with measured(model, x, chunk=chunk, of="logits") as (net, x):
        found = _between(net, x, other.detach(), chunk)
    same = (found.before == found.after).nonzero()[:, 0].tolist()
    if same:
        raise ValueError(f"x and other must differ in their label: pair {same[0]} does not.")
    return found


def project(
    model: Model,
    cloud: Tensor,
    *,
    how: str = "parents",
    parents: Tensor | None = None,
    tight: int = 20,
    rivals: int = 10,
    chunk: int | None = None,
) -> OnBoundary:
    """A cloud (N, *shape) of samples brought onto the boundary.

    how   "parents"   each towards the one of two `parents` (2, *shape) of different labels that it is not of: towards
                      the second if it has the label of the first, else towards the first. The source's interpolation;
                      it puts the parents into what is found
          "gradient"  by DeepFool's steps along gradients, then back to the boundary on that line
          "nearest"   to the nearest point known: DeepFool and a race of `tight` passes, see `margins.deepfool`

    The last two look at the `rivals` largest logits, and "nearest" also at others that seem nearer.
    """
    refusals.choice(WAYS, how=how)
    refusals.whole(1, tight=tight)
    refusals.whole(2, rivals=rivals)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    if (how == "parents") != (parents is not None):
        raise ValueError("parents are needed for how='parents', and for that only.")
    if parents is None:
        more = {"tight": tight} if how == "nearest" else {"wider": 0}
        m = margins.deepfool(model, cloud, rivals=rivals, keep=True, chunk=chunk, **more)
        return OnBoundary(cloud.detach() + m.delta[:, 0], m.origin, m.label[:, 0], m.found[:, 0])
    refusals.function(model=model)
    check_input(model, cloud, "logits")
    refusals.tensor((2, *cloud.shape[1:]), finite=True, like=cloud, parents=parents)
    with measured(model, cloud, chunk=chunk, of="logits") as (net, cloud), torch.no_grad():
        one, two = net(parents.detach()).argmax(1)
        if one == two:
            raise ValueError(f"parents must differ in their label: both have {int(one)}.")
        labels = torch.cat([net(part).argmax(1) for part in cloud.split(chunk or chunk_rows(cloud))])
        return _between(net, cloud, parents.detach()[(labels == one).long()], chunk)


def normals(model: Model, on: OnBoundary, *, chunk: int | None = None) -> Tensor:
    """Unit normals (N, *shape) of the boundary at its points, from the label before to the one after.

    The gradient of the logit after less the logit before; zero where there is none, and where no boundary was met.
    """
    refusals.instance(OnBoundary, on=on)
    refusals.function(model=model)
    check_input(model, on.images)
    if chunk is not None:
        refusals.whole(1, chunk=chunk)
    with measured(model, on.images, chunk=chunk) as (net, x):
        rows, found = chunk or chunk_rows(x), []
        for at, before, after in zip(x.split(rows), on.before.split(rows), on.after.split(rows), strict=True):
            at = at.clone().requires_grad_()
            with torch.enable_grad():
                logits = net(at)
                rise = logits.gather(1, after[:, None]) - logits.gather(1, before[:, None])
                (gradient,) = torch.autograd.grad(rise.sum(), at)
            found.append(gradient)
    return search.unit(torch.cat(found))[0]


def incidence(direction: Tensor, normal: Tensor) -> Tensor:
    """Definition 30.1's angle of incidence, (N,) in radians, of lines and planes: direction, normal (N, *shape).

    α = π/2 − θ, where θ is the angle between a line and its projection onto the plane: the angle between the line and
    the normal, 0 for an orthogonal crossing, π/2 for a line in the plane. The definition's first sentence calls θ the
    angle of incidence; the formula after it, taken here, is its complement. Raises ValueError for a vector of length 0.
    """
    refusals.tensor(("N", ...), finite=True, direction=direction)
    refusals.tensor(tuple(direction.shape), finite=True, like=direction, normal=normal)
    (d, far), (n, size) = (search.unit(v.flatten(1)) for v in (direction, normal))
    if not ((far > 0).all() and (size > 0).all()):
        raise ValueError("direction and normal must not be zero: such a vector has no angle.")
    # Between the lines, whichever way they point; the formula of halves keeps the digits of small angles.
    n = torch.where((d * n).sum(1, keepdim=True) < 0, -n, n)
    return 2 * torch.atan2((d - n).norm(dim=1), (d + n).norm(dim=1))


@torch.no_grad()
def _between(net: Model, x: Tensor, other: Tensor, chunk: int | None) -> OnBoundary:
    """A change of label on each segment; not found where both ends have one label."""
    parts = []
    for a, b in zip(x.split(chunk or chunk_rows(x)), other.split(chunk or chunk_rows(x)), strict=True):
        here, there = net(a), net(b)
        before, after = here.argmax(1), there.argmax(1)
        found = before != after
        images, met = a.clone(), before.clone()
        if found.any():
            ends = crossing.Ends(
                *(f[found] for f in (crossing.lead(here, before), crossing.lead(there, before), after))
            )
            way = (b - a)[found]
            cut, ends = crossing.crossing(net, a[found], way, before[found], ends)
            images[found], met[found] = a[found] + cut, ends.label
        parts.append((images, before, met, found))
    return OnBoundary(*(torch.cat(column) for column in zip(*parts, strict=True)))
