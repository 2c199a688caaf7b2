"""Adversarial examples: one pure function an attack, all called alike, batched, on any device.

    attacks.pgd(model, x, labels, eps=1.0, restarts=5).found
    attacks.ddn(model, x, labels).norm()
    attacks.strongest(model, x, labels, eps=1.0).found

`model`: any callable from raw inputs (N, *shape) to logits (N, L); a module is attacked in eval mode and given back as
it was. `labels` (N,): what the answer must leave, or, with `targeted=True`, the answer wanted. `box`: the interval
every input number stays in, a set of `tightrope.boxes`, or None for none.

`keep` says when a row of an attack inside a radius is done. At the "first" success, the default: right for measuring.
An input whose answer is adversarial as it is then counts as found, at distance zero, and one that nothing was found for
comes back as it was. At the "last" iterate, which has moved wherever there is a gradient and room in the box: right for
training. Or after all iterates at the "worst", that of highest loss. Attacks without a radius keep the "shortest" and
nothing else; `lbfgs` alone can stop at its "first" success too.

A row ends found, not found or stuck: no gradient that could be used was ever met, which is no robustness; more
than one such row in a hundred warn. By default nothing depends on the scale of the logits or the units of the box; the
published losses, where they do, go by their names. Random draws come from `seed`; rows are worked on `chunk` at a time,
each chunk with draws of its own.
"""

from tightrope.boundary.attacks.carlini_wagner import carlini_wagner as carlini_wagner
from tightrope.boundary.attacks.ddn import ddn as ddn
from tightrope.boundary.attacks.fmn import fmn as fmn
from tightrope.boundary.attacks.lbfgs import lbfgs as lbfgs
from tightrope.boundary.attacks.mi_fgsm import mi_fgsm as mi_fgsm
from tightrope.boundary.attacks.pgd import bim as bim
from tightrope.boundary.attacks.pgd import fgsm as fgsm
from tightrope.boundary.attacks.pgd import pgd as pgd
from tightrope.boundary.attacks.pgd import r_fgsm as r_fgsm
from tightrope.boundary.attacks.shrinking_ball import shrinking_ball as shrinking_ball
from tightrope.boundary.attacks.square import square as square
from tightrope.boundary.attacks.strongest import Strongest as Strongest
from tightrope.boundary.attacks.strongest import strongest as strongest
from tightrope.boundary.search import Attack as Attack
from tightrope.boundary.search import distortion as distortion

__all__ = [
    "Attack",
    "Strongest",
    "bim",
    "carlini_wagner",
    "ddn",
    "distortion",
    "fgsm",
    "fmn",
    "lbfgs",
    "mi_fgsm",
    "pgd",
    "r_fgsm",
    "shrinking_ball",
    "square",
    "strongest",
]
