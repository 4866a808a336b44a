"""What a self-check took away: moved aside, kept for a time, never deleted at once.

Layout: .goggles/quarantine/<YYYY-MM-DD>/<path as it was>, with a suffix where that is taken; on each file the extended
attribute `user.goggles.kept`, JSON with was (its path), why and when (seconds since 1970, UTC).  An *entry* is the path
below .goggles/quarantine.

Law: a day is as old as the time that storages have run here since the last thing came into it (ages.json).  Clocks that
jump, or were wrong for a while, delete nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from goggles import failpoints
from goggles.clock import Clock
from goggles.contracts.orders import Kept
from goggles.errors import GogglesError, NotADirectory, NotFound
from goggles.paths import ROOT, DfsPath, parse, parts, shorten, show
from goggles.storage.containment import Root, kind_of, open_regular, sync_folder, to_disk
from goggles.storage.inorder import files_after

log = logging.getLogger(__name__)
KEEP = 7 * 86_400.0
LABEL = "user.goggles.kept"
AGES, GOING = "ages.json", "going."


class Quarantine:
    """The folder of one storage's quarantine."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()  # over what is below, and over the choice of a day to delete
        folder.mkdir(exist_ok=True)
        self._written = _read(folder / AGES)
        self._opened = clock.monotonic()
        self._since: dict[str, float] = {}  # day: when it last got something, monotonic

    def take(self, name: str, fd: int, was: DfsPath, why: str) -> None:
        """Move the file `name` of the directory `fd` here; `was` is its path in the tree, `why` is for people."""
        _label(name, fd, was, why, self._clock.now())
        today = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC).strftime("%Y-%m-%d")
        with self._lock:
            self._renew(today)
            try:
                self._take(self._folder / today, name, fd, was)
            except NotADirectory:  # a file of this day stands where a directory is needed
                self._take(self._folder / today / f"again.{secrets.token_hex(4)}", name, fd, was)
        log.warning("quarantined %s", "/".join(parts(was)), extra={"facts": {"event": "quarantined", "path": was}})

    def label(self, name: str, fd: int, was: DfsPath, why: str) -> None:
        """Write on a file that is put away elsewhere where it was and why; `was_at` reads it."""
        _label(name, fd, was, why, self._clock.now())

    def _take(self, day: Path, name: str, fd: int, was: DfsPath) -> None:
        if not day.is_dir():
            day.mkdir(parents=True, exist_ok=True)
            sync_folder(day.parent)
            sync_folder(self._folder)
        root = Root(day)
        try:
            with root.parent(was, create=True) as (target, base):
                if kind_of(base, target):
                    base = shorten(base, f".{secrets.token_hex(4)}")
                failpoints.hit("storage.quarantine.before_rename")
                os.rename(name, base, src_dir_fd=fd, dst_dir_fd=target)
                failpoints.hit("storage.quarantine.after_rename")
                to_disk(target)
        finally:
            root.close()

    def listing(self, after: str, limit: int) -> list[Kept]:
        """Up to `limit` files of it that come after the entry `after` ('': from the first)."""
        root = Root(self._folder)
        try:
            places = (path for path in files_after(root, _place(after) if after else ROOT) if _is_entry(path))
            found = (_kept(root, path) for path in places)
            return list(itertools.islice((kept for kept in found if kept is not None), limit))
        finally:
            root.close()

    def open(self, entry: str) -> FileIO:
        """One file of it, for reading; BadPath, NotFound."""
        path = _place(entry)
        root = Root(self._folder)
        try:
            return open(root.open_file(path), "rb", buffering=0)
        finally:
            root.close()

    def measure(self) -> tuple[int, int]:
        """(files, bytes) in it."""
        found = (path for day in self._days() for path in day.rglob("*"))
        sizes = [_size(path) for path in found if path.is_file() and not path.is_symlink()]
        return len(sizes), sum(sizes)

    def prune(self, max_age: float = KEEP, max_bytes: int | None = None) -> None:
        """Delete days that are older than `max_age` seconds; then, oldest first, what is over `max_bytes`."""
        with self._lock:
            days = sorted(self._days(), key=lambda day: (-self._age(day.name), day.name))
            for day in days:
                if self._age(day.name) > max_age or (max_bytes is not None and self.measure()[1] > max_bytes):
                    log.info("quarantine of %s deleted", day.name)
                    day.rename(self._folder / f"{GOING}{secrets.token_hex(4)}")
            self._write({day.name: self._age(day.name) for day in self._days()})
        for going in self._folder.glob(f"{GOING}*"):
            shutil.rmtree(going, ignore_errors=True)

    def _days(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(GOING))

    def _age(self, day: str) -> float:
        return self._written.get(day, 0.0) + self._clock.monotonic() - self._since.get(day, self._opened)

    def _renew(self, day: str) -> None:
        self._since[day] = self._clock.monotonic()
        if self._written.pop(day, 0.0):
            self._write({name: self._age(name) for name in self._written})

    def _write(self, ages: dict[str, float]) -> None:
        hidden = self._folder / f"{AGES}.new"
        hidden.write_text(json.dumps(ages))
        hidden.replace(self._folder / AGES)
        self._written = ages
        self._since |= dict.fromkeys(ages, self._clock.monotonic())


def _place(entry: str) -> DfsPath:
    """Where an entry lies below the folder."""
    path = parse("/" + entry)
    if not _is_entry(path):
        raise NotFound(f"{show(entry[:200])} is no entry of a quarantine", "see: quarantine ls STORAGE")
    return path


def _is_entry(path: DfsPath) -> bool:
    names = parts(path)
    return len(names) > 1 and not names[0].startswith(GOING)


def _kept(root: Root, path: DfsPath) -> Kept | None:
    """What is known of one file; None where it has gone.  Without a label its path and times say what they can."""
    try:
        fd = root.open_file(path)
    except GogglesError:
        return None
    try:
        status, label = os.fstat(fd), _label_of(fd)
    finally:
        os.close(fd)
    was = label.get("was") or "/" + "/".join(parts(path)[1:])
    when = label.get("when") or status.st_ctime
    return Kept(path[1:], status.st_size, float(when), str(label.get("why") or ""), str(was))


def _label(name: str, fd: int, was: DfsPath, why: str, when: float) -> None:
    """Write on the file why it is put away; where it can not be written on, it is put away without."""
    with contextlib.suppress(OSError, GogglesError):
        opened = open_regular(name, fd)
        try:
            os.setxattr(opened, LABEL, json.dumps({"was": was, "why": why, "when": when}).encode())
        finally:
            os.close(opened)


def was_at(name: str, fd: int) -> str:
    """The path that the label on a file names; '' where it has none."""
    try:
        opened = open_regular(name, fd)
    except (OSError, GogglesError):
        return ""
    try:
        return str(_label_of(opened).get("was") or "")
    finally:
        os.close(opened)


def _label_of(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.getxattr(fd, LABEL))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, float]:
    """Ages in seconds by day; without a readable file every day is new."""
    try:
        return {str(day): float(age) for day, age in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s can not be read, all that is in quarantine counts as new: %s", path, error)
        return {}


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
