"""What goes in: data sets, views of them, synthetic data, frequencies and subspaces of input space."""

import lazy_loader as _lazy

from tightrope._files import modules as _modules

__getattr__, __dir__, __all__ = _lazy.attach(__name__, _modules(__path__[0]))
