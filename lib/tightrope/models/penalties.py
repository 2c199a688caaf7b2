"""What is added to a loss because of the weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from tightrope import refusals


@dataclass(frozen=True)
class Norm:
    """λ‖w‖₂/N for weights w, N numbers in all, biases included: NAE's table 1, whose norm is not squared.

    `strength` is λ: one number for the whole network, or one for each layer (each module with parameters of its own,
    in order), whose terms are added. `squared` takes ‖w‖₂², and `divided=False` leaves N out: the other readings.
    """

    strength: float | tuple[float, ...]
    squared: bool = False
    divided: bool = True

    def __post_init__(self) -> None:
        refusals.numbers(least=0, strength=self.strength)
        if isinstance(self.strength, list):
            object.__setattr__(self, "strength", tuple(self.strength))
        refusals.truth(squared=self.squared, divided=self.divided)

    def check(self, net: nn.Module) -> None:
        """Raises ValueError where the strengths are not as many as the layers of `net`."""
        refusals.instance(nn.Module, net=net)
        layers = len(_layers(net))
        if isinstance(self.strength, tuple) and len(self.strength) != layers:
            raise ValueError(
                f"strength has {len(self.strength)} numbers, but the network has {layers} layers with parameters."
            )

    def __call__(self, net: nn.Module) -> Tensor:
        """The penalty of `net`, a number with a gradient."""
        layers = _layers(net)
        if not isinstance(self.strength, tuple):
            return self._of([p for layer in layers for p in layer], self.strength)
        return torch.stack([self._of(*one) for one in zip(layers, self.strength, strict=True)]).sum()

    def _of(self, parameters: list[nn.Parameter], strength: float) -> Tensor:
        norm = vector_norm(torch.stack([vector_norm(p) for p in parameters]))
        size = sum(p.numel() for p in parameters) if self.divided else 1
        return strength / size * (norm.square() if self.squared else norm)


def _layers(net: nn.Module) -> list[list[nn.Parameter]]:
    own = (list(module.parameters(recurse=False)) for module in net.modules())
    return [parameters for parameters in own if parameters]
