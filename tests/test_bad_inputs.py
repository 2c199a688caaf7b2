"""What a reader can get wrong, and what a machine can do to them: one clear sentence each, or a documented result.

Every case checks that the sentence is one, that it comes from this library and not from deep inside torch, and that
no half-written file stays behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import tightrope
from tightrope import (
    attacks,
    data,
    homogeneity,
    log_descent,
    log_training,
    low_rank,
    margins,
    nets,
    pair_losses,
    path_kernel,
    spectra,
    straight_path,
    synthetic,
    training,
)
from tightrope.book import checkout as layout
from tightrope.book import claims, figures, kept, networks, records, runs, tables
from tightrope.inputs import download

CHAPTER = "01-synthetic-margins"
LIBRARY = str(Path(tightrope.__file__).parent)
NAN, INF = math.nan, math.inf


class At:
    """Where a case happens: folders of its own and the means to break them."""

    def __init__(self, tmp: Path, home: Path, npz: Callable, patch: pytest.MonkeyPatch, undo) -> None:
        self.tmp, self.home, self.npz, self.patch, self.undo = tmp, home, npz, patch, undo

    def mnist(self, **arrays):
        """Load mnist from a file whose arrays are these."""
        self.patch.setenv("TIGHTROPE_DATA", str(self.npz(**arrays).parent))
        return data.load("mnist", "test")

    def mnist_of(self, content: bytes):
        """Load mnist from a file with these bytes."""
        path = self.npz()
        path.write_bytes(content)
        self.patch.setenv("TIGHTROPE_DATA", str(path.parent))
        return data.load("mnist", "test")

    def download(self, cache_folder: Path):
        """Download cifar10 (half a megabyte of it) into a cache."""
        images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3)).astype(np.uint8)
        arrays = {f"x_{s}": images for s in data.SPLITS} | {f"y_{s}": np.zeros(200, int) for s in data.SPLITS}
        self.patch.setitem(download._SOURCES, "cifar10", ("localhost", lambda folder: arrays))
        self.patch.setattr(download, "_probe", lambda host: None)
        self.patch.setattr("tightrope._files.user_cache", lambda: cache_folder)
        return data.load("cifar10", "test")

    def folder_in_the_way(self) -> Path:
        """A path where no folder can be made: a file lies on the way."""
        (self.tmp / "file").write_text("in the way")
        return self.tmp / "file" / "folder"

    def read_only(self) -> Path:
        return self._mounted("ro") or self.folder_in_the_way()

    def full(self) -> Path:
        """A folder on a disk of 64 kB; where no disk can be mounted, one that is full when a file is finished."""
        disk = self._mounted("size=64k")
        if disk is None:

            def replace(source, target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            self.patch.setattr("tightrope._files.os.replace", replace)
            disk = self.tmp / "disk"
            disk.mkdir()
        return disk

    def _mounted(self, options: str) -> Path | None:
        disk = self.tmp / "mounted"
        disk.mkdir()
        command = shutil.which("mount") and ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if not command or subprocess.run(command, capture_output=True).returncode:
            disk.rmdir()
            return None
        self.undo.callback(subprocess.run, ["umount", str(disk)], check=True)
        return disk

    def run(self, profile: str = "quick", **environment: str) -> runs.Run:
        for name, value in environment.items():
            self.patch.setenv(name, value)
        return runs.start(CHAPTER, profile)

    def claim(self, **changes):
        entry = {
            "id": "a.b",
            "source": "someone2020",
            "where": "Table 1",
            "statement": "It is so.",
            "published": 2.5,
            "quantity": "q",
            "chapter": CHAPTER,
            "test": {"within": 0.05},
        } | changes
        return self.claims_of(yaml.safe_dump([{k: v for k, v in entry.items() if v is not None}]))

    def claims_of(self, text: str):
        path = self.tmp / "claims.yml"
        path.write_text(text)
        return claims.load(path)

    def stored_of(self, text: str):
        Path("book/runs", f"{CHAPTER}.json").write_text(text)
        return runs.stored(CHAPTER)


@pytest.fixture
def at(tmp_path, home, npz, book, monkeypatch):
    monkeypatch.setattr(download, "_unreachable", {})
    with contextlib.ExitStack() as undo:
        yield At(tmp_path, home, npz, monkeypatch, undo)


@dataclass(frozen=True)
class Bad:
    name: str
    says: str
    do: Callable[[At], object]
    error: type[Exception] = ValueError


X, Y = torch.zeros(4, 5), torch.tensor([0, 1, 0, 1])
POINTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
IMAGES = torch.zeros(2, 1, 28, 28)
RECIPE = training.Recipe(epochs=1)


def net(inputs=5, **options):
    return nets.mlp(inputs, (4,), **options)


def seeded(seed):
    return net(seed=seed)


def with_nan(x: torch.Tensor, value: float = NAN) -> torch.Tensor:
    x = x.clone()
    x[0] = value
    return x


def frozen_net():
    return net().requires_grad_(False)


def member_flipped(path: Path) -> bytes:
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("x_test.npy").header_offset
    raw[start + 1_000] ^= 255  # inside the array: the archive's check sum catches it
    return bytes(raw)


DATA = [
    Bad("data: misspelt name", "mnits", lambda at: data.load("mnits", "test")),
    Bad("data: no name", "None", lambda at: data.load(None, "test")),
    Bad("data: a path as name", "must be one of 'mnist'", lambda at: data.load("../mnist", "test")),
    Bad("data: name of another kind", "must be one of 'mnist'", lambda at: data.load(["mnist"], "test")),
    Bad("data: where of a misspelt name", "mnits", lambda at: data.where("mnits")),
    Bad("data: unknown split", "'train', 'test'", lambda at: data.load("mnist", "val")),
    Bad("data: no split", "'train', 'test'", lambda at: data.load("mnist", None)),
    Bad(
        "data: split that a set lacks", "no train split", lambda at: data.load("imagenet_sample224", "train")
    ),
    Bad("data: n = 0", "n must be", lambda at: data.load("mnist", "test", n=0)),
    Bad("data: n < 0", "n must be", lambda at: data.load("mnist", "test", n=-3)),
    Bad("data: n a fraction", "n must be", lambda at: data.load("mnist", "test", n=2.5)),
    Bad("data: n true", "n must be", lambda at: data.load("mnist", "test", n=True)),
    Bad("data: n a text", "n must be", lambda at: data.load("mnist", "test", n="64")),
    Bad(
        "data: n too large",
        "n of mnist test must be a whole number from 1 to 2000",
        lambda at: data.load("mnist", "test", n=2_001),
    ),
    Bad("data: seed < 0", "seed must be", lambda at: data.load("mnist", "test", n=1, seed=-1)),
    Bad("data: seed a fraction", "seed must be", lambda at: data.load("mnist", "test", n=1, seed=0.5)),
    Bad("data: seed too large", "seed must be", lambda at: data.load("mnist", "test", n=1, seed=2**64)),
    Bad("data: seed None", "seed must be", lambda at: data.load("mnist", "test", n=1, seed=None)),
    Bad("npz: empty file", "damaged", lambda at: at.mnist_of(b"")),
    Bad("npz: text", "write it again", lambda at: at.mnist_of(b"this is not an archive")),
    Bad("npz: cut short", "damaged", lambda at: at.mnist_of(at.npz().read_bytes()[:3_000])),
    Bad("npz: a bit flipped", "mnist.npz", lambda at: at.mnist_of(member_flipped(at.npz()))),
    Bad("npz: a bare array", "not an npz", lambda at: at.mnist_of(b"\x93NUMPY" + npy())),
    Bad("npz: a key missing", "lacks y_test", lambda at: at.mnist(y_test=None)),
    Bad("npz: three keys missing", "x_train, y_train", lambda at: at.mnist(x_train=None, y_train=None)),
    Bad("npz: pickled objects", "Python objects", lambda at: at.mnist(x_test=np.array([{}, 1], object))),
    Bad("npz: float images", "float32", lambda at: at.mnist(x_test=np.zeros((4, 28, 28), np.float32))),
    Bad("npz: NaN images", "uint8", lambda at: at.mnist(x_test=np.full((4, 28, 28), NAN))),
    Bad("npz: int64 images", "uint8", lambda at: at.mnist(x_test=np.zeros((4, 28, 28), np.int64))),
    Bad(
        "npz: images of another size", "28 x 28", lambda at: at.mnist(x_test=np.zeros((4, 27, 28), np.uint8))
    ),
    Bad("npz: colour digits", "28 x 28", lambda at: at.mnist(x_test=np.zeros((4, 28, 28, 3), np.uint8))),
    Bad("npz: flat images", "28 x 28", lambda at: at.mnist(x_test=np.zeros((4, 784), np.uint8))),
    Bad("npz: a number for images", "28 x 28", lambda at: at.mnist(x_test=np.uint8(3))),
    Bad("npz: no images", "empty", lambda at: at.mnist(x_test=np.zeros((0, 28, 28), np.uint8), y_test=Y[:0])),
    Bad("npz: float labels", "whole numbers", lambda at: at.mnist(y_test=np.arange(4.0))),
    Bad("npz: a label too many", "one label each", lambda at: at.mnist(y_test=np.arange(5))),
    Bad("npz: one-hot labels", "one label each", lambda at: at.mnist(y_test=np.eye(4, dtype=int))),
    Bad("npz: label 10", "0 to 9", lambda at: at.mnist(y_test=np.array([0, 1, 2, 10]))),
    Bad("npz: label -1", "0 to 9", lambda at: at.mnist(y_test=np.array([0, 1, 2, -1]))),
]


def npy() -> bytes:
    """What follows the magic word in the file of an array of one byte."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }"
    return b"\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n\x00"


