"""What was added to a training's images, one epoch at a time: a few numbers instead of the perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope.inputs.subspaces import Subspace, energy


@dataclass(frozen=True)
class Spread:
    """Of a number of every image: its median, its 95th percentile and its mean."""

    median: float
    high: float
    mean: float


@dataclass(frozen=True)
class Summary:
    """The perturbations of one epoch, each as the network met it.

    found   the share of perturbed images that the network, while it was trained on them, did not answer rightly
    length  ℓ2
    energy  in each of the subspaces watched, the squared length of the perturbation's part there
    """

    found: float
    length: Spread
    energy: tuple[Spread, ...]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Summary:
        """The summary that `Perturbations.numbers` wrote down."""
        found, *rest = numbers
        length, *parts = (Spread(*rest[i : i + 3]) for i in range(0, len(rest), 3))
        return cls(found, length, tuple(parts))


class Perturbations:
    """Those of one epoch, batch by batch, and their energy in each of `watch`; nothing waits for the device."""

    def __init__(self, watch: tuple[Subspace, ...]) -> None:
        self.watch = watch
        self._found: list[Tensor] = []
        self._sizes: list[Tensor] = []

    def add(self, delta: Tensor, found: Tensor) -> None:
        """Perturbations (N, *shape), and whether the network met them with a wrong answer, (N,)."""
        sizes = delta.flatten(1).norm(dim=1)[:, None]
        parts = [energy(delta, self.watch)] if self.watch else []
        self._found.append(found)
        self._sizes.append(torch.cat([sizes, *parts], 1))

    def numbers(self) -> list[float]:
        """The share found, then median, 95th percentile and mean of the lengths and of each energy; one wait."""
        found = torch.cat(self._found).double().mean()
        sizes = torch.cat(self._sizes).double().sort(0).values
        at = torch.tensor([0.5, 0.95], dtype=sizes.dtype, device=sizes.device) * (len(sizes) - 1)
        below = at.long()
        beyond = (below + 1).clamp_max(len(sizes) - 1)
        quantiles = sizes[below].lerp(sizes[beyond], (at - below)[:, None])
        return torch.cat([found[None], torch.cat([quantiles, sizes.mean(0)[None]]).T.flatten()]).tolist()
