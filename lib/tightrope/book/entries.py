"""A YAML file that is a list of entries, read into structs and checked: the claims, the sources' slips. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from tightrope.book import checkout as layout

Entry = TypeVar("Entry", bound=msgspec.Struct)


def load(path: Path, kind: type[Entry], name: str, lists: Sequence[str] = ()) -> list[Entry]:
    """All entries of a file, in its order; their ids are unique.

    kind: what an entry is, with an `id`. name: what one is called ("claim"). lists: fields where one text may stand
    for a list of one. Raises FileNotFoundError without the file, ValueError, naming the entry, for one that is wrong.
    """
    try:
        return list(_read(layout.read(path), kind, name, path.name, tuple(lists)))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no {path}: the {name}s of the book are kept there.") from error
    except (yaml.YAMLError, layout.Stop) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split()).rstrip('.')}.") from error


@lru_cache(maxsize=8)
def _read(text: str, kind: type[Entry], name: str, file: str, lists: tuple[str, ...]) -> tuple[Entry, ...]:
    entries = yaml.load(text, layout.YAML)
    if not isinstance(entries, list):
        raise ValueError(f"{file} must be a list of {name}s, each beginning with '- id:'.")
    found: dict[str, Entry] = {}
    for position, entry in enumerate(entries, 1):
        which = f"{name.capitalize()} number {position} of {file}"
        if isinstance(entry, dict):
            which = f"{name.capitalize()} {entry['id']!r}" if entry.get("id") else which
            given = {field: entry.get(field) for field in lists}
            entry = entry | {
                key: value if isinstance(value, list) else [value] for key, value in given.items()
            }
        try:
            made = msgspec.convert(entry, kind)
        except msgspec.ValidationError as error:
            raise ValueError(f"{which}: {error}.") from None
        if made.id in found:
            raise ValueError(f"{which}: this id is used twice; give one of the two another.")
        found[made.id] = made
    return tuple(found.values())
