"""A data set seen another way: "flipped cifar10" is a name, not a copy.

    view = views.view("flipped mnist")
    x, y = view.load("train")                              # as data.load, every image flipped
    net = nets.lenet(mean=view.mean, std=view.std)         # normalised as the source does

The images stay where `data` finds them; a view transforms what it loads. A name is a data set's, or one of `WAYS`
before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import data
from tightrope.dct import flip, high_pass, low_pass

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "flipped": flip,
    "low-pass": lambda x: low_pass(x, _half(x)),
    "high-pass": lambda x: high_pass(x, _half(x)),
}
"""What a view does to images (..., H, W). The filters part the spectrum at half the side, as *Hold me tight* does
(section 3.2.2): 14 of MNIST's 28 frequencies, 16 of CIFAR-10's 32."""

BLOCK = 2**24  # numbers transformed at a time


@dataclass(frozen=True)
class View:
    """A data set and a way to see it, made by `view`. `way` is one of `WAYS`, or "plain"."""

    source: str
    way: str = "plain"

    @property
    def name(self) -> str:
        return self.source if self.way == "plain" else f"{self.way} {self.source}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return data.DATA_SETS[self.source].shape

    @property
    def classes(self) -> int:
        return data.DATA_SETS[self.source].classes

    @property
    def mean(self) -> Tensor:
        """What a network subtracts: (C, 1, 1), or (C, H, W) where the view changes the mean of each channel.

        It is the view of the image that is the mean everywhere; the published code treats a flipped image so.
        """
        mean = torch.tensor(data.DATA_SETS[self.source].mean, dtype=torch.float64)[:, None, None]
        return mean.float() if self.way == "plain" else self.see(mean.expand(self.shape)).float()

    @property
    def std(self) -> tuple[float, ...]:
        """What a network divides by, one number a channel: the data set's, whatever the view."""
        return data.DATA_SETS[self.source].std

    def load(self, split: str, n: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`data.load` of the data set, the images seen this way: float32 (N, C, H, W), outside [0, 1] too."""
        x, y = data.load(self.source, split, n, seed)
        return self.see(x), y

    def see(self, x: Tensor) -> Tensor:
        """Images (..., H, W) of the data set, seen this way."""
        if self.way == "plain":
            return x
        if x.numel() <= BLOCK:
            return WAYS[self.way](x)
        return torch.cat([WAYS[self.way](part) for part in x.split(max(1, BLOCK // x[0].numel()))])


def view(name: str) -> View:
    """The view of that name: "mnist", "flipped cifar10", "low-pass cifar10", "high-pass mnist", …"""
    way, _, source = str(name).rpartition(" ")
    if source not in data.DATA_SETS or way not in ("", *WAYS):
        raise ValueError(
            f"Unknown view {name!r}: name a data set ({', '.join(data.DATA_SETS)}), "
            f"alone or after one of {', '.join(WAYS)}."
        )
    return View(source, way or "plain")


def _half(x: Tensor) -> tuple[int, int]:
    return x.shape[-2] // 2, x.shape[-1] // 2
