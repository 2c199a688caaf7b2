"""What holds for every test: no network, no environment of the user's, nothing global left changed.

Tests run in one thread, or as many as OMP_NUM_THREADS says. TIGHTROPE_TEST_SEED is added to every seed that the library
draws from, networks and subspaces included: what a test states holds for any of them.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

from tightrope import _files, seeds

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

SHIFT = int(os.environ.get("TIGHTROPE_TEST_SEED", "0"))
GIVEN_DATA = os.environ.get("TIGHTROPE_DATA")  # where the full data sets lie, on a machine that has them

_drawn = seeds.generator


def _shifted(seed, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    return _drawn(seed + SHIFT if type(seed) is int and seed >= 0 else seed, purpose, device)


# Before any test module is imported: some draw their samples there.
seeds.generator = _shifted

CHAPTER_TEXT = """---
jupytext:
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---

# One

```{code-cell} ipython3
x = 1
```
"""


@pytest.fixture(autouse=True)
def _closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine answers: a test that needs another one fails wherever it runs."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def local_connect(self, address):
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"):
            return connect(self, address)
        raise OSError(f"tests have no network ({address})")

    def local_resolve(host, *rest, **options):
        if host in (None, "", "127.0.0.1", "localhost", "::1"):
            return resolve(host, *rest, **options)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_resolve)


@pytest.fixture(scope="session", autouse=True)
def _no_variables_of_the_book() -> None:
    """None of the book's variables is set, for fixtures of a module neither."""
    for name in [name for name in os.environ if name.startswith("TIGHTROPE_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache, empty and of this test alone."""
    cache = tmp_path_factory.mktemp("home") / "cache"
    monkeypatch.setattr(_files, "user_cache", lambda: cache)
    return cache


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    torch.manual_seed(SHIFT)
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    yield
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == before


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one empty chapter, as the working directory."""
    root = tmp_path / "checkout"
    (root / "book" / "runs").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/01-synthetic-margins\n")
    (root / "book" / "01-synthetic-margins.md").write_text(CHAPTER_TEXT)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def npz(tmp_path: Path):
    """Write a small data set of mnist's form; keyword arguments replace its arrays, None leaves one out."""

    def write(path: Path | None = None, fill: int = 0, **arrays) -> Path:
        path = path or tmp_path / "data" / "mnist.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            "x_train": np.full((6, 28, 28), fill, np.uint8),
            "y_train": np.arange(6),
            "x_test": np.full((4, 28, 28), fill, np.uint8),
            "y_test": np.arange(4),
        } | arrays
        np.savez(path, **{key: array for key, array in whole.items() if array is not None})
        return path

    return write