def without_torchvision(at):
    at.patch.setitem(sys.modules, "torchvision", None)  # as an import of what is not installed ends
    at.patch.setattr(download, "_probe", lambda host: None)
    return data.load("cifar10", "test")


def with_data_in(at, folder: str):
    at.patch.setenv("TIGHTROPE_DATA", folder)
    return data.load("mnist", "test")


MISSING = [
    Bad(f"missing: {name}, {why}", says, do, data.DataMissing)
    for name, why, says, do in [
        ("cifar10", "no network", "cannot be reached", lambda at: data.load("cifar10", "test")),
        ("imagenette128", "no network", "cannot be reached", lambda at: data.load("imagenette128", "train")),
        (
            "imagenet_sample224",
            "nowhere",
            "TIGHTROPE_DATA",
            lambda at: data.load("imagenet_sample224", "test"),
        ),
        ("cifar10", "not asked for", "not asked", lambda at: data.load("cifar10", "test", download=False)),
        ("cifar10", "no torchvision", "torchvision is not installed", without_torchvision),
        ("cifar10", "cache a file", "could not be written", lambda at: at.download(at.folder_in_the_way())),
        ("cifar10", "cache read-only", "could not be written", lambda at: at.download(at.read_only())),
        ("cifar10", "disk full", "no space left", lambda at: at.download(at.full())),
        ("mnist", "no such folder", "not a folder", lambda at: with_data_in(at, "/no/such/folder")),
        ("mnist", "a file for a folder", "not a folder", lambda at: with_data_in(at, str(at.npz()))),
    ]
]

