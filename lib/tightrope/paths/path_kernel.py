"""A trained two-layer ReLU network as a kernel sum along its training path, exactly.

*Neighborhoods*, section 14. One step moves the weights along a straight line, so the output at x changes by

    f(x; w_(s+1)) − f(x; w_s) = Σ_i k_s(x, x_i) a_(i,s),   k_s(x, x_i) = ∫₀¹ ∇f(x; w_s(t)) ∇f(x_i; w_s)ᵀ dt,

K × K blocks k_s, and the trained network is its start plus the sum over s = 0, …, T−1 (the source prints 1 to N).
No Jacobian is formed: the gradient of a layer is an outer product, so a layer's part of k_s is (inner product of
what enters it, + 1 for the bias) times (inner product of what is carried back to it), and for two layers the
integral has a closed form (`quadrature.relu_means`).

    path = path_kernel.train(x, y, hidden=100, classes=10, steps=100, lr=0.2, seed=0)
    path.net(xq), path.predict(xq)      # logits (Q, K), twice: by the network, by the sum over training points
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.paths.quadrature import TANGENT, Means, Rule, interval, moments, relu_means, rule
from tightrope.paths.trajectory import Trained, descend

__all__ = ["TANGENT", "Path", "rule", "train"]

BLOCK = 2**23  # numbers in the largest temporary tensor
Where = Literal["moving", "start"]
SIDES = ("moving", "start")


def train(
    x: Tensor,
    y: Tensor,
    hidden: int = 100,
    classes: int = 10,
    steps: int = 100,
    lr: float = 0.2,
    seed: int = 0,
    *,
    loss: str = "cross_entropy",
    momentum: float = 0.0,
    batch: int | None = None,
    zero_last: bool = True,
    dtype: torch.dtype | None = None,
    memory: int = 2**30,
) -> Path:
    """Train a two-layer ReLU network on x (N, …) and keep the path of its weights.

    Full-batch gradient descent on the mean loss at a constant rate `lr`; He's initialisation, the last layer
    zero. `loss`: "cross_entropy" (y int64 (N,)), "binary" (classes=1, y in {0, 1}, cross-entropy of the
    sigmoid), "squared" (y (N,) or (N, classes), summed over outputs). `batch`: mini-batches; `momentum`: heavy
    ball. `zero_last=False` starts from a drawn last layer, and the sum then from that network (remark 2).
    `dtype`: float64 on a CPU, float32 on a GPU. A path of more than `memory` bytes lies in a temporary file and is
    read step by step.

    Raises ValueError for bad arguments and `training.Diverged` when training leaves the finite numbers.
    """
    options = {"loss": loss, "momentum": momentum, "batch": batch, "zero_last": zero_last}
    more = {"steps": steps, "lr": lr, "seed": seed, "dtype": dtype, "memory": memory}
    return Path(descend(x, y, (hidden,), classes, **options, **more))


class _Step(NamedTuple):
    """Both sides of k_s. Queries: ∫ relu (Q, H), ∫ ∂f/∂z (Q, K, H), ∫ 1. Training points at w_s: relu (N, H), relu'."""

    s: int
    relu: Tensor
    back: Tensor
    once: float
    train_relu: Tensor
    train_on: Tensor
    last: Tensor  # (K, H) last layer of w_s


