"""Directories in which something changed, until that is on disk.

Law: each is synced once, wherever it stands by then; where one fails, none of them counts.
"""

from __future__ import annotations

import os

from goggles.storage.staging import Fsync


class Unsynced:
    """A set of open directories.  One thread at a time."""

    def __init__(self, fsync: Fsync) -> None:
        self._fsync = fsync
        self._open: dict[tuple[int, int], int] = {}  # (device, inode): a descriptor of our own

    def keep(self, fd: int) -> None:
        """The directory `fd` was changed."""
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        if key not in self._open:
            self._open[key] = os.dup(fd)

    def sync(self) -> None:
        """All that were kept are on disk afterwards, and forgotten; OSError."""
        kept, self._open = self._open, {}
        try:
            for fd in kept.values():
                self._fsync(fd)
        finally:
            for fd in kept.values():
                os.close(fd)