LINE = spectra.span(torch.eye(5)[0])
SPECTRA = [
    Bad("span: nothing", "vectors must be one Tensor or more", lambda at: spectra.span()),
    Bad(
        "span: two shapes",
        "vectors must be a finite real tensor (5,)",
        lambda at: spectra.span(torch.ones(5), torch.ones(4)),
    ),
    Bad("span: NaN", "NaN", lambda at: spectra.span(with_nan(torch.ones(5)))),
    Bad("span: zero", "zero", lambda at: spectra.span(torch.zeros(5))),
    Bad("span: dependent", "dependent", lambda at: spectra.span(torch.ones(5), 2 * torch.ones(5))),
    Bad("span: too many", "independent", lambda at: spectra.span(*torch.randn(6, 5))),
    Bad(
        "random: dimension 0",
        "dim must be a whole number from 1 to 5",
        lambda at: spectra.random_subspace((5,), 0),
    ),
    Bad(
        "random: dimension 6 of 5",
        "dim must be a whole number from 1 to 5",
        lambda at: spectra.random_subspace((5,), 6),
    ),
    Bad(
        "random: inside another space",
        "draw inside",
        lambda at: spectra.random_subspace((4,), 1, inside=LINE),
    ),
    Bad(
        "shape: empty",
        "the length of shape must be a whole number of at least 1",
        lambda at: spectra.full(()),
    ),
    Bad(
        "shape: zero",
        "every number of shape must be a whole number of at least 1",
        lambda at: spectra.full((0, 3)),
    ),
    Bad("complement of everything", "no direction is left", lambda at: spectra.full((5,)).complement()),
    Bad("coordinates: wrong shape", "(N, 5)", lambda at: LINE.coordinates(torch.zeros(2, 4))),
    Bad("coordinates: one input alone", "(N, 5)", lambda at: LINE.coordinates(torch.zeros(5))),
    Bad("lift: too many coordinates", "(N, 1)", lambda at: LINE.lift(torch.zeros(2, 2))),
    Bad(
        "block: outside",
        "row must be a whole number from 0 to 20",
        lambda at: spectra.dct_block((1, 28, 28), 25, 0, 8),
    ),
    Bad(
        "block: negative",
        "row must be a whole number from 0 to 20",
        lambda at: spectra.dct_block((1, 28, 28), -1, 0, 8),
    ),
    Bad(
        "windows: too large",
        "size must be a whole number from 1 to 28",
        lambda at: spectra.dct_windows((1, 28, 28), 29),
    ),
    Bad(
        "windows: step 0",
        "step must be a whole number of at least 1",
        lambda at: spectra.dct_windows((1, 28, 28), 8, 0),
    ),
    Bad(
        "windows: no channel",
        "shape must be a tuple of 3 whole numbers",
        lambda at: spectra.dct_windows((28, 28)),
    ),
    Bad(
        "mask: wrong shape",
        "keep must be a bool tensor (4, 4)",
        lambda at: spectra.dct_coefficients((1, 4, 4), torch.ones(3) > 0),
    ),
    Bad("mask: empty", "no direction", lambda at: spectra.dct_coefficients((1, 4, 4), torch.ones(4, 4) < 0)),
    Bad(
        "dct2: whole numbers",
        "x must be a real tensor (…, H, W)",
        lambda at: spectra.dct2(torch.zeros(4, 4, dtype=torch.int64)),
    ),
    Bad("dct2: one axis", "x must be a real tensor (…, H, W)", lambda at: spectra.dct2(torch.zeros(4))),
    Bad("dct matrix of nothing", "at least 1", lambda at: spectra.dct_matrix(0)),
    Bad("t1: no points", "n must be a whole number of at least 1", lambda at: synthetic.t1(0)),
    Bad("t1: one dimension", "dim must be a whole number of at least 2", lambda at: synthetic.t1(10, dim=1)),
    Bad(
        "t1: NaN gap",
        "half_gap must be a finite number at least 0",
        lambda at: synthetic.t1(10, half_gap=NAN),
    ),
    Bad("t1: endless noise", "noise", lambda at: synthetic.t1(10, noise=INF)),
    Bad("t1: negative noise", "noise", lambda at: synthetic.t1(10, noise=-1)),
]

NETS = [
    Bad("mlp: no inputs", "inputs must be a whole number of at least 1", lambda at: nets.mlp(0)),
    Bad(
        "mlp: an empty layer",
        "every number of hidden must be a whole number of at least 1",
        lambda at: nets.mlp(5, (4, 0)),
    ),
    Bad("mlp: unknown initialisation", "'he', 'default'", lambda at: net(init="xavier")),
    Bad("mlp: wrong inputs", "(N, 5)", lambda at: net()(torch.zeros(2, 6))),
    Bad("mlp: one input alone", "(N, 5)", lambda at: net()(torch.zeros(5))),
    Bad("lenet: images too small", "at least 12", lambda at: nets.lenet(shape=(1, 8, 8))),
    Bad(
        "lenet: images of another size", "(N, 1, 28, 28)", lambda at: nets.lenet()(torch.zeros(2, 1, 32, 32))
    ),
    Bad("lenet: bytes for floats", "uint8", lambda at: nets.lenet()(IMAGES.byte())),
    Bad("normalise: std 0", "positive", lambda at: nets.Normalise(0.5, 0.0)),
    Bad("normalise: NaN mean", "mean must be a finite number", lambda at: nets.Normalise(NAN, 1.0)),
    Bad(
        "initialise: a batch norm",
        "BatchNorm1d",
        lambda at: nets.initialise(nn.Sequential(nn.BatchNorm1d(3))),
    ),
    Bad("recipe: optimizer", "'sgd', 'adam'", lambda at: training.Recipe(optimizer="sdg")),
    Bad("recipe: precision", "'bfloat16'", lambda at: training.Recipe(precision="half")),
    Bad("recipe: schedule", "'triangular'", lambda at: training.Recipe(schedule="cosine")),
    Bad("recipe: no epochs", "epochs", lambda at: training.Recipe(epochs=0)),
    Bad("recipe: batch 0", "batch", lambda at: training.Recipe(batch=0)),
    Bad("recipe: NaN rate", "lr must be a finite number above 0", lambda at: training.Recipe(lr=NAN)),
    Bad("recipe: peak at the end", "peak", lambda at: training.Recipe(peak=1.0)),
    Bad("recipe: negative clip", "clip", lambda at: training.Recipe(clip=-1)),
    Bad("recipe: stop beyond 1", "stop_at", lambda at: training.Recipe(stop_at=99)),
    Bad(
        "fit: empty batch",
        "x must be a finite real tensor (N, …) on cpu in float32",
        lambda at: training.fit(net(), X[:0], Y[:0], RECIPE),
    ),
    Bad(
        "fit: bytes",
        "divide by 255",
        lambda at: training.fit(net(), X.byte(), Y, RECIPE),
    ),
    Bad(
        "fit: an array",
        "not a ndarray",
        lambda at: training.fit(net(), X.numpy(), Y, RECIPE),
    ),
    Bad("fit: NaN", "NaN", lambda at: training.fit(net(), with_nan(X), Y, RECIPE)),
    Bad("fit: float labels", "int64", lambda at: training.fit(net(), X, Y.float(), RECIPE)),
    Bad(
        "fit: a label too few",
        "y must be an int64 tensor (4,) on cpu",
        lambda at: training.fit(net(), X, Y[:3], RECIPE),
    ),
    Bad("fit: label 2 of 2 classes", "from 0 to 1", lambda at: training.fit(net(), X, Y + 1, RECIPE)),
    Bad("fit: wrong inputs", "(N, 5)", lambda at: training.fit(net(), torch.zeros(4, 6), Y, RECIPE)),
    Bad("fit: one output", "nets.TwoLogits", lambda at: training.fit(net(classes=1), X, Y, RECIPE)),
    Bad("fit: x_test alone", "both", lambda at: training.fit(net(), X, Y, RECIPE, 0, X)),
    Bad(
        "fit: stop without test", "stop_at", lambda at: training.fit(net(), X, Y, training.Recipe(stop_at=1))
    ),
    Bad("fit: frozen", "frozen", lambda at: training.fit(frozen_net(), X, Y, RECIPE)),
    Bad(
        "fit: rate too large",
        "smaller learning",
        lambda at: training.fit(net(), POINTS, Y, training.Recipe(lr=1e30)),
    ),
    Bad(
        "accuracy of nothing",
        "batch of real inputs (N, …)",
        lambda at: training.accuracy(net(), X[:0], Y[:0]),
    ),
]


