"""Trained networks, kept by content: the same structure, start, data, recipe and seed are trained once.

They lie as safetensors in `$TIGHTROPE_CACHE`, else in `build/networks` of the checkout, else in
`~/.cache/tightrope/networks`. Any of them may be deleted at any time.
"""

from __future__ import annotations

import inspect
import os
import textwrap
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from tightrope import _files
from tightrope._files import reason, replacing
from tightrope.book import checkout as layout
from tightrope.book import code, kept
from tightrope.models import training

Build = Callable[..., nn.Module]


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

    build: `build(seed)` or `build()` gives the fresh network. x (N, ...), y (N,) are moved to `device`.
    A cache that cannot be written is told to `warn` in one sentence, and training goes on without.
    """
    for name, given in {"x": x, "y": y, "x_test": x_test, "y_test": y_test}.items():
        if not isinstance(given, Tensor) and (given is not None or name in ("x", "y")):
            raise ValueError(f"{name} must be a tensor, not a {type(given).__name__}.")
    x, y, x_test, y_test = (t if t is None else t.to(device) for t in (x, y, x_test, y_test))
    net = _fresh(build, seed, device)
    source = _code(net)
    if source is None:  # a class whose source cannot be read: nothing would say when it changes
        return net, training.fit(net, x, y, recipe, seed, x_test, y_test)
    versions = torch.__version__.split("+")[0].rsplit(".", 1)[0]
    key = kept.fingerprint(
        net, recipe, x, y, seed, x_test, y_test, source, versions, torch.device(device).type
    )
    folder = _folder()
    path, checkpoint = folder / f"{key}.safetensors", folder / f"{key}.checkpoint"
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
    parameters = inspect.signature(build).parameters.values()
    wanted = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if any(p.name == "seed" and p.kind != p.POSITIONAL_ONLY for p in parameters):
            net = build(seed=seed)
        else:
            net = build(seed) if wanted else build()
    if not isinstance(net, nn.Module):
        raise ValueError(f"build must return a network (nn.Module), not a {type(net).__name__}.")
    return net.to(device)


def _code(net: nn.Module) -> str | None:
    """A key of the code that trains `net` and computes its output; None where some of it cannot be read."""
    names, sources = {"tightrope.models.training.fit"}, set()
    for kind in {type(module) for module in net.modules()}:
        package = kind.__module__.split(".")[0]
        if package == "tightrope":
            names.add(f"{kind.__module__}.{kind.__qualname__.split('.')[0]}")
        elif package not in ("torch", "torchvision"):  # theirs go by version
            try:
                sources.add(code.cell_form(textwrap.dedent(inspect.getsource(kind))))
            except (OSError, TypeError):
                return None
    return code.digest(_reached(tuple(sorted(names))), *sorted(sources))


@lru_cache(maxsize=64)
def _reached(names: tuple[str, ...]) -> str:
    cell = "\n".join(["import tightrope", *(f"import {name.rsplit('.', 1)[0]}" for name in names), *names])
    return code.key([cell], Path(__file__).parents[1], code.measures)


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
