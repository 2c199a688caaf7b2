"""Going on with a killed training: all that it is made of between two epochs, in one file."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path

import torch
from torch import nn

from tightrope._files import reason, replacing


class State:
    """All that a training is made of between two epochs, and its file."""

    def __init__(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, *generators: torch.Generator
    ) -> None:
        self.net, self.optimizer, self.generators = net, optimizer, generators
        self.loss: list[float] = []
        self.accuracy: list[float] = []
        self.moves: list[list[float]] = []
        self.stopped = False
        self.key = ""

    @property
    def epochs(self) -> int:
        return len(self.loss)

    def restore(self, path: Path, key: str) -> None:
        self.key = key
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
            return  # none yet, or not one of ours
        if not isinstance(kept, dict) or kept.get("key") != key:
            return
        self.net.load_state_dict(kept["net"])
        self.optimizer.load_state_dict(kept["optimizer"])
        for generator, drawn in zip(self.generators, kept["generators"], strict=True):
            generator.set_state(drawn)
        self.loss, self.accuracy, self.stopped = kept["loss"], kept["accuracy"], kept["stopped"]
        self.moves = kept["moves"]

    def save(self, path: Path) -> bool:
        kept = {
            "key": self.key,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": [generator.get_state() for generator in self.generators],
            "loss": self.loss,
            "accuracy": self.accuracy,
            "stopped": self.stopped,
            "moves": self.moves,
        }
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(buffer.getbuffer())
        except OSError as error:
            warnings.warn(
                f"This training cannot be resumed when killed: {path} cannot be written ({reason(error)}).",
                stacklevel=3,
            )
            return False
        return True
