"""What is done to a folder, operation by operation, so that a power cut can be tried out (`goggles.testing.aftermath`).

    with Recorder(folder) as recorder:
        work()

Law: nothing escapes.  The recorder stands in the place of the functions of `os`, and compares the folder with what it
knows before and after each call; what went past them is recorded with the next call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

from goggles.storage import containment, notes

CALLS = ("open", "write", "ftruncate", "truncate", "mkdir", "rmdir", "rename", "replace", "unlink", "remove", "link")
NOTES = ("setxattr", "removexattr")
SYNCS = ("fsync", "fdatasync")
Name = tuple[int, str]  # number of the directory, name in it


@dataclass(frozen=True, slots=True)
class Names:
    """Names came, went, or both at once; None: nothing stands there any more."""

    changes: dict[Name, int | None]
    before: dict[Name, int | None]


@dataclass(frozen=True, slots=True)
class Bytes:
    """A file has other bytes from `offset` on, and another size."""

    node: int
    offset: int
    data: bytes
    modified: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """The note on a file."""

    node: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Sync:
    """A file or directory was synced (None: the whole file system), by what `where` says."""

    node: int | None
    where: str


Step = Names | Bytes | Attribute | Sync


@dataclass(slots=True)
class Content:
    """A file as far as it is on disk."""

    data: bytes = b""
    note: bytes | None = None
    modified: int = 0


@dataclass(slots=True)
class Seen:
    """The folder as it is."""

    names: dict[Name, int] = field(default_factory=dict)
    files: dict[int, Content] = field(default_factory=dict)


class Recorder:
    """Everything that is done below `folder` in this process while the block lasts, in order: `steps`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        self._lock = threading.RLock()
        self._real: dict[str, Callable[..., Any]] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self.born: dict[int, int] = {}  # when a file was made: its time of modification before it was written to
        self._next = 0
        self._known = Seen()
        self._sync_all = containment.sync_file_system

    def __enter__(self) -> Self:
        self._number(os.stat(self.folder))
        self._real = {name: getattr(os, name) for name in (*CALLS, *NOTES, *SYNCS)}
        self._known = self.start = self._look()
        for name in (*CALLS, *NOTES):
            setattr(os, name, self._recorded(self._real[name]))
        for name in SYNCS:
            setattr(os, name, self._recorded_sync(self._real[name]))
        vars(containment)["sync_file_system"] = self._recorded_all
        return self

    def __exit__(self, *exc: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)
        vars(containment)["sync_file_system"] = self._sync_all
        self._compare(whole=False)

    @property
    def now(self) -> int:
        """How many steps there are by now."""
        with self._lock:
            self._compare(whole=False)
            return len(self.steps)

    @contextlib.contextmanager
    def paused(self) -> Iterator[int]:
        """Nothing is done to the folder in this block; how many steps there are by now."""
        with self._lock:
            yield self.now

    def _recorded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **more: Any) -> Any:
            with self._lock:
                self._compare(whole=False)
                try:
                    return real(*args, **more)
                finally:
                    self._compare(whole=True)

        return call

    def _recorded_sync(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(fd: int) -> None:
            with self._lock:
                self._compare(whole=False)
                status = os.fstat(fd)
                real(fd)
                number = self._numbers.get((status.st_dev, status.st_ino))
                if number is not None:
                    self.steps.append(Sync(number, _caller()))

        return call

    def _recorded_all(self, fd: int) -> None:
        with self._lock:
            self._compare(whole=False)
            self.steps.append(Sync(None, _caller()))

    # --- what has changed -------------------------------------------------------------------

    def _compare(self, whole: bool) -> None:
        """Record what is other than it was.  `whole`: all that changed of the names came with one call."""
        old, new = self._known, self._look()
        for number, content in new.files.items():
            was = old.files.get(number)
            if was is None:
                was = Content(modified=self.born.setdefault(number, content.modified))
            self._compare_file(number, was, content)
        changed = {key for key in old.names.keys() | new.names.keys() if old.names.get(key) != new.names.get(key)}
        for group in [changed] if whole and changed else _apart(changed, old, new):
            after: dict[Name, int | None] = {key: new.names.get(key) for key in group}
            self.steps.append(Names(after, {key: old.names.get(key) for key in group}))
        self._known = new
        alive = {0, *new.names.values()}
        self._numbers = {key: number for key, number in self._numbers.items() if number in alive}

    def _compare_file(self, number: int, was: Content, now: Content) -> None:
        if (was.data, was.modified) != (now.data, now.modified):
            pairs = enumerate(zip(was.data, now.data, strict=False))
            same = next((place for place, (a, b) in pairs if a != b), min(len(was.data), len(now.data)))
            self.steps.append(Bytes(number, same, now.data[same:], now.modified))
        if was.note != now.note:
            self.steps.append(Attribute(number, now.note))

    def _number(self, status: os.stat_result) -> int:
        key = (status.st_dev, status.st_ino)
        if key not in self._numbers:
            self._numbers[key], self._next = self._next, self._next + 1
        return self._numbers[key]

    def _look(self) -> Seen:
        seen, pending = Seen(), [(0, str(self.folder))]
        while pending:
            above, folder = pending.pop()
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                seen.names[above, name] = number = self._number(status)
                if stat.S_ISDIR(status.st_mode):
                    pending.append((number, path))
                else:
                    seen.files[number] = self._read(path, status)
        return seen

    def _read(self, path: str, status: os.stat_result) -> Content:
        fd = self._real["open"](path, os.O_RDONLY)
        try:
            with open(fd, "rb", buffering=0, closefd=False) as file:
                data = file.readall()
            try:
                note = os.getxattr(fd, notes.NAME)
            except OSError:
                note = None
        finally:
            os.close(fd)
        return Content(data, note, status.st_mtime_ns)

    @property
    def syncs(self) -> set[str]:
        """By what something was synced."""
        return {step.where for step in self.steps if isinstance(step, Sync)}


def _apart(changed: set[Name], old: Seen, new: Seen) -> list[set[Name]]:
    """Names that changed without a recorded call: by the file or directory that they stand for."""
    groups: dict[int, set[Name]] = {}
    for key in sorted(changed):
        groups.setdefault(new.names.get(key, old.names.get(key, -1)), set()).add(key)
    return list(groups.values())


def _caller() -> str:
    """The functions of ours that led here, innermost first, up to three."""
    frame: FrameType | None = sys._getframe(1)
    found: list[str] = []
    while frame and len(found) < 3:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("goggles.") and module != __name__:
            found.append(f"{module.rpartition('.')[2]}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return " < ".join(found)
