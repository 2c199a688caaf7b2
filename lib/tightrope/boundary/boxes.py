"""The sets that attacked inputs stay in: a box, and a ball around the input.

attacks.pgd(net, x, y, eps=1.0, box=(0.0, 1.0))           # the default; box=None for none
attacks.pgd(net, flip(x), y, eps=1.0, box=boxes.Flipped())
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tightrope import refusals
from tightrope.inputs.dct import flip

__all__ = ["Flipped", "Interval"]


@dataclass(frozen=True)
class Interval:
    """The inputs all of whose numbers lie between `low` and `high`."""

    low: float = 0.0
    high: float = 1.0
    pixelwise: ClassVar[bool] = True  # whether two of its images, put together pixel by pixel, give a third

    def __post_init__(self) -> None:
        refusals.number(low=self.low)
        refusals.number(above=self.low, high=self.high)

    @property
    def width(self) -> float:
        return self.high - self.low

    def clip(self, images: Tensor) -> Tensor:
        """The nearest images (N, *shape) of the box in ℓ2."""
        refusals.tensor(("N", ...), images=images)
        return images.clamp(self.low, self.high)

    def inside(self, images: Tensor) -> Tensor:
        """Which of the images (N, *shape) lie in the box: (N,) bool."""
        refusals.tensor(("N", ...), images=images)
        return ((images >= self.low) & (images <= self.high)).reshape(len(images), -1).all(1)

    def __str__(self) -> str:
        return f"({self.low}, {self.high})"


@dataclass(frozen=True)
class Flipped(Interval):
    """The images (N, C, H, W) whose flip (see `spectra.flip`) has all its numbers between `low` and `high`.

    Flipped digits leave [0, 1], but what they are flips of does not. Flipping is an isometry and its own inverse, so
    the nearest image of this box is flip ∘ clamp ∘ flip.
    """

    pixelwise: ClassVar[bool] = False

    def clip(self, images: Tensor) -> Tensor:
        """The nearest images of the box in ℓ2, up to the rounding of two flips."""
        refusals.tensor(("N", "C", "H", "W"), images=images)
        return flip(super().clip(flip(images)))

    def inside(self, images: Tensor) -> Tensor:
        """Which of the images lie in the box: (N,) bool; what the rounding of flips could add does not count."""
        refusals.tensor(("N", "C", "H", "W"), images=images)
        slack = 1e3 * torch.finfo(images.dtype).eps * max(self.width, abs(self.low), abs(self.high))
        seen = flip(images)
        return ((seen >= self.low - slack) & (seen <= self.high + slack)).flatten(1).all(1)

    def __str__(self) -> str:
        return f"of flips of {super().__str__()}"


Box = tuple[float, float] | Interval | None
"""What an attack takes for a box: the two ends of an interval, a class of this module, or None."""


def read(box: Box) -> Interval | None:
    """A box as one of the classes here."""
    if box is None or isinstance(box, Interval):
        return box
    refusals.interval(box=box)
    return Interval(*box)


def inside(delta: Tensor, radius: float, norm: str) -> Tensor:
    """The nearest δ of an ℓ2 or ℓ∞ length of at most `radius`, less what the rounding of a length could add."""
    tiny = torch.finfo(delta.dtype).eps
    if norm == "linf":
        return delta.clamp(-radius * (1 - tiny), radius * (1 - tiny))
    radius = radius * (1 - 16 * tiny)
    return delta * (radius / wide(delta.flatten(1).norm(dim=1), delta).clamp_min(radius))


def shortened(delta: Tensor, radius: float, norm: str) -> Tensor:
    """δ, scaled down to an ℓ2 or ℓ∞ length of at most `radius`: from a convex set around 0 it does not part."""
    if norm == "l2":
        return inside(delta, radius, norm)
    radius = radius * (1 - 16 * torch.finfo(delta.dtype).eps)
    return delta * (radius / wide(delta.flatten(1).abs().amax(1), delta).clamp_min(radius))


def dykstra(x: Tensor, delta: Tensor, radius: float, norm: str, box: Interval, rounds: int = 8) -> Tensor:
    """The nearest δ for which x + δ lies in the box and in the ball around x: Dykstra's alternating projections.

    Each round projects onto the box and onto the ball, and each time puts back first what that set took away a round
    before (Boyle and Dykstra 1986): so it goes to the nearest point, where plain alternation ends at any. Around digits
    eight rounds come within a millionth of a step.
    """
    images, of_box, of_ball = x + delta, torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(rounds):
        boxed = box.clip(images + of_box)
        of_box = images + of_box - boxed
        images = x + inside(boxed + of_ball - x, radius, norm)
        of_ball = boxed + of_ball - images
    return images - x


def wide(values: Tensor, like: Tensor) -> Tensor:
    """One value a row, shaped to meet `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
