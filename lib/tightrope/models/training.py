"""Training: a recipe, and one function that follows it to the same weights every time, killed or not.

The whole data set is one tensor on one device; batches are drawn by a seeded generator on that device.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tightrope import progress, refusals, seeds
from tightrope.fingerprint import fingerprint
from tightrope.inputs.subspaces import Subspace
from tightrope.models import measured, outputs, pair_losses
from tightrope.models.layers import Normalise
from tightrope.models.loans import borrowed
from tightrope.models.penalties import Norm
from tightrope.models.perturbations import Perturbations, Summary
from tightrope.models.resuming import State
from tightrope.models.trial import TO_255, to_255

OBJECTIVES = {
    "cross-entropy": cross_entropy,
    "logistic pairs": pair_losses.on_labels(pair_losses.logistic_pairs),
    "squared pairs": pair_losses.on_labels(pair_losses.squared_pairs),
    "balanced squares": pair_losses.on_labels(pair_losses.balanced_squares),
}


@runtime_checkable
class Perturber(Protocol):
    """Who moves every batch before a network is trained on it: `tightrope.adversary.Adversary`.

    A frozen dataclass, for its content names the training. `watch`: the subspaces in which a log keeps the energy of
    what was added. Whatever `perturb` does to the network, its modes and batch norm's averages too, it undoes.
    """

    watch: tuple[Subspace, ...]

    def check(self, x: Tensor) -> None:
        """Raises ValueError for data x (N, …) that it cannot perturb; asked once, before training."""

    def perturb(self, net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """x (N, …) with labels y (N,), perturbed, without a gradient; all that is random comes from the generator."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: mini-batches without augmentation, the last one may be short.

    `loss` is one of `OBJECTIVES`; those on pairs are for two classes and take all pairs inside a batch.

    `schedule`: "triangular" raises the rate from 0 to `lr` at the fraction `peak` of training and lowers it
    to 0 at its end, batch by batch; "constant" keeps `lr`. `clip` bounds the gradient's norm. `stop_at`: the
    test accuracy at which training ends early. `momentum` is SGD's. `precision` "bfloat16" is autocast, off until its
    accuracy has been compared with float32's.

    `against`: an adversary, who perturbs every batch before the network is trained on it, in place of the batch; the
    batches are those of a training without.

    `penalty`: added to every batch's loss, and so to what `Log.loss` shows. Unlike `weight_decay`, which the
    optimizer applies, it is part of what is differentiated, clipped and accumulated.
    """

    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch: int = 128
    epochs: int = 30
    schedule: str = "constant"
    peak: float = 2 / 5
    clip: float | None = None
    stop_at: float | None = None
    loss: str = "cross-entropy"
    precision: str = "float32"
    against: Perturber | None = None
    penalty: Norm | None = None

    def __post_init__(self) -> None:
        refusals.choice(tuple(OBJECTIVES), loss=self.loss)
        refusals.choice(("float32", "bfloat16"), precision=self.precision)
        if isinstance(self.against, type):
            raise ValueError(f"against must be made before it is given: {self.against.__name__}(...).")
        refusals.instance(Perturber, **refusals.given(against=self.against))
        refusals.instance(Norm, **refusals.given(penalty=self.penalty))
        refusals.choice(("sgd", "adam"), optimizer=self.optimizer)
        refusals.choice(("triangular", "constant"), schedule=self.schedule)
        refusals.whole(1, batch=self.batch, epochs=self.epochs)
        refusals.number(above=0, lr=self.lr, **refusals.given(clip=self.clip))
        refusals.number(least=0, momentum=self.momentum, weight_decay=self.weight_decay)
        refusals.number(above=0, below=1, peak=self.peak)
        refusals.number(least=0, most=1, **refusals.given(stop_at=self.stop_at))

    def rate(self, done: float) -> float:
        """The learning rate at a fraction `done` of training, in [0, 1]."""
        refusals.number(least=0, most=1, done=done)
        if self.schedule == "constant":
            return self.lr
        return self.lr * min(done / self.peak, (1 - done) / (1 - self.peak))


HMT = Recipe(lr=0.21, weight_decay=5e-4, schedule="triangular", clip=0.5)
"""HMT's recipe for MNIST and CIFAR-10, plain, flipped and low-pass (its published code)."""

TABLE1 = Recipe(lr=0.01, epochs=20, stop_at=1.0)
"""Ours for HMT's table 1, which says "SGD" and "100 % test accuracy" and no more: two or three epochs do."""