class Path(Trained):
    """A two-layer training and its kernel. N training points, Q queries, T steps, K outputs, H hidden units.

    `by` is None for the exact integral or a `rule`; `step` ends the path early. With momentum a step also follows
    the gradients before it; the block of (x, x_i) at s then carries ∇f(x) averaged over step s and, discounted, all
    later ones. `symmetric` is definition 14.3: queries that are training points stay at w_s (t = 0).
    """

    def __repr__(self) -> str:
        n, d = self.x.shape
        return f"Path({n} points of {d}, {self.trajectory.sizes[1]} hidden units, {self.steps} steps)"

    @torch.no_grad()
    def predict(
        self, xq: Tensor, *, by: Rule | None = None, symmetric: bool = False, step: int | None = None
    ) -> Tensor:
        """The kernel sum f(x; w₀) + Σ_i Σ_s k_s(x, x_i) a_(i,s) (Q, K): theorem 14.5, equal to `net` when exact."""
        flat = self.trajectory.inputs(xq)
        out = [self._sum(part, by, symmetric, step) for part in self._parts(flat, 1)]
        return self._finite(self.net(xq, 0) + torch.cat(out))

    def _sum(self, x: Tensor, by: Rule | None, symmetric: bool, step: int | None) -> Tensor:
        inner = x @ self.x.T + 1  # the first layer's inputs never move
        total = x.new_zeros(len(x), self.trajectory.sizes[-1])
        for at in self._walk(x, by, symmetric, step):
            a = self.trajectory.a[at.s].to(x.device)
            carried = inner @ (a @ at.last).mul_(at.train_on)
            total += (at.back @ carried.unsqueeze(2)).squeeze(2)
            total += (at.relu @ at.train_relu.T + at.once) @ a
        return total

    @torch.no_grad()
    def contributions(self, xq: Tensor, *, by: Rule | None = None, symmetric: bool = False) -> Tensor:
        """What each training point adds to each logit, (Q, N, K): Σ_s k_s(x, x_i) a_(i,s)."""
        out = []
        for x in self._parts(self.trajectory.inputs(xq), self.trajectory.sizes[-1]):
            inner, first, second = x @ self.x.T + 1, 0.0, 0.0
            for at in self._walk(x, by, symmetric):
                a = self.trajectory.a[at.s].to(x.device)
                first = first + at.back @ (a @ at.last * at.train_on).T  # (Q, K, N)
                second = second + (at.relu @ at.train_relu.T + at.once)[..., None] * a
            out.append((inner[:, None] * first).transpose(1, 2) + second)
        return self._finite(torch.cat(out))

    @torch.no_grad()
    def kernel(
        self, xq: Tensor, step: int | None = None, *, by: Rule | None = None, symmetric: bool = False
    ) -> Tensor:
        """The blocks over training points (Q, N, K, K), of one step or summed over all: [q, i, k, l] is the inner
        product of ∇f_k at query q, averaged along the step, with ∇f_l at training point i."""
        k = self.trajectory.sizes[-1]
        refusals.whole(0, self.steps - 1, **refusals.given(step=step))
        out = []
        for x in self._parts(self.trajectory.inputs(xq), k * k):
            q, n = len(x), len(self.x)
            first, second = x.new_zeros(q * k, n * k), x.new_zeros(q, n)
            for at in self._walk(x, by, symmetric, only=step):
                train = (at.train_on[:, None] * at.last).flatten(0, 1)
                first.addmm_(at.back.flatten(0, 1), train.T)
                second += at.relu @ at.train_relu.T + at.once
            blocks = first.view(q, k, n, k).transpose(1, 2) * (x @ self.x.T + 1)[..., None, None]
            blocks.diagonal(dim1=2, dim2=3).add_(second[..., None])
            out.append(blocks)
        return self._finite(torch.cat(out))

    @torch.no_grad()
    def gram(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        where: tuple[Where, Where] = ("moving", "start"),
        steps: Sequence[int] | None = None,
    ) -> Tensor:
        """One number a pair, (Q1, Q2): the trace of the block over K, summed over `steps` (all).

        `where` says at which weights each side's gradient is taken: all along w_s(t) ("moving") or at w_s ("start").
        Remark 1's k′ is ("moving", "start") for every pair; definition 14.3 has training points at the start and
        all others moving; ("start", "start") is a sum of tangent kernels. x2 defaults to the training points.
        """
        left = self.trajectory.inputs(x1)
        right = self.x if x2 is None else self.trajectory.inputs(x2)
        refusals.instance(tuple, where=where)
        refusals.whole(2, 2, **{"the length of where": len(where)})
        for side in where:
            refusals.choice(SIDES, where=side)
        if where == ("start", "moving"):
            return self._trace(right, left, ("moving", "start"), steps).T
        return self._trace(left, right, where, steps)

    @torch.no_grad()
    def diagonal(self, x: Tensor, where: Where = "moving", steps: Sequence[int] | None = None) -> Tensor:
        """The trace kernel of each point with itself (Q,), both sides moving or both at the start."""
        x = self.trajectory.inputs(x)
        refusals.choice(SIDES, where=where)
        total = x.new_zeros(len(x))
        inner = x.square().sum(1) + 1
        for first, end, last, after in self._lines(x, steps):
            z = first
            to = z if where == "start" else end
            m0, m1, m2 = moments(*interval(z, to))
            dz, moved = to - z, after - last if where == "moving" else torch.zeros_like(last)
            relu = m0 * z**2 + 2 * m1 * z * dz + m2 * dz**2
            back = _quadratic(last, moved, (m0, m1, m2))
            total += inner * back.sum(1) / len(last) + relu.sum(1) + 1
        return total

    def _trace(self, left: Tensor, right: Tensor, where, steps) -> Tensor:
        k = self.trajectory.sizes[-1]
        inner = left @ right.T + 1
        total = torch.zeros_like(inner)
        every = zip(self._lines(left, steps), self._lines(right, steps), strict=True)
        for (z, end, last, after), (z2, end2, *_) in every:
            if where == ("moving", "moving"):
                relu, back = _both_moving(z, end, z2, end2, last, after - last)
            else:
                means = relu_means(z, end, None if where[0] == "moving" else TANGENT)
                squares, cross = last.square().sum(0), ((after - last) * last).sum(0)
                relu = means.relu @ z2.relu().T
                back = (means.on * squares + means.late * cross) @ (z2 > 0).to(z.dtype).T
            total += relu.addcmul_(inner, back, value=1 / k).add_(1)
        return self._finite(total)

    def _lines(
        self, x: Tensor, steps: Sequence[int] | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each step: pre-activations of x at its start and end (Q, H), last layer at its start and end (K, H)."""
        steps = range(self.steps) if steps is None else steps
        refusals.wholes(0, most=self.steps - 1, steps=list(steps) if isinstance(steps, range) else steps)
        for s in steps:
            (w, b), (last, _) = self.trajectory.layers(s)
            (w1, b1), (after, _) = self.trajectory.layers(s + 1)
            yield torch.addmm(b, x, w.T), torch.addmm(b1, x, w1.T), last, after

    def _walk(
        self, x: Tensor, by: Rule | None, symmetric: bool, stop: int | None = None, only: int | None = None
    ) -> Iterator[_Step]:
        """Both sides of every k_s, from the last step to the first: so momentum's later steps come before."""
        refusals.truth(symmetric=symmetric)
        refusals.whole(0, self.steps, **refusals.given(step=stop))
        if by is not None:
            refusals.instance(Rule, by=by)
        momentum = self.trajectory.momentum
        fixed = self._is_training_point(x) if symmetric else None
        stop = self.steps if stop is None else stop
        if only is not None and not momentum:
            stop = only + 1
        relu, back, once = 0.0, 0.0, 1.0 - bool(momentum)
        (w, b), (after, _) = self.trajectory.layers(stop)
        end = torch.addmm(b, x, w.T)
        steps = range(stop - 1, -1 if only is None else only - 1, -1)
        for s in progress.track(steps, "kernel, step"):
            (w, b), (last, _) = self.trajectory.layers(s)
            z, train = torch.addmm(b, x, w.T), torch.addmm(b, self.x, w.T)
            means = relu_means(z, end, by)
            if fixed is not None:
                start = relu_means(z, end, TANGENT)
                means = Means(*(torch.where(fixed, f, m) for f, m in zip(start, means, strict=True)))
            here = (means.on[:, None] * last).addcmul_(means.late[:, None], after - last)
            if momentum:
                relu, back, once = means.relu + momentum * relu, here + momentum * back, 1 + momentum * once
            else:
                relu, back = means.relu, here
            if only is None or s == only:
                train.relu_()
                yield _Step(s, relu, back, once, train, train.sign(), last)
            end, after = z, last

    def _is_training_point(self, x: Tensor) -> Tensor:
        """(Q, 1) bool: this row is one of the training inputs."""
        known = {row.tobytes() for row in (self.x + 0.0).cpu().numpy()}  # + 0.0: there is one zero, not two
        found = [row.tobytes() in known for row in (x + 0.0).cpu().numpy()]
        return torch.tensor(found, device=x.device)[:, None]

    def _parts(self, x: Tensor, outputs: int) -> tuple[Tensor, ...]:
        """Queries in parts whose largest temporary, about N · outputs or K · H numbers a query, fits BLOCK."""
        _, h, k = self.trajectory.sizes
        return x.split(max(1, BLOCK // (outputs * len(self.x) + k * h)))

    def _finite(self, out: Tensor) -> Tensor:
        if not out.isfinite().all():
            raise ValueError("The kernel leaves the finite numbers at these queries: they are too large.")
        return out


def _quadratic(last: Tensor, moved: Tensor, m: Sequence[Tensor | float]) -> Tensor:
    """∫ Σ_k (W₂ + t ΔW₂)²_(k,h) over the interval whose moments are m (…, H), or numbers; or of one unit, (K,)."""
    squares, cross, ends = ((u * v).sum(0) for u, v in ((last, last), (last, moved), (moved, moved)))
    return m[0] * squares + 2 * m[1] * cross + m[2] * ends


def _both_moving(
    z: Tensor, end: Tensor, z2: Tensor, end2: Tensor, last: Tensor, moved: Tensor
) -> tuple[Tensor, Tensor]:
    """∫ relu·relu and ∫ tr ∂f/∂z ∂f/∂z'ᵀ (Q1, Q2) for two moving points.

    A unit that stays on its side of the kink is affine in t, and the integral of a product with an affine function
    sees only the other factor's projection onto those: one product of matrices for all units. Where a unit crosses
    for both points their projections miss something, which is added pair by pair.
    """
    (relu1, back1), (relu2, back2) = (_projected(*ends, last, moved) for ends in ((z, end), (z2, end2)))
    relu, back = relu1.flatten(1) @ relu2.flatten(1).T, back1 @ back2.T
    for h, (rows, j) in enumerate(zip(_crossing(z, end), _crossing(z2, end2), strict=True)):
        if not len(j):
            continue
        for i in rows.split(max(1, BLOCK // (8 * len(j)))):
            both, on = _both_crossing(z[i, h], end[i, h], z2[j, h], end2[j, h], last[:, h], moved[:, h])
            relu[i[:, None], j] += both - relu1[i, h] @ relu2[j, h].T
            back[i[:, None], j] += on - torch.outer(back1[i, h], back2[j, h])
    return relu, back


def _projected(z: Tensor, end: Tensor, last: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """relu along a step in the orthonormal basis 1, √3 (2t − 1) of the affine functions (Q, H, 2), and whether the unit
    is on projected onto the constants, in the measure Σ_k (W₂ + t ΔW₂)²_(k,h) dt (Q, H)."""
    m, dz = moments(*interval(z, end)), end - z
    mean, first = m[0] * z + m[1] * dz, m[1] * z + m[2] * dz
    length = _quadratic(last, moved, (1, 1 / 2, 1 / 3)).sqrt()
    tiny = torch.finfo(z.dtype).tiny  # a unit without weights in the last layer is 0 / 0
    on = _quadratic(last, moved, m) / length.clamp_min(tiny)
    return torch.stack([mean, 3**0.5 * (2 * first - mean)], 2), on


def _crossing(z: Tensor, end: Tensor) -> tuple[Tensor, ...]:
    """For each hidden unit the points at which it crosses its kink."""
    crosses = (z > 0) != (end > 0)
    return crosses.T.nonzero()[:, 1].split(crosses.sum(0).tolist())


def _both_crossing(
    z: Tensor, end: Tensor, z2: Tensor, end2: Tensor, last: Tensor, moved: Tensor
) -> tuple[Tensor, Tensor]:
    """The two integrals of one hidden unit (Q1, Q2), over the times at which both points have it on."""
    (lo1, hi1), (lo2, hi2) = interval(z, end), interval(z2, end2)
    z, dz, dz2 = z[:, None], (end - z)[:, None], end2 - z2
    lo = torch.maximum(lo1[:, None], lo2)
    m = moments(lo, torch.maximum(torch.minimum(hi1[:, None], hi2), lo))
    relu = m[0] * z * z2 + m[1] * (z * dz2 + dz * z2) + m[2] * dz * dz2
    return relu, _quadratic(last, moved, m)
