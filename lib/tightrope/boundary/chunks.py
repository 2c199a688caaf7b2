"""How many rows one pass through a network takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def chunk_rows(x: Tensor, row_bytes: int = 0, free: int | None = None) -> int:
    """How many rows of x (N, *shape) one pass takes.

    On a CPU (`free` None) what counts is that a chunk's activations stay in cache; on a GPU with `free` bytes that
    rows of `row_bytes` each fill half of it.
    """
    if free is None:
        return max(8, min(256, 2**18 // x[0].numel()))
    return max(1, min(8192, free // (2 * row_bytes)))


def chunk_of(net: Callable[[Tensor], Tensor], x: Tensor, rivals: int) -> int:
    """The rows of x (N, *shape) that one pass takes on x's device, as it is filled now."""
    if x.device.type != "cuda":
        return chunk_rows(x)
    free = torch.cuda.mem_get_info(x.device)[0]
    free += torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
    return chunk_rows(x, row_bytes(net, x[:1], rivals), free)


def row_bytes(net: Callable[[Tensor], Tensor], x: Tensor, rivals: int) -> int:
    """What one row like x (1, *shape) takes while it is linearised: what autograd keeps of the forward pass, as much
    again for the backward pass, and a gradient a rival."""

    def kept(x: Tensor) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net(x.detach().requires_grad_())
        return sum(sizes.values())

    # The second row's share: weights are kept too, but not once a row.
    return 2 * (kept(torch.cat([x, x])) - kept(x)) + (rivals + 4) * x.numel() * x.element_size()