@dataclass(frozen=True)
class Log:
    """What `fit` saw: one entry an epoch. `accuracy` is empty without test data; `stopped`: by `stop_at`.

    `perturbations`: what the recipe's adversary added to the epoch's images, empty without one.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    stopped: bool
    perturbations: tuple[Summary, ...] = ()

    @property
    def epochs(self) -> int:
        return len(self.loss)


class Diverged(ValueError):
    """The training loss stopped being a number."""


@torch.inference_mode(False)
def fit(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    seed: int = 0,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    checkpoint: str | os.PathLike | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> Log:
    """Train `net` in place on x (N, …) float and y (N,) int64, and leave it in eval mode.

    With test data the accuracy on them is taken after each epoch (`recipe.stop_at` needs them).
    `on_epoch(epoch, net)` is called after each epoch from 1, in eval mode. Networks that take images
    are trained, and left, in channels_last, which is faster on CPUs too (LeNet 1.5 times, ResNet-9 1.2 times).

    `checkpoint`: a file that keeps the training's whole state after each epoch. A killed call, made again
    with the same arguments, goes on from there and ends with the weights that an uninterrupted one gives. A
    file that cannot be read or belongs to another training is replaced; deleting it at the end is the
    caller's. Epochs that a killed call finished are not given to `on_epoch` again.

    Raises ValueError for data that do not fit the network and `Diverged` when the loss is not finite.
    """
    refusals.instance(Recipe, recipe=recipe)
    refusals.instance(nn.Module, net=net)
    if any(p.is_inference() for p in net.parameters()):
        raise ValueError(
            "This network was made in torch.inference_mode, and cannot be trained: make it outside."
        )
    _check(net, x=x, y=y)
    if (x_test is None) != (y_test is None):
        raise ValueError("Give both x_test and y_test, or neither.")
    if x_test is not None:
        _check(net, x_test=x_test, y_test=y_test)
    elif recipe.stop_at is not None:
        raise ValueError("A recipe with stop_at needs x_test and y_test, whose accuracy it waits for.")
    if on_epoch is not None:
        refusals.function(on_epoch=on_epoch)
    foe = recipe.against
    if foe is not None:
        foe.check(x)
    if recipe.penalty is not None:
        recipe.penalty.check(net)
    if len(x) % recipe.batch == 1 or recipe.batch == 1:
        _check_alone(net, x, recipe.batch)
    weights = [p for p in net.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("This network has no parameter that may be trained: they are all frozen.")

    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    net.to(memory_format=layout)
    half = recipe.precision == "bfloat16"
    optimizer = _optimizer(weights, recipe)
    generator = seeds.generator(seed, "batches", x.device)
    draws = seeds.generator(seed, "adversary", x.device)
    state = State(net, optimizer, generator, draws)
    keep = None
    if checkpoint is not None:
        refusals.instance((str, os.PathLike), checkpoint=checkpoint)
        keep = Path(checkpoint)
        whole = (net, recipe, seed, x, y, x_test, y_test, x.device.type, torch.__version__)
        state.restore(keep, fingerprint(*whole))

    batches = -(-len(x) // recipe.batch)
    remaining = range(0 if state.stopped else recipe.epochs - state.epochs)
    for _ in progress.track(remaining, "epoch", total=recipe.epochs, start=state.epochs):
        net.train()
        order = torch.randperm(len(x), generator=generator, device=x.device)
        total = torch.zeros((), device=x.device)
        moves = Perturbations(() if foe is None else foe.watch)
        # The caller's autocast would reach the backward pass.
        plain = torch.autocast(x.device.type, enabled=False)
        with torch.enable_grad(), _same_every_time(), plain:
            for i in progress.track(range(batches), "batch"):
                rows = order[i * recipe.batch : (i + 1) * recipe.batch]
                rate = recipe.rate((state.epochs + (i + 1) / batches) / recipe.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                clean = images = x[rows].contiguous(memory_format=layout)
                if foe is not None:
                    # A context of its own: weights cast where no gradient is wanted must not be met again.
                    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
                        images = foe.perturb(net, clean, y[rows], draws)
                    images = images.contiguous(memory_format=layout)
                with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
                    logits = outputs.logits(net(images))
                    loss = OBJECTIVES[recipe.loss](logits, y[rows])
                if recipe.penalty is not None:
                    loss = loss + recipe.penalty(net)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(weights, recipe.clip)
                optimizer.step()
                total += loss.detach().float() * len(rows)
                if foe is not None:
                    moves.add(images - clean, logits.detach().argmax(1) != y[rows])
        net.eval()
        # The epoch's one wait for the device. A last step may blow up weights whose loss was still a number.
        largest = nn.utils.get_total_norm([p.detach() for p in weights], math.inf)
        loss_sum, largest_weight = torch.stack([total.to(largest.dtype), largest]).tolist()
        state.loss.append(loss_sum / len(x))
        if not (math.isfinite(loss_sum) and math.isfinite(largest_weight)):
            raise Diverged(
                f"Training diverged in epoch {state.epochs} (loss {state.loss[-1]}): use a smaller learning "
                f"rate than {recipe.lr:g} or clip the gradients."
            )
        if foe is not None:
            state.moves.append(moves.numbers())
        if x_test is not None:
            state.accuracy.append(accuracy(net, x_test, y_test))
            state.stopped = recipe.stop_at is not None and state.accuracy[-1] >= recipe.stop_at
        if keep is not None and not state.save(keep):
            keep = None
        if on_epoch is not None:
            on_epoch(state.epochs, net)
        if state.stopped:
            break
    net.eval()
    optimizer.zero_grad(set_to_none=True)
    return Log(tuple(state.loss), tuple(state.accuracy), state.stopped, tuple(map(Summary.of, state.moves)))


def accuracy(net: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, batch: int = 1_000) -> float:
    """The fraction of x (N, …) that `net`, any callable to logits (N, classes), gives the label y (N,).

    A module is asked in eval mode, and is as it was afterwards. Raises ValueError for what cannot be measured (see
    `measured`): NaN logits, or a network in train mode inside a function, whose answers depend on the batch.
    """
    refusals.function(net=net)
    measured.check_input(net, x, "labels")
    refusals.labels(x, y=y)
    refusals.whole(1, batch=batch)
    with measured.measured(net, x, of="labels", chunk=batch) as (net, x):
        right = torch.zeros((), dtype=torch.int64, device=x.device)
        wrong = torch.zeros_like(right)
        for part, wanted in zip(x.split(batch), y.split(batch), strict=True):
            logits = net(part)
            right += (logits.argmax(1) == wanted).sum()
            wrong += (~logits.isfinite().all(1)).sum()
        right, wrong = torch.stack([right, wrong]).tolist()
    if wrong:
        raise ValueError(f"The model returns NaN or infinite logits on {wrong} of {len(x)} inputs.")
    return right / len(x)


def augmented(x: Tensor, y: Tensor, copies: int = 2, shift: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Several copies of images x (N, C, H, W) with labels y (N,), one after another: (copies · N, C, H, W) and labels.

    The first copy is x, the second its mirror image, left to right; so they alternate, and from the third on every
    image is also moved by up to `shift` pixels each way at random, its edges continued by reflection.
    """
    refusals.tensor(("N", "C", "H", "W"), x=x)
    refusals.labels(x, y=y)
    refusals.whole(1, copies=copies)
    refusals.whole(0, min(x.shape[2:]) - 1, shift=shift)
    generator = seeds.generator(seed, "augmentation")
    result = []
    for copy in range(copies):
        images = x.flip(-1) if copy % 2 else x
        for axis in (2, 3) if copy >= 2 else ():
            side = x.shape[axis]
            moves = torch.randint(-shift, shift + 1, (len(x), 1), generator=generator)
            at = (torch.arange(side) + moves).abs()
            at = (side - 1) - ((side - 1) - at).abs()
            at = at.to(x.device).reshape(len(x), 1, *((side, 1) if axis == 2 else (1, side)))
            images = images.gather(axis, at.expand(images.shape))
        result.append(images)
    return torch.cat(result), y.repeat(copies)


