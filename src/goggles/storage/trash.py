"""Directories that were removed with all that was in them, on their way out.

Law: only what the tree had is deleted.  What it never had, and what somebody edited since, goes to quarantine; where
that is not possible it stays, and the next start tries again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from goggles import failpoints
from goggles.errors import GogglesError
from goggles.paths import DfsPath
from goggles.storage import notes
from goggles.storage.containment import DIRECTORY, open_regular
from goggles.storage.inventory import digest_of
from goggles.storage.quarantine import Quarantine

log = logging.getLogger(__name__)
REMOVED = "the directory that it was in was removed, and the tree never had it, or not with these bytes"


class Trash:
    """The folder of one storage's trash.  `freed(bytes)` is told of what is gone."""

    def __init__(self, folder: Path, quarantine: Quarantine, freed: Callable[[int], None]) -> None:
        self._folder = folder
        self._quarantine = quarantine
        self._freed = freed

    def take(self, name: str, fd: int) -> None:
        """Move the directory `name` of the directory `fd` here; it is emptied in the background.  OSError."""
        target = secrets.token_hex(16)
        trash = os.open(self._folder, DIRECTORY)
        try:
            os.rename(name, target, src_dir_fd=fd, dst_dir_fd=trash)
        finally:
            os.close(trash)
        self._begin(self._folder / target, counted=True)

    def empty(self) -> None:
        """Go on with what a stop has left."""
        for path in self._folder.iterdir():
            self._begin(path, counted=False)

    def _begin(self, path: Path, counted: bool) -> None:
        threading.Thread(target=self._empty, args=(path, counted), name="trash", daemon=True).start()

    def _empty(self, path: Path, counted: bool) -> None:
        failpoints.hit("storage.trash.before_empty")
        with contextlib.suppress(FileNotFoundError):  # the folder as a whole is gone
            if not self._throw_all(path, counted):
                shutil.rmtree(path, ignore_errors=True)

    def _throw_all(self, path: Path, counted: bool) -> int:
        """Throw away all files below; how many are left."""
        left = 0
        for folder, _, files, fd in os.fwalk(path):
            for name in files:
                was = DfsPath("/" + str((Path(folder) / name).relative_to(path)))
                try:
                    size = self._throw_away(name, fd, was)
                    self._freed(size if counted else 0)
                except FileNotFoundError:
                    continue
                except (OSError, GogglesError) as error:
                    left += 1
                    log.warning("%s is left in the trash until the next start: %s", was, error)
        return left

    def _throw_away(self, name: str, fd: int, was: DfsPath) -> int:
        """Delete one file, or put it into quarantine; its size."""
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and _is_foreign(name, fd):
            self._quarantine.take(name, fd, was, REMOVED)
        else:
            os.unlink(name, dir_fd=fd)
        return found.st_size


def _is_foreign(name: str, fd: int) -> bool:
    """Whether a file has other bytes than were written here; where no notes are kept that is not known."""
    opened = open_regular(name, fd)
    try:
        note = notes.as_written(opened)
        if note is None:
            return notes.kept_at(opened)
        return not note.fits(os.fstat(opened)) and digest_of(opened) != note.sha256
    finally:
        os.close(opened)