def deepfool(x=X, subspaces=None, model=None, **options):
    return margins.deepfool(model or net(), x, subspaces, **options)


MARGINS = [
    Bad("deepfool: empty batch", "batch of real inputs (N, …)", lambda at: deepfool(X[:0])),
    Bad("deepfool: bytes", "divide by 255", lambda at: deepfool(X.byte())),
    Bad("deepfool: one input alone", "batch of real inputs", lambda at: deepfool(X[0])),
    Bad("deepfool: NaN image", "NaN", lambda at: deepfool(with_nan(X))),
    Bad("deepfool: endless image", "infinity", lambda at: deepfool(with_nan(X, INF))),
    Bad("deepfool: no subspace", "subspaces", lambda at: deepfool(subspaces=[])),
    Bad("deepfool: a tensor for a subspace", "Subspace", lambda at: deepfool(subspaces=[X[0]])),
    Bad(
        "deepfool: subspace of images",
        "(N, 1, 28, 28)",
        lambda at: deepfool(subspaces=spectra.full((1, 28, 28))),
    ),
    Bad("deepfool: overshoot < 0", "overshoot", lambda at: deepfool(overshoot=-0.1)),
    Bad("deepfool: overshoot NaN", "overshoot", lambda at: deepfool(overshoot=NAN)),
    Bad("deepfool: no steps", "max_steps", lambda at: deepfool(max_steps=0)),
    Bad("deepfool: no rival", "rivals", lambda at: deepfool(rivals=1)),
    Bad("deepfool: chunk 0", "chunk", lambda at: deepfool(chunk=0)),
    Bad("deepfool: one class", "L >= 2", lambda at: deepfool(model=net(classes=1))),
    Bad(
        "deepfool: one answer for all", "logits", lambda at: deepfool(model=lambda x: x.sum(0, keepdim=True))
    ),
    Bad("deepfool: NaN logits", "NaN", lambda at: deepfool(model=lambda x: x * NAN)),
    Bad("deepfool: wrong inputs", "(N, 5)", lambda at: deepfool(torch.zeros(2, 6))),
]

RUNS = [
    Bad("start: profile", "'smoke', 'quick', 'paper'", lambda at: runs.start(CHAPTER, "fast")),
    Bad("start: chapter", CHAPTER, lambda at: runs.start("09-nothing")),
    Bad("start: chapter a path", "named as its file", lambda at: runs.start("../01-synthetic-margins")),
    Bad("start: chapter a number", "named as its file", lambda at: runs.start(1)),
    Bad("start: device", "'auto', 'cpu' or 'cuda'", lambda at: runs.start(CHAPTER, device="gpu")),
    Bad("start: a GPU too many", "torch sees", lambda at: runs.start(CHAPTER, device="cuda:99")),
    Bad("start: seed < 0", "seed", lambda at: runs.start(CHAPTER, seed=-1)),
    Bad("start: seed a text", "seed", lambda at: runs.start(CHAPTER, seed="0")),
    Bad("sizes: none", "at least one", lambda at: at.run().sizes()),
    Bad("sizes: two values", "three values", lambda at: at.run().sizes(N=(1, 2))),
    Bad("sizes: one number", "three values", lambda at: at.run().sizes(N=1)),
    Bad("record: NaN", "a is nan", lambda at: at.run().record("a", NAN)),
    Bad("record: minus infinity", "a is -inf", lambda at: at.run().record("a", torch.tensor(-INF))),
    Bad("record: a text", "one number", lambda at: at.run().record("a", "2.5")),
    Bad("record: two numbers", "one number", lambda at: at.run().record("a", torch.zeros(2))),
    Bad("record: nothing", "one number", lambda at: at.run().record("a", None)),
    Bad("record: id with a space", "words joined", lambda at: at.run().record("a b", 1)),
    Bad("record: id no text", "words joined", lambda at: at.run().record(1, 1)),
    Bad("record: interval reversed", "(low, high)", lambda at: at.run().record("a", 1, interval=(2, 1))),
    Bad("record: interval of three", "(low, high)", lambda at: at.run().record("a", 1, interval=(1, 2, 3))),
    Bad("record: interval one number", "(low, high)", lambda at: at.run().record("a", 1, interval=1)),
    Bad("record: interval NaN", "nan", lambda at: at.run().record("a", 1, interval=(NAN, 1))),
    Bad("record: n = 0", "n of a must be", lambda at: at.run().record("a", 1, n=0)),
    Bad("record: an array beside it", "one number", lambda at: at.run().record("a", 1, note=[1, 2])),
    Bad("record: over what", "'seeds', 'images'", lambda at: at.run().record("a", [1], over="digits")),
    Bad("record: no seed", "at least one value", lambda at: at.run().record("a", [], over="seeds")),
    Bad("text: not recorded", "No number is recorded", lambda at: at.run().text("{a.b:.2f}")),
    Bad("table: an axis too few", "exactly the axes", lambda at: at.run().table("a.{x}.{y}", float, x=[1])),
    Bad("keep: texts", "takes numbers", lambda at: at.run().keep("t", names=["a", "b"])),
    Bad("keep: too much", "2,000,000", lambda at: at.run().keep("t", x=torch.zeros(300_000, 2))),
    Bad(
        "kept: a function as an argument",
        "cannot be part",
        lambda at: at.run(TIGHTROPE_KEY="k").kept(lambda f: 1)(len),
    ),
    Bad("kept: a function", "cannot be kept", lambda at: at.run(TIGHTROPE_KEY="k").kept(lambda: len)()),
    Bad("network: not a network", "build must", lambda at: at.run().network(lambda seed: 3, X, Y, RECIPE)),
    Bad("network: no seed", "take the seed", lambda at: at.run().network(lambda: net(), X, Y, RECIPE)),
    Bad("network: not a function", "build must", lambda at: at.run().network(net(), X, Y, RECIPE)),
    Bad("network: no tensor", "must be a Tensor", lambda at: at.run().network(seeded, X.numpy(), Y, RECIPE)),
    Bad("network: NaN images", "NaN", lambda at: at.run().network(seeded, with_nan(X), Y, RECIPE)),
    Bad(
        "network: empty batch",
        "x must be a finite real tensor (N, …) on cpu in float32",
        lambda at: at.run().network(seeded, X[:0], Y[:0], RECIPE),
    ),
    Bad("stored: no JSON", "not JSON", lambda at: at.stored_of("{")),
    Bad("stored: a list", "not a record", lambda at: at.stored_of("[]")),
    Bad("stored: no quantities", "quantities", lambda at: at.stored_of(record(None))),
    Bad("stored: NaN", "not JSON", lambda at: at.stored_of(record({"a": {"value": NAN}}))),
    Bad("stored: a bare number", "not a record", lambda at: at.stored_of(record({"a": 3}))),
    Bad("stored: damaged arrays", "damaged", lambda at: damaged_arrays(at)),
    Bad("executor: record on a full disk", "no space left", lambda at: record_on(at, at.full()), OSError),
    Bad("executor: read-only build", "cannot be written", lambda at: record_on(at, at.read_only()), OSError),
    Bad("table: a row too short", "cells", lambda at: tables.Table(["a", "b"], [["x"]])),
    Bad(
        "figures: a column too few",
        "one column",
        lambda at: figures.percentile_band(None, [1, 2], np.zeros((3, 1))),
    ),
    Bad(
        "figures: an empty column", "no values", lambda at: figures.percentile_band(None, [1], [np.zeros(0)])
    ),
]


