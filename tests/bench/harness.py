"""What every benchmark shares: a table with its bounds, methods taking turns on one clock, the memory a call takes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tightrope import progress


@dataclass
class Report:
    """One table and the bounds it is held to, each (what, measured, "≥" or "≤", bound)."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    bounds: list[tuple[str, float, str, float]] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _row(self.head), _row("---" for _ in self.head)]
        lines += [_row(r) for r in self.rows] + [""]
        for what, value, sign, bound in self.bounds:
            lines.append(
                f"- {what}: {value:.3g} {sign} {bound:.3g}, {'met' if _met(value, sign, bound) else 'MISSED'}"
            )
        return "\n".join(lines)

    def met(self) -> bool:
        return all(_met(value, sign, bound) for _, value, sign, bound in self.bounds)


def _row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def _met(value: float, sign: str, bound: float) -> bool:
    return value >= bound if sign == "≥" else value <= bound


def take_turns(
    methods: dict[str, Callable[[int], object]], rounds: int
) -> tuple[dict[str, float], dict[str, list]]:
    """Mean CPU seconds of a call, and what each call returned; every method is called once in every round."""
    seconds, results = dict.fromkeys(methods, 0.0), {name: [] for name in methods}
    for k in progress.track(range(rounds), "round"):
        for name, method in progress.track(methods.items(), "method"):
            start = time.process_time()
            results[name].append(method(k))
            seconds[name] += (time.process_time() - start) / rounds
    return seconds, results


class Live(TorchDispatchMode):
    """The most bytes of tensors made inside the block that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, Tensor) or tensor._base is not None:
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() in self.seen or not storage.nbytes():
                continue
            self._born(tensor, storage.data_ptr(), storage.nbytes())
        return out

    def _born(self, tensor: Tensor, pointer: int, size: int) -> None:
        self.seen.add(pointer)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(tensor, self._gone, pointer, size)

    def _gone(self, pointer: int, size: int) -> None:
        self.seen.discard(pointer)
        self.now -= size


def most_bytes(call: Callable[[], object]) -> int:
    with Live() as live:
        call()
    return live.most
