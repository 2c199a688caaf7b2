"""Adversarial training: the inner maximisation, as a part of a recipe.

robust = replace(training.HMT, against=adversary.Adversary(eps=2.0))
net, log = run.network(nets.lenet, x, y, robust)       # cached, resumed and stale as any training
log.perturbations[-1].length.median
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightrope import refusals
from tightrope.boundary import boxes
from tightrope.boundary.attacks.pgd import Walk, ascent
from tightrope.boundary.search import KEEPS, Seen, Task
from tightrope.inputs.subspaces import Subspace
from tightrope.models import outputs


@dataclass(frozen=True)
class Adversary:
    """Trains a network on what `attacks.pgd` makes of every batch (Madry et al. 2018), in place of the batch.

    eps, norm, steps, step, random_start, loss, projection, box and keep are those of `attacks.pgd`, with one start:
    the "last" iterate, found adversarial or not, of the plain cross-entropy. (With "first" an image that the attack
    does not turn stays where it is, and the network learns from it as it was.)

    subspace: perturbations lie in it, along the gradient's projection; ℓ2, and without a box, in which hardly any of
    them has a place. watch: subspaces in which `training.Log` keeps the perturbations' energy, epoch by epoch.

    Batch norm: the attack sees the running statistics, those the network will be measured with, and moves none of them.
    The network is trained on the perturbed batch with that batch's.
    """

    eps: float
    norm: str = "l2"
    steps: int = 7
    step: float | None = None
    random_start: bool = True
    loss: str = "cross-entropy"
    projection: str = "in turn"
    box: boxes.Box = (0.0, 1.0)
    keep: str = "last"
    subspace: Subspace | None = None
    watch: tuple[Subspace, ...] = ()

    def __post_init__(self) -> None:
        refusals.truth(random_start=self.random_start)
        refusals.choice(KEEPS, keep=self.keep)
        refusals.instance(Subspace, **refusals.given(subspace=self.subspace))
        refusals.instance(tuple, watch=self.watch)
        if self.watch:
            refusals.instances(Subspace, watch=self.watch)
        self._walk()
        box = boxes.read(self.box)
        if self.subspace is not None and (self.norm != "l2" or box is not None):
            raise ValueError(
                "A perturbation in a subspace needs norm='l2' and box=None: few of them stay in a box."
            )

    def check(self, x: Tensor) -> None:
        """Raises ValueError unless x (N, …) lie in the box and have the subspaces' shape."""
        refusals.tensor(("N", ...), x=x)
        for space in (*self.watch, *refusals.given(of=self.subspace).values()):
            refusals.tensor(("N", *space.shape), x=x)
        box = boxes.read(self.box)
        if box is not None and not box.inside(x).all():
            raise ValueError(
                f"Some inputs lie outside the adversary's box {box}: give another one, or box=None."
            )

    def perturb(self, net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """x (N, *shape) with labels y (N,), perturbed. `net` is attacked as it is, and given back in its modes."""
        seen = Seen()
        seen.cover(len(x), x.device)
        rows = torch.arange(len(x), device=x.device)
        modes = [module for module in net.modules() if module.training]
        net.eval()
        try:
            answers = lambda z: outputs.logits(net(z))
            task = Task(answers, x, y, False, self.box, generator, seen, rows, (0, len(x)))
            walk = self._walk()
            images = walk.last(task) if self.keep == "last" else ascent(walk, 1, self.keep)(task)[0]
        finally:
            for module in modes:
                module.training = True
        return images.detach()

    def _walk(self) -> Walk:
        how = (self.eps, self.norm, self.steps, self.step, self.loss, self.random_start, self.projection)
        return Walk(*how, subspace=self.subspace)
