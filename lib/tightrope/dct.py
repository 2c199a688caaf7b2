"""The orthonormal two-dimensional discrete cosine transform (DCT-II) of images of any height and width."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


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
    if n < 1:
        raise ValueError(f"A cosine transform needs a length of at least 1, not {n}.")
    return _cosines_as(n, dtype, torch.device(device)).clone()


def dct2(x: Tensor) -> Tensor:
    """Orthonormal 2-D DCT-II of the last two axes of x (..., H, W), any height and width."""
    rows, cols = _pair(x)
    return rows @ x @ cols.mT


def idct2(c: Tensor) -> Tensor:
    """Inverse of `dct2`: coefficients (..., H, W) back to pixels."""
    rows, cols = _pair(c)
    return rows.mT @ c @ cols


def _pair(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(
            f"The cosine transform takes real images (..., H, W), not {x.dtype} of shape {tuple(x.shape)}."
        )
    return tuple(_cosines_as(n, x.dtype, x.device) for n in x.shape[-2:])
