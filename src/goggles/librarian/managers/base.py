"""What a transfer manager is: it takes a batch, and says of each transfer in it whether it is done or has failed.

Law: `start` may be called again for the same batch, also after a crash in the middle of it, and never sends bytes to
two places.  `poll` changes nothing here.  Neither holds the global lock while it speaks to anybody.

A handle that says `bound` was written before the work began: nobody knows whether it did, so that no other manager may
have the batch until this one says that it is over.  A manager may cut a batch in its `start`, into another that waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from goggles.librarian.ledger import Record
from goggles.librarian.peers import PeerInfo

Facility = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """Of one transfer: `done`, or why it failed, or neither (under way).  `lost`: nobody knows, so begin it again."""

    done: bool = False
    error: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch under way is, of those files that are still to be noted.  `rate` is bytes a second, `task` what
    others call the work; `trouble` says what it is in trouble with, '' where it is well."""

    files_done: int = 0
    size_done: int = 0
    rate: float = 0.0
    task: str = ""
    trouble: str = ""


class TransferManager(Protocol):
    """One way to move bytes to a storage of another site."""

    name: str

    def valid(self, facility: Facility) -> bool:
        """Whether it can be used with a storage that is reached so."""
        ...

    def start(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> dict[str, Any]:
        """Begin, or go on; what is needed to find the work again, as JSON values.  GogglesError where it can not;
        Overloaded where it has to wait, which is no failure."""
        ...

    def poll(self, batch: Record, rows: Sequence[Record]) -> dict[str, Status]:
        """Of each transfer, by id, how it is."""
        ...

    def progress(self, batch: Record, rows: Sequence[Record]) -> Progress:
        """How far these are, as far as it is known; asks nobody."""
        ...

    def forget(self, transfers: Sequence[str]) -> None:
        """These are not asked for again."""
        ...

    def stop(self, batch: Record) -> None:
        """Nobody waits for it any more.  Never raises a GogglesError."""
        ...

    def close(self) -> None:
        """The program ends: whoever waits for an answer may stop."""
        ...
