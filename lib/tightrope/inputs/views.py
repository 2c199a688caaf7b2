"""A data set seen another way: "flipped cifar10" is a name, not a copy.

    view = views.view("flipped mnist")
    x, y = view.load("train")  # every image flipped
    net = nets.lenet(mean=view.mean, std=view.std)

The network is normalised as the source does. The images stay where `data` finds them; a view transforms what it loads.
A name is a data set's with any of `WAYS` before it ("flipped", "low-pass", "high-pass", "half-size"); the one next to
the data set is done first: "flipped half-size imagenette128".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tightrope import refusals
from tightrope.inputs import data
from tightrope.inputs.dct import flip, high_pass, low_pass

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "flipped": flip,
    "low-pass": lambda x: low_pass(x, _half(x)),
    "high-pass": lambda x: high_pass(x, _half(x)),
    "half-size": lambda x: avg_pool2d(x, 2),
}
"""What a view does to images (N, C, H, W). The filters part the spectrum at half the side, as *Hold me tight* does
(section 3.2.2): 14 of MNIST's 28 frequencies, 16 of CIFAR-10's 32. Half-size images are means of 2×2 pixels."""

BLOCK = 2**24  # numbers transformed at a time


@dataclass(frozen=True)
class View:
    """A data set and the ways to see it, made by `view`: keys of `WAYS`, the last one done first."""

    source: str
    ways: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join((*self.ways, self.source))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.see(torch.zeros(1, *data.DATA_SETS[self.source].shape)).shape[1:])

    @property
    def classes(self) -> int:
        return data.DATA_SETS[self.source].classes

    @property
    def mean(self) -> Tensor:
        """What a network subtracts: (C, 1, 1), or (C, H, W) where the view changes the mean of each channel.

        It is the view of the image that is the mean everywhere; the published code treats a flipped image so.
        """
        known = data.DATA_SETS[self.source]
        mean = torch.tensor(known.mean, dtype=torch.float64)[:, None, None]
        return (self.see(mean.expand(1, *known.shape))[0] if self.ways else mean).float()

    @property
    def std(self) -> tuple[float, ...]:
        """What a network divides by, one number a channel: the data set's, whatever the view."""
        return data.DATA_SETS[self.source].std

    def load(self, split: str, n: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`data.load` of the data set, the images seen this way: float32 (N, C, H, W), outside [0, 1] too."""
        x, y = data.load(self.source, split, n, seed)
        return self.see(x), y

    def see(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) of the data set, seen this way."""
        refusals.tensor(("N", *data.DATA_SETS[self.source].shape), empty=True, x=x)
        for way in reversed(self.ways):
            parts = x.split(max(1, BLOCK // max(1, x[0].numel()))) if len(x) else (x,)
            x = torch.cat([WAYS[way](part) for part in parts])
        return x


def view(name: str) -> View:
    """The view of that name: "mnist", "flipped cifar10", "low-pass cifar10", "flipped half-size imagenette128", …"""
    refusals.instance(str, name=name)
    *ways, source = name.split(" ")
    if source not in data.DATA_SETS or not set(ways) <= set(WAYS):
        raise ValueError(
            f"Unknown view {name!r}: name a data set ({', '.join(data.DATA_SETS)}), "
            f"alone or after one of {', '.join(WAYS)}."
        )
    return View(source, tuple(ways))


def _half(x: Tensor) -> tuple[int, int]:
    return x.shape[-2] // 2, x.shape[-1] // 2
