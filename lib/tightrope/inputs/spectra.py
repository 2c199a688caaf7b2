"""Frequencies of images and subspaces of input space, under one name.

The transform is in `dct`, the subspaces are in `subspaces`; chapters say `spectra.dct_windows`, `spectra.span`.
"""

from __future__ import annotations

from tightrope.inputs.dct import dct2, dct_matrix, flip, high_pass, idct2, low_pass
from tightrope.inputs.subspaces import (
    Subspace,
    dct_block,
    dct_coefficients,
    dct_diagonals,
    dct_grid,
    dct_windows,
    energy,
    full,
    random_subspace,
    random_windows,
    span,
)

__all__ = [
    "Subspace",
    "dct2",
    "dct_block",
    "dct_coefficients",
    "dct_diagonals",
    "dct_grid",
    "dct_matrix",
    "dct_windows",
    "energy",
    "flip",
    "full",
    "high_pass",
    "idct2",
    "low_pass",
    "random_subspace",
    "random_windows",
    "span",
]