def damaged_arrays(at):
    Path("book/runs", f"{CHAPTER}.npz").write_bytes(b"PK")
    return at.stored_of(record({}))


def record(quantities) -> str:
    about = {"chapter": CHAPTER, "profile": "paper", "seed": 0, "device": "cpu"}
    return json.dumps(about | {"quantities": quantities})


def record_on(at, disk: Path):
    """A run under the executor whose build folder lies on `disk`, recording more and more."""
    Path("build").symlink_to(disk, target_is_directory=True)
    run = at.run(TIGHTROPE_KEY="k")
    for i in range(2_000):
        run.record(f"quantity.{i}", i, note="x" * 100)


CLAIMS = [
    Bad("claims: no YAML", "not valid YAML", lambda at: at.claims_of("- id: [")),
    Bad("claims: not a list", "must be a list", lambda at: at.claims_of("id: a")),
    Bad("claims: an empty file", "must be a list", lambda at: at.claims_of("")),
    Bad("claims: bytes", "not valid YAML", lambda at: claims.load(data.SAMPLES / "mnist.npz")),
    Bad("claims: no file", "There is no", lambda at: claims.load(at.tmp / "x.yml"), FileNotFoundError),
    Bad("claims: no id", "number 1", lambda at: at.claim(id=None)),
    Bad("claims: a text", "number 1", lambda at: at.claims_of("- a.b")),
    Bad("claims: id with a space", "'a b'", lambda at: at.claim(id="a b")),
    Bad("claims: id twice", "used twice", lambda at: at.claims_of(2 * twice())),
    Bad("claims: misspelt entry", "quantitiy", lambda at: at.claim(quantitiy="q")),
    Bad("claims: no statement", "statement", lambda at: at.claim(statement=None)),
    Bad("claims: empty statement", "statement", lambda at: at.claim(statement=" ")),
    Bad("claims: no source", "source", lambda at: at.claim(source=None)),
    Bad("claims: source a number", "source", lambda at: at.claim(source=3)),
    Bad("claims: chapter a number", "chapter", lambda at: at.claim(chapter=1)),
    Bad("claims: chapter without its number", "chapter", lambda at: at.claim(chapter="margins")),
    Bad("claims: no quantity", "quantity", lambda at: at.claim(quantity=None)),
    Bad("claims: empty quantities", "quantity", lambda at: at.claim(quantity=[])),
    Bad("claims: nothing published", "published", lambda at: at.claim(published=None)),
    Bad("claims: published NaN", "published", lambda at: at.claim(published=NAN)),
    Bad("claims: published a mapping", "published", lambda at: at.claim(published={"a": 1})),
    Bad("claims: more published than measured", "2 published", lambda at: at.claim(published=[1, 2])),
    Bad("claims: no test", "field `test`", lambda at: at.claim(test=None)),
    Bad("claims: unknown test", "test must be", lambda at: at.claim(test={"near": 1})),
    Bad("claims: two tests", "test must be", lambda at: at.claim(test={"at_least": 1, "at_most": 2})),
    Bad("claims: within a text", "within", lambda at: at.claim(published="about 2")),
    Bad("claims: within of zero", "other than 0", lambda at: at.claim(published=0)),
    Bad("claims: within nothing", "above 0", lambda at: at.claim(test={"within": 0})),
    Bad("claims: within true", "above 0", lambda at: at.claim(test={"within": True})),
    Bad("claims: factor below 1", "above 1", lambda at: at.claim(test={"factor": 0.5})),
    Bad("claims: at least a text", "a number", lambda at: at.claim(test={"at_least": "1"})),
    Bad("claims: between reversed", "[low, high]", lambda at: at.claim(test={"between": [2, 1]})),
    Bad("claims: increasing alone", "two quantities", lambda at: at.claim(test={"increasing": True})),
    Bad("claims: holds false", "true", lambda at: at.claim(test={"holds": False})),
    Bad("claims: own a text", "own", lambda at: at.claim(own="yes")),
    Bad(
        "claims: a table of an unknown chapter", "no claim", lambda at: claims.table({"chapter": "09-x"}, [])
    ),
]


def twice() -> str:
    return f"- {{id: a, own: true, statement: It is so., quantity: q, chapter: {CHAPTER}, test: {{at_least: 1}}}}\n"


def path_of(x=POINTS, y=Y, **options):
    return path_kernel.train(x, y, **({"hidden": 4, "classes": 2, "steps": 3} | options))


