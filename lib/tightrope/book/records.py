"""What a run leaves behind: a JSON file of numbers and provenance, an npz of small arrays beside it.

A record is a dictionary: chapter, profile, seed, device, device_name, versions, date (UTC), commit, dirty,
key, stored_key, seconds, sizes, warnings and `quantities`, {id: {"value", "interval", "n", "unit", ...}}.
No torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tightrope._files import reason, replacing
from tightrope.book import checkout as layout

ID = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
_FIELDS = {"chapter": str, "profile": str, "seed": int, "device": str, "quantities": dict}


@dataclass(frozen=True)
class Stored:
    """A paper-scale run kept in git: its record, its arrays, and whether its code has changed since.

    stored["table1.u1.median"] is that quantity's value; `stale` is None where it cannot be told.
    """

    record: dict
    arrays: dict[str, np.ndarray]
    checkout: layout.Checkout | None

    @cached_property
    def stale(self) -> bool | None:
        """Whether the code that measures is no longer the record's; None where it cannot be read."""
        from tightrope.book.press import keys, pairs

        if self.checkout is None:
            return None
        if self.record["profile"] not in layout.PROFILES:
            return True
        try:
            cells = pairs.read_text(self.checkout.text(self.record["chapter"])).cells
        except (ImportError, layout.Stop):  # no jupytext, or no such chapter
            return None
        return keys.stored_key(self.checkout, cells, self.record["profile"]) != self.record.get("stored_key")

    def __getitem__(self, quantity: str) -> float | int | bool:
        return value(self.record, quantity)


def quantity(record: Mapping, name: str) -> dict | None:
    """One quantity's entry, or None where the run did not record it."""
    return record["quantities"].get(name)


def value(record: Mapping, name: str) -> float | int | bool:
    """One quantity's value. Raises ValueError where the run did not record it."""
    entry = quantity(record, name)
    if entry is None:
        raise ValueError(f"The {record['profile']} run of {record['chapter']} has no quantity {name!r}.")
    return entry["value"]


def read(path: Path) -> dict:
    """The record in a JSON file, checked. Raises ValueError, naming the file, for one that is no record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not JSON"
        raise ValueError(f"{path} cannot be read as a record ({why}): run the chapter again.") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a record but a {type(record).__name__}: run the chapter again.")
    for field, kind in _FIELDS.items():
        if not isinstance(record.get(field), kind):
            raise ValueError(
                f"{path} is not a record: its {field!r} is missing or wrong; run the chapter again."
            )
    for name, entry in record["quantities"].items():
        if not isinstance(entry, dict) or not _is_number(entry.get("value")):
            raise ValueError(f"{path}: the quantity {name!r} has no finite value; run the chapter again.")
    return record


def write(path: Path, record: Mapping) -> None:
    """Write a record, atomically."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


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
    if checkout is None:
        try:
            checkout = layout.find_checkout()
        except layout.Stop:
            return None
    found = checkout.match(chapter, [p.stem for p in checkout.stored("x").parent.glob("*.json")])
    if not found:
        return None
    path = checkout.stored(found[0])
    return Stored(read(path), read_arrays(path.with_suffix(".npz")), checkout)


def _is_number(thing: object) -> bool:
    return isinstance(thing, bool | int | float) and math.isfinite(thing)
