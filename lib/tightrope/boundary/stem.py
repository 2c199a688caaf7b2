"""A network's first layer composed with the bases of subspaces: a small product for its slowest backward pass.

Most networks begin with an affine layer h, behind at most a normalisation. At the point with coordinates c in S it
gives h(x + Bc) = h(x) + (dh/dx B) c, so that the product with dh/dx B takes a gradient from behind the layer to its
coordinates in S. A convolution on few channels takes longer for that than all the rest of a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from tightrope import seeds
from tightrope.inputs.subspaces import Subspace

Model = Callable[[Tensor], Tensor]
Part = tuple[int, Tensor]  # a subspace's number, and coordinates (r, d) in it

ELEMENTS = 2**24  # what the products of all subspaces may hold
# The product may take so many times the layer's own multiplications and still be faster (one thread).
DEARER = {nn.Conv2d: 3.0, nn.Linear: 0.5}
FAR = 2.0**10  # the slope is looked for far out, where the layer's offset does not round it


class Stem:
    """The first layer of `net` at samples x (n, *shape), composed with the bases of `spaces`: features of length F."""

    def __init__(self, net: Model, layer: nn.Module, x: Tensor, spaces: Sequence[Subspace], chunk: int):
        self.net, self.layer = net, layer
        self.shape, self.last = (), False
        self.here = torch.cat([self.features(part) for part in x.split(chunk)])  # (n, F)
        offset = self.features(torch.zeros_like(x[:1]))
        self.products = []  # (d, F) a subspace
        for space in spaces:
            far = FAR * space.basis(dtype=x.dtype, device=x.device)
            slopes = torch.cat([self.features(part) for part in far.split(chunk)])
            self.products.append(slopes.sub_(offset).div_(FAR))

    def linearise(
        self, x: Tensor, sample: Tensor, ranked: Tensor, parts: list[Part]
    ) -> tuple[Tensor, list[Tensor]]:
        """f_k - f_0 (K-1, R) from samples (R,), at the coordinates of `parts`, R in all; and the coordinates of its
        gradients, (K-1, r, d) a part. The classes are those of `ranked` (R, K), the origin first. x (R, *shape) is
        anything the network takes: only its number of rows matters."""
        flat, sizes = self.here[sample], [len(c) for _, c in parts]
        for piece, (j, c) in zip(flat.split(sizes), parts, strict=True):
            piece.addmm_(c, self.products[j])
        features = self.shaped(flat)
        with torch.enable_grad():
            with self.answering(features.requires_grad_()):
                f = self.net(x).gather(1, ranked).T
            gaps = f[1:] - f[0]
            slopes = features.new_empty(len(x), len(gaps), self.here.shape[1])
            for k, gap in enumerate(gaps):
                (slope,) = torch.autograd.grad(gap.sum(), features, retain_graph=k + 1 < len(gaps))
                slopes[:, k] = self._flat(slope)
        # All classes of a subspace in one product: it is read from memory once.
        pieces = zip(slopes.split(sizes), parts, strict=True)
        return gaps.detach(), [(piece @ self.products[j].T).transpose(0, 1) for piece, (j, _) in pieces]

    def features(self, x: Tensor) -> Tensor:
        """What the layer gives at x: (N, F)."""
        seen: list[Tensor] = []

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], given: Tensor) -> None:
            seen.append(given)
            raise _Enough

        with torch.no_grad(), _hooks(self.layer.register_forward_hook(note)), suppress(_Enough):
            self.net(x)
        self.shape = seen[0].shape[1:]
        self.last = seen[0].ndim == 4 and seen[0].is_contiguous(memory_format=torch.channels_last)
        return self._flat(seen[0])

    # In the order of memory that the layer's own answers have: what follows is fastest in it.
    def _flat(self, features: Tensor) -> Tensor:
        return (features.movedim(1, -1) if self.last else features).flatten(1)

    def shaped(self, flat: Tensor) -> Tensor:
        """Rows of numbers (N, F) in the shape of the layer's answers, (N, *shape)."""
        if not self.last:
            return flat.reshape(-1, *self.shape)
        channels, *sides = self.shape
        return flat.reshape(-1, *sides, channels).movedim(-1, 1)

    @contextmanager
    def answering(self, features: Tensor) -> Iterator[None]:
        """The layer, asked anything, answers `features`; its own work is done on one row."""
        before = self.layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0][:1],))
        with _hooks(before, self.layer.register_forward_hook(lambda layer, inputs, given: features)):
            yield


class _Enough(Exception):
    """The first layer has been seen."""


def composed(
    net: Model, x: Tensor, ranked: Tensor, spaces: Sequence[Subspace], chunk: int, equal: float
) -> Stem | None:
    """The stem of `net` where it has one, and one that is worth it: tried against the network itself, once in each
    of the subspaces. Results agree to `equal`'s root."""
    layer = getattr(net, "first", None)
    if layer is None or x.device.type != "cpu" or not _worth(layer, spaces):
        return None
    with suppress(RuntimeError, ValueError, IndexError):  # a network that is not such a sequence
        stem = Stem(net, layer, x, spaces, chunk)
        if sum(product.numel() for product in stem.products) <= ELEMENTS and _true(
            stem, x, ranked, spaces, equal
        ):
            return stem
    return None


def _worth(layer: nn.Module, spaces: Sequence[Subspace]) -> bool:
    one = layer.weight[0].numel()
    return max(space.dim for space in spaces) <= DEARER[type(layer)] * one


def _true(stem: Stem, x: Tensor, ranked: Tensor, spaces: Sequence[Subspace], equal: float) -> bool:
    """Do gaps, and gradients in most rows, agree with the network's own? At a kink two gradients are right."""
    sample = torch.arange(len(spaces), device=x.device) % len(x)
    draws = seeds.generator(0, "stem", x.device)
    size = x.abs().amax() / 10
    draw = lambda space: size * torch.randn(1, space.dim, generator=draws, dtype=x.dtype, device=x.device)
    parts = [(j, draw(space)) for j, space in enumerate(spaces)]
    two = ranked[sample, :2]
    gaps, slopes = stem.linearise(x[sample], sample, two, parts)
    moved = torch.cat([space.lift(c) for space, (_, c) in zip(spaces, parts, strict=True)])
    with torch.enable_grad():
        at = (x[sample] + moved).requires_grad_()
        f = stem.net(at).gather(1, two)
        own = f[:, 1] - f[:, 0]
        (gradient,) = torch.autograd.grad(own.sum(), at)
    near = equal**0.5
    if not ((gaps[0] - own).abs() <= near * f.abs().amax()).all():
        return False
    same = []
    for space, slope, one in zip(spaces, slopes, gradient.split(1), strict=True):
        there = space.coordinates(one)
        same.append((slope[0] - there).norm() <= near * there.norm())
    return bool(torch.stack(same).double().mean() > 0.5)


@contextmanager
def _hooks(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
