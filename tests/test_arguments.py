"""Every argument of every public function, given what it cannot take: a result of its kind, or our sentence.

The functions are found by looking, so that a new one is swept without being listed; it needs one good call in `GOOD`,
and each argument of that call is in turn replaced by what `wrong` makes of it. A sentence is ours where the innermost
frame is a `raise` of the library, names the argument and is one line: what torch, numpy or Python say is none.
"""

import dataclasses
import inspect
import linecache
import math
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tightrope
from tightrope import (
    adversary,
    anatomy,
    attacks,
    averaging,
    boxes,
    certificates,
    clusters,
    curvature,
    data,
    degeneracy,
    gaussian_process,
    homogeneity,
    line_scan,
    linear_regions,
    log_descent,
    log_training,
    low_rank,
    margins,
    nets,
    pair_losses,
    partitions,
    path_kernel,
    penalties,
    persistence,
    seeds,
    spectra,
    straight_path,
    synthetic,
    training,
    universal,
    views,
    wedges,
    weight_space,
)
from tightrope.paths.quadrature import rule

LIBRARY = str(Path(tightrope.__file__).parent)
DIGITS, SECONDS = (1, 28, 28), 10


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, Y = draw(6, 5).sigmoid(), torch.tensor([0, 1, 0, 1, 1, 0])
IMAGES = draw(6, 1, 4, 4).sigmoid()
UP, DOWN = draw(4, 3) + 5, draw(5, 3, seed=1) - 5
NET = nets.mlp(5, (4,), 2, seed=1)
SMALL = nets.mlp(16, (4,), 2, seed=1)
SPACE = spectra.span(torch.eye(5)[0], torch.eye(5)[1])
WHERE = weight_space.position(NET)
MARGINS = margins.deepfool(NET, X)
FREQUENCIES = persistence.frequencies(NET, X, [0.1, 1.0], draws=8)
ATTACK = attacks.pgd(NET, X, Y, eps=0.5, steps=2)
FITTED = nets.mlp(3, (4,), 2, seed=1)
with torch.no_grad():
    SIDE = FITTED(UP).argmax(1)
PLANE = low_rank.max_margin(UP, DOWN)
DELTAS = low_rank.affine_offsets(UP, DOWN)[1]
RANK = low_rank.feature_rank(X)
CLUSTERS = clusters.sample(6, k=4, dim=5)
MEANS = {"means": CLUSTERS.means, "signs": CLUSTERS.signs}
AVERAGED = averaging.train(CLUSTERS, 2, steps=2, rate=0.1)
POSTERIOR = gaussian_process.fit(X @ X.T, Y.float())
PATH = path_kernel.train(X, Y, hidden=3, classes=2, steps=2)
DEEP = straight_path.train(X, Y, hidden=(3, 2), classes=2, steps=2)
LEAF = draw(3).requires_grad_()
SCORES = draw(4), draw(5, seed=1)
STEPS = {"steps": 2, "targeted": False, "box": (0.0, 1.0), "seed": 0, "chunk": 3}
ONE = {name: STEPS[name] for name in ("targeted", "box", "seed", "chunk")} | {"keep": "last"}
FOE = adversary.Adversary(eps=0.5, steps=2, watch=(SPACE,))
TRAINED = {"classes": 2, "steps": 2, "lr": 0.1, "seed": 0, "loss": "cross_entropy", "batch": 4}
TRAINED |= {"zero_last": True, "dtype": torch.float64, "memory": 2**20}
MADE = {"seed": 0, "classes": 3, "init": "he", "mean": 0.5, "std": (0.2, 0.3, 0.4)}
BIG = {name: MADE[name] for name in ("classes", "init")}  # one `_network` looks at the others
LENET = {"seed": 0, "shape": DIGITS, "mean": 0.5, "std": 0.2}
WEDGE = wedges.wedge(5, (0.3, -0.2))
WINDOWS = {"shape": (1, 4, 4), "size": 2, "step": 1}
INSIDE, OUTSIDE = WEDGE.inside([1.0, 2.0]), WEDGE.outside([1.0, 2.0])
BETWEEN = anatomy.between(WEDGE, INSIDE, OUTSIDE)
CELLS = partitions.voronoi(X, Y)

