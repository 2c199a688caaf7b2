"""Fetch a data set with torchvision and keep it as one npz, without ever hanging on a closed network."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tightrope._files import reason, replacing
from tightrope.inputs._torchvision import torchvision

PATIENCE = 5.0  # seconds for a name to resolve, a connection to open, a byte to arrive
_unreachable: dict[str, str] = {}  # host -> why: what failed once in this process is not tried again


class Failed(Exception):
    """Why a data set could not be fetched: a clause, without a full stop, for the middle of a sentence."""


def fetch(name: str, path: Path) -> Path:
    """Download the data set `name` and write it to `path` (npz, atomically). Raises Failed."""
    if name not in _SOURCES:
        raise Failed("nobody offers it for download")
    host, read = _SOURCES[name]
    if host not in _unreachable:
        problem = _probe(host)
        if problem:
            _unreachable[host] = problem
    if host in _unreachable:
        raise Failed(f"the download failed: {_unreachable[host]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent) as folder:
            with _patient(), _quiet():
                arrays = read(folder)
            with replacing(path) as part, open(part, "wb") as file:
                np.savez_compressed(file, **arrays)
    except ImportError as error:
        raise Failed(str(error).rstrip(".")) from error
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        if isinstance(error, TimeoutError | urllib.error.URLError | ConnectionError):
            _unreachable[host] = f"{host} does not answer"
            raise Failed(f"the download failed: {_unreachable[host]}") from error
        if isinstance(error, OSError):
            raise Failed(f"it could not be written to {path.parent}: {reason(error)}") from error
        first = str(error).splitlines()[0].rstrip(".:") if str(error) else type(error).__name__
        raise Failed(f"the download failed: {first}") from error
    return path


def _arrays(kind: str, folder: str) -> dict[str, np.ndarray]:
    arrays = {}
    for split in ("train", "test"):
        part = getattr(torchvision().datasets, kind)(folder, train=split == "train", download=True)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = np.asarray(part.data), np.asarray(part.targets)
    return arrays


def _imagenette128(folder: str) -> dict[str, np.ndarray]:
    """The 160-pixel edition, its shorter side made 128, the middle square kept."""
    datasets, transforms = torchvision().datasets, torchvision().transforms
    arrays = {}
    for split, theirs in (("train", "train"), ("test", "val")):
        square = transforms.Compose([transforms.Resize(128), transforms.CenterCrop(128), np.asarray])
        part = datasets.Imagenette(folder, theirs, "160px", download=split == "train", transform=square)
        pairs = [part[i] for i in range(len(part))]
        arrays[f"x_{split}"] = np.stack([image for image, _ in pairs])
        arrays[f"y_{split}"] = np.array([label for _, label in pairs])
    return arrays


_SOURCES: dict[str, tuple[str, Callable[[str], dict[str, np.ndarray]]]] = {
    "mnist": ("ossci-datasets.s3.amazonaws.com", partial(_arrays, "MNIST")),
    "cifar10": ("www.cs.toronto.edu", partial(_arrays, "CIFAR10")),
    "imagenette128": ("s3.amazonaws.com", _imagenette128),
}


def _probe(host: str) -> str | None:
    """Why `host` (or the proxy that leads to it) cannot be reached; None when it can.

    In a thread of its own: a resolver without a network may take minutes, whatever timeout sockets have.
    """
    port, proxy = 443, urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(host):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = parts.hostname or host, parts.port or 8080
    answer: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            answer.append(None)
        except OSError as error:
            answer.append(f"{host} cannot be reached ({reason(error)})")

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answer[0] if answer else f"{host} does not answer"


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """urllib has no timeout but the default of new sockets: give it one meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision's bars and messages belong in a terminal, never on a page."""
    if sys.stderr is not None and sys.stderr.isatty():
        yield
        return
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
