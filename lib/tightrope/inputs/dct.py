"""The orthonormal two-dimensional discrete cosine transform (DCT-II) of images of any height and width.

And what is done to images by way of it: `flip`, `low_pass`, `high_pass`. Each is one matrix from either side, with the
transform and its inverse multiplied in: no spectrum is formed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from tightrope import refusals


@lru_cache(maxsize=32)
def cosines(n: int) -> Tensor:
    """The DCT-II of length n as an (n, n) matrix, exact float64, not to be written to: row k is frequency k."""
    k = torch.arange(n, dtype=torch.float64)
    c = torch.cos(math.pi / n * k[:, None] * (k[None, :] + 0.5)) * math.sqrt(2 / n)
    c[0] /= math.sqrt(2)
    return c


@lru_cache(maxsize=64)
def _cosines_as(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return cosines(n).to(device, dtype)


def dct_matrix(n: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
    """The orthonormal DCT-II as an (n, n) matrix: row k is the cosine of frequency k."""
    refusals.whole(1, n=n)
    refusals.choice((torch.float32, torch.float64), dtype=dtype)
    refusals.device(device=device)
    return _cosines_as(n, dtype, torch.device(device)).clone()


def dct2(x: Tensor) -> Tensor:
    """Orthonormal 2-D DCT-II of the last two axes of x (..., H, W), any height and width."""
    rows, cols = _pair(x=x)
    return rows @ x @ cols.mT


def idct2(c: Tensor) -> Tensor:
    """Inverse of `dct2`: coefficients (..., H, W) back to pixels."""
    rows, cols = _pair(c=c)
    return rows.mT @ c @ cols


def flip(x: Tensor) -> Tensor:
    """Images (..., H, W) whose frequencies are swapped: the spectrum turned about both axes, low for high.

    *Hold me tight*, section 3.2.1: x' = IDCT(flip(DCT(x))). An isometry and its own inverse. Pixels leave [0, 1].
    """
    rows, cols = (_flipper_as(n, x.dtype, x.device) for n in _size(x=x))
    return rows @ x @ cols


def low_pass(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images (..., H, W) without all but their `size` x `size` lowest frequencies (`size`: or (rows, columns)).

    *Hold me tight*, section 3.2.2: CIFAR-10 keeps 16 x 16, MNIST 14 x 14. The published filter, given a batch, masks
    channels and rows in place of rows and columns: for 32 x 32 images that is low_pass(x, (16, 32)).
    """
    height, width = _size(x=x)
    high, wide = sides((height, width), size)
    rows, cols = (_keeper_as(n, keep, x.dtype, x.device) for n, keep in ((height, high), (width, wide)))
    return rows @ x @ cols


def high_pass(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """What `low_pass` takes away: images (..., H, W) without their `size` x `size` lowest frequencies."""
    return x - low_pass(x, size)


@lru_cache(maxsize=64)
def _flipper_as(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    c = cosines(n)  # symmetric: transposing it changes nothing
    return (c.T @ c.flip(0)).to(device, dtype)


@lru_cache(maxsize=64)
def _keeper_as(n: int, keep: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    c = cosines(n)[:keep]
    return (c.T @ c).to(device, dtype)


def _pair(**images: Tensor) -> tuple[Tensor, Tensor]:
    (x,) = images.values()
    return tuple(_cosines_as(n, x.dtype, x.device) for n in _size(**images))


def _size(**images: Tensor) -> tuple[int, int]:
    refusals.tensor((..., "H", "W"), empty=True, **images)
    (x,) = images.values()
    return tuple(x.shape[-2:])


def sides(image: tuple[int, int], size: int | tuple[int, int]) -> tuple[int, int]:
    """A `size`, one number or two, as the rows and columns of a block that fits an image (H, W)."""
    high, wide = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    refusals.whole(1, image[0], size=high)
    refusals.whole(1, image[1], size=wide)
    return high, wide
