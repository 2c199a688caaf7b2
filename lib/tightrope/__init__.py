"""Margins, features and the neighbourhoods of adversarial examples: the library behind Walking the Tightrope.

    from tightrope import data, margins, nets, spectra

Modules load when they are first named, so `import tightrope` costs nothing and needs no torch. The public names stand
in `__init__.pyi`; the rooms they live in are on one page of CONTRIBUTING.md.

After it `import torchvision`, and what imports that (timm), also works beside a torch without CUDA.
"""

import sys as _sys

import lazy_loader as _lazy

_opened, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _opened(name)
    from importlib.metadata import PackageNotFoundError, version  # imports half the standard library

    try:
        return version("tightrope")
    except PackageNotFoundError:  # the source tree itself is on the path, nothing is installed
        return "0+source"


class _BeforeTorchvision:
    """An import hook: the registry's torchvision needs two operators declared before it loads beside a CPU torch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            _sys.meta_path.remove(self)
            from tightrope.inputs._torchvision import declare_operators

            declare_operators()


_sys.meta_path.insert(0, _BeforeTorchvision())
