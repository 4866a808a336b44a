"""What one librarian says to another: offers of files, and the states of transfers.

Law: A (the source) and B (the destination) each keep a row for a transfer, under an id of its own; ids are 32
hexadecimal digits.  Every call may come twice or late and does the same as the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from goggles.contracts.records import Record

MAX_OFFER = 1_000  # files in one offer
PROTOCOL = 1
SITE_TO_SITE = ("goggles", "local", "rsync", "globus")  # transfer managers


class State(IntEnum):
    """Where a transfer is, on one side.  The numbers are those of the existing librarians."""

    INITIATED = 0  # written down; B has a place for it (or not yet)
    ONGOING = 1  # a transfer manager has it
    STAGED = 2  # all bytes are at B, not yet verified
    COMPLETED = 3  # a file of B's tree, and A knows it
    FAILED = 4
    CANCELLED = 5


@dataclass(frozen=True, slots=True)
class Offer(Record):
    """One file that A wants to push."""

    id: str  # A's
    path: str
    size: int
    sha256: str
    uploader: str
    source: str
    made_at: float  # when the file was made at its source; seconds since 1970, UTC


@dataclass(frozen=True, slots=True)
class Place(Record):
    """B's answer to one offer it accepts: its own id, and where the bytes go, below the root of its storage."""

    id: str
    place: str


@dataclass(frozen=True, slots=True)
class Reception(Record):
    """B's answer to a batch.  `answers`: for each offer a Place, or (code, message, hint) where it was refused.

    `facilities`: JSON, by transfer manager how the storage is reached.  `stores`: for refused offers of files that B
    has already (code `have_it`), the storages that hold them."""

    store: str
    host: str
    port: int
    facilities: str
    free: int
    answers: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Checksum(Record):
    """One copy of a file as it is now.  `current_size` is -1 and `current_checksum` '' where it could not be read, and
    `error` says why."""

    librarian: str
    store: str
    original_checksum: str
    original_size: int
    current_checksum: str
    current_size: int
    computed_same_checksum: bool
    error: str = ""
