"""A row of the tree, as its rules see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A file or a directory.  `copies` is null for directories that do as the one above them."""

    id: int
    parent_id: int | None
    name: str
    kind: str
    copies: int | None
    created: float
    modified: float
    size: int
    sha256: str
    generation: int
    version: str
    uploader: str
    source: str

    @property
    def is_dir(self) -> bool:
        return self.kind == "d"


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit came to: the file, and what it replaced with the storages that hold that."""

    entry: Entry
    replaced: Entry | None
    replaced_holders: tuple[int, ...]


def entries_of(rows: Iterable[Any]) -> list[Entry]:
    """`entry_of` for each."""
    return [made if made.version else made._replace(version="") for made in map(Entry._make, rows)]


def entry_of(row: Any) -> Entry:
    """The entry in a row of all columns of `entries`, which stand in the order of its fields."""
    made = Entry._make(row)
    return made if made.version else made._replace(version="")  # null for directories
