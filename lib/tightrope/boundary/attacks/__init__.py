"""Adversarial examples: one pure function an attack, all called alike, batched, on any device.

    attacks.pgd(model, x, labels, eps=1.0, restarts=5).found
    attacks.ddn(model, x, labels).norm()
    attacks.strongest(model, x, labels, eps=1.0).found

`model`: any callable from raw inputs (N, *shape) to logits (N, L); a module is attacked in eval mode and given back as
it was. `labels` (N,): what the answer must leave, or, with `targeted=True`, the answer wanted. `box`: the interval
every input number stays in, None for none. An input whose answer is adversarial as it is counts as found, at distance
zero. A row ends found, not found or stuck: no gradient that could be used was ever met, which is no robustness; more
than one such row in a hundred warn. By default nothing depends on the scale of the logits or the units of the box; the
published losses, where they do, go by their names. Random draws come from `seed`; rows are worked on `chunk` at a time,
each chunk with draws of its own.
"""

from tightrope.boundary.attacks.carlini_wagner import carlini_wagner as carlini_wagner
from tightrope.boundary.attacks.ddn import ddn as ddn
from tightrope.boundary.attacks.fmn import fmn as fmn
from tightrope.boundary.attacks.pgd import pgd as pgd
from tightrope.boundary.attacks.shrinking_ball import shrinking_ball as shrinking_ball
from tightrope.boundary.attacks.square import square as square
from tightrope.boundary.attacks.strongest import Strongest as Strongest
from tightrope.boundary.attacks.strongest import strongest as strongest
from tightrope.boundary.search import Attack as Attack

__all__ = [
    "Attack",
    "Strongest",
    "carlini_wagner",
    "ddn",
    "fmn",
    "pgd",
    "shrinking_ball",
    "square",
    "strongest",
]
