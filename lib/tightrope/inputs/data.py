"""Image data sets as two tensors.

`load("mnist", "test", n=64)` gives images float32 (N, C, H, W) in [0, 1] and labels int64 (N,). It looks in
this order:

1. `$TIGHTROPE_DATA/<name>.npz`
2. `~/.cache/tightrope/<name>.npz`
3. the sample inside the package (`mnist`: 12,000 + 2,000 real digits, see `samples/README.md`)
4. a torchvision download, kept as the second of these files

With `download=True` or TIGHTROPE_DOWNLOAD=1 the download comes before the sample. Nothing less than that replaces a
sample: a silent download would change the numbers of a page between two runs of the same book, and the default run
would depend on a network. A data set without a sample is downloaded whenever it is not on disk.

The npz files hold `x_train, y_train, x_test, y_test` (Keras' names): images uint8 (N, H, W) or (N, H, W, C),
integer labels (N,).
"""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tightrope import _files, refusals, seeds
from tightrope.inputs import download as _download

SPLITS = ("train", "test")
SAMPLES = Path(__file__).parent / "samples"
_KEYS = tuple(f"{axis}_{split}" for split in SPLITS for axis in "xy")


class DataMissing(FileNotFoundError):
    """A data set that is not on this machine and could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before a file is opened."""

    image: tuple[int, ...]  # (H, W) or (H, W, C)
    classes: int
    mean: tuple[float, ...]  # of each channel, and its standard deviation: what networks normalise by
    std: tuple[float, ...]
    splits: tuple[str, ...] = SPLITS

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) in which `load` gives an image."""
        return len(self.mean), *self.image[:2]


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DATA_SETS = {
    "mnist": DataSet((28, 28), 10, (0.1307,), (0.3081,)),
    "cifar10": DataSet((32, 32, 3), 10, (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "imagenette128": DataSet((128, 128, 3), 10, **IMAGENET),
    "imagenet_sample224": DataSet((224, 224, 3), 1000, **IMAGENET, splits=("test",)),
}


def load(
    name: str, split: str, n: int | None = None, seed: int = 0, download: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Images float32 (N, C, H, W) in [0, 1] and labels int64 (N,) of one split of a data set.

    n: how many, a random subset drawn with `seed`, in the order drawn; None for all, in stored order.
    download: True to fetch a missing data set even where a sample would do, False never to fetch; None
    fetches when TIGHTROPE_DOWNLOAD=1 or when there is no sample.

    Raises ValueError for an unknown name or split, for n larger than the split and for a damaged file, and
    DataMissing, at once, for a data set that cannot be had.
    """
    known = _known(name)
    refusals.choice(SPLITS, split=split)
    if download is not None:
        refusals.truth(download=download)
    if split not in known.splits:
        raise ValueError(f"{name} has no {split} split: use split={known.splits[0]!r}.")
    refusals.whole(1, **refusals.given(n=n))
    refusals.whole(0, seed=seed)

    path = _find(name, download)
    about = path.stat()
    images, labels = _read(path, name, split, (about.st_mtime_ns, about.st_size))
    if n is not None:
        refusals.whole(1, len(images), **{f"n of {name} {split}": n})
        chosen = torch.randperm(len(images), generator=seeds.generator(seed, f"subset of {name} {split}"))[
            :n
        ].numpy()
        images, labels = images[chosen], labels[chosen]
    images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    x = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255)
    return x, torch.from_numpy(labels.astype(np.int64))


def where(name: str) -> str | None:
    """What `load` would read now, without a network: a path, 'sample inside the package', or None."""
    _known(name)
    path = _on_disk(name)
    if path is not None:
        return str(path)
    return "sample inside the package" if _sample(name) else None


def _known(name: str) -> DataSet:
    refusals.choice(tuple(DATA_SETS), name=name)
    return DATA_SETS[name]


def _sample(name: str) -> Path | None:
    path = SAMPLES / f"{name}.npz"
    return path if path.is_file() else None


def _on_disk(name: str) -> Path | None:
    folder = os.environ.get("TIGHTROPE_DATA")
    if folder and not Path(folder).is_dir():
        raise DataMissing(f"TIGHTROPE_DATA names {folder}, which is not a folder: correct it or unset it.")
    for place in ([Path(folder)] if folder else []) + [_files.user_cache()]:
        if (place / f"{name}.npz").is_file():
            return place / f"{name}.npz"
    return None


def _find(name: str, download: bool | None) -> Path:
    path, sample = _on_disk(name), _sample(name)
    if path is not None:
        return path
    asked = os.environ.get("TIGHTROPE_DOWNLOAD", "0") not in ("", "0") if download is None else download
    if asked or (sample is None and download is None):
        try:
            return _download.fetch(name, _files.user_cache() / f"{name}.npz")
        except _download.Failed as failure:
            problem = str(failure)
        if sample is not None:
            warnings.warn(f"{name}: {problem}; the sample inside the package is used.", stacklevel=3)
    else:
        problem = "downloading was not asked for"
    if sample is not None:
        return sample
    raise DataMissing(
        f"{name} is not on this machine ({problem}): put {name}.npz ({', '.join(_KEYS)}) into "
        "~/.cache/tightrope, or set TIGHTROPE_DATA to the folder that holds it."
    )


@lru_cache(maxsize=2)
def _read(path: Path, name: str, split: str, version: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One split of an npz: images uint8 (N, H, W[, C]) and integer labels (N,), checked.

    The last two stay in memory: a chapter asks for the same split dozens of times. `version` tells files apart.
    """
    known = DATA_SETS[name]
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError(f"{path} is not an npz archive: write it with numpy.savez.")
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise ValueError(f"{path} lacks {', '.join(missing)}: it must hold {', '.join(_KEYS)}.")
            images, labels = archive[f"x_{split}"], archive[f"y_{split}"]
    except PermissionError as error:
        raise DataMissing(f"{path} may not be read: change its permissions.") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged or not an npz archive: delete it or write it again.") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} holds arrays of Python objects or damaged ones: write it again.") from error

    x, y = f"x_{split}", f"y_{split}"
    shape = " x ".join(map(str, known.image))
    if images.dtype != np.uint8:
        raise ValueError(f"{path}: {x} is {images.dtype}, but images are kept as uint8 from 0 to 255.")
    if images.shape[1:] != known.image and images.shape[1:] != (*known.image, 1):
        raise ValueError(f"{path}: {x} has shape {images.shape}, but {name} has images of {shape}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{path}: {y} is {labels.dtype}, but labels are whole numbers.")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: {y} has shape {labels.shape}, but {len(images)} images need one label each."
        )
    if not len(images):
        raise ValueError(f"{path}: {x} is empty: write the file again with images in it.")
    if labels.min() < 0 or labels.max() >= known.classes:
        raise ValueError(
            f"{path}: {y} has labels outside 0 to {known.classes - 1}: {name} has {known.classes} classes."
        )
    return images, labels
