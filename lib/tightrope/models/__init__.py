"""What is measured: networks that take raw pixels, and how they are trained."""

import lazy_loader as _lazy

from tightrope._files import modules as _modules

__getattr__, __dir__, __all__ = _lazy.attach(__name__, _modules(__path__[0]))
