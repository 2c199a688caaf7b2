"""The guard around a network that is measured: right on anyone's network, or one sentence why not.

Every measurement is `with measured(model, x) as (net, x):`. Inside, `net` maps raw inputs to finite logits (N, L), row
by row; outside, nothing has changed when the block ends, whatever ended it.
"""

from __future__ import annotations

import copy
import ctypes
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import CellType
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
Net = Callable[[Tensor], Tensor]

ROWS = 4  # how many rows a network is tried on
_trying = (
    threading.RLock()
)  # one network at a time: while its weights are laid out anew they may not be in use


@contextmanager
def frozen(model: Model) -> Iterator[Model]:
    """`model` in eval mode, no gradients to its weights; as it was when the block ends.

    On a CPU float32 convolutions also get their weights in channels_last order, in which a LeNet's backward pass
    to the input takes less than half the time; in float64 it would take more. A callable that is no `nn.Module` is
    given back as it is.
    """
    loan = Loan()
    try:
        if isinstance(model, nn.Module):
            _freeze(loan, model)
            _put(list(_faster(model)))
        yield model
    finally:
        loan.close()


@contextmanager
def measured(
    model: Model, x: Tensor, *, of: str = "gradients", chunk: int | None = None
) -> Iterator[tuple[Net, Tensor]]:
    """`model`, any callable, and inputs x (N, …), ready to be measured: a function of its row, and detached inputs.

    `of` says what is asked of the network: "gradients", "logits" alone, or "labels" alone, for which probabilities
    and any precision will do. `chunk`: how many rows it will be given at once, where the caller's caller says so.

    - A module is measured in eval mode, on copies of its weights and buffers; so are those that a function hides,
      in the mode they are in. The network gets copies of the inputs. Half and bfloat16 modules are measured in
      float32, with a warning.
    - Logits are taken from a tuple's first place or from `.logits`.
    - `ROWS` rows pass through twice and one of them alone: a network whose answers differ is no function of its row.
      One that takes a single batch size, ROWS, `chunk`, N or 1, is given that, padded with copies of rows.

    Raises ValueError, in one sentence, for what cannot be measured; nothing but the first trial turns the network's
    own errors into sentences.
    """
    check_input(model, x, of)
    halves = isinstance(model, nn.Module) and of != "labels" and _precision(model, x) in outputs.HALVES
    if halves:
        warnings.warn(
            f"The network is {_precision(model, x)}: it is measured on a float32 copy of its weights.",
            stacklevel=4,
        )
    with ExitStack() as stack:
        for context in _plain_contexts(x):
            stack.enter_context(context)
        if isinstance(model, nn.Module) and any(
            t.is_inference() for t in [*model.parameters(), *model.buffers()]
        ):
            model = copy.deepcopy(model)  # such weights can be in no graph
        x = x.detach()
        x = x.clone() if x.is_inference() else x
        x = x.float() if x.dtype in outputs.HALVES and of != "labels" else x
        loan, draws = Loan(wide=halves), _Draws(x.device)
        stack.callback(draws.put_back)
        stack.callback(loan.close)
        if isinstance(model, nn.Module):
            _freeze(loan, model)
        for hidden in _within(model):
            for module in hidden.modules():
                loan.module(module)
        with _trying:
            trial = _Trial(model, x, of, chunk, loan)
            trial.run()
        draws.note()
        yield trial.net, x


