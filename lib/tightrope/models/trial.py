"""The first passes through a network that is to be measured, and the one look at what came out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from tightrope.models import outputs
from tightrope.models.layers import Normalise
from tightrope.models.loans import Loan

Model = Callable[[Tensor], object]

TO_255 = "The inputs go from 0 to 255 and the network normalises images in [0, 1]: divide by 255."
ROWS = 4  # how many rows a network is tried on


class Trial:
    """The first passes through a network, and the one look at what came out."""

    def __init__(
        self, model: Model, x: Tensor, of: str, chunk: int | None, loan: Loan, known: list[nn.Module]
    ) -> None:
        self.model, self.x, self.of, self.chunk, self.loan, self.known = model, x, of, chunk, loan, known
        self.size: int | None = None  # the one batch size it takes
        self.dtype = None if of == "labels" else x.dtype
        self.modules: dict[int, nn.Module] = {}  # that run, in the order in which they begin to
        self.ordered = True
        self.bytes = torch.zeros((), dtype=torch.bool, device=x.device)  # where images in [0, 1] are expected

    @property
    def first(self) -> nn.Module | None:
        """The convolution or linear layer that runs before all others, where that is known and nothing watches it."""
        affine = (m for m in self.modules.values() if type(m) in (nn.Conv2d, nn.Linear))
        first = next(affine, None) if self.ordered and self.size is None else None
        hooked = first is not None and any(
            hooks for name, hooks in vars(first).items() if name.endswith("_hooks")
        )
        return None if hooked else first

    def __call__(self, z: Tensor) -> Tensor:
        """Logits of any number of rows, from copies of them."""
        if self.size is None:
            return outputs.logits(self.model(z.clone())).to(self.dtype)
        parts = [(self._answer(_filled(part, self.size)), len(part)) for part in z.split(self.size)]
        return torch.cat([outputs.logits(answer)[:n].to(self.dtype) for answer, n in parts])

    def run(self) -> None:
        with self._met():
            first = self._first()
            company = self._in_other_company()
            weights = list(faster(self.model)) if isinstance(self.model, nn.Module) else []
            seen = None
            if weights:
                before = [(weight, weight.data) for weight, _ in weights]
                put(weights)
                with suppress(
                    ValueError, RuntimeError
                ):  # a forward pass that views its weights: it gets them as they were
                    seen = self._look(first, self._again(), company)
            if seen is None or seen.moved > seen.rounding:
                if weights:
                    put(before)
                seen = self._look(first, self._again(), company)
        self._judge(seen)

    @contextmanager
    def _met(self) -> Iterator[None]:
        """Every module that runs is borrowed before it does, however deep a function hides it."""
        if hasattr(self.model, "_torchdynamo_orig_callable") or any(
            "_orig_mod" in m._modules for m in self.known
        ):
            # What torch.compile traces with a hook in its way stays slow; it hides no more than a closure does.
            self.modules = {id(module): module for module in self.known}
            self.ordered = False
            yield
            return
        mine = threading.get_ident()

        def meet(module: nn.Module, inputs: tuple[object, ...]) -> None:
            if threading.get_ident() == mine and id(module) not in self.modules:
                self.modules[id(module)] = module
                self.loan.module(module)
                if isinstance(module, Normalise) and inputs and isinstance(inputs[0], Tensor):
                    self.bytes = self.bytes | to_255(module, inputs[0])

        handle = register_module_forward_pre_hook(meet)
        try:
            yield
        finally:
            handle.remove()

    def _first(self) -> Tensor:
        """A few rows and their logits. What the network raises here is what it has against these inputs."""
        n, most = len(self.x), self.chunk or len(self.x)
        refusal = None
        for size in dict.fromkeys((min(ROWS, most, n), most, min(most, n), 1)):
            self.rows = _filled(self.x[:size], size)
            try:
                answer = self._answer(self.rows)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                refusal = refusal or error
            else:
                self.size = size if refusal else None
                found = outputs.check(answer, self.rows, self.of)
                # float64 may have float32 inside
                self.eps = max(torch.finfo(found.dtype).eps, torch.finfo(torch.float32).eps)
                return found.to(self.dtype)
        raise ValueError(outputs.refused(self.x, refusal)) from refusal

    def _in_other_company(self) -> Tensor | None:
        """The first row's logits alone, where it has been in a batch, or in a batch, where it has been alone."""
        row = self.rows[:1]
        if len(self.rows) > 1 and self.size is None:
            try:
                return self._logits(row)
            except Exception:
                self.size = len(self.rows)
        elif self.size is None and self.chunk != 1:
            try:
                return self._logits(torch.cat([row, row / 2]))[:1]
            except Exception:
                self.size = 1
        return self._logits(row.expand_as(self.rows))[:1] if len(self.rows) > 1 else None

    def _again(self) -> Tensor:
        """The same rows again, with a graph where gradients will be wanted."""
        if self.of != "gradients":
            return self._logits(self.rows)
        with torch.enable_grad():
            at = self.rows.clone().requires_grad_()
            try:
                found = self._logits(at)
                slope = (
                    torch.autograd.grad(found.sum(), at, allow_unused=True)[0]
                    if found.requires_grad
                    else None
                )
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                raise ValueError(
                    f"The network has no gradient to its input: {outputs.said(error)}."
                ) from error
        if slope is None:
            raise ValueError(
                "The model's logits carry no gradient to its input: measure it before it is detached, rounded or "
                "quantised."
            )
        return found.detach()

    def _answer(self, rows: Tensor) -> object:
        return self.model(rows.clone())

    def _logits(self, rows: Tensor) -> Tensor:
        return outputs.logits(self._answer(rows)).to(self.dtype)

    def _look(self, first: Tensor, again: Tensor, company: Tensor | None) -> _Seen:
        """All that can only be told by values, in one look at the device."""
        x, largest = self.x, first.abs().amax()
        sums = (first.sum(1) - 1).abs().amax()
        share = (first >= 0).all() & (sums < 1e-5) if self.of != "labels" else torch.zeros_like(sums)
        parts = (
            x.isfinite().all(),
            first.isfinite().all() & again.isfinite().all(),
            largest,
            (again - first).abs().amax(),
            torch.zeros_like(sums) if company is None else (company - first[:1]).abs().amax(),
            share,
            self.bytes,
        )
        values = torch.stack([part.to(first.dtype) for part in parts]).tolist()
        # Kernels for other batch sizes, or other orders of the weights, agree to half their digits at least.
        tf32 = x.device.type == "cuda" and torch.backends.cudnn.allow_tf32
        part = math.sqrt(2.0**-10 if tf32 else self.eps)
        return _Seen(*values, part, part * values[2])

    def _judge(self, seen: _Seen) -> None:
        if not seen.finite_inputs:
            raise ValueError("The inputs hold NaN or infinity: a measurement takes finite ones.")
        if seen.bytes:
            raise ValueError(TO_255)
        if not seen.finite_logits:
            raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
        apart = max(seen.moved, seen.neighbours)
        if apart > seen.rounding and apart > seen.part * self._size_elsewhere():
            raise ValueError(self._no_function(seen))
        weights = (w for m in self.modules.values() for w in m._parameters.values() if w is not None)
        if self.of != "labels" and any(w.dtype in outputs.HALVES for w in weights):
            raise ValueError(
                "A network inside the function has half weights, too coarse for a boundary: measure the module itself, "
                "or .float() it."
            )
        if seen.probabilities and self._stays_probabilities():
            raise ValueError(
                "The network returns probabilities, rows that sum to one: return the logits that go into its softmax."
            )

    def _size_elsewhere(self) -> float:
        """The largest logit at random inputs of these rows' size.

        On a boundary between two classes all logits may be next to zero: their rounding is that of what they are summed
        from, and no part of themselves.
        """
        noise = torch.randn(self.rows.shape, generator=torch.Generator().manual_seed(0)).to(self.rows)
        try:
            found = self._logits(self.rows.abs().amax() * noise)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # it takes no such inputs
            return 0.0
        return found.abs().amax().nan_to_num(0.0, 0.0, 0.0).item()

    def _no_function(self, seen: _Seen) -> str:
        random = seen.moved > seen.rounding
        what = "twice" if random else "alone and in a batch"
        apart = seen.moved if random else seen.neighbours
        seen = list(self.modules.values())
        # In train mode these answer otherwise, and so may a stranger's own modules; torch's other layers do not.
        moody = [m for m in seen if isinstance(m, _NormBase | _DropoutNd) or not _torchs(m)]
        training = sorted({type(m).__name__ for m in moody if m.training})
        batch = [m for m in seen if isinstance(m, _NormBase) and m.running_mean is None]
        batch = [m for m in batch if not isinstance(m, _InstanceNorm)]
        if training:
            cause = f"{' and '.join(training)} inside in train mode, call net.eval() first"
        elif batch:
            cause = f"{type(batch[0]).__name__} without running statistics takes the batch's, give it its own"
        elif random:
            cause = (
                "it draws random numbers, keeps something between passes, or answers otherwise with gradients"
            )
        else:
            cause = (
                "something in it, a mean or a quantisation's scale, is the whole batch's; chunk=1 (accuracy: batch=1) "
                "measures row by row"
            )
        return f"The network is no function of its row: the same row {what} gets logits {apart:.2g} apart: {cause}."

    def _stays_probabilities(self) -> bool:
        """Any scores may happen to sum to one; those that do far away too, and are never negative, are shares."""
        far = torch.cat([self(30 * self.rows), self(-30 * self.rows)])
        shares = (far >= 0).all() & ((far.sum(1) - 1).abs() < 1e-5).all()
        return bool(shares & (far != far[0]).any())  # a constant answer is no sign of a softmax