PATHS = [
    Bad(
        "path: whole-number inputs", "x must be a finite real tensor (N, …, D)", lambda at: path_of(X.long())
    ),
    Bad("path: no points", "x must be a finite real tensor (N, …, D)", lambda at: path_of(X[:0], Y[:0])),
    Bad("path: one input alone", "x must be a finite real tensor (N, …, D)", lambda at: path_of(X[0], Y[:1])),
    Bad("path: NaN inputs", "NaN", lambda at: path_of(with_nan(X))),
    Bad("path: a label missing", "y must be an int64 tensor (4,) on cpu", lambda at: path_of(X, Y[:3])),
    Bad("path: labels no tensor", "tensor", lambda at: path_of(X, [0, 1, 0, 1])),
    Bad("path: float labels", "int64", lambda at: path_of(X, Y.float())),
    Bad("path: label beyond the classes", "0 to 1", lambda at: path_of(X, Y + 1)),
    Bad("path: one class for cross-entropy", "two or more", lambda at: path_of(X, Y * 0, classes=1)),
    Bad("path: binary with two outputs", "one output", lambda at: path_of(loss="binary")),
    Bad(
        "path: squared targets of another width",
        "y must be a finite real tensor (4, 2)",
        lambda at: path_of(loss="squared"),
    ),
    Bad("path: unknown loss", "'squared'", lambda at: path_of(loss="hinge")),
    Bad("path: no steps", "at least 1", lambda at: path_of(steps=0)),
    Bad(
        "path: hidden a fraction",
        "every number of hidden must be a whole number of at least 1",
        lambda at: path_of(hidden=2.5),
    ),
    Bad(
        "path: several layers",
        "every number of hidden must be a whole number of at least 1",
        lambda at: path_of(hidden=(4, 4)),
    ),
    Bad("path: lr = 0", "lr must be a finite number above 0", lambda at: path_of(lr=0.0)),
    Bad("path: lr NaN", "lr must be a finite number above 0", lambda at: path_of(lr=NAN)),
    Bad(
        "path: momentum 1",
        "momentum must be a finite number at least 0 and below 1",
        lambda at: path_of(momentum=1.0),
    ),
    Bad("path: batch too large", "1 to 4", lambda at: path_of(batch=5)),
    Bad(
        "path: half precision",
        "dtype must be one of None, torch.float32, torch.float64",
        lambda at: path_of(dtype=torch.float16),
    ),
    Bad("path: seed < 0", "seed", lambda at: path_of(seed=-1)),
    Bad("path: a folder too small", "TMPDIR", lambda at: path_on(at, at.full()), OSError),
    Bad(
        "path: diverging",
        "use a smaller one",
        lambda at: path_of(POINTS, POINTS[:, :2], loss="squared", steps=200, lr=10.0),
        training.Diverged,
    ),
    Bad(
        "path: the last step alone leaves the finite range",
        "step 1 of 1",
        lambda at: path_of(1e3 * POINTS, steps=1, lr=1e306),
        training.Diverged,
    ),
    Bad(
        "path: queries of another shape",
        "the queries, flattened, must be a real tensor (2, 5) on cpu in float32",
        lambda at: path_of().predict(torch.zeros(2, 6)),
    ),
    Bad("path: NaN queries", "finite", lambda at: path_of().kernel(with_nan(X))),
    Bad(
        "path: no queries",
        "the queries must be a finite real tensor (Q, …, D)",
        lambda at: path_of().net(X[:0]),
    ),
    Bad("path: queries too large", "too large", lambda at: path_of().predict(X.double() + 1e308)),
    Bad(
        "path: a step beyond the last",
        "step must be a whole number from 0 to 2",
        lambda at: path_of().kernel(X, 3),
    ),
    Bad(
        "path: a state beyond the last",
        "step must be a whole number from 0 to 3",
        lambda at: path_of().net(X, 4),
    ),
    Bad("path: misspelt place", "'moving'", lambda at: path_of().gram(X, where=("middle", "start"))),
    Bad("path: unknown rule", "'gauss'", lambda at: path_kernel.rule("simpson", 3)),
    Bad(
        "path: rule without nodes",
        "n must be a whole number of at least 1",
        lambda at: path_kernel.rule("left", 0),
    ),
    Bad(
        "deep path: no layers",
        "the length of hidden must be a whole number of at least 1",
        lambda at: straight_path.train(X, Y, (), 2, 3),
    ),
    Bad(
        "deep path: activation", "'tanh'", lambda at: straight_path.train(X, Y, (4,), 2, 3, activation="gelu")
    ),
    Bad(
        "deep path: not a rule",
        "by must be one of 'secant'",
        lambda at: straight_path.train(X, Y, (4,), 2, 3).predict(X, "chord"),
    ),
]