# One good call each: every argument that can be wrong.
GOOD: dict[Callable, dict] = {
    adversary.Adversary: {
        "eps": 0.5,
        "norm": "l2",
        "steps": 2,
        "step": 0.1,
        "random_start": True,
        "loss": "margin",
    }
    | {"projection": "in turn", "box": None, "keep": "last", "subspace": SPACE, "watch": (SPACE,)},
    adversary.Adversary.check: {"self": FOE, "x": X},
    attacks.carlini_wagner: {"model": NET, "x": X, "labels": Y, "searches": 1, "rate": 0.1, "constant": 1.0}
    | {"confidence": 0.1, "keep": "shortest"}
    | STEPS,
    attacks.ddn: {"model": NET, "x": X, "labels": Y, "start": 1.0, "shrink": 0.1, "loss": "margin"}
    | {"keep": "shortest"}
    | STEPS,
    attacks.fmn: {"model": NET, "x": X, "labels": Y, "stride": 1.0, "shrink": 0.05, "keep": "shortest"}
    | STEPS,
    attacks.distortion: {"x": X, "images": X.flip(0)},
    attacks.lbfgs: {"model": NET, "x": X, "labels": Y, "searches": 2, "constant": 1.0, "memory": 2}
    | {"loss": "cross-entropy", "keep": "first"}
    | STEPS,
    attacks.mi_fgsm: {"model": NET, "x": X, "labels": Y, "eps": 0.5, "norm": "l2", "step": 0.1, "decay": 0.5}
    | {"loss": "margin", "keep": "last"}
    | STEPS,
    attacks.r_fgsm: {"model": NET, "x": X, "labels": Y, "eps": 0.5, "alpha": 0.1, "loss": "margin"} | ONE,
    attacks.shrinking_ball: {"model": NET, "x": X, "labels": Y, "eps": 0.5, "norm": "l2"}
    | {"restarts": 1, "loss": "margin", "keep": "last"}
    | STEPS,
    attacks.bim: {"model": NET, "x": X, "labels": Y, "eps": 0.5, "norm": "l2", "step": 0.1, "loss": "margin"}
    | {"keep": "last"}
    | STEPS,
    attacks.fgsm: {
        "model": NET,
        "x": X,
        "labels": Y,
        "eps": 0.5,
        "norm": "l2",
        "step": 0.1,
        "random_start": True,
    }
    | {"loss": "margin"}
    | ONE,
    attacks.strongest: {"model": NET, "x": X, "labels": Y, "norm": "l2", "eps": 0.5, "attacks": ["ddn"]}
    | {"restarts": 1, "tolerance": 0.1, "doublings": 1}
    | STEPS,
    attacks.pgd: {"model": NET, "x": X, "labels": Y, "eps": 0.5, "norm": "l2", "step": 0.1, "restarts": 1}
    | {"random_start": True, "loss": "margin", "projection": "dykstra", "keep": "worst"}
    | STEPS,
    attacks.square: {"model": SMALL, "x": IMAGES, "labels": Y, "eps": 0.5, "queries": 2, "share": 0.5} | ONE,
    attacks.Attack.norm: {"self": ATTACK, "p": 2},
    averaging.cosines: {"w": AVERAGED.w, "means": CLUSTERS.means, "output": AVERAGED.output},
    averaging.decompose: {"w": UP[:, :3], "w0": draw(4, 3), "means": draw(2, 3), "noise": draw(1, 3, seed=2)},
    averaging.explicit: MEANS,
    averaging.Merge: {"groups": torch.tensor([0, 1, 0]), "how": "largest"},
    averaging.Merge.forward: {"self": averaging.Merge(torch.tensor([0, 1, 0])), "logits": draw(2, 3)},
    averaging.scores: {"lam": AVERAGED.lam, "signs": CLUSTERS.signs, "sign": AVERAGED.sign, "floor": 0.01},
    averaging.train: {"data": CLUSTERS, "m": 2, "steps": 2, "rate": 0.1, "fine": True, "scale": 1.0}
    | {"seed": 0, "dtype": torch.float64},
    averaging.Trained.net: {"self": AVERAGED},
    averaging.Trained.scores: {"self": AVERAGED},
    boxes.Interval: {"low": 0.0, "high": 1.0},
    boxes.Interval.clip: {"self": boxes.Interval(), "images": IMAGES},
    boxes.Interval.inside: {"self": boxes.Interval(), "images": IMAGES},
    boxes.Flipped: {"low": 0.0, "high": 1.0},
    boxes.Flipped.clip: {"self": boxes.Flipped(), "images": IMAGES},
    boxes.Flipped.inside: {"self": boxes.Flipped(), "images": IMAGES},
    certificates.radius: {"net": NET, "x": X, "merge": torch.tensor([3, 1]), "neurons": 4},
    data.load: {"name": "mnist", "split": "test", "n": 3, "seed": 0, "download": False},
    data.where: {"name": "mnist"},
    gaussian_process.fit: {"kernel": X @ X.T, "y": draw(6), "noise": (0.1, 0.2), "scale": 1.0},
    gaussian_process.Posterior.mean: {"self": POSTERIOR, "cross": draw(2, 6).double()},
    gaussian_process.Posterior.variance: {"self": POSTERIOR, "cross": draw(2, 6), "diagonal": torch.ones(2)},
    homogeneity.kkt: {"net": FITTED, "x": UP, "y": SIDE, "order": 2, "slack": 1.0, "chunk": 3}
    | {"weights": [p.detach() for p in FITTED.parameters()]},
    homogeneity.margins: {"net": NET, "x": X, "y": Y, "order": 2, "chunk": 3}
    | {"weights": [p.detach() for p in NET.parameters()]},
    homogeneity.scaling: {"net": NET, "x": X, "scales": (0.5, 2.0)},
    log_descent.descend: {"log_loss": lambda: LEAF.square().sum().add(1).log(), "parameters": [LEAF]}
    | {"steps": 2, "rate": 0.1, "schedule": "loss", "enough": 0.5, "keep": 2},
    log_descent.log_cross_entropy: {"logits": draw(6, 2), "labels": Y},
    log_descent.log_logistic: {"margins": draw(3)},
    log_descent.log_softplus: {"z": draw(3)},
    log_training.fit: {
        "net": nets.mlp(5, (4,)),
        "x": X,
        "y": Y,
        "epochs": 1,
        "rate": 0.1,
        "batch": 3,
        "seed": 0,
    }
    | {"schedule": "loss", "on_epoch": lambda epoch, net, log_loss: None},
    low_rank.affine_offsets: {"x": UP, "y": DOWN, "rtol": 1e-9},
    low_rank.corollary1: {"plane": PLANE, "deltas": DELTAS, "printed": False},
    low_rank.cross_entropy_limit: {"x": UP, "y": DOWN},
    low_rank.feature_rank: {"features": X, "rtol": 1e-6},
    low_rank.FeatureRank.components: {"self": RANK, "share": 0.5},
    low_rank.hyperplane: {"w": PLANE.w, "b": PLANE.b, "x": UP, "y": DOWN},
    low_rank.max_margin: {"x": UP, "y": DOWN},
    low_rank.diameters: {"x": UP, "y": DOWN},
    low_rank.theorem1: {"plane": PLANE, "gamma": 1.0, "deltas": DELTAS},
    line_scan.changes: {
        "model": NET,
        "x": X,
        "directions": draw(5),
        "reach": (0, 1),
        "step": 0.1,
        "chunk": 3,
    },
    line_scan.nearest: {
        "model": NET,
        "x": X,
        "directions": draw(6, 5),
        "reach": 1.0,
        "step": 0.1,
        "chunk": 3,
    },
    margins.along: {"model": NET, "x": X, "direction": draw(5), "reach": 1.0, "step": 0.1, "keep": True}
    | {"chunk": 3},
    margins.cost: {"model": NET, "x": X, "subspaces": [SPACE], "seconds": 0.01},
    margins.deepfool: {"model": NET, "x": X, "subspaces": [SPACE], "overshoot": 0.02, "max_steps": 3}
    | {"rivals": 2, "refine": True, "tight": 1, "starts": 1, "wider": 2, "keep": False, "chunk": 3},
    margins.Margins.quantile: {"self": MARGINS, "q": [0.1, 0.5], "raw": True},
    anatomy.between: {"model": WEDGE, "x": INSIDE, "other": OUTSIDE, "chunk": 3},
    anatomy.incidence: {"direction": INSIDE, "normal": OUTSIDE},
    anatomy.normals: {"model": WEDGE, "on": BETWEEN, "chunk": 3},
    anatomy.project: {"model": WEDGE, "cloud": INSIDE, "how": "nearest", "tight": 1, "rivals": 2, "chunk": 3},
    curvature.heights: {
        "model": WEDGE,
        "on": BETWEEN,
        "radius": 0.5,
        "directions": 2,
        "reach": 1.0,
        "step": 0.5,
    }
    | {"seed": 0, "chunk": 3},
    curvature.skewness: {"heights": X, "radius": 1.0},
    curvature.sphere_persistence: {"d": X[:, 0], "radius": 2 + X[:, 1], "dim": 5, "gamma": 0.7},
    curvature.sphere_radius: {"heights": X, "radius": 1.0},
    degeneracy.count: {"values": torch.ones(4), "null": torch.ones(3, 4), "level": 0.1, "share": 0.5},
    degeneracy.flat: {"n": 6, "dim": 3, "seed": 0, "dtype": torch.float64},
    degeneracy.gaussian: {"n": 6, "dim": 3, "seed": 0, "dtype": torch.float64},
    degeneracy.plane_spectra: {"n": 6, "dim": 3, "repeats": 2, "of": "points", "seed": 0},
    degeneracy.spectrum: {"rows": X, "of": "centred", "seed": 0},
    linear_regions.first_kink: {"net": NET, "x": X, "direction": draw(6, 5)},
    linear_regions.inradius: {"net": NET, "x": X},
    partitions.delaunay: {"points": X, "labels": Y},
    partitions.edges: {"points": X},
    partitions.passages: {"partition": CELLS, "pairs": torch.tensor([[0, 1], [4, 2]])},
    partitions.voronoi: {"points": X, "labels": Y},
    partitions.Voronoi.nearest: {"self": CELLS, "x": X},
    persistence.along: {"model": NET, "start": X, "end": draw(6, 5), "t": [0.0, 1.0], "draws": 64},
    persistence.Frequencies.interval: {"self": FREQUENCIES, "level": 0.9},
    persistence.Frequencies.stable: {"self": FREQUENCIES},
    persistence.frequencies: {"model": NET, "x": X, "sigma": [0.1, 1.0], "draws": 8, "noise": "ball"}
    | {"fast": True, "seed": 0, "chunk": 3},
    persistence.persistence: {"model": NET, "x": X, "gamma": 0.7, "draws": 64, "cap": 4.0, "noise": "ball"}
    | {"fast": True, "seed": 0, "chunk": 3},
    nets.activations: {"net": NET, "x": X, "layer": "fc1", "batch": 4},
    nets.c_ch: {"channels": 2, "seed": 0, "mean": 0.5, "std": 0.2},
    nets.densenet121: BIG | {"small": True},
    nets.fast_resnet: MADE | {"widths": (2, 3)},
    nets.Flatten: {"inputs": 5},
    nets.Flatten.forward: {"self": nets.Flatten(5), "x": X},
    nets.four_layer: LENET | {"batch_norm": True, "centred": True, "bias": False},
    nets.initialise: {"net": nets.mlp(2, (2,)), "init": "he", "seed": 0},
    nets.lenet: LENET | {"init": "default", "classes": 3},
    nets.mlp: {"inputs": 5, "hidden": (4,), "classes": 2, "init": "he", "seed": 0, "mean": 0.5, "std": [0.2]},
    nets.Normalise: {"mean": 0.5, "std": (0.2,), "shape": (5,)},
    nets.Normalise.forward: {"self": nets.Normalise(0.5, 0.2, (5,)), "x": X},
    nets.pretrained: {"name": "efficientnet_lite0", "download": False},
    nets.resnet18: BIG | {"small": True},
    nets.resnet50: BIG | {"small": True},
    nets.resnet9: MADE | {"width": 2},
    nets.TwoLogits.forward: {"self": nets.TwoLogits(), "s": draw(3, 1)},
    nets.vgg19: BIG,
    pair_losses.balanced_squares: {"a": SCORES[0], "b": SCORES[1], "gap": 1.0},
    pair_losses.bias: {"a": SCORES[0], "b": SCORES[1]},
    pair_losses.logistic_pairs: {"a": SCORES[0], "b": SCORES[1]},
    pair_losses.on_labels: {"loss": pair_losses.bias},
    pair_losses.scores: {"net": NET, "x": X, "batch": 4},
    pair_losses.squared_pairs: {"a": SCORES[0], "b": SCORES[1], "gap": 1.0},
    pair_losses.trade_off: {"a": SCORES[0], "b": SCORES[1]},
    pair_losses.with_bias: {"net": NET, "x": X, "y": Y},
    path_kernel.Path.contributions: {"self": PATH, "xq": X, "by": rule("gauss", 2), "symmetric": True},
    path_kernel.Path.diagonal: {"self": PATH, "x": X, "where": "start", "steps": [0, 1]},
    path_kernel.Path.gram: {"self": PATH, "x1": X, "x2": X, "where": ("moving", "start"), "steps": [1]},
    path_kernel.Path.kernel: {"self": PATH, "xq": X, "step": 1, "by": rule("left", 2), "symmetric": True},
    path_kernel.Path.net: {"self": PATH, "xq": X, "step": 1},
    path_kernel.Path.predict: {"self": PATH, "xq": X, "by": rule("left", 2), "symmetric": True, "step": 1},
    path_kernel.rule: {"kind": "left", "n": 2},
    path_kernel.train: {"x": X, "y": Y, "hidden": 3, "momentum": 0.5} | TRAINED,
    seeds.generator: {"seed": 0, "purpose": "test", "device": "cpu"},
    spectra.dct2: {"x": IMAGES},
    spectra.dct_block: {"shape": (1, 4, 4), "row": 1, "col": 1, "size": (2, 2)},
    spectra.dct_coefficients: {"shape": (1, 4, 4), "keep": torch.ones(4, 4) > 0, "name": "all"},
    spectra.dct_diagonals: WINDOWS,
    spectra.dct_grid: WINDOWS,
    spectra.dct_matrix: {"n": 3, "dtype": torch.float32, "device": "cpu"},
    spectra.dct_windows: WINDOWS,
    spectra.energy: {"x": X, "subspaces": [SPACE]},
    spectra.flip: {"x": IMAGES},
    spectra.full: {"shape": (5,)},
    spectra.high_pass: {"x": IMAGES, "size": 2},
    spectra.idct2: {"c": IMAGES},
    spectra.low_pass: {"x": IMAGES, "size": (2, 3)},
    spectra.random_subspace: {"shape": (5,), "dim": 1, "seed": 0, "inside": SPACE, "name": "random"},
    spectra.random_windows: {"shape": (5,), "dim": 2, "count": 2, "seed": 0},
    spectra.span: {"vectors": torch.eye(5)[0], "name": "line"},
    spectra.Subspace.basis: {"self": SPACE, "dtype": torch.float32, "device": "cpu"},
    spectra.Subspace.complement: {"self": SPACE},
    spectra.Subspace.coordinates: {"self": SPACE, "x": X},
    spectra.Subspace.lift: {"self": SPACE, "c": draw(3, 2)},
    spectra.Subspace.project: {"self": SPACE, "x": X},
    straight_path.DeepPath.kernel: {"self": DEEP, "xq": X, "by": rule("left", 2), "step": 1},
    straight_path.DeepPath.net: {"self": DEEP, "xq": X, "step": 1},
    straight_path.DeepPath.predict: {"self": DEEP, "xq": X, "by": straight_path.SECANT},
    straight_path.train: {"x": X, "y": Y, "hidden": (3, 2), "activation": "tanh"} | TRAINED,
    clusters.sample: {"n": 3, "k": 3, "dim": 4, "positive": 1, "norms": (1.0, 2.0, 3.0), "cosine": 0.1}
    | {"noise": 0.5, "seed": 0, "rotation_seed": 1, "device": "cpu"},
    synthetic.rotation: {"dim": 3, "seed": 0},
    synthetic.t1: {"n": 3, "half_gap": 1.0, "noise": 0.5, "dim": 3, "seed": 0, "rotation_seed": 1}
    | {"device": "cpu"},
    synthetic.t2: {"n": 3, "half_gap": 1.0, "rho": 2.0, "slabs": 2, "noise": 0.5, "dim": 3, "seed": 0}
    | {"rotation_seed": 1, "device": "cpu"},
    training.accuracy: {"net": NET, "x": X, "y": Y, "batch": 4},
    training.augmented: {"x": IMAGES, "y": Y, "copies": 3, "shift": 1, "seed": 0},
    training.fit: {"net": nets.mlp(5, (4,)), "x": X, "y": Y, "recipe": training.Recipe(epochs=1), "seed": 0}
    | {"x_test": X, "y_test": Y, "on_epoch": lambda epoch, net: None},
    penalties.Norm: {"strength": 0.1, "squared": True, "divided": False},
    penalties.Norm.check: {"self": penalties.Norm((0.1, 0.2)), "net": nets.mlp(5, (4,))},
    training.Recipe: {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "batch": 2}
    | {"epochs": 1, "schedule": "triangular", "peak": 0.4, "clip": 1.0, "stop_at": 0.9}
    | {"loss": "cross-entropy", "precision": "float32", "against": FOE},
    training.Recipe.rate: {"self": training.Recipe(), "done": 0.5},
    universal.direction: MEANS,
    universal.flipping_norm: {
        "net": NET,
        "x": X,
        "y": Y,
        "z": draw(5),
        "reach": 2.0,
        "share": 0.5,
        "points": 3,
    },
    universal.with_biases: {
        "w": UP,
        "sign": torch.tensor([1, 1, -1, -1]),
        "x": DOWN,
        "z": draw(3),
        "radius": 1.0,
    }
    | {"y": Y[:5], "biases": draw(3)},
    views.view: {"name": "flipped mnist"},
    views.View.load: {"self": views.view("flipped mnist"), "split": "test", "n": 3, "seed": 0},
    views.View.see: {"self": views.view("flipped mnist"), "x": draw(2, *DIGITS)},
    wedges.orthant: {"n": 5, "k": 2},
    wedges.proposition43: {"d": 1.0, "k": 2, "gamma": 0.7},
    wedges.wedge: {"n": 5, "angles": (0.3, -0.2)},
    wedges.Wedge: {"n": 5, "angles": (0.3, -0.2)},
    wedges.Wedge.centreline: {"self": WEDGE, "printed": True},
    wedges.Wedge.contains: {"self": WEDGE, "x": X},
    wedges.Wedge.inside: {"self": WEDGE, "d": (1.0, 2.0)},
    wedges.Wedge.outside: {"self": WEDGE, "d": 1.0, "sheet": 1},
    wedges.Wedge.persistence: {"self": WEDGE, "x": X, "gamma": 0.7},
    wedges.Wedge.project: {"self": WEDGE, "x": X},
    wedges.Wedge.to_boundary: {"self": WEDGE, "x": X},
    wedges.Wedge.sheets: {"self": WEDGE, "x": X},
    wedges.Wedge.stable: {"self": WEDGE, "x": X, "sigma": (0.5, 1.0)},
    weight_space.gradient: {"net": NET, "x": X, "y": Y, "chunk": 4},
    weight_space.line: {"net": NET, "w0": WHERE, "w1": WHERE + 1, "x": X, "y": Y, "t": [0, 0.5]},
    weight_space.network_at: {"net": NET, "w": WHERE},
    weight_space.position: {"net": NET},
}
# It shows what it is given, wherever there is something to show it on, and is used where no torch is.
UNSWEPT = {"progress"}
# Asked once a batch, by `training.fit`, for what that has looked at: a look would make a device wait.
INNER = {adversary.Adversary.perturb, training.Perturber.perturb, training.Perturber.check}


