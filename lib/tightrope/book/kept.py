"""Results on disk, named by what they depend on, as safetensors: no pickles, nothing half-written is read.

`fingerprint` names, `save` and `load` keep a value made of tensors, arrays, numbers, text, tuples, lists,
dictionaries and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tightrope._files import replacing

_PLAIN = (type(None), bool, int, float, str)


def fingerprint(*parts: object) -> str:
    """A short name for the content of `parts`: equal for equal values, order and types included.

    Takes tensors and arrays (by their bytes, wherever they lie), modules (by structure and state), numbers,
    text, paths, dtypes, devices, and tuples, lists, dictionaries and dataclasses of these.
    Raises ValueError for anything else: what cannot be named by its content must not name a result.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, parts)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, part: object) -> None:
    if isinstance(part, np.ndarray | np.generic) and part.dtype.kind in "biufc":
        array = np.ascontiguousarray(part)
        digest.update(f"array {part.shape} {array.dtype} ".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    elif isinstance(part, Tensor):
        digest.update(f"tensor {tuple(part.shape)} {part.dtype} ".encode())
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(part, (*_PLAIN, bytes, range, torch.dtype, torch.device, Path)):
        text = f"{type(part).__name__} {part!r}"
        digest.update(f"{len(text)} {text}".encode())
    elif isinstance(part, nn.Module):
        _feed(digest, (repr(part), dict(part.state_dict())))
    elif isinstance(part, list | tuple):
        digest.update(f"{type(part).__name__} {len(part)} ".encode())
        for item in part:
            _feed(digest, item)
    elif isinstance(part, dict):
        digest.update(f"dict {len(part)} ".encode())
        for item in part.items():
            _feed(digest, item)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        digest.update(f"{type(part).__qualname__} ".encode())
        _feed(digest, {f.name: getattr(part, f.name) for f in dataclasses.fields(part)})
    else:
        raise ValueError(
            f"A {type(part).__name__} cannot be part of a key: give what it is made from, as tensors, "
            "numbers or text."
        )


def save(path: Path, value: object) -> None:
    """Keep `value` at `path`, atomically. Raises OSError where it cannot be written, ValueError for what it
    cannot keep."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(value, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        try:
            save_file(tensors, part, metadata={"tightrope": structure})
        except SafetensorError as error:
            raise OSError(f"not written: {error}") from error


class Miss(Exception):
    """No value is kept there, or none that can be read."""


def load(path: Path) -> object:
    """The value kept at `path`, its tensors on the devices they were on. Raises Miss."""
    try:
        with safe_open(path, "pt") as file:
            structure = json.loads((file.metadata() or {})["tightrope"])
            return _unpack(structure, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (
        OSError,
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        ImportError,
        RuntimeError,
    ) as e:
        raise Miss(str(path)) from e


def _pack(value: object, tensors: dict[str, Tensor]) -> object:
    """The JSON structure of `value`; its tensors go into `tensors` and are named there."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, _PLAIN):
        return value
    name = str(len(tensors))
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name, "device": str(value.device)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        tensors[name] = torch.from_numpy(np.array(value, order="C"))
        return {"array": name}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return {type(value).__name__: [_pack(item, tensors) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, _PLAIN) for key in value):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if dataclasses.is_dataclass(value) and _is_ours(type(value).__module__):
        fields = {f.name: _pack(getattr(value, f.name), tensors) for f in dataclasses.fields(value)}
        return {"class": [type(value).__module__, type(value).__qualname__], "fields": fields}
    raise ValueError(
        f"A {type(value).__name__} cannot be kept: return tensors, arrays, numbers or text, or a dictionary, "
        "list or dataclass of these."
    )


def _unpack(structure: object, tensors: dict[str, Tensor]) -> object:
    if not isinstance(structure, dict):
        return structure
    kind = next(iter(structure))
    inside = structure[kind]
    if kind == "float":
        return float(inside)
    if kind == "tensor":
        return tensors[inside].to(structure["device"])
    if kind == "array":
        return tensors[inside].numpy()
    if kind in ("list", "tuple"):
        items = [_unpack(item, tensors) for item in inside]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in inside}
    module, name = inside
    if not _is_ours(module):
        raise ValueError(f"{module} is not part of the book")
    made = sys.modules["__main__"] if module == "__main__" else importlib.import_module(module)
    for part in name.split("."):
        made = getattr(made, part)
    return made(**{key: _unpack(item, tensors) for key, item in structure["fields"].items()})


def _is_ours(module: str) -> bool:
    """Dataclasses of the library and of the chapter itself: a file names no other code to run."""
    return module == "__main__" or module.split(".")[0] == "tightrope"