def path_on(at, folder: Path):
    """A path that may not stay in memory, with `folder` for temporary files."""
    at.patch.setattr("tempfile.tempdir", str(folder))
    if not os.path.ismount(folder):  # no disk could be mounted: say what a full one says

        def allocate(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        at.patch.setattr(os, "posix_fallocate", allocate)
    return path_of(hidden=2_000, memory=1_000)


FLAT, AWAY = torch.zeros(3, 2), torch.ones(3, 2)


def attack(name="pgd", x=POINTS, labels=Y, **options):
    return getattr(attacks, name)(net(), x, labels, **({"eps": 1.0, "box": None} | options))


def short(name, **options):
    return getattr(attacks, name)(net(), POINTS, Y, **({"box": None} | options))


def descend(loss=lambda w: w.square().sum(), w=None, steps=3, rate=0.1, **options):
    w = torch.ones(2, requires_grad=True) if w is None else w
    return log_descent.descend(lambda: loss(w), [w], steps, rate, **options)


LOW_RANK = [
    Bad("svm: classes that overlap", "cannot be separated", lambda at: low_rank.max_margin(FLAT, FLAT)),
    Bad(
        "svm: no points",
        "x must be a finite real tensor (I, D)",
        lambda at: low_rank.max_margin(FLAT[:0], AWAY),
    ),
    Bad(
        "svm: two dimensions",
        "y must be a finite real tensor (J, 2)",
        lambda at: low_rank.max_margin(FLAT, AWAY[:, :1]),
    ),
    Bad("svm: NaN", "NaN", lambda at: low_rank.cross_entropy_limit(with_nan(FLAT), AWAY)),
    Bad("hyperplane: no gap", "no gap", lambda at: low_rank.hyperplane(torch.ones(2), 0, FLAT, AWAY)),
    Bad("rank: images", "(N, K)", lambda at: low_rank.feature_rank(IMAGES)),
    Bad("rank: NaN", "NaN", lambda at: low_rank.feature_rank(with_nan(POINTS))),
    Bad(
        "rank: rtol 0",
        "rtol must be a finite number above 0 and below 1",
        lambda at: low_rank.feature_rank(POINTS, rtol=0),
    ),
    Bad(
        "rank: a share of 2",
        "share must be a finite number above 0 and at most 1",
        lambda at: low_rank.feature_rank(POINTS).components(2),
    ),
    Bad("pairs: a matrix", "a must be a real tensor (I,)", lambda at: pair_losses.squared_pairs(FLAT, FLAT)),
    Bad(
        "pairs: no scores",
        "a must be a real tensor (I,)",
        lambda at: pair_losses.logistic_pairs(X[0, :0], X[0]),
    ),
    Bad("pairs: whole numbers", "a must be a finite real tensor (I,)", lambda at: pair_losses.bias(Y, Y)),
    Bad(
        "pairs: three classes",
        "logits must be a real tensor (N, 2)",
        lambda at: training.fit(net(classes=3), POINTS, Y, training.Recipe(epochs=1, loss="squared pairs")),
    ),
    Bad("recipe: unknown loss", "'squared pairs'", lambda at: training.Recipe(loss="hinge")),
    Bad(
        "descent: nothing to move",
        "parameters must be one Tensor or more",
        lambda at: log_descent.descend(lambda: X.sum(), [], 1, 0.1),
    ),
    Bad("descent: no gradient", "require a gradient", lambda at: descend(w=torch.ones(2))),
    Bad("descent: unknown schedule", "'constant'", lambda at: descend(schedule="adaptive")),
    Bad("descent: no steps", "steps must be a whole number of at least 1", lambda at: descend(steps=0)),
    Bad("descent: rate NaN", "rate must be a finite number above 0", lambda at: descend(rate=NAN)),
    Bad(
        "descent: more than promised",
        "enough must be a finite number at least 0 and below 1",
        lambda at: descend(enough=1.0),
    ),
    Bad("descent: a loss of zero", "finite", lambda at: descend(lambda w: (0 * w).sum().log())),
    Bad(
        "log training: unknown schedule",
        "'constant', 'loss'",
        lambda at: log_training.fit(net(), X, Y, epochs=1, rate=0.1, schedule="triangular"),
    ),
    Bad(
        "log training: rate NaN",
        "rate must be a finite number above 0",
        lambda at: log_training.fit(net(), X, Y, epochs=1, rate=NAN),
    ),
    Bad(
        "log training: frozen",
        "frozen",
        lambda at: log_training.fit(frozen_net(), X, Y, epochs=1, rate=0.1),
    ),
    Bad(
        "log training: rate too large",
        "a smaller rate",
        lambda at: log_training.fit(net(), POINTS, Y, epochs=2, rate=1e30, schedule="constant"),
    ),
    Bad("scaling: by 1", "scales must not hold 1", lambda at: homogeneity.scaling(net(), X, (1.0, 2.0))),
    Bad("scaling: nothing to scale", "frozen", lambda at: homogeneity.scaling(frozen_net(), X)),
    Bad("margins: order 0", "order must be", lambda at: homogeneity.margins(net(), X, Y, 0)),
    Bad(
        "margins: a layer too few",
        "the number of weights",
        lambda at: homogeneity.margins(net(), X, Y, 2, weights=[torch.ones(2)]),
    ),
    Bad("margins: label 2 of 2", "from 0 to 1", lambda at: homogeneity.margins(net(), X, Y + 2, 2)),
    Bad("kkt: the wrong side", "above zero", lambda at: homogeneity.kkt(net(), X[[0, 0]], Y[[0, 1]], 2)),
    Bad("kkt: slack below 0", "slack must be", lambda at: homogeneity.kkt(net(), X, Y, 2, slack=-1.0)),
    Bad(
        "attack: labels missing",
        "labels must be an int64 tensor (4,) on cpu",
        lambda at: attack(labels=Y[:3]),
    ),
    Bad(
        "attack: float labels",
        "labels must be an int64 tensor (4,) on cpu",
        lambda at: attack(labels=Y.float()),
    ),
    Bad("attack: a label beyond", "between 0 and 1", lambda at: attack(labels=Y + 1)),
    Bad("attack: NaN inputs", "NaN", lambda at: attack(x=with_nan(POINTS))),
    Bad("attack: outside the box", "outside the box", lambda at: attack(box=(0.0, 1.0))),
    Bad(
        "attack: a box of nothing",
        "the upper end of box must be a finite number above 1.0",
        lambda at: attack(box=(1.0, 0.0)),
    ),
    Bad("attack: chunk 0", "chunk must be a whole number of at least 1", lambda at: attack(chunk=0)),
    Bad("pgd: eps 0", "eps must be", lambda at: attack(eps=0.0)),
    Bad("pgd: eps NaN", "eps must be", lambda at: attack(eps=NAN)),
    Bad("pgd: unknown norm", "'linf'", lambda at: attack(norm="l1")),
    Bad("pgd: unknown loss", "'margin'", lambda at: attack(loss="hinge")),
    Bad("pgd: no restarts", "restarts must be", lambda at: attack(restarts=0)),
    Bad("ddn: no steps", "steps must be", lambda at: short("ddn", steps=0)),
    Bad("ddn: shrink 1", "below 1", lambda at: short("ddn", shrink=1.0)),
    Bad("cw: negative confidence", "at least 0", lambda at: short("carlini_wagner", confidence=-1.0)),
    Bad("cw: no searches", "searches must be", lambda at: short("carlini_wagner", searches=0)),
    Bad("ddn: unknown loss", "'scaled'", lambda at: short("ddn", loss="hinge")),
    Bad("cw: cross-entropy", "'margin'", lambda at: short("carlini_wagner", loss="cross-entropy")),
    Bad("cw: rate 0", "rate must be", lambda at: short("carlini_wagner", rate=0.0)),
    Bad("fmn: shrink 0", "shrink must be", lambda at: short("fmn", shrink=0.0)),
    Bad("lbfgs: no steps", "steps must be", lambda at: short("lbfgs", steps=0)),
    Bad("lbfgs: no searches", "searches must be", lambda at: short("lbfgs", searches=0)),
    Bad("lbfgs: no memory", "memory must be", lambda at: short("lbfgs", memory=0)),
    Bad("lbfgs: constant 0", "constant must be", lambda at: short("lbfgs", constant=0.0)),
    Bad("lbfgs: margin", "'cross-entropy'", lambda at: short("lbfgs", loss="margin")),
    Bad("lbfgs: the last", "'shortest'", lambda at: short("lbfgs", keep="last")),
    Bad("mi-fgsm: eps NaN", "eps must be", lambda at: attack("mi_fgsm", eps=NAN)),
    Bad("mi-fgsm: negative decay", "decay must be", lambda at: attack("mi_fgsm", decay=-1.0)),
    Bad("mi-fgsm: unknown norm", "'linf'", lambda at: attack("mi_fgsm", norm="l1")),
    Bad("r+fgsm: alpha beyond", "alpha must be", lambda at: attack("r_fgsm", alpha=1.0)),
    Bad("r+fgsm: alpha 0", "alpha must be", lambda at: attack("r_fgsm", alpha=0.0)),
    Bad(
        "distortion: other shapes",
        "images must be a finite real tensor (4, 5)",
        lambda at: attacks.distortion(POINTS, POINTS[:, :2]),
    ),
    Bad("shrinking ball: eps 0", "eps must be", lambda at: attack("shrinking_ball", eps=0.0)),
    Bad("strongest: linf without a radius", "give eps", lambda at: short("strongest", norm="linf")),
    Bad("strongest: unknown attack", "'fmn'", lambda at: short("strongest", attacks=["bim"])),
    Bad("strongest: no attack", "number of attacks", lambda at: short("strongest", attacks=())),
    Bad("strongest: one name as text", "attacks must be", lambda at: short("strongest", attacks="ddn")),
    Bad("strongest: no doubling", "doublings must be", lambda at: short("strongest", doublings=0)),
    Bad(
        "strongest: points under squares",
        "(N, C, H, W)",
        lambda at: attack("strongest", norm="linf", attacks=["square"]),
    ),
    Bad("square: points", "(N, C, H, W)", lambda at: attack("square")),
    Bad(
        "square: a share of 2",
        "share must be a finite number above 0 and at most 1",
        lambda at: attack("square", x=IMAGES, share=2.0),
    ),
]


CASES = [*DATA, *MISSING, *SPECTRA, *NETS, *MARGINS, *RUNS, *CLAIMS, *PATHS, *LOW_RANK]


def leftovers(*folders: Path) -> list[Path]:
    return [p for folder in folders if folder.exists() for p in folder.rglob("*") if p.suffix == ".part"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_clear_sentence(case, at):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(case.error) as caught:
            case.do(at)
    said = str(caught.value)
    assert case.says in said
    assert "\n" not in said
    assert said.endswith(".")
    assert said[0].isupper() or said[0] in "/'" or said.split()[0].rstrip(":") in said.lower()
    assert 20 < len(said) < 400
    raised_in = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert raised_in.startswith(LIBRARY), f"raised in {raised_in}"
    assert leftovers(at.tmp, at.home) == []


def test_there_are_a_hundred_and_each_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES) >= 100


# --- what has a documented result instead ------------------------------------------------------------------


def overflowing(x: torch.Tensor) -> torch.Tensor:
    """The boundary lies at x₀ = 1, but there both logits have long been infinite."""
    shared = torch.exp(1e4 * x[:, 0])
    return torch.stack([1 + shared, x[:, 0] + shared], 1)


def blind() -> nn.Module:
    """No gradient along the first axis."""
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight[:, 0] = 0
    return model


@pytest.mark.parametrize(
    "model",
    [lambda x: x[:, :2] * 0 + torch.tensor([1.0, 0.0]), lambda x: x[:, :2] * 0, blind(), overflowing],
    ids=["constant", "tied", "blind", "overflowing"],
)
def test_margins_that_are_not_there_are_censored_and_never_nan(model):
    x = POINTS.clone()
    x[:, 0] = 0
    m = margins.deepfool(model, x, [LINE])
    assert not m.found.any()
    for values in (m.norm, m.raw, m.quantile(0.5)):
        assert (values == INF).all()
    assert torch.equal(m.label[:, 0], m.origin)


def test_a_batch_of_one_is_a_batch():
    alone = margins.deepfool(net(), POINTS[:1])
    together = margins.deepfool(net(), POINTS)
    assert torch.allclose(alone.norm, together.norm[:1])
    assert training.fit(net(), POINTS[:1], Y[:1], RECIPE).epochs == 1


def test_a_folder_named_like_the_data_is_passed_over(at):
    (at.home / "mnist.npz").mkdir(parents=True)
    assert data.where("mnist") == "sample inside the package"
    assert len(data.load("mnist", "test", n=3)[0]) == 3


@pytest.mark.parametrize("disk", ["full", "read_only"])
def test_networks_go_on_without_a_disk(at, disk):
    folder = getattr(at, disk)()
    run = at.run(TIGHTROPE_CACHE=str(folder))
    big = lambda seed: nets.mlp(5, (200, 200), seed=seed)
    with pytest.warns(UserWarning, match=r"^Trained networks cannot be kept in .*\.$") as told:
        first, second = (run.network(big, POINTS, Y, RECIPE)[0] for _ in range(2))
    assert len(told) == 1
    assert torch.equal(first(POINTS), second(POINTS))
    if folder.exists():
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("disk", ["full", "read_only"])
def test_results_go_on_without_a_disk(at, disk):
    run = at.run(TIGHTROPE_KEY="k")
    cells = Path("build/cells")
    cells.symlink_to(getattr(at, disk)(), target_is_directory=True)
    value = torch.arange(100_000.0)
    assert torch.equal(run.kept(lambda: value)(), value)
    (said,) = run.snapshot()["warnings"]
    assert said.startswith("Results cannot be kept in")
    assert said.endswith(".")
    if cells.exists():
        assert [p for p in cells.rglob("*") if p.is_file()] == []


def test_a_live_run_goes_on_without_a_disk(at):
    Path("build").symlink_to(at.read_only(), target_is_directory=True)
    with pytest.warns(UserWarning, match=r"^The numbers of this run cannot be written .*\.$"):
        run = at.run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        run.record("a", 1)
        run.keep("t", x=[1, 2])
    assert run.snapshot()["quantities"]["a"]["value"] == 1


def test_a_full_disk_leaves_the_last_whole_record(at):
    disk = at.full()
    with pytest.raises(OSError, match="cannot be written"):
        record_on(at, disk)
    path = layout.find_checkout().record("quick", CHAPTER, partial=True)
    if path.is_file():
        quantities = records.read(path)["quantities"]
        assert list(quantities) == [f"quantity.{i}" for i in range(len(quantities))]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.pt"
    kept.save(path, {"x": torch.arange(3)})
    code = (
        "import os, signal\n"
        "from tightrope._files import replacing\n"
        f"with replacing({str(path)!r}) as part:\n"
        "    part.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", code])
    assert died.returncode == -signal.SIGKILL
    assert kept.load(path)["x"].tolist() == [0, 1, 2]


def test_a_pipe_is_not_replaced_by_what_is_written(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(FileExistsError, match="pipe stands there"):
        kept.save(path, {"x": torch.arange(3)})
    assert path.is_fifo()


def test_networks_go_on_where_their_folder_cannot_be(at):
    at.patch.setenv("TIGHTROPE_CACHE", str(at.folder_in_the_way()))
    told = []
    networks.trained(seeded, POINTS, Y, RECIPE, warn=told.append)
    assert len(told) == 1
