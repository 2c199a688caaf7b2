"""Import torchvision, also where its compiled operators do not load.

The registry's torchvision is a CUDA build. Beside a CPU-only torch its `_C.so` does not load, and the import
then stops at two fake kernels registered for operators that nobody declared. Declaring the two is enough for
data sets, transforms and classification networks; `torchvision.io`'s codecs and detection stay unavailable.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a Library takes its operators along when it is collected


def torchvision() -> ModuleType:
    """The torchvision module, imported now.

    Raises ImportError, in one sentence, where it is not installed or does not match torch.
    """
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
            say = "torchvision is not installed: install it in the version that matches torch."
            raise ImportError(say) from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportError(f"torchvision does not match torch {torch.__version__} ({first}).") from error


def declare_operators() -> None:
    """Declare what torchvision misses, once, where its compiled operators do not load; before its first import."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _declared or _compiled_operators_load(Path(spec.origin).parent):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


def _compiled_operators_load(folder: Path) -> bool:
    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False
