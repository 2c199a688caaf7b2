"""Counts what makes a program wait for its device: values read back, and shapes that depend on values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "equal",
    "masked_select",
    "unique_consecutive",
    "unique_dim",
}
WAITS |= {"_unique", "_unique2", "argwhere", "bincount", "repeat_interleave"}


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in WAITS or any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices or ()):
            self.seen[name] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What waited inside the block, by name: `sum(seen.values())` is how often."""
    watch, kept = _Watch(), {name: getattr(Tensor, name) for name in ("tolist", "cpu", "numpy")}

    def counting(name: str):
        def call(self, *args, **options):
            watch.seen[name] += 1
            return kept[name](self, *args, **options)

        return call

    for name in kept:
        setattr(Tensor, name, counting(name))
    try:
        with watch:
            yield watch.seen
    finally:
        for name, method in kept.items():
            setattr(Tensor, name, method)
