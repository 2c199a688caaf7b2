"""Frequencies of images and subspaces of input space, under one name.

The transform is in `dct`, the subspaces are in `subspaces`; chapters say `spectra.dct_windows`, `spectra.span`.
"""

from __future__ import annotations

from tightrope.dct import dct2, dct_matrix, idct2
from tightrope.subspaces import (
    Subspace,
    dct_block,
    dct_coefficients,
    dct_windows,
    full,
    random_subspace,
    span,
)

__all__ = [
    "Subspace",
    "dct2",
    "dct_block",
    "dct_coefficients",
    "dct_matrix",
    "dct_windows",
    "full",
    "idct2",
    "random_subspace",
    "span",
]