def check_input(model: Model, x: Tensor, of: str = "gradients") -> None:
    """Raises ValueError unless x (N, …) is a batch of real inputs, in the model's precision, on its device."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"A measurement takes a batch of real inputs (N, …) as a tensor, not {type(x).__name__}."
        )
    if x.ndim < 2 or not len(x) or (not x.is_floating_point() and of != "labels"):
        cure = ""
        if x.ndim == 1 and len(x):
            cure = ": one input needs a batch axis, x[None]"
        elif x.dtype == torch.uint8:
            cure = ": divide by 255, x.float() / 255"
        raise ValueError(
            f"A measurement takes a batch of real inputs (N, …), not {x.dtype} of shape {tuple(x.shape)}{cure}."
        )
    if not isinstance(model, nn.Module) or not x.is_floating_point():
        return
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        raise ValueError("The network has lazy layers without weights yet: call it once on a batch.")
    dtype = _precision(model, x)
    device = next(model.parameters(), x).device
    if (
        dtype != x.dtype and not (dtype in outputs.HALVES and x.dtype == torch.float32)
    ) or device != x.device:
        raise ValueError(
            f"The network is {dtype} on {device}, the inputs are {x.dtype} on {x.device}: move one of them."
        )


@torch.no_grad()
def first_answer(model: Model, x: Tensor) -> Tensor:
    """Logits of x (N, …), or one sentence for what the network has against it or does not return."""
    try:
        answer = model(x.clone())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(_refused(x, error)) from error
    return outputs.check(answer, x, "labels")


class _Trial:
    """The first passes through a network, and the one look at what came out."""

    def __init__(self, model: Model, x: Tensor, of: str, chunk: int | None, loan: Loan) -> None:
        self.model, self.x, self.of, self.chunk, self.loan = model, x, of, chunk, loan
        self.size: int | None = None  # the one batch size it takes
        self.dtype = None if of == "labels" else x.dtype
        self.modules: dict[int, nn.Module] = {}

    def net(self, z: Tensor) -> Tensor:
        """Logits of any number of rows, from copies of them."""
        if self.size is None:
            return outputs.logits(self.model(z.clone())).to(self.dtype)
        parts = [(self._answer(_filled(part, self.size)), len(part)) for part in z.split(self.size)]
        return torch.cat([outputs.logits(answer)[:n].to(self.dtype) for answer, n in parts])

    def run(self) -> None:
        mine = threading.get_ident()

        def meet(module: nn.Module, inputs: object) -> None:
            if threading.get_ident() == mine and id(module) not in self.modules:
                self.modules[id(module)] = module
                self.loan.module(module)

        handle = register_module_forward_pre_hook(meet)
        try:
            first = self._first()
            company = self._in_other_company()
            weights = list(_faster(self.model)) if isinstance(self.model, nn.Module) else []
            seen = None
            if weights:
                before = [(weight, weight.data) for weight, _ in weights]
                _put(weights)
                with suppress(ValueError):  # a forward pass that views its weights: it gets them as they were
                    seen = self._look(first, self._again(), company)
            if seen is None or seen.moved > seen.rounding:
                if weights:
                    _put(before)
                seen = self._look(first, self._again(), company)
        finally:
            handle.remove()
        self._judge(seen)

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
        raise ValueError(_refused(self.x, refusal)) from refusal

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
                raise ValueError(f"The network has no gradient to its input: {_said(error)}.") from error
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
        bytes_ = torch.zeros_like(sums)
        for module in self.modules.values():
            if isinstance(module, Normalise) and x.is_floating_point():
                small = (module.mean.abs().amax() <= 1) & (module.std.amax() <= 1)
                bytes_ = small & (x.amin() >= 0) & (x.amax() > 100) & (x.amax() <= 255)
        parts = (
            x.isfinite().all(),
            first.isfinite().all() & again.isfinite().all(),
            largest,
            (again - first).abs().amax(),
            torch.zeros_like(sums) if company is None else (company - first[:1]).abs().amax(),
            share,
            bytes_,
        )
        values = torch.stack([part.to(first.dtype) for part in parts]).tolist()
        # Kernels for other batch sizes, or other orders of the weights, agree to half their digits at least.
        tf32 = x.device.type == "cuda" and torch.backends.cudnn.allow_tf32
        return _Seen(*values, math.sqrt(2.0**-10 if tf32 else self.eps) * values[2])

    def _judge(self, seen: _Seen) -> None:
        if not seen.finite_inputs:
            raise ValueError("The inputs hold NaN or infinity: a measurement takes finite ones.")
        if seen.bytes:
            raise ValueError(
                "The inputs go from 0 to 255 and the network normalises images in [0, 1]: divide by 255."
            )
        if not seen.finite_logits:
            raise ValueError("The model returns NaN or infinite logits on the clean inputs.")
        if seen.moved > seen.rounding or seen.neighbours > seen.rounding:
            raise ValueError(self._no_function(seen))
        if seen.probabilities and self._stays_probabilities():
            raise ValueError(
                "The network returns probabilities, rows that sum to one: return the logits that go into its softmax."
            )

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
            cause = "something in it looks at the whole batch, chunk=1 measures it row by row"
        return f"The network is no function of its row: the same row {what} gets logits {apart:.2g} apart: {cause}."

    def _stays_probabilities(self) -> bool:
        """Any scores may happen to sum to one; those that do far away too, and are never negative, are shares."""
        far = torch.cat([self.net(30 * self.rows), self.net(-30 * self.rows)])
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
    rounding: float


class _Draws:
    """torch's global generators: where the trial drew from them, they are put back when the measurement ends."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before, self.drew = self._state(), True

    def note(self) -> None:
        self.drew = any(_bytes(a) != _bytes(b) for a, b in zip(self.before, self._state(), strict=True))

    def put_back(self) -> None:
        if self.drew:
            torch.set_rng_state(self.before[0])
            if len(self.before) > 1:
                torch.cuda.set_rng_state(self.before[1], self.device)

    def _state(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]


