"""Labels around points: what a classifier answers to Gaussian noise, or to noise from a ball.

All draws of one call come from one generator in blocks whose size depends on the inputs' shape alone, so that the same
seed gives the same noise however many rows a network is given at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn

from tightrope import progress
from tightrope.boundary.chunks import chunk_rows
from tightrope.boundary.stem import Stem
from tightrope.inputs import subspaces

Model = Callable[[Tensor], Tensor]

KINDS = ("gaussian", "ball")
NUMBERS = 2**20  # drawn at once
ROWS = 1024  # given at once to the rest of a network that begins with a linear layer
WIDEST = 4096  # inputs of a first layer whose noise is drawn behind it


class Around:
    """Draws around inputs x (N, *shape). kind: "gaussian" N(x, σ²I), or "ball": uniform in the ball of radius σ√n."""

    def __init__(self, net: Model, x: Tensor, kind: str, draws: torch.Generator, chunk: int | None):
        self.net, self.x, self.kind, self.draws, self.chunk = net, x, kind, draws, chunk or chunk_rows(x)
        self.shape, self.numbers = tuple(x.shape[1:]), x[0].numel()

    def labels(self, rows: Tensor, sigma: Tensor, what: str) -> Iterator[tuple[slice, Tensor]]:
        """One draw each around `rows` (R,) at `sigma` (R,). Yields which of the R, and their labels."""
        block = max(1, NUMBERS // self.numbers)
        for at in progress.track(range(0, len(rows), block), what):
            part = slice(at, min(at + block, len(rows)))
            z = self._noise(part.stop - part.start) * sigma[part, None].to(self.x.dtype)
            pieces = zip(rows[part].split(self.chunk), z.split(self.chunk), strict=True)
            yield part, torch.cat([self._answer(*piece).argmax(1) for piece in pieces])

    def _noise(self, n: int) -> Tensor:
        """n rows of noise at σ = 1."""
        like = {"generator": self.draws, "dtype": self.x.dtype, "device": self.x.device}
        z = torch.randn(n, self.numbers, **like)
        if self.kind == "ball":
            radius = math.sqrt(self.numbers) * torch.rand(n, 1, **like) ** (1 / self.numbers)
            z = z * (radius / z.norm(dim=1, keepdim=True))
        return z

    def _answer(self, rows: Tensor, z: Tensor) -> Tensor:
        return self.net(self.x[rows] + z.unflatten(1, self.shape))


class Behind(Around):
    """Gaussian noise as a network with a linear first layer meets it behind that layer: N(Wx + b, σ²WWᵀ).

    The same law with fewer numbers to draw, and fewer to multiply.
    """

    def __init__(self, net: Model, x: Tensor, layer: nn.Linear, draws: torch.Generator, chunk: int | None):
        super().__init__(net, x, "gaussian", draws, chunk or ROWS)
        self.stem = Stem(net, layer, x, [subspaces.full(x.shape[1:])], self.chunk)
        slopes = self.stem.products[0].double()  # (n, F)
        square, turn = torch.linalg.eigh(slopes.T @ slopes)
        self.root = (square.clamp_min(0).sqrt() * turn).T.to(x.dtype)  # (F, F), its rows' products sum to WWᵀ
        self.numbers, self.zero = len(self.root), torch.zeros_like(x[:1])

    def _answer(self, rows: Tensor, z: Tensor) -> Tensor:
        return self.behind(self.stem.here[rows] + z @ self.root)

    def behind(self, features: Tensor) -> Tensor:
        """What the rest of the network makes of a first layer's answers (R, F)."""
        with self.stem.answering(self.stem.shaped(features)):
            return self.net(self.zero)  # one row in front of the layer is enough


def around(net: Model, x: Tensor, kind: str, draws: torch.Generator, chunk: int | None, fast: bool) -> Around:
    """The sampler for `net` at x: `Behind` where the network fits it, tried out, and `fast` allows it."""
    layer = getattr(net, "first", None)
    if fast and kind == "gaussian" and type(layer) is nn.Linear and _worth(layer, x):
        with suppress(RuntimeError, ValueError, IndexError):  # a network that is no such sequence
            behind = Behind(net, x, layer, draws, chunk)
            if _true(behind):
                return behind
    return Around(net, x, kind, draws, chunk)


def _worth(layer: nn.Linear, x: Tensor) -> bool:
    return 2 * layer.out_features <= x[0].numel() == layer.in_features <= WIDEST


def _true(sampler: Behind) -> bool:
    """Is the network its first layer, affine in x, and then something that sees nothing else of x?"""
    stem, x = sampler.stem, sampler.x[:4]
    near = torch.finfo(x.dtype).eps ** 0.5
    step = x.flatten(1).flip(1).reshape(x.shape) + 0.1
    moved = stem.here[: len(x)] + step.flatten(1) @ stem.products[0]
    seen = stem.features(x + step)
    logits, own = sampler.behind(seen), sampler.net(x + step)
    same = lambda a, b: bool(((a - b).abs() <= near * (b.abs().amax() + 1)).all())
    return same(moved, seen) and same(logits, own)
