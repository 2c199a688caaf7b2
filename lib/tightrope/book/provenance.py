"""Where and with what a run was made: device, versions, and the commit of its code."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import torch

from tightrope import __version__
from tightrope.book import checkout as layout


def versions() -> dict[str, str]:
    """Of Python, torch, numpy and the library."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "tightrope": __version__,
    }


def device(name: str) -> torch.device:
    """The device of that name, "auto", "cpu" or "cuda", made ready to measure. Raises ValueError for others."""
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"Unknown device {name!r}: use 'auto', 'cpu' or 'cuda'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(name)
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device='cuda', but torch sees no GPU here: use 'auto' or 'cpu'.")
        if (chosen.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device={name!r}, but torch sees {torch.cuda.device_count()} GPU(s): use 'cuda'."
            )
        torch.backends.cudnn.allow_tf32 = False  # margins are measured in float32
    return chosen


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' * (threads != 1)}"


def commit(checkout: layout.Checkout | None) -> dict[str, object]:
    """The commit this code is at, and whether files in git differ from it; None where git cannot say, or speaks of
    another folder that this checkout merely lies in."""

    def git(*words: str) -> str | None:
        if checkout is None:
            return None
        try:
            answer = subprocess.run(
                ["git", "-C", str(checkout.root), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != checkout.root.resolve():
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "--verify", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }
