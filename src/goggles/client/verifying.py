"""Whole directories verified: every copy of every file read again by the storage that has it, piece by piece.

Law: files come in byte order of their names, depth first, so that what was broken off at a path goes on after it.  So
many at once as storages read side by side, and no more than can be waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from goggles.client.calls import Calls
from goggles.contracts.records import Entry, FileInfo
from goggles.errors import Cancelled, NotFound
from goggles.paths import DfsPath, is_inside, join, parts

FILES, BYTES = 100, 256 << 20  # in one call
SLOWEST = 5e6  # bytes a second that a disk reads at least
PATIENCE, MOST = 30.0, 3_600.0  # seconds
PAGE = 1_000
Scan: TypeAlias = Callable[[str, str, int], Sequence[Entry]]
BAD = ("bad", "missing", "unreadable", "other bytes")


@dataclass(frozen=True, slots=True)
class Checked:
    """One file, and what each storage that has a copy found: (storage, verdict)."""

    path: str
    size: int
    copies: tuple[tuple[str, str], ...]

    @property
    def good(self) -> int:
        """Copies that are what they should be."""
        return sum(verdict == "good" for _, verdict in self.copies)

    @property
    def bad(self) -> int:
        """Copies that are not, or are not there; neither of which are those that could not be asked."""
        return sum(is_bad(verdict) for _, verdict in self.copies)


def is_bad(verdict: str) -> bool:
    """Whether a copy was looked at, and is not what it should be."""
    return verdict.startswith(BAD)


def files_after(scan: Scan, top: DfsPath, after: str = "") -> Iterator[FileInfo]:
    """The files below a directory that come after the path `after`."""
    rest = parts(DfsPath(after))[len(parts(top)) :] if after and is_inside(DfsPath(after), top) else []
    yield from _below(scan, top, rest)


def _below(scan: Scan, directory: DfsPath, rest: Sequence[str]) -> Iterator[FileInfo]:
    if rest:
        yield from _if_there(scan, join(directory, rest[0]), rest[1:])
    after = rest[0] if rest else ""
    while True:
        page = scan(directory, after, PAGE)
        for entry in page:
            if isinstance(entry, FileInfo):
                yield entry
            else:
                yield from _if_there(scan, DfsPath(entry.path), ())
        if len(page) < PAGE:
            return
        after = page[-1].path.rpartition("/")[2]


def _if_there(scan: Scan, directory: DfsPath, rest: Sequence[str]) -> Iterator[FileInfo]:
    """The same; nothing where it was removed meanwhile, or is a file, which has had its turn."""
    try:
        found = scan(directory, "", 1)
    except NotFound:
        return
    if not found or found[0].path != directory:  # a file lists itself
        yield from _below(scan, directory, rest)


class Verification:
    """One walk; iterate over it.  `last`: the path up to which all is done."""

    def __init__(self, calls: Calls, files: Iterator[FileInfo], after: str, cancel: threading.Event | None) -> None:
        self._calls = calls
        self._files = files
        self._cancel = cancel or threading.Event()
        self.last = after

    def __iter__(self) -> Iterator[Checked]:
        for batch in _batches(self._files):
            if self._cancel.is_set():
                raise Cancelled("the verification was cancelled")
            patience = min(MOST, PATIENCE + sum(file.size for file in batch) / SLOWEST)
            paths = tuple(file.path for file in batch)
            answers = self._calls("verify_many", paths, patience, timeout=patience + PATIENCE)
            for file, (code, copies) in zip(batch, answers, strict=True):
                self.last = file.path
                if not code:  # else it was removed or renamed meanwhile
                    yield Checked(file.path, file.size, tuple((name, verdict) for name, verdict in copies))


def _batches(files: Iterator[FileInfo]) -> Iterator[list[FileInfo]]:
    batch: list[FileInfo] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= FILES or size + file.size > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch
