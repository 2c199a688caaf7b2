"""Results on disk, named by what they depend on: nothing half-written is read, and a file names no code to run.

`save` and `load` keep a value made of tensors, arrays, numbers, text, tuples, lists,
dictionaries and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from tightrope._files import replacing

_PLAIN = (type(None), bool, int, float, str)
_REBUILD = (
    np.zeros(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
)  # numpy's own, for arrays and their scalars
_NUMPY = [*_REBUILD, np.ndarray, np.dtype, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD")]


class Miss(Exception):
    """No value is kept there, or none that can be read."""


def save(path: Path, value: object) -> None:
    """Keep `value` at `path`, atomically. Raises OSError where it cannot be written, ValueError for what it
    cannot keep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        try:
            torch.save(value, part, pickle_module=_Compact)
            load(part)  # what would not come back is said now
        except (pickle.PicklingError, AttributeError, TypeError, Miss) as error:
            raise ValueError(
                f"What a {type(value).__name__} holds cannot be kept: return tensors, arrays, numbers or text, or a "
                "tuple, list, dictionary or dataclass of these."
            ) from error
        except RuntimeError as error:  # torch's own word for a disk that is full
            raise OSError(f"not written: {error}") from error


def load(path: Path) -> object:
    """The value kept at `path`, its tensors on the devices they were on. Raises Miss."""
    try:
        with safe_globals([*_NUMPY, *_classes(path)]):
            return torch.load(path, weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        AttributeError,
        ImportError,
    ) as e:
        raise Miss(str(path)) from e


def _classes(path: Path) -> list[type]:
    """The dataclasses that a file names: of the library or of the chapter itself, else it is a Miss."""
    with safe_globals(_NUMPY):
        names = get_unsafe_globals_in_checkpoint(path)
    return [_class(name) for name in names]


def _class(name: str) -> type:
    module, _, last = name.rpartition(".")
    if module.split(".")[0] == "tightrope":
        importlib.import_module(module)
    elif module != "__main__":
        raise Miss(f"{name} is no part of the book")
    found = getattr(sys.modules[module], last, None)
    if not (isinstance(found, type) and (dataclasses.is_dataclass(found) or hasattr(found, "_fields"))):
        raise Miss(f"{name} is no dataclass")
    return found


class _Compact:
    """The pickler that torch.save is given: a view is kept without the rest of what it looks at."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, thing: object) -> object:
            if isinstance(thing, Tensor) and thing.untyped_storage().nbytes() > thing.nbytes:
                return thing.detach().clone().__reduce_ex__(2)
            return NotImplemented