def _same_every_time() -> contextlib.AbstractContextManager:
    """cuDNN as it is, but with algorithms that give the same numbers in every call, and convolutions in float32."""
    # What is not named here is switched: `enabled` off, TF32 on.
    on = torch.backends.cudnn.enabled
    return torch.backends.cudnn.flags(enabled=on, benchmark=False, deterministic=True, allow_tf32=False)


def _optimizer(weights: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(weights, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _check(net: nn.Module, **samples: Tensor) -> None:
    """One sentence for data, samples and their labels by name, that cannot be trained on or tested with."""
    (what, x), (labels, y) = samples.items()
    if isinstance(x, Tensor) and x.dtype == torch.uint8:
        raise ValueError(f"{what} holds bytes: divide by 255, {what}.float() / 255.")
    refusals.samples(net, **{what: x})
    first = next(module for module in net.modules() if not list(module.children()))
    if isinstance(first, Normalise) and to_255(first, x):
        raise ValueError(f"{what}: {TO_255}")
    refusals.labels(x, **{labels: y})
    if x.dtype in outputs.HALVES:
        raise ValueError(
            f'{what} is {x.dtype}, but networks are trained in float32 or float64: Recipe(precision="bfloat16") is '
            "autocast."
        )
    # One sample, on a loan: it must not move a batch norm's averages.
    with borrowed(net), torch.enable_grad():
        logits = outputs.first_answer(net.eval(), x[:1])
        weights = [p for p in net.parameters() if p.requires_grad]
        reached = weights and logits.requires_grad
        slopes = torch.autograd.grad(logits.sum(), weights, allow_unused=True) if reached else ()
    if weights and all(slope is None for slope in slopes):
        raise ValueError("No gradient reaches the network's weights: return logits before they are detached.")
    if not logits.isfinite().all():
        raise ValueError(f"The network returns NaN or infinite logits on {what}, before any training.")
    refusals.labels(x, logits.shape[1], **{labels: y})


def _check_alone(net: nn.Module, x: Tensor, batch: int) -> None:
    """A sentence where a batch of one leaves a batch norm one number a channel, which has no variance."""
    numbers: list[int] = []
    look = lambda module, given: numbers.append(given[0].numel() // given[0].shape[1])
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [module.register_forward_pre_hook(look) for module in norms]
    with borrowed(net), torch.no_grad():
        net.eval()(x[:1])
    for hook in hooks:
        hook.remove()
    if 1 in numbers:
        raise ValueError(
            f"batch={batch} leaves one of {len(x)} samples alone in a batch, and the network's batch norm needs two: "
            "choose another batch size."
        )
