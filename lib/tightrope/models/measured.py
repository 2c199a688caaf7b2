"""The guard around a network that is measured: right on anyone's network, or one sentence why not.

Every measurement is `with measured(model, x) as (net, x):`. Inside, `net` maps raw inputs to finite logits (N, L), row
by row; outside, nothing has changed when the block ends, whatever ended it.
"""

from __future__ import annotations

import copy
import ctypes
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import CellType

import torch
from torch import Tensor, nn

from tightrope.models import outputs
from tightrope.models.loans import Loan
from tightrope.models.trial import Trial

Model = Callable[[Tensor], object]
Net = Callable[[Tensor], Tensor]

# One network at a time is tried: the order of its weights changes on the way.
_trying = threading.RLock()


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
    precision = _precision(model, x) if isinstance(model, nn.Module) else x.dtype
    halves = precision in outputs.HALVES and (precision != x.dtype or of != "labels")
    if halves and isinstance(model, nn.Module):
        warnings.warn(
            f"The network is {precision}: it is measured on a float32 copy of its weights.",
            stacklevel=_outside(),
        )
    with ExitStack() as stack:
        for context in _plain_contexts(x):
            stack.enter_context(context)
        if isinstance(model, nn.Module) and any(
            t.is_inference() for t in [*model.parameters(), *model.buffers()]
        ):
            model = copy.deepcopy(model)  # such weights can be in no graph
        # In one order of memory: random numbers are drawn in it too.
        x = x.detach().contiguous()
        x = x.clone() if x.is_inference() else x
        x = x.float() if x.dtype in outputs.HALVES and of != "labels" else x
        loan, draws = Loan(wide=halves), _Draws(x.device)
        stack.callback(draws.put_back)
        stack.callback(loan.close)
        known = [module for found in _within(model) for module in found.modules()]
        for module in known:
            loan.module(module)
        if isinstance(model, nn.Module):
            _freeze(loan, model)
        with _trying:
            trial = Trial(model, x, of, chunk, loan, known)
            trial.run()
        draws.note()
        yield trial, x


def check_input(model: Model, x: Tensor, of: str = "gradients") -> None:
    """Raises ValueError unless x (N, …) is a batch of real inputs, in the model's precision, on its device."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"A measurement takes a batch of real inputs (N, …) as a tensor, not {type(x).__name__}: torch.as_tensor."
        )
    if x.device.type == "meta":
        raise ValueError("The inputs are on the meta device, where tensors hold no values.")
    if x.ndim < 2 or not x.numel() or (not x.is_floating_point() and of != "labels"):
        cure = ""
        if x.ndim == 1 and x.numel():
            cure = ": one input needs a batch axis, x[None]"
        elif x.dtype == torch.uint8:
            cure = ": divide by 255, x.float() / 255"
        elif x.numel() and not x.is_floating_point():
            cure = ": convert them, x.float()"
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
    for weight in model.parameters():
        loan.freeze(weight)
    model.eval()


def _outside() -> int:
    """How many calls up, for a warning, the one from outside this package is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("tightrope.", "contextlib")):
        frame, level = frame.f_back, level + 1
    return level


def _within(model: object, depth: int = 3) -> Iterator[nn.Module]:
    """The module, or those a function holds in plain sight: its closure's, a method's, a partial's, a wrapper's."""
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
