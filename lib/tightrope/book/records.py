"""What a run leaves behind: a JSON file of numbers and provenance, an npz of small arrays beside it.

A record is a dictionary of the form `Record`; what else a run notes in it stays there. No torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tightrope._files import reason, replacing
from tightrope.book import checkout as layout

ID = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")


class Quantity(msgspec.Struct):
    """One recorded number; JSON has no NaN and no infinity, so it is finite."""

    value: float | int | bool
    interval: tuple[float, float] | None = None
    n: int | None = None
    unit: str | None = None


class Record(msgspec.Struct):
    """The form of a record, as far as somebody reads it."""

    chapter: str
    profile: str
    seed: int
    device: str
    quantities: dict[str, Quantity]
    device_name: str | None = None
    date: str | None = None  # UTC
    commit: str | None = None
    dirty: bool | None = None
    key: str | None = None
    stored_key: str | None = None
    vouched: dict[str, str] | None = None  # commit and date, see `vouching`
    sizes: dict[str, object] = {}
    versions: dict[str, object] = {}


@dataclass(frozen=True)
class Stored:
    """A run kept in git: its record and its arrays. stored["table1.u1.median"] is that quantity's value."""

    record: dict
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> float | int | bool:
        if name not in self.record["quantities"]:
            where = f"The {self.record['profile']} run of {self.record['chapter']}"
            raise ValueError(f"{where} has no quantity {name!r}.")
        return self.record["quantities"][name]["value"]


def machine(record: Mapping) -> str:
    """What a run was made on, as a page names it; earlier records say "1 thread(s)"."""
    name = str(record.get("device_name") or record.get("device") or "")
    return re.sub(r"\b(\d+) thread\(s\)", lambda m: f"{m[1]} thread{'s' * (m[1] != '1')}", name)


def read(path: Path) -> dict:
    """The record in a JSON file, checked. Raises ValueError, naming the file, for one that is no record."""
    try:
        raw = path.read_bytes()
        msgspec.json.decode(raw, type=Record)
        return json.loads(raw)
    except OSError as error:
        why = f"cannot be read ({reason(error)})"
    except msgspec.ValidationError as error:
        why = f"is not a record ({error})"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"is not JSON ({error})"
    raise ValueError(f"{path} {why}: run the chapter again.")


def write(path: Path, record: Mapping) -> None:
    """Write a record, atomically."""
    layout.write(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz; none when there is no file. Raises ValueError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged file
        raise ValueError(f"{path} is damaged: run the chapter again.") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)


def stored(chapter: str, checkout: layout.Checkout | None = None) -> Stored | None:
    """The stored run of a chapter (its number or name), or None where there is none."""
    try:
        folder = (checkout.book if checkout else layout.shelf()) / "runs"
    except layout.Stop:
        return None
    found = layout.Checkout.match(chapter, [path.stem for path in folder.glob("*.json")])
    if not found:
        return None
    path = folder / f"{found[0]}.json"
    return Stored(read(path), read_arrays(path.with_suffix(".npz")))
