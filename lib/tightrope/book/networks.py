"""The book's networks, and what trains them: the same structure, start, data, recipe and seed are trained once.

`BOOK` lists the networks that chapters share, by name, with what they see, how they are made and trained, and their
sizes in every profile; `book("flipped mnist lenet", "quick", "cpu")` is one of them at its size. A "robust" one is
trained adversarially; `replace(recipe, against=None)` is its control's recipe. `trained` trains any network and keeps
it. They lie in `$TIGHTROPE_CACHE`, else in `build/networks` of the checkout, else in `~/.cache/tightrope/networks`. Any
of them may be deleted at any time.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tightrope import _files, refusals
from tightrope._files import reason, replacing
from tightrope.book import checkout as layout
from tightrope.book import code, kept
from tightrope.book.behaviour import Behaviour, Unreadable
from tightrope.boundary import boxes
from tightrope.boundary.adversary import Adversary
from tightrope.fingerprint import fingerprint
from tightrope.inputs import data, spectra, views
from tightrope.models import nets, training

Build = Callable[[int], nn.Module]
Sizes = tuple  # smoke, quick, paper, and paper on a GPU where that is another


@dataclass(frozen=True)
class Network:
    """A network of the book. `build(seed, mean=, std=)` makes it, to see images as `view` has them.

    train, test: how many images, None for all. copies: as `training.augmented` makes them. Its length: `epochs`, or
    `passes` images seen in training, thirty epochs at most. classes: the two that are labels 1 and 0, where they are
    all that is asked. title: what a page calls it.
    """

    view: str
    build: Callable[..., nn.Module]
    recipe: training.Recipe
    train: Sizes
    test: Sizes
    epochs: Sizes | None = None
    passes: Sizes | None = None
    copies: Sizes = (1,)
    classes: tuple[int, int] | None = None
    title: str = ""


@dataclass(frozen=True)
class Plan:
    """A network of the book at the size of one profile, made by `book`."""

    network: Network
    view: views.View
    sizes: dict[str, int | None]

    @property
    def build(self) -> Build:
        return partial(self.network.build, mean=self.view.mean, std=self.view.std)

    def images(self, split: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Its "train" or "test" images and labels; seed: of the copies that augment the first."""
        n = self.sizes[split]
        if self.network.classes:
            x, y = data.load(self.view.source, split)
            one, other = self.network.classes
            rows = ((y == one) | (y == other)).nonzero().squeeze(1)[:n]
            return self.view.see(x[rows]), (y[rows] == one).long()
        x, y = data.load(self.view.source, split, n, seed=0)
        if split == "train" and self.sizes["copies"] > 1:
            x, y = training.augmented(x, y, self.sizes["copies"], seed=seed)
        return self.view.see(x), y

    def recipe(self, images: int) -> training.Recipe:
        """Its recipe for so many training images."""
        epochs = self.sizes.get("epochs") or min(30, self.sizes["passes"] // images)
        return replace(self.network.recipe, epochs=epochs)


def book(name: str, profile: str, device: str = "cpu") -> Plan:
    """The network of a name in `BOOK`, itself or after ways to see its images ("flipped mnist lenet"), at a profile.

    Raises ValueError for an unknown name and for a profile that it has no size for.
    """
    refusals.instance(str, name=name)
    refusals.choice(layout.PROFILES, profile=profile)
    words = name.split(" ")
    ways = next((i for i in range(len(words)) if " ".join(words[i:]) in BOOK), None)
    if ways is None:
        raise ValueError(f"The book has no network {name!r}: it has {', '.join(BOOK)}.")
    found = BOOK[" ".join(words[ways:])]
    chosen = _sizes(found, profile, device)
    if chosen is None:
        raise ValueError(f"The network {name!r} has no size in the {profile} profile on {device}.")
    return Plan(found, views.view(" ".join([*words[:ways], found.view])), chosen)


def sizes(*names: str, device: str = "cpu") -> tuple[tuple[int | None, ...] | None, ...]:
    """For a chapter's table of sizes: in each profile those of the first of these networks in `BOOK` that has any.

    (training images, copies of each, epochs or else passes, test images), where None is all of the images; None in
    a profile that trains none of them.
    """
    found = ([_sizes(BOOK[name], profile, device) for name in names] for profile in layout.PROFILES)
    return tuple(next((tuple(chosen.values()) for chosen in row if chosen), None) for row in found)


def _sizes(network: Network, profile: str, device: str) -> dict[str, int | None] | None:
    at = layout.PROFILES.index(profile) + (profile == "paper" and device == "cuda")
    rows = {key: getattr(network, key) for key in ("train", "copies", "epochs", "passes", "test")}
    chosen = {key: row[min(at, len(row) - 1)] for key, row in rows.items() if row is not None}
    return None if 0 in chosen.values() else chosen


def _mlp(seed: int, mean: Tensor, std: Tensor) -> nn.Module:
    return nets.mlp(784, (200, 100), 10, seed=seed, mean=mean, std=std)


def _large(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The architecture as it is for photographs of 64 pixels a side and more."""
    return partial(make, small=False)


def _in_pairs() -> dict[str, Network]:
    """Differential training's four-layer network, by loss and by what else is said to widen margins."""
    plain = training.Recipe(lr=0.05, schedule="triangular", clip=1.0)
    kinds = {
        "cross-entropy": ("cross-entropy", plain, {}),
        "differential": ("differential", replace(plain, loss="squared pairs"), {}),
        "adam": ("cross-entropy, Adam", training.Recipe("adam", lr=1e-3), {}),
        "batch-norm": ("cross-entropy, batch norm", plain, {"batch_norm": True}),
        "weight-decay": ("cross-entropy, weight decay", replace(plain, weight_decay=5e-3), {}),
        "differential-decay": (
            "differential, weight decay",
            replace(plain, loss="squared pairs", weight_decay=5e-3),
            {},
        ),
        "squares": ("squared loss on labels", replace(plain, loss="balanced squares"), {}),
        "logistic": ("logistic pairs", replace(plain, loss="logistic pairs"), {}),
        "centred": ("cross-entropy, centred features", plain, {"centred": True}),
        "no-bias": ("cross-entropy, no last bias", plain, {"bias": False}),
    }
    sizes = {"train": (200, 3_000, 10_000), "test": (100, 2_000, 2_000), "epochs": (2, 4, 30)}

    def planes(seed: int, mean: Tensor, std: Tensor, **options: bool) -> nn.Module:
        return nets.four_layer(seed, **options)  # whose own normalisation is CIFAR-10's

    def digits(seed: int, mean: Tensor, std: Tensor, **options: bool) -> nn.Module:
        return nets.four_layer(seed, shape=(1, 28, 28), mean=mean, std=std, **options)

    return {
        f"{pair} {kind}": Network(
            view, partial(build, **options), recipe, **sizes, classes=classes, title=title
        )
        for kind, (title, recipe, options) in kinds.items()
        for pair, view, build, classes in (
            ("planes", "cifar10", planes, (7, 0)),
            ("digits", "mnist", digits, (7, 3)),
        )
    }


_DIGITS = {"train": (1_000, None), "test": (200, None), "passes": (3_000, 120_000, 1_800_000)}
_CPU = {"train": (32, 3_000, None), "epochs": (1, 2, 4), "test": (32, 1_000, None)}
_GPU = {"train": (0, 0, 0, None), "copies": (1,), "epochs": (30,), "test": (None,)}
_HALF = {"train": (0, 0, None), "copies": (2,), "epochs": (2,), "test": (None,)}


_ROBUST = {"train": (300, 12_000, None), "epochs": (1, 3, 10), "test": (100, None)}
_ROBUST_CIFAR = {"train": (32, 0, 20_000), "epochs": (1, 0, 8), "test": (32, 0, None)}
_ROBUST_RESNET = _ROBUST_CIFAR | {"train": (32, 0, 10_000)}


def _against(
    eps: float, shape: tuple[int, int, int], step: int, box: boxes.Box = (0.0, 1.0)
) -> training.Recipe:
    """HMT's recipe on ℓ2 perturbations of length eps, whose energy is kept window by window."""
    windows = tuple(spectra.dct_windows(shape, size=8, step=step))
    return replace(training.HMT, against=Adversary(eps, box=box, watch=windows))


_DIGITS_AT_2 = partial(_against, 2.0, (1, 28, 28), 1)
_CIFAR_AT_1 = partial(_against, 1.0, (3, 32, 32), 2)


def _colour_lenet(seed: int, mean: Tensor, std: Tensor) -> nn.Module:
    return nets.lenet(seed, shape=(3, 32, 32), mean=mean, std=std)


def _resnet9(seed: int, mean: Tensor, std: Tensor) -> nn.Module:
    return nets.resnet9(seed, width=16, mean=mean, std=std)


BOOK = {
    "mnist lenet": Network("mnist", nets.lenet, training.HMT, **_DIGITS),
    "mnist mlp": Network("mnist", _mlp, training.HMT, **_DIGITS),
    "cifar10 resnet9": Network("cifar10", _resnet9, training.HMT, **_CPU),
    "cifar10 densenet121": Network("cifar10", nets.densenet121, training.HMT, **_GPU),
    "cifar10 resnet18": Network("cifar10", nets.resnet18, training.HMT, **_GPU),
    "half-size imagenette128 resnet9": Network("half-size imagenette128", _resnet9, training.HMT, **_HALF),
    "imagenette128 resnet18": Network("imagenette128", _large(nets.resnet18), training.HMT, **_GPU),
    "imagenette128 resnet50": Network("imagenette128", _large(nets.resnet50), training.HMT, **_GPU),
    "mnist robust lenet": Network("mnist", nets.lenet, _DIGITS_AT_2(), **_ROBUST),
    "flipped mnist robust lenet": Network(
        "flipped mnist", nets.lenet, _DIGITS_AT_2(boxes.Flipped()), **_ROBUST
    ),
    "cifar10 robust lenet": Network("cifar10", _colour_lenet, _CIFAR_AT_1(), **_ROBUST_CIFAR),
    "cifar10 robust fast_resnet": Network("cifar10", nets.fast_resnet, _CIFAR_AT_1(), **_ROBUST_RESNET),
    **_in_pairs(),
}


@dataclass(frozen=True)
class _Kept:
    """What a file of the cache holds."""

    state: dict[str, Tensor]
    log: training.Log


def trained(
    build: Build,
    x: Tensor,
    y: Tensor,
    recipe: training.Recipe,
    seed: int = 0,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    device: torch.device | str = "cpu",
    warn: Callable[[str], None],
) -> tuple[nn.Module, training.Log]:
    """`training.fit` behind a cache: the network in eval mode on `device`, and the log of its training.

    build: `build(seed)` gives the fresh network. x (N, ...), y (N,) are moved to `device`. A network that reaches
    code which has no name that changes with it (see `behaviour`) is trained anew each time. A cache that cannot be
    written is told to `warn` in one sentence, and training goes on without.
    """
    refusals.instance(Tensor, x=x, y=y, **refusals.given(x_test=x_test, y_test=y_test))
    refusals.device(device=device)
    refusals.function(warn=warn)
    refusals.instance(training.Recipe, recipe=recipe)
    given = x, y, seed, x_test, y_test  # the data are read for their name where they lie, not on the device
    x, y, x_test, y_test = (t if t is None else t.to(device) for t in (x, y, x_test, y_test))
    net = _fresh(build, seed, device)
    source = _code(net, recipe.against)
    if source is None:
        return net, training.fit(net, x, y, recipe, seed, x_test, y_test)
    versions = torch.__version__.split("+")[0].rsplit(".", 1)[0]
    key = fingerprint(net, recipe, *given, source, versions, torch.device(device).type)
    folder = _folder()
    path, checkpoint = folder / f"{key}.pt", folder / f"{key}.checkpoint"
    found = _load(path)
    if found is None:
        problem = _unwritable(folder)
        with warnings.catch_warnings():
            # A checkpoint that cannot be written has the reason told below, once.
            warnings.filterwarnings("ignore", message="This training cannot be resumed")
            log = training.fit(
                net, x, y, recipe, seed, x_test, y_test, checkpoint=None if problem else checkpoint
            )
        found = _Kept(net.state_dict(), log)
        try:
            if problem:
                raise problem
            kept.save(path, found)
            checkpoint.unlink(missing_ok=True)
        except OSError as error:
            warn(f"Trained networks cannot be kept in {folder} ({reason(error)}): each run trains anew.")
        # The network a later call will load, not its twin with another memory layout.
        net = _fresh(build, seed, device)
    net.load_state_dict(found.state)
    return net.eval(), found.log


def _fresh(build: Build, seed: int, device: torch.device | str) -> nn.Module:
    """The network as `build` makes it. One that draws from torch's global generator is given a seeded one."""
    if isinstance(build, nn.Module) or not callable(build):
        raise ValueError(f"build must be a function that makes a network, not a {type(build).__name__}.")
    try:
        inspect.signature(build).bind(seed)
    except TypeError as error:
        raise ValueError(f"build must take the seed alone, build(seed): {error}.") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(seed)
    if not isinstance(net, nn.Module):
        raise ValueError(f"build must return a network (nn.Module), not a {type(net).__name__}.")
    return net.to(device)


def _code(net: nn.Module, against: training.Perturber | None = None) -> str | None:
    """A key of the code that trains `net` and computes its output; None where some of it has no name."""
    try:
        reached = Behaviour(net, *([] if against is None else [against]))
    except Unreadable:
        return None
    names = frozenset({"tightrope.models.training.fit", *reached.library})
    return code.digest(_reached(names), *reached.parts)


@lru_cache(maxsize=64)
def _reached(names: frozenset[str]) -> str:
    """A key of the library's code behind these names: whole ("tightrope.models.nets.lenet") or as a user has them.

    Imports go down, so of a room above `models` (attacks, or the list of the book's networks) nothing counts unless
    one of the names is from there.
    """
    ours = sorted(name for name in names if name.startswith("tightrope."))
    rooms = {"inputs", "models", *(name.split(".")[1] for name in ours)}
    counts = lambda module: code.measures(module) and ("/" not in module or module.split("/")[0] in rooms)
    imports = [f"import {name.rpartition('.')[0]}" for name in ours]
    cell = "\n".join(["import tightrope", *imports, *sorted(names)])
    return code.key([cell], Path(__file__).parents[1], counts)


def _folder() -> Path:
    given = os.environ.get("TIGHTROPE_CACHE")
    if given:
        return Path(given)
    try:
        return layout.find_checkout().build / "networks"
    except layout.Stop:
        return _files.user_cache() / "networks"


def _load(path: Path) -> _Kept | None:
    with suppress(kept.Miss):
        found = kept.load(path)
        if isinstance(found, _Kept):
            return found
    return None


def _unwritable(folder: Path) -> OSError | None:
    """Why nothing can be written to `folder`; None when something can."""
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(probe) as part:
            part.write_bytes(bytes(4096))
        probe.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
