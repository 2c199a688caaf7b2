"""Projected gradient descent in a ball that shrinks to its radius."""

from __future__ import annotations

from torch import Tensor

from tightrope.boundary.attacks.pgd import Walk, ascent
from tightrope.boundary.search import Attack, Box, Model, run


def shrinking_ball(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "l2",
    steps: int = 40,
    restarts: int = 1,
    loss: str = "scaled",
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    keep: str = "first",
    seed: int = 0,
    chunk: int | None = None,
) -> Attack:
    """`pgd` in a ball that starts at 2 eps, shrinks to eps until half of the steps are taken, and stays there.

    From outside the ball one sees over what hides the way inside it (after the radii 3 eps, 2 eps, eps of Croce and
    Hein 2021). Steps are 2.5 radii / steps. Only what lies inside eps counts,
    whatever is kept.
    """
    search = ascent(Walk(eps, norm, steps, None, loss, wider=2.0), restarts, keep)
    return run(search, model, x, labels, targeted, box, seed, chunk, "shrinking ball", keep=keep)