def _bytes(state: Tensor) -> bytes:
    return ctypes.string_at(state.data_ptr(), state.numel())


def _freeze(loan: Loan, model: nn.Module) -> None:
    for module in model.modules():
        loan.module(module)
    for weight in model.parameters():
        loan.freeze(weight)
    model.eval()


def _within(model: object, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a function holds in plain sight, called or not: its own, a method's, a partial's, a wrapper's."""
    if isinstance(model, nn.Module):
        yield model
    elif depth:
        code, known = getattr(model, "__code__", None), getattr(model, "__globals__", {})
        held = [getattr(model, "__self__", None), getattr(model, "func", None), *getattr(model, "args", ())]
        held += [
            cell.cell_contents for cell in getattr(model, "__closure__", None) or () if cell != CellType()
        ]
        held += [known[name] for name in getattr(code, "co_names", ()) if name in known]
        held += getattr(model, "__dict__", {}).values()
        for one in held:
            if isinstance(one, nn.Module) or (callable(one) and not isinstance(one, type)):
                yield from _within(one, depth - 1)


def _faster(model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
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


def _torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "tightrope.models.layers"))


def _put(weights: list[tuple[Tensor, Tensor]]) -> None:
    for weight, data in weights:
        weight.data = data


def _filled(rows: Tensor, size: int) -> Tensor:
    """(size, …): the rows, and copies of the last."""
    return (
        torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])]) if len(rows) < size else rows
    )


def _plain_contexts(x: Tensor) -> list[AbstractContextManager]:
    """Whatever the caller's modes: no gradients but those asked for, full precision, tensors made where x is."""
    contexts: list[AbstractContextManager] = [torch.inference_mode(False), torch.no_grad()]
    if torch.is_autocast_enabled(x.device.type):
        contexts.append(torch.autocast(x.device.type, enabled=False))
    if torch.get_default_device().type not in ("cpu", x.device.type):
        contexts.append(x.device)
    return contexts


def _precision(model: nn.Module, x: Tensor) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)


def _refused(x: Tensor, error: Exception) -> str:
    cure = ""
    if not x.is_floating_point():
        cure = "; convert images of whole numbers, x.float() / 255"
    elif x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        cure = "; images are (N, C, H, W), x.permute(0, 3, 1, 2)"
    elif x.ndim == 3:
        cure = "; one image needs a batch axis, x[None]"
    shape = ", ".join(["N", *map(str, x.shape[1:])])
    return f"The network does not take inputs ({shape}) of {x.dtype} on {x.device}: {_said(error)}{cure}."


def _said(error: Exception) -> str:
    """What an error says, in a part of a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(". :")