def public() -> Iterator[Callable]:
    """The public functions of the public modules, and the public methods of their classes."""
    for name in sorted(set(dir(tightrope)) - UNSWEPT):
        module = getattr(tightrope, name)
        names = getattr(module, "__all__", None)
        for member in names or [n for n in vars(module) if not n.startswith("_")]:
            thing = getattr(module, member)
            home = getattr(thing, "__module__", "")
            if not (home == module.__name__ if names is None else home.startswith("tightrope")):
                continue
            if inspect.isfunction(thing):
                yield thing
            elif inspect.isclass(thing):
                for at, method in inspect.getmembers(thing, inspect.isfunction):
                    if not at.startswith("_") and method.__module__.startswith("tightrope"):
                        yield method


def test_every_public_function_is_swept():
    missing = {f"{f.__module__}.{f.__qualname__}" for f in public() if f not in GOOD and f not in INNER}
    assert not missing, f"give each a good call in GOOD: {missing}"


def wrong(good: object) -> Iterator[object]:
    """What an argument is given in place of a good value, which some of it may be none the worse for."""
    yield from ("nonsense", "1", "", 1j, object(), [object()], {}, int, np.ones((2, 3)), torch.ones(2, 3))
    yield from (True, 1, 1.5, math.nan, math.inf, -math.inf, -1, 0, 1e30, -1e30, 10**30, -(10**30))
    yield from ((), [], (0,), (-1, -1), (1.5, 2.5), ("1", "2"), (1, 1, 1, 1), (math.nan, 1), (10**30, 1))
    if isinstance(good, Tensor):
        yield from (good.flatten()[:0], good[None], good[..., None], good.numpy(force=True), good.tolist())
        yield from (good.to("meta"), good.to(torch.complex64), good.half(), good.double(), good.int())
        yield from (good.bool(), good.long() + 10**6, good.long() - 10**6, torch.full_like(good, 7))
        if good.numel():
            yield from (good.flatten(), good.flatten()[0], good.flatten()[:1], good.reshape(-1, 1))
        if good.is_floating_point():
            yield from (torch.full_like(good, value) for value in (math.nan, math.inf, 0, 1e30, 1e-30))
            yield torch.where(torch.arange(good.numel()).view(good.shape) == 0, math.nan, good)


