"""What a self-check means: each thing found on a storage against the tree.  Pure.

Law: what is quarantined is only what the tree does not know, and nothing at all is touched while that would take away
suspiciously much: a nameserver that knows less than its storages must not make them forget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from goggles.contracts.orders import Held

FEW = 10  # unknown files that raise no suspicion by their number
SHARE = 0.10  # of a storage's files or bytes


class Verdict(StrEnum):
    KEEP = "keep"  # as it should be
    STAMP = "stamp"  # the right bytes at the right path, but the note of it is missing
    MOVE = "move"  # the right bytes; the path was renamed meanwhile
    PUBLISH = "publish"  # committed, but the order to publish was lost
    LEAVE = "leave"  # an upload that is still in flight
    DISCARD = "discard"  # an upload that never was complete
    REMOVED = "removed"  # the tree remembers having removed or replaced it
    UNKNOWN = "unknown"  # the tree knows nothing of it


CONDEMNED = frozenset({Verdict.REMOVED, Verdict.UNKNOWN})
# What is touched only once the whole self-check was found to be safe.
DEFERRED = CONDEMNED | {Verdict.MOVE, Verdict.PUBLISH, Verdict.DISCARD}


@dataclass(frozen=True, slots=True)
class Known:
    """What the tree knows of a thing found.

    `path`, `sha256`, `size`: of the current file with the found version; `same_here`: the file at the found
    path has the found size and digest; `removed`: its version is remembered as removed or replaced."""

    path: str | None = None
    sha256: str = ""
    size: int = -1
    same_here: bool = False
    removed: bool = False
    in_flight: bool = False


def judge_file(held: Held, known: Known) -> Verdict:
    """What is to be done with a published file."""
    if known.path is not None and (known.size, known.sha256) == (held.size, held.hash):
        return Verdict.KEEP if known.path == held.path else Verdict.MOVE
    if known.same_here:
        return Verdict.STAMP
    return Verdict.REMOVED if known.removed else Verdict.UNKNOWN


def judge_staged(held: Held, known: Known) -> Verdict:
    """What is to be done with staged bytes.  Those with a generation were a file of the tree once, and made way."""
    if known.in_flight:
        return Verdict.LEAVE
    if known.path is not None and (known.size, known.sha256) == (held.size, held.hash):
        return Verdict.PUBLISH
    if not held.hash or known.removed:
        return Verdict.DISCARD
    return Verdict.UNKNOWN if held.generation else Verdict.REMOVED


@dataclass(slots=True)
class Tally:
    """What a self-check has found so far."""

    epoch_known: bool
    accepted: bool = False
    newcomer: bool = False  # its folder has never been active in a site
    files: int = 0
    size: int = 0
    unknown_files: int = 0
    unknown_size: int = 0
    forgotten: int = 0  # files that were this site's once, of which the tree knows neither that nor their end
    condemned: int = 0

    def count(self, held: Held, verdict: Verdict) -> None:
        if held.kind == "file" or (held.kind == "staged" and verdict is Verdict.UNKNOWN):
            self.files += 1
            self.size += held.size
            if verdict is Verdict.UNKNOWN:
                self.unknown_files += 1
                self.unknown_size += held.size
                self.forgotten += bool(held.version)
        if held.kind != "directory" and verdict in CONDEMNED:
            self.condemned += 1

    def count_all(self, batch: Sequence[Held], verdicts: Sequence[Verdict]) -> None:
        for held, verdict in zip(batch, verdicts, strict=True):
            self.count(held, verdict)

    def suspicion(self) -> str:
        """Why nothing may be quarantined now; empty where it may."""
        if self.accepted:
            return ""
        if self.newcomer and self.unknown_files:
            return f"its folder had {self.unknown_files} files in it before it came to this site"
        if not self.epoch_known and self.condemned:
            return f"the database is older than the one it saw last, and does not know {self.condemned} of its files"
        if self.forgotten:
            return f"the tree has forgotten {self.forgotten} files that it knew once: is its database a backup?"
        too_many = self.unknown_files > SHARE * self.files or self.unknown_size > SHARE * self.size
        if self.unknown_files > FEW and too_many:
            return f"the tree does not know {self.unknown_files} of the {self.files} files on this storage"
        return ""


@dataclass(slots=True)
class IdSet:
    """A set of entry ids in little memory: one bit each, in pages of 8,192 ids."""

    _pages: dict[int, bytearray] = field(default_factory=dict)

    def add(self, number: int) -> None:
        page = self._pages.setdefault(number >> 13, bytearray(1024))
        page[(number & 8191) >> 3] |= 1 << (number & 7)

    def update(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.add(number)

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> 13)
        return page is not None and bool(page[(number & 8191) >> 3] & 1 << (number & 7))
