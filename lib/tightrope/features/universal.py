"""One direction against all samples: theorem 4.2 of the feature-averaging slides (Frei et al.).

A network at a KKT point of margin maximisation on clusters has a z = η Σ_j y_j μ_j, η > 0 and ‖z‖ ≤ O(√(D/(c²k))), by
which nearly every sample's label flips from x to x − y z.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.features.averaging import check_signs
from tightrope.models.measured import measured

__all__ = ["direction", "flipping_norm", "with_biases"]

BLOCK = 2**24  # numbers in the largest temporary tensor
HALVINGS = 20


def direction(means: Tensor, signs: Tensor) -> Tensor:
    """z / ‖z‖ (D,) of z = Σ_j y_j μ_j, means (k, D) and their signs (k,), ±1. Raises ValueError where z is zero."""
    refusals.tensor(("k", "D"), finite=True, means=means)
    check_signs(len(means), means, signs=signs)
    size = means.detach().double().abs().amax()
    z = signs.double() @ (means.detach().double() / torch.where(size > 0, size, 1))
    if not z.norm() > 1e-6:
        raise ValueError("The signed sum of means is zero, so it has no direction.")
    return (z / z.norm()).to(means.dtype)


def flipping_norm(
    net: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    reach: float,
    share: float = 0.99,
    points: int = 64,
) -> float:
    """The length t at which `share` of x (N, D) have another label at x − y t z/‖z‖ than at x; +inf beyond `reach`.

    y (N,) in {0, 1} for -1 and +1; z (D,). Every sample moves by the same length, as in the theorem, and one that has
    flipped and flipped back does not count. The share is looked at at `points` lengths, evenly spaced up to `reach`,
    and 20 halvings follow between the first that suffices and the one before it. The length returned suffices, and one
    shorter by 1e-6 of a spacing does not; lengths that suffice only between two points of the grid are not seen.
    """
    refusals.function(net=net)
    refusals.tensor(("N", "D"), finite=True, x=x)
    refusals.labels(x, 2, y=y)
    refusals.tensor((x.shape[1],), finite=True, like=x, z=z)
    refusals.number(above=0, reach=reach)
    refusals.number(above=0, most=1, share=share)
    refusals.whole(1, points=points)
    away = (1 - 2 * y)[:, None] * _unit(z)
    with measured(net, x, of="labels") as (answer, x):
        rows = max(1, BLOCK // x.shape[1])
        pairs = list(zip(x.split(rows), away.split(rows), strict=True))
        before = [answer(part).argmax(1) for part, _ in pairs]

        def enough(t: float) -> bool:
            flipped = sum(
                int((answer(part + t * way).argmax(1) != old).sum())
                for (part, way), old in zip(pairs, before, strict=True)
            )
            return flipped >= share * len(x) * (1 - 1e-12)

        grid = (reach * k / points for k in range(1, points + 1))
        high = next((t for t in grid if enough(t)), None)
        if high is None:
            return float("inf")
        low = max(0.0, high - reach / points)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def with_biases(
    w: Tensor, sign: Tensor, x: Tensor, y: Tensor, z: Tensor, *, radius: float, biases: Tensor
) -> Tensor:
    """The slides' "for any choice of bias": what `averaging`'s binary network gets right with other biases, (2, G, G).

    w (H, D) are the weights of its neurons and `sign` (H,), ±1, their classes. Element (c, i, j) is the share of the
    samples of label c that are right, without a tie, at x and at x − y radius z/‖z‖, where every neuron of class -1 has
    the bias biases[i] and every one of +1 biases[j]; 0 where no sample has that label. So it bounds that network's
    robust accuracy at `radius` from above. Look at the worse of both labels: with one bias large enough the network
    gives all samples one label, and is robust on half of them.
    """
    refusals.tensor(("H", "D"), finite=True, w=w)
    check_signs(len(w), w, sign=sign)
    refusals.tensor(("N", w.shape[1]), finite=True, like=w, x=x)
    refusals.labels(x, 2, y=y)
    refusals.tensor((w.shape[1],), finite=True, like=w, z=z)
    refusals.number(least=0, radius=radius)
    refusals.tensor(("G",), finite=True, like=w, biases=biases)
    if len(sign.unique()) < 2:
        raise ValueError("sign must give neurons to both classes, -1 and +1.")
    w = w.detach()
    before = x.detach() @ w.T
    after = before + radius * (1 - 2 * y)[:, None] * (w @ _unit(z))
    negative, positive = (
        torch.stack([(torch.cat([before, after])[:, sign == s] + bias).relu().mean(1) for bias in biases])
        for s in (-1, 1)
    )  # (G, 2 N) each
    both = torch.cat([y, y]) == 1
    shares = x.new_zeros(2, len(biases), len(biases))
    for i, f in enumerate(negative):
        right = torch.where(both, positive > f, positive < f).view(len(biases), 2, -1).all(1)
        for c in (0, 1):
            shares[c, i] = right[:, y == c].sum(1) / (y == c).sum().clamp_min(1)
    return shares


def _unit(z: Tensor) -> Tensor:
    """z / ‖z‖, however long."""
    size = z.detach().abs().amax()
    if not size > 0:
        raise ValueError("z must not be zero: it is a direction.")
    return z.detach() / size / (z.detach() / size).norm()
