"""Margins, features and the neighbourhoods of adversarial examples: the library behind Walking the Tightrope.

    from tightrope import data, margins, nets, spectra

Modules load when they are first named, so `import tightrope` costs nothing and needs no torch.
"""

from importlib import import_module as _import
from importlib.metadata import PackageNotFoundError as _NotFound
from importlib.metadata import version as _version
from pathlib import Path as _Path

try:
    __version__ = _version("tightrope")
except _NotFound:  # the source tree itself is on the path, nothing is installed
    __version__ = "0+source"


def _modules() -> list[str]:
    here = _Path(__file__).parent
    return sorted(p.stem for p in here.glob("*.py") if not p.stem.startswith("_"))


def __getattr__(name: str) -> object:
    if name in _modules():
        return _import(f"{__name__}.{name}")
    raise AttributeError(f"tightrope has no module {name!r}; it has {', '.join(_modules())}.")


def __dir__() -> list[str]:
    return sorted([*globals(), *_modules()])
