"""A row of the tree, as its rules see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
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


def entry_of(row: Any) -> Entry:
    """The entry in a row of all columns of `entries`."""
    return Entry(
        row.id,
        row.parent_id,
        row.name,
        row.kind,
        row.copies,
        row.created_at,
        row.modified_at,
        row.size,
        row.sha256,
        row.generation,
        row.version or "",
        row.uploader,
        row.source,
    )
