"""What a self-check took away: moved aside, kept for a time, never deleted at once.

Layout: .goggles/quarantine/<YYYY-MM-DD>/<path as it was>, with a suffix where that is taken.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import secrets
import shutil
from pathlib import Path

from goggles import failpoints
from goggles.clock import Clock
from goggles.errors import NotADirectory
from goggles.paths import DfsPath, parts
from goggles.storage.containment import Root, kind_of

log = logging.getLogger(__name__)
DAY = 86_400.0
KEEP = 7 * DAY


class Quarantine:
    """The folder of one storage's quarantine."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        folder.mkdir(exist_ok=True)

    def take(self, name: str, fd: int, was: DfsPath) -> None:
        """Move the file `name` of the directory `fd` here; `was` is its path in the tree."""
        today = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC).strftime("%Y-%m-%d")
        try:
            self._take(self._folder / today, name, fd, was)
        except NotADirectory:  # a file of this day stands where a directory is needed
            self._take(self._folder / today / f"again.{secrets.token_hex(4)}", name, fd, was)
        log.warning("quarantined %s", "/".join(parts(was)), extra={"path": was})

    def _take(self, day: Path, name: str, fd: int, was: DfsPath) -> None:
        day.mkdir(parents=True, exist_ok=True)
        root = Root(day)
        try:
            with root.parent(was, create=True) as (target, base):
                if kind_of(base, target):
                    base = f"{base[:100]}.{secrets.token_hex(4)}"
                failpoints.hit("storage.quarantine.before_rename")
                os.rename(name, base, src_dir_fd=fd, dst_dir_fd=target)
                os.fsync(target)
        finally:
            root.close()

    def measure(self) -> tuple[int, int]:
        """(files, bytes) in it."""
        sizes = [path.lstat().st_size for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return len(sizes), sum(sizes)

    def prune(self, max_age: float = KEEP, max_bytes: int | None = None) -> None:
        """Delete days that are older than `max_age` seconds; then, oldest first, what is over `max_bytes`."""
        for day in sorted(self._folder.iterdir()):
            if self._age(day) > max_age or (max_bytes is not None and self.measure()[1] > max_bytes):
                log.info("quarantine of %s deleted", day.name)
                shutil.rmtree(day, ignore_errors=True)

    def _age(self, day: Path) -> float:
        with contextlib.suppress(ValueError):
            date = datetime.datetime.strptime(day.name, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
            return self._clock.now() - date.timestamp() - DAY
        return 0.0