def optional(function: Callable, name: str) -> bool:
    parameter = inspect.signature(function).parameters[name]
    return parameter.default is None or "None" in str(parameter.annotation)


CASES = [
    pytest.param(function, name, id=f"{function.__module__.split('.')[-1]}.{function.__qualname__}-{name}")
    for function, good in GOOD.items()
    for name in good
    if name != "self"
]


def call(function: Callable, given: dict) -> object:
    given = dict(given)
    several = [n for n, p in inspect.signature(function).parameters.items() if p.kind == p.VAR_POSITIONAL]
    front = [given.pop("self")] if "self" in given and not inspect.isclass(function) else []
    if front:
        function = getattr(front.pop(), function.__name__)
    return function(*[given.pop(name) for name in several], **given)


@contextmanager
def limited() -> Iterator[None]:
    """What takes longer than `SECONDS` hangs."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault(error: BaseException, function: Callable) -> str | None:
    """What is wrong with an error: None for a sentence of ours."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error)
    if not frame.filename.startswith(LIBRARY) or not linecache.getline(
        frame.filename, frame.lineno
    ).strip().startswith("raise "):
        return f"not ours, but of {frame.filename}:{frame.lineno}"
    if not isinstance(error, ValueError | TypeError):
        return "of another class"
    if "\n" in said or not said.endswith((".", ":")) or len(said) > 500:
        return "no sentence"
    named = any(re.search(rf"\b{name}\b", said) for name in inspect.signature(function).parameters)
    if not named and not re.search("network|inputs|queries", said):
        return "names no argument"
    return None