class _Seen(NamedTuple):
    finite_inputs: float
    finite_logits: float
    largest: float
    moved: float
    neighbours: float
    probabilities: float
    bytes: float
    part: float
    rounding: float


def to_255(module: Normalise, x: Tensor) -> Tensor:
    """Does x go to 255, where a layer normalises what goes to 1? True or False, on its device."""
    if not x.is_floating_point() or not x.numel():
        return torch.zeros((), dtype=torch.bool, device=x.device)
    small = (module.mean.abs().amax() <= 1) & (module.std.amax() <= 1)
    return small & (x.amin() >= 0) & (x.amax() > 100) & (x.amax() <= 255)


def faster(model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights of convolutions that have a faster order, and their values in it."""
    for module in model.modules():
        weight = module._parameters.get("weight") if isinstance(module, nn.Conv2d) else None
        if type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu":
            # With one input channel torch takes any order for channels_last already, and then runs the slow kernel:
            # only strides that say so are believed.
            _, channels, height, width = weight.shape
            strides = (channels * height * width, 1, channels * width, channels)
            if weight.stride() != strides:
                data = weight.data
                yield (
                    weight,
                    torch.empty_strided(data.shape, strides, dtype=data.dtype, device="cpu").copy_(data),
                )


def put(weights: list[tuple[Tensor, Tensor]]) -> None:
    for weight, data in weights:
        weight.data = data


def _torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "tightrope.models.layers"))


def _filled(rows: Tensor, size: int) -> Tensor:
    """(size, …): the rows, and copies of the last."""
    return (
        torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])]) if len(rows) < size else rows
    )
