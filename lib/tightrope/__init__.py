"""Margins, features and the neighbourhoods of adversarial examples: the library behind Walking the Tightrope.

    from tightrope import data, margins, nets, spectra

Modules load when they are first named, so `import tightrope` costs nothing and needs no torch. The public names stand
in `__init__.pyi`; the rooms they live in are on one page of CONTRIBUTING.md.
"""

from importlib.metadata import PackageNotFoundError as _NotFound
from importlib.metadata import version as _version

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

try:
    __version__ = _version("tightrope")
except _NotFound:  # the source tree itself is on the path, nothing is installed
    __version__ = "0+source"
