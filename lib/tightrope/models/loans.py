"""A network lent to a measurement: it works on copies, and is as it was when the last who borrowed it leaves.

Several measurements may borrow one network at once, nested or from several threads: the first changes it, the last
puts it back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tightrope.models.outputs import HALVES

_lock = threading.RLock()
_lent: dict[tuple[str, int], _Lent] = {}


@dataclass
class _Lent:
    key: tuple[str, int]
    thing: object  # kept alive, so that its id stays its own
    undo: Callable[[], None]
    borrowers: set[int] = field(default_factory=set)


class Loan:
    """What one measurement has borrowed; `close` gives it back. `wide`: half and bfloat16 are lent as float32."""

    def __init__(self, wide: bool = False) -> None:
        self._wide = wide
        self._mine: dict[tuple[str, int], _Lent] = {}

    def module(self, module: nn.Module) -> None:
        """Its own modes, weights and buffers, not those of the modules inside. For the time of the loan every tensor
        holds a copy: whatever the forward pass writes or replaces, in batch norm's running means too, is undone."""
        flags = {name: value for name, value in vars(module).items() if isinstance(value, bool)}
        bound = [(table, dict(table)) for table in (module._parameters, module._buffers)]

        def undo() -> None:
            for name, value in flags.items():
                if vars(module).get(name) is not value:
                    vars(module)[name] = value
            for table, kept in bound:
                for name, tensor in kept.items():
                    if table.get(name) is not tensor:
                        table[name] = tensor

        if not self._take("module", module, lambda: None, undo):
            return
        # A recurrent network's weights lie in one piece on a GPU, which copies would break up.
        tables = bound[isinstance(module, nn.RNNBase) :]
        tensors = [tensor for _, kept in tables for tensor in kept.values()]
        for tensor in [*tensors, *vars(module).values()]:
            if type(tensor) in (Tensor, nn.Parameter) and tensor.is_leaf and tensor.layout == torch.strided:
                self._data(tensor)

    def freeze(self, weight: nn.Parameter) -> None:
        """No gradient to this weight."""
        if weight.requires_grad and weight.is_leaf and not weight.is_inference():
            back = lambda: weight.requires_grad_(True)
            self._take("gradient", weight, lambda: weight.requires_grad_(False), back)

    def _data(self, tensor: Tensor) -> None:
        data = tensor.data
        as_lent = torch.float32 if self._wide and data.dtype in HALVES else data.dtype

        def put(values: Tensor) -> None:
            tensor.data = values

        self._take("data", tensor, lambda: put(data.to(as_lent, copy=True)), lambda: put(data))

    def _take(
        self, what: str, thing: object, change: Callable[[], object], undo: Callable[[], object]
    ) -> bool:
        """Whether this loan did not have it yet. What undoes is written down before anything changes: an interrupt may
        come between any two lines."""
        key = (what, id(thing))
        if key in self._mine:
            return False
        with _lock:
            lent = _lent.get(key) or _Lent(key, thing, undo)
            self._mine[key] = lent
            lent.borrowers.add(id(self))
            if key not in _lent:
                _lent[key] = lent
                change()
        return True

    def close(self) -> None:
        try:
            self._give_back()
        except KeyboardInterrupt:  # it may wait for a millisecond
            self._give_back()
            raise

    def _give_back(self) -> None:
        while self._mine:
            key, lent = next(reversed(self._mine.items()))
            with _lock:
                lent.borrowers.discard(id(self))
                if not lent.borrowers:
                    lent.undo()
                    _lent.pop(key, None)
            del self._mine[key]


@contextmanager
def borrowed(model: nn.Module, wide: bool = False) -> Iterator[Loan]:
    """`model` with all modules inside: whatever the block does to them, or they to themselves, is undone at its end."""
    loan = Loan(wide)
    try:
        for module in model.modules():
            loan.module(module)
        yield loan
    finally:
        loan.close()
