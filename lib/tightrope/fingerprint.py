"""A short name for the content of tensors, networks, numbers and text: what results and checkpoints are named by."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (type(None), bool, int, float, str, bytes, range, torch.dtype, torch.device, Path)


def fingerprint(*parts: object) -> str:
    """A short name for the content of `parts`: equal for equal values, order and types included.

    Takes tensors and arrays (by their bytes, wherever they lie), modules (by structure and state), numbers,
    text, paths, dtypes, devices, and tuples, lists, dictionaries and dataclasses of these.
    Raises ValueError for anything else: what cannot be named by its content must not name a result.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, parts)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, part: object) -> None:
    if isinstance(part, np.ndarray | np.generic) and part.dtype.kind in "biufc":
        array = np.ascontiguousarray(part)
        digest.update(f"array {part.shape} {array.dtype} ".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    elif isinstance(part, Tensor):
        digest.update(f"tensor {tuple(part.shape)} {part.dtype} ".encode())
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(part, _PLAIN):
        text = f"{type(part).__name__} {part!r}"
        digest.update(f"{len(text)} {text}".encode())
    elif isinstance(part, nn.Module):
        _feed(digest, (repr(part), dict(part.state_dict())))
    elif isinstance(part, list | tuple):
        digest.update(f"{type(part).__name__} {len(part)} ".encode())
        for item in part:
            _feed(digest, item)
    elif isinstance(part, dict):
        digest.update(f"dict {len(part)} ".encode())
        for item in part.items():
            _feed(digest, item)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        digest.update(f"{type(part).__qualname__} ".encode())
        _feed(digest, {f.name: getattr(part, f.name) for f in dataclasses.fields(part)})
    else:
        raise ValueError(
            f"A {type(part).__name__} cannot be part of a key: give what it is made from, as tensors, "
            "numbers or text."
        )
