"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

from torch import Tensor

from tightrope import refusals
from tightrope.boundary.attacks.pgd import Walk, ascent
from tightrope.boundary.search import Attack, Box, Model, Task, run, unit, wide


def mi_fgsm(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """Momentum iterative FGSM: `bim` along gathered gradients (Dong et al. 2018, algorithm 1 and section 3.3).

    g₀ = 0, gₜ₊₁ = μ gₜ + ∇loss(xₜ) / ‖∇loss(xₜ)‖₁ and xₜ₊₁ = xₜ + α sign(gₜ₊₁), brought back into the box and the ball
    of radius `eps` around x₀ = x. norm "l2": the step is α gₜ₊₁ / ‖gₜ₊₁‖₂. μ is `decay`, 0 for `bim` itself; α is
    `step`, eps / steps unless given, with which no iterate leaves the ball. A gradient that is zero adds nothing.

    "cross-entropy" is the published `loss`. That, `keep` and the rest are as in `pgd`; nothing is drawn.
    """
    refusals.number(above=0, eps=eps)
    refusals.whole(1, steps=steps)
    refusals.number(least=0, decay=decay)
    step = eps / steps if step is None else step
    walk = _Gathering(decay, Walk(eps, norm, steps, step, loss, random_start=False))
    return run(ascent(walk, 1, keep), model, x, labels, targeted, box, seed, chunk, "MI-FGSM", keep=keep)


class _Gathering(Walk):
    """A walk along what its gradients add up to, `gathered` since the start for every row of the chunk: rows leave."""

    def __init__(self, decay: float, walk: Walk):
        super().__init__(**vars(walk))
        self.decay = decay

    def start(self, task: Task) -> Tensor:
        first, beyond = task.chunk
        self.gathered = task.x.new_zeros(beyond - first, *task.x.shape[1:])
        return super().start(task)

    def move(self, task: Task, images: Tensor, slope: Tensor, k: int) -> Tensor:
        rows = task.numbers - task.chunk[0]
        slope, _ = unit(slope)  # no ℓ1 length is then below one, but that of a zero
        slope = self.decay * self.gathered[rows] + slope / wide(
            slope.flatten(1).abs().sum(1), slope
        ).clamp_min(1)
        self.gathered[rows] = slope
        return super().move(task, images, slope, k)
