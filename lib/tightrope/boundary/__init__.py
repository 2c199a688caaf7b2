"""Where a model changes its mind: margins, attacks, and what they share."""

import lazy_loader as _lazy

from tightrope._files import modules as _modules

__getattr__, __dir__, __all__ = _lazy.attach(__name__, _modules(__path__[0]))
