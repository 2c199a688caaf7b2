"""The strongest of several attacks, row by row, and whether a doubled budget would change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import progress, refusals
from tightrope.boundary.attacks.carlini_wagner import adam
from tightrope.boundary.attacks.ddn import descent
from tightrope.boundary.attacks.fmn import nearest
from tightrope.boundary.attacks.pgd import Walk, ascent
from tightrope.boundary.attacks.square import painting
from tightrope.boundary.search import Attack, Box, Model, Search, Seen, run, wide

# What a name runs: the attack's own name, from which it draws, and its search at a radius, norm, steps and restarts,
# given the best images so far.
MEMBERS: dict[str, tuple[str, Callable[[float | None, str, int, int, Tensor], Search]]] = {
    "pgd scaled": ("PGD", lambda eps, norm, n, k, _: ascent(Walk(eps, norm, n, None, "scaled"), k)),
    "pgd margin": ("PGD", lambda eps, norm, n, k, _: ascent(Walk(eps, norm, n, None, "margin"), k)),
    "pgd cross-entropy": (
        "PGD",
        lambda eps, norm, n, k, _: ascent(Walk(eps, norm, n, None, "cross-entropy"), k),
    ),
    "shrinking ball": (
        "shrinking ball",
        lambda eps, norm, n, k, _: ascent(Walk(eps, norm, n, None, "scaled", wider=2.0), k),
    ),
    "square": ("square attack", lambda eps, norm, n, k, _: painting(eps, 10 * n, 0.8)),
    "ddn": ("DDN", lambda eps, norm, n, k, _: descent(n, 1.0, 0.05, "scaled")),
    "ddn margin": ("DDN", lambda eps, norm, n, k, _: descent(n, 1.0, 0.05, "margin")),
    "fmn": ("FMN", lambda eps, norm, n, k, _: nearest(n)),
    "fmn again": ("FMN again", lambda eps, norm, n, k, best: nearest(n, 3.0, start=best)),
    "carlini_wagner": ("Carlini–Wagner", lambda eps, norm, n, k, _: adam(n, 5)),
}
PGD = ("pgd scaled", "shrinking ball", "pgd margin", "pgd cross-entropy")
BALLS = {"l2": (*PGD, "ddn", "fmn", "ddn margin", "carlini_wagner"), "linf": (*PGD, "square")}
LENGTHS = ("ddn", "fmn", "fmn again", "ddn margin", "carlini_wagner")
LEFT_OUT = ("ddn margin", "carlini_wagner")


@dataclass(frozen=True)
class Strongest(Attack):
    """What `strongest` came back with: an `Attack`, and how it came about.

    attack  (N,) the number in `names` of the attack that won the row; −1 where none did, or none had to
    names   the attacks that were tried
    passes  {name: rows that went through the network}
    moved   what the last doubling of the budget changed: the share of rows found or, without a radius, the median
            length by that part of itself; 0 where nothing was left to find, inf where there is no median
    """

    attack: Tensor
    names: tuple[str, ...]
    moved: float


def strongest(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    eps: float | None = None,
    attacks: Sequence[str] | None = None,
    steps: int = 100,
    restarts: int = 2,
    tolerance: float = 0.01,
    doublings: int = 3,
    targeted: bool = False,
    box: Box = (0.0, 1.0),
    seed: int = 0,
    chunk: int | None = None,
) -> Strongest:
    """Row by row the worst of several attacks at the radius `eps` or, where that is None, the shortest (ℓ2 only).

    `attacks` names them, in the order in which they are tried: for a radius "pgd scaled", "shrinking ball", "pgd
    margin", "pgd cross-entropy" and, in "linf", "square" (images only); in "l2", with a radius and without, "ddn" and
    "fmn", where "ddn margin" and "carlini_wagner" can be named too; and, without a radius, "fmn again", which goes on
    from the shortest that were found before it, in strides of three of their lengths: on a surface with many folds the
    others end in one of them. By default all but "ddn margin" and "carlini_wagner".

    The first budget is `steps` steps of each attack (`restarts` starts of those that draw one; ten times as many
    queries of the square attack; five rounds of Carlini and Wagner's). A row found inside `eps` leaves. Then the budget
    is doubled, with other draws, until that moves the share of rows found (the median length, by a part of itself) by
    no more than `tolerance`, at most `doublings` times. What one of the attacks finds alone, at the first budget and
    the same seed, is found. A row is stuck where none of them met a usable gradient, or one of them NaN.
    """
    refusals.choice(("l2", "linf"), norm=norm)
    refusals.whole(1, steps=steps, restarts=restarts, doublings=doublings)
    refusals.whole(0, seed=seed)
    refusals.number(least=0, tolerance=tolerance)
    if eps is not None:
        refusals.number(above=0, eps=eps)
    elif norm == "linf":
        raise ValueError("The shortest perturbation is sought in 'l2' only: give eps for 'linf'.")
    named = LENGTHS if eps is None else BALLS[norm]
    if attacks is None:
        painted = not isinstance(x, Tensor) or x.dim() == 4
        names = tuple(n for n in named if n not in LEFT_OUT and (painted or n != "square"))
    else:
        refusals.instance((tuple, list), attacks=attacks)
        names = tuple(attacks)
        refusals.whole(1, **{"the number of attacks": len(names)})
    for name in names:
        refusals.choice(named, **{"each of attacks": name})

    seen, passes = Seen(), dict.fromkeys(names, 0)
    images, winner, length, before, moved = x, None, None, math.inf, 0.0
    for turn in range(doublings + 1):
        for k, name in enumerate(progress.track(names, f"budget {2**turn}, attack")):
            # Rows that are done leave: lost ones, or those that no perturbation could be shorter for.
            only = None if length is None else length.isinf() if eps is not None else length > 0
            if only is not None and not only.any():
                break
            own, search = MEMBERS[name]
            searching = search(eps, norm, 2**turn * steps, restarts, images)
            of = "logits" if name == "square" else "gradients"
            tried = run(searching, model, x, labels, targeted, box, seed + turn, chunk, own, seen, only, of)
            passes[name] += tried.passes[own]
            new = tried.norm(2 if norm == "l2" else math.inf)
            if eps is not None:
                new = torch.where(new <= eps, new, math.inf)
            if length is None:
                length, winner = torch.where(new == 0, new, math.inf), torch.full_like(labels, -1)
            shorter = new < length
            images = torch.where(wide(shorter, images), tried.images, images)
            length, winner = torch.where(shorter, new, length), torch.where(shorter, k, winner)
        now = (length.median() if eps is None else length.isfinite().double().mean()).item()
        if eps is not None:
            moved = now - before if turn else 1 - now
        else:
            moved = 0.0 if now == 0 else math.inf if math.isinf(before) else before / now - 1
        if moved <= (tolerance if turn else 0):
            break
        before = now
    found = length.isfinite()
    stuck = seen.stuck(found)
    seen.warn(stuck, "strongest", level=3)
    return Strongest(images, found, stuck, x, passes, winner, names, moved)
