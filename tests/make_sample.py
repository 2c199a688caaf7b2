"""Make `lib/tightrope/inputs/samples/mnist.npz` from the four original IDX files.

    python tests/make_sample.py FOLDER

FOLDER holds `train-images-idx3-ubyte` and its three siblings, gzipped or not. See samples/README.md.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch

SAMPLE = Path(__file__).resolve().parents[1] / "lib" / "tightrope" / "inputs" / "samples" / "mnist.npz"
A_CLASS = {"train": 1_200, "test": 200}  # digits of each class
PREFIX = {"train": "train", "test": "t10k"}


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The original split: images uint8 (N, 28, 28), labels uint8 (N,)."""

    def idx(name: str, header: int) -> np.ndarray:
        plain = folder / name
        raw = plain.read_bytes() if plain.is_file() else gzip.decompress((folder / f"{name}.gz").read_bytes())
        return np.frombuffer(raw, np.uint8, offset=header)

    images = idx(f"{PREFIX[split]}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    return images, idx(f"{PREFIX[split]}-labels-idx1-ubyte", 8)


def select(labels: np.ndarray, split: str) -> np.ndarray:
    """Indices of the sample's digits: as many of every class, drawn and ordered with seed 0."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator).numpy()
    rank = np.empty(len(labels), int)  # the how-manieth of its class a digit is in that order
    for digit in range(10):
        of_class = order[labels[order] == digit]
        rank[of_class] = np.arange(len(of_class))
    return order[rank[order] < A_CLASS[split]]


def main(folder: Path) -> None:
    arrays = {}
    for split in A_CLASS:
        images, labels = read(folder, split)
        chosen = select(labels, split)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = images[chosen], labels[chosen]
    SAMPLE.parent.mkdir(exist_ok=True)
    np.savez_compressed(SAMPLE, **arrays)
    print(SAMPLE, SAMPLE.stat().st_size, "bytes, sha256", hashlib.sha256(SAMPLE.read_bytes()).hexdigest())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
