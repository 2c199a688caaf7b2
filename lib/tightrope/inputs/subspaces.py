"""Linear subspaces of input space, in which margins are measured.

A margin is measured inside a subspace S of input space (*Hold me tight*, definition 1). Everything a
measurement asks of S is here: orthonormal coordinates of a vector's projection onto S, and the way back.
No D x D matrix is ever formed: a span keeps its d vectors, its complement keeps d Householder reflections,
a block of DCT coefficients keeps the few cosine rows it needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightrope import refusals, seeds
from tightrope.inputs.dct import cosines, dct2, idct2, sides

_by_fields = dataclass(init=False, eq=False, repr=False)  # so that `fingerprint` can name a subspace


@_by_fields
class Subspace(ABC):
    """A linear subspace S of inputs of one shape, with an orthonormal basis it need not write down.

    Made by `span`, `full`, `random_subspace`, `random_windows`, `dct_block`, `dct_windows`, `dct_grid`,
    `dct_diagonals`, `dct_coefficients` or `Subspace.complement`.

    Attributes: `shape`, the shape of one input; `dim`, the dimension of S; `name`, for tables and axes.
    Coordinates are isometric: ||coordinates(x)|| is the length of x's projection onto S.
    """

    shape: tuple[int, ...]
    dim: int
    name: str

    def __init__(self, shape: Sequence[int], dim: int, name: str):
        self.shape, self.dim, self.name = tuple(shape), dim, name
        if self.dim < 1:
            raise ValueError(
                f"The subspace {name} of inputs of shape {self.shape} has dimension 0: no direction is left."
            )

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates (N, dim) of the projections of x (N, *shape) onto S."""
        refusals.tensor(("N", *self.shape), empty=True, x=x)
        return self._down(x)

    def lift(self, c: Tensor) -> Tensor:
        """The vectors (N, *shape) of S with coordinates c (N, dim)."""
        refusals.tensor(("N", self.dim), empty=True, c=c)
        return self._up(c).reshape(-1, *self.shape)

    def project(self, x: Tensor) -> Tensor:
        """Orthogonal projection of x (N, *shape) onto S."""
        return self.lift(self.coordinates(x))

    def basis(self, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """An orthonormal basis (dim, *shape), written out: for pictures and tests, not for measuring."""
        refusals.choice((torch.float32, torch.float64), dtype=dtype)
        refusals.device(device=device)
        return self.lift(torch.eye(self.dim, dtype=dtype, device=device))

    @abstractmethod
    def complement(self) -> Subspace:
        """The orthogonal complement of S."""

    @abstractmethod
    def _down(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _up(self, c: Tensor) -> Tensor: ...

    def __repr__(self) -> str:
        return f"Subspace({self.name}, dim {self.dim} of {math.prod(self.shape)})"


class _Full(Subspace):
    def __init__(self, shape: Sequence[int]):
        super().__init__(shape, math.prod(shape), "full space")

    def complement(self) -> Subspace:
        raise ValueError("The complement of the full space has dimension 0: no direction is left.")

    def _down(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _up(self, c: Tensor) -> Tensor:
        return c


@_by_fields
class _Span(Subspace):
    """The row space of an orthonormal Q (d, D)."""

    _q: _Cast

    def __init__(self, shape: Sequence[int], q: Tensor, name: str):
        super().__init__(shape, q.shape[0], name)
        self._q = _Cast(q)

    def complement(self) -> Subspace:
        return _SpanComplement(self)

    def _down(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self._q.like(x).T

    def _up(self, c: Tensor) -> Tensor:
        return c @ self._q.like(c)


@_by_fields
class _SpanComplement(Subspace):
    """What is orthogonal to the rows of Q, in coordinates of its own.

    The product of d Householder reflections, H = I - V T V', turns the first d axes into the rows of Q; the
    other D - d axes go to an orthonormal basis of the complement. V (D, d) and T (d, d) are all it keeps.
    """

    _of: _Span

    def __init__(self, of: _Span):
        q = of._q.exact
        super().__init__(of.shape, q.shape[1] - q.shape[0], f"({of.name})⊥")
        self._of = of
        packed, tau = torch.geqrf(q.T.contiguous())
        v = packed.tril(-1) + torch.eye(*packed.shape, dtype=packed.dtype)
        t = torch.zeros(len(tau), len(tau), dtype=packed.dtype)
        for j, step in enumerate(tau):
            t[:j, j] = -step * t[:j, :j] @ (v[:, :j].T @ v[:, j])
            t[j, j] = step
        self._v, self._t = _Cast(v), _Cast(t)

    def complement(self) -> Subspace:
        return self._of

    def _down(self, x: Tensor) -> Tensor:
        x, v, t = x.flatten(1), self._v.like(x), self._t.like(x)
        return (x - (x @ v) @ t @ v.T)[:, self._of.dim :]

    def _up(self, c: Tensor) -> Tensor:
        c, v, t = torch.nn.functional.pad(c, (self._of.dim, 0)), self._v.like(c), self._t.like(c)
        return c - (c @ v) @ t.T @ v.T


@_by_fields
class _Block(Subspace):
    """A block of DCT coefficients, the same in every channel: two thin cosine matrices."""

    _a: _Cast
    _b: _Cast

    def __init__(self, shape: Sequence[int], rows: slice, cols: slice, name: str):
        channels, height, width = shape
        self._rows, self._cols = rows, cols
        self._a, self._b = _Cast(cosines(height)[rows]), _Cast(cosines(width)[cols])
        self._size = (channels, len(self._a.exact), len(self._b.exact))
        super().__init__(shape, math.prod(self._size), name)

    def complement(self) -> Subspace:
        keep = torch.ones(self.shape[1:], dtype=torch.bool)
        keep[self._rows, self._cols] = False
        return dct_coefficients(self.shape, keep, name=f"({self.name})⊥")

    def _down(self, x: Tensor) -> Tensor:
        return (self._a.like(x) @ (x @ self._b.like(x).T)).flatten(1)

    def _up(self, c: Tensor) -> Tensor:
        return self._a.like(c).T @ (c.reshape(-1, *self._size) @ self._b.like(c))


@_by_fields
class _Coefficients(Subspace):
    """Any set of DCT coefficients, the same in every channel: a mask between two transforms."""

    _at: _Cast

    def __init__(self, shape: Sequence[int], keep: Tensor, name: str):
        super().__init__(shape, shape[0] * int(keep.sum()), name)
        self._keep = keep
        # By numbers: a mask would have the device wait for its count.
        self._at = _Cast(keep.flatten().nonzero().squeeze(1))

    def complement(self) -> Subspace:
        return _Coefficients(self.shape, ~self._keep, f"({self.name})⊥")

    def _down(self, x: Tensor) -> Tensor:
        return dct2(x).flatten(2)[..., self._at.like(x)].flatten(1)

    def _up(self, c: Tensor) -> Tensor:
        spectrum = c.new_zeros(len(c), *self.shape)
        spectrum.flatten(2)[..., self._at.like(c)] = c.reshape(len(c), self.shape[0], -1)
        return idct2(spectrum)


@_by_fields
class _Cast:
    """An exact float64 matrix, or indices, and copies in the precision and on the device of what it meets."""

    exact: Tensor

    def __init__(self, exact: Tensor):
        self.exact = exact.to("cpu", torch.float64 if exact.is_floating_point() else exact.dtype)
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        key = (x.dtype if self.exact.is_floating_point() else self.exact.dtype, x.device)
        if key not in self._copies:
            self._copies[key] = self.exact.to(key[1], key[0])
        return self._copies[key]


# --- making them -----------------------------------------------------------------------------------------


def full(shape: Sequence[int]) -> Subspace:
    """All of input space."""
    return _Full(_shape(shape))


def span(*vectors: Tensor, name: str = "span") -> Subspace:
    """The span of one or more linearly independent vectors, each of the shape of an input."""
    refusals.instances(Tensor, vectors=vectors)
    refusals.instance(str, name=name)
    refusals.tensor((..., "D"), vectors=vectors[0])
    shape = tuple(vectors[0].shape)
    for vector in vectors:
        refusals.tensor(shape, finite=True, vectors=vector)
    rows = torch.stack([v.detach().to("cpu", torch.float64).flatten() for v in vectors])
    if len(rows) > rows.shape[1]:
        raise ValueError(f"{len(rows)} vectors in {rows.shape[1]} dimensions cannot be linearly independent.")
    lengths = rows.norm(dim=1, keepdim=True)
    q, r = torch.linalg.qr((rows / lengths.clamp_min(torch.finfo(torch.float64).tiny)).T)
    if (r.diagonal().abs() < 1e-10).any():
        raise ValueError("The vectors of the span are linearly dependent (or one is zero).")
    return _Span(shape, (q * r.diagonal().sign()).T, name)


def random_subspace(
    shape: Sequence[int],
    dim: int,
    seed: int | torch.Generator = 0,
    *,
    inside: Subspace | None = None,
    name: str = "random",
) -> Subspace:
    """A uniformly random subspace of dimension `dim`, of all inputs of `shape` or `inside` a given subspace."""
    shape = _shape(shape)
    home = full(shape) if inside is None else inside
    refusals.instance(Subspace, inside=home)
    refusals.instance(str, name=name)
    if home.shape != shape:
        raise ValueError(f"shape must be that of the subspace to draw inside, {home.shape}, not {shape}.")
    refusals.whole(1, home.dim, dim=dim)
    generator = seeds.generator(seed, "subspace")
    draw = torch.randn(dim, home.dim, generator=generator, dtype=torch.float64, device=generator.device)
    q = torch.linalg.qr(draw.cpu().T).Q.T
    return _Span(home.shape, home.lift(q).flatten(1), name)


def dct_block(shape: Sequence[int], row: int, col: int, size: int | tuple[int, int]) -> Subspace:
    """The size x size block of DCT coefficients whose lowest frequencies are (row, col), in every channel."""
    shape = _image(shape)
    high, wide = sides(shape[1:], size)
    refusals.whole(0, shape[1] - high, row=row)
    refusals.whole(0, shape[2] - wide, col=col)
    return _Block(shape, slice(row, row + high), slice(col, col + wide), f"DCT {row},{col}")


def dct_windows(shape: Sequence[int], size: int = 8, step: int = 1) -> list[Subspace]:
    """Blocks of `size` x `size` DCT coefficients sliding down the diagonal by `step`, low to high frequency.

    *Hold me tight*, section 3.2. The formula printed there spans only the diagonal atoms of a window; its
    words and its code take the whole block, and so does this. MNIST: 8, 1 (21 windows of 64 dimensions);
    CIFAR-10: 8, 2 (13 of 192); ImageNet: 16, 16 (14 of 768).
    """
    shape, starts = _sliding(shape, size, step)
    return [dct_block(shape, i, i, size) for i in min(starts, key=len)]


def dct_grid(shape: Sequence[int], size: int = 8, step: int = 4) -> list[list[Subspace]]:
    """Blocks of `size` x `size` DCT coefficients on a grid, on and off the diagonal: rows of the grid, low to high."""
    shape, (rows, cols) = _sliding(shape, size, step)
    return [[dct_block(shape, i, j, size) for j in cols] for i in rows]


def dct_diagonals(shape: Sequence[int], size: int = 8, step: int = 1) -> list[Subspace]:
    """The `size` diagonal atoms of each window: what the formula printed in section 3.2 spans, `size` dimensions a
    channel where `dct_windows` has `size` squared."""
    shape, starts = _sliding(shape, size, step)
    windows = []
    for i in min(starts, key=len):
        keep = torch.zeros(shape[1:], dtype=torch.bool)
        keep.diagonal()[i : i + size] = True
        windows.append(dct_coefficients(shape, keep, name=f"DCT diagonal {i}"))
    return windows


def random_windows(
    shape: Sequence[int], dim: int, count: int, seed: int | torch.Generator = 0
) -> list[Subspace]:
    """`count` subspaces of dimension `dim`, orthogonal to each other and otherwise uniformly random.

    The control to the cosine windows: windows of as many dimensions of a basis that knows nothing of images.
    """
    shape = _shape(shape)
    total = math.prod(shape)
    refusals.whole(1, total, dim=dim)
    refusals.whole(1, total // dim, count=count)
    generator = seeds.generator(seed, "random windows")
    draw = torch.randn(total, dim * count, generator=generator, dtype=torch.float64, device=generator.device)
    q = torch.linalg.qr(draw.cpu()).Q.T
    return [_Span(shape, part, f"random {k}") for k, part in enumerate(q.split(dim))]


def energy(x: Tensor, subspaces: Sequence[Subspace]) -> Tensor:
    """The squared length (N, J) of the part of x (N, *shape) in each of J subspaces."""
    refusals.instances(Subspace, subspaces=subspaces)
    return torch.stack([s.coordinates(x).square().sum(1) for s in subspaces], 1)


def dct_coefficients(shape: Sequence[int], keep: Tensor, *, name: str = "DCT set") -> Subspace:
    """The span of the DCT coefficients marked in `keep` (H, W, bool), in every channel."""
    shape = _image(shape)
    refusals.tensor(shape[1:], kind="bool", keep=keep)
    refusals.instance(str, name=name)
    return _Coefficients(shape, keep.cpu(), name)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    refusals.wholes(1, shape=shape)
    refusals.whole(1, **{"the length of shape": len(shape)})
    return tuple(shape)


def _image(shape: Sequence[int]) -> tuple[int, int, int]:
    refusals.wholes(1, 3, shape=shape)
    return tuple(shape)


def _sliding(shape: Sequence[int], size: int, step: int) -> tuple[tuple[int, int, int], list[range]]:
    """The shape of an image, and where blocks that slide by `step` start, along its rows and its columns."""
    shape = _image(shape)
    refusals.whole(1, min(shape[1:]), size=size)
    refusals.whole(1, step=step)
    return shape, [range(0, n - size + 1, step) for n in shape[1:]]