def holds(what: Callable[[Tensor], Tensor], value: object) -> bool:
    """Whether any number in it is so."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(holds(what, getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple | list):
        return any(holds(what, one) for one in value)
    if isinstance(value, Tensor):
        return value.is_floating_point() and not value.is_meta and bool(what(value).any())
    return isinstance(value, float) and bool(what(torch.tensor(value)))


@pytest.mark.parametrize(("function", "name"), CASES)
def test_wrong_arguments_are_refused_by_name_or_taken_right(function, name, home):
    good = GOOD[function]
    kind = type(call(function, good))
    values = [*wrong(good[name]), *([] if optional(function, name) else [None])]
    if callable(good[name]):
        values.remove(int)  # whose errors are its own
    faults = []
    for value in values:
        shown = repr(value)[:80].replace("\n", " ") + f" {getattr(value, 'dtype', '')}"
        try:
            with limited():
                result = call(function, good | {name: value})
        except Exception as error:
            found = fault(error, function)
            if found:
                faults.append(f"{shown}: {found}: {type(error).__name__}: {str(error)[:150]}")
        else:
            if holds(torch.isnan, result) and not holds(lambda x: ~x.isfinite(), value):
                faults.append(f"{shown}: gave NaN")
            if not isinstance(result, kind):
                faults.append(f"{shown}: gave a {type(result).__name__} for a {kind.__name__}")
    assert not faults, "\n" + "\n".join(faults)


SILENT = {
    "whole numbers onto a subspace": (
        lambda: SPACE.coordinates(torch.ones(2, 5, dtype=torch.int64)),
        "x must be a real",
    ),
    "a mean a feature, one sample": (lambda: nets.mlp(5, mean=[0.5] * 5)(X[:1]), "mean of shape"),
    "nothing to have energy in": (lambda: spectra.energy(X, []), "subspaces must be one Subspace or more"),
    "quantile below 0": (
        lambda: MARGINS.quantile(-0.1),
        "q must be a finite number at least 0 and at most 1",
    ),
    "quantile above 1": (lambda: MARGINS.quantile([0.5, 1.5]), "every number of q must be"),
    "accuracy of NaN": (lambda: training.accuracy(NET, X * math.nan, Y), "NaN or infinity"),
    "a truth for a number": (lambda: training.Recipe(epochs=True), "epochs must be a whole number"),
    "a number for a truth": (lambda: margins.deepfool(NET, X, keep=1), "keep must be True or False"),
    "half an epoch": (lambda: training.Recipe(epochs=1.5), "epochs must be a whole number"),
    "a fraction of steps": (lambda: margins.deepfool(NET, X, tight=2.5), "tight must be a whole number"),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_came_out_wrong_without_a_word_is_refused(name):
    do, says = SILENT[name]
    with pytest.raises(ValueError, match=says):
        do()


def test_the_judge_of_errors_can_say_no():
    def error(do: Callable) -> BaseException:
        try:
            do()
        except Exception as caught:
            return caught
        raise AssertionError

    assert fault(error(lambda: torch.ones(2) @ torch.ones(3)), seeds.generator)
    assert fault(error(lambda: int("x")), seeds.generator)
    assert fault(error(lambda: seeds.generator(-1, "x")), spectra.flip) == "names no argument"
    assert fault(error(lambda: seeds.generator(-1, "x")), seeds.generator) is None
