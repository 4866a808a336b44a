"""What a session offers to those who use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: bytes of `path` or of the whole tree, and files."""

    path: str
    done: int
    total: int
    files_done: int
    files_total: int


OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a transfer of a whole tree came to.  `same`: files that were there already, with the same bytes; they count
    among the `files`, and not in the `bytes`."""

    files: int
    directories: int
    bytes: int
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    same: int = 0
