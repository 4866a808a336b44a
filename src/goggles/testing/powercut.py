"""What a power cut may leave of a folder: its file system operations are recorded, and replayed in part.

    with Recorder(folder) as recorder:
        work()
    for state in recorder.states(random.Random(1), 100):
        state.make(elsewhere)

Law: nothing is on disk before it was synced, and what was not may be there all the same.  fsync of a file brings its
bytes and its note, fsync of a directory the names in it, and neither the name of the synced thing itself.  What was not
synced is lost, kept, or torn, each thing by itself, with these limits, which every file system with a journal keeps: a
rename happens as a whole (a file may keep its old name beside the new one), things that were done to the same name or
to the same file or directory happen in their order, and a directory goes after what was taken out of it.

The recorder stands in the place of the functions of `os`, and compares the folder with what it knows before and after
each call, so that nothing escapes it: what went past them is recorded with the next call.
"""

from __future__ import annotations

import functools
import os
import random
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
SECTOR = 512  # bytes that a disk writes whole or not at all
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

    # --- what may be left -------------------------------------------------------------------

    @property
    def syncs(self) -> set[str]:
        """By what something was synced."""
        return {step.where for step in self.steps if isinstance(step, Sync)}

    def states(self, chance: random.Random, most: int, without: str | None = None) -> Iterator[State]:
        """Up to `most` states that a power cut may leave, at moments spread over all.

        `without`: as if what this does synced nothing."""
        needs = _needs(self.steps)
        for _ in range(most):
            upto = chance.randrange(len(self.steps) + 1)
            yield _Cut(self, self.steps[:upto], needs, chance, without).state()

    def whole(self) -> State:
        """What is there if everything reached the disk."""
        last = Sync(None, "")
        return _Cut(self, [*self.steps, last], _needs(self.steps), random.Random(0), None).state()


def _needs(steps: list[Step]) -> dict[int, list[int]]:
    """For each change of names those before it without which it can not have happened, by their places."""
    names = [(place, step) for place, step in enumerate(steps) if isinstance(step, Names)]
    return {
        place: [before for before, earlier in names if before < place and _follows(step, earlier)]
        for place, step in names
    }


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


@dataclass(slots=True)
class State:
    """One folder that a power cut may leave at `moment` (so many steps were done)."""

    moment: int
    names: dict[Name, int]
    files: dict[int, Content]

    def make(self, folder: Path) -> None:
        """Make it, in an empty folder."""
        made: dict[int, str] = {}
        self._make(0, str(folder), made)

    def _make(self, directory: int, folder: str, made: dict[int, str]) -> None:
        for (above, name), number in self.names.items():
            path = os.path.join(folder, name)
            if above != directory:
                continue
            if number in made:
                os.link(made[number], path)
            elif number in self.files:
                made[number] = path
                _write(path, self.files[number])
            else:
                os.mkdir(path)
                self._make(number, path, made)


def _write(path: str, content: Content) -> None:
    with open(path, "wb") as file:
        file.write(content.data)
    if content.note is not None:
        os.setxattr(path, notes.NAME, content.note)
    os.utime(path, ns=(content.modified, content.modified))


class _Cut:
    """One power cut behind `steps`."""

    def __init__(
        self,
        recorder: Recorder,
        steps: list[Step],
        needs: dict[int, list[int]],
        chance: random.Random,
        without: str | None,
    ) -> None:
        self._recorder = recorder
        self._steps = steps
        self._needs = needs
        self._chance = chance
        self._without = without
        self._keep = chance.choice([0.0, 0.0, 0.5, 0.5, 1.0])  # how much of what was not synced is there
        self._twice = chance.random() < 0.15  # whether files may keep their old names beside the new ones
        self._synced = self._find_synced()

    def _is_sync(self, step: Step) -> bool:
        return isinstance(step, Sync) and step.where != self._without

    def _find_synced(self) -> set[int]:
        """The places of the steps that are on disk for sure."""
        waiting: dict[int, list[int]] = {}
        synced: set[int] = set()
        for place, step in enumerate(self._steps):
            if isinstance(step, Sync):
                nodes = [step.node] if step.node is not None else list(waiting)
                for node in nodes if self._is_sync(step) else []:
                    synced.update(waiting.pop(node, []))
                continue
            touched = {above for above, _ in step.changes} if isinstance(step, Names) else {step.node}
            for node in touched:
                waiting.setdefault(node, []).append(place)
        pending = list(synced)
        while pending:
            new = set(self._needs.get(pending.pop(), ())) - synced
            synced |= new
            pending += new
        return synced

    def state(self) -> State:
        names = dict(self._recorder.start.names)
        lost: set[int] = set()
        for place, step in enumerate(self._steps):
            if isinstance(step, Names):
                self._rename(place, step, names, lost)
        return State(len(self._steps), names, self._files())

    def _files(self) -> dict[int, Content]:
        files = {n: Content(c.data, c.note, c.modified) for n, c in self._recorder.start.files.items()}
        files |= {n: Content(modified=modified) for n, modified in self._recorder.born.items()}
        pending: dict[int, list[Bytes]] = {}
        for place, step in enumerate(self._steps):
            if isinstance(step, Attribute) and (place in self._synced or self._there()):
                files[step.node].note = step.value
            elif isinstance(step, Bytes) and place in self._synced:
                _apply(files[step.node], step)
            elif isinstance(step, Bytes):
                pending.setdefault(step.node, []).append(step)
        for number, writes in pending.items():
            self._tear(files[number], writes)
        return files

    def _there(self) -> bool:
        return self._chance.random() < self._keep

    def _rename(self, place: int, step: Names, names: dict[Name, int], lost: set[int]) -> None:
        if place not in self._synced and (not self._there() or not lost.isdisjoint(self._needs[place])):
            lost.add(place)
            return
        stays = self._twice and len(step.changes) == 2 and self._chance.random() < 0.5
        for key, number in step.changes.items():
            if number is not None:
                names[key] = number
            elif not (stays and self._may_stay(place, key, step)):
                names.pop(key, None)

    def _may_stay(self, place: int, key: Name, step: Names) -> bool:
        """Whether the old name of a file that was renamed is still there: its directory was not synced since, and
        nothing has happened to it."""
        if step.before[key] not in self._recorder.born:
            return False
        for later in self._steps[place + 1 :]:
            if isinstance(later, Sync) and self._is_sync(later) and later.node in (None, key[0]):
                return False
            if isinstance(later, Names) and (_nodes(later) & _nodes(step) or key in later.changes):
                return False
        return True

    def _tear(self, content: Content, writes: list[Bytes]) -> None:
        """Writes that were not synced: a disk has any of them, or parts, or the size without the bytes."""
        way = self._chance.choice(["lost", "there", "torn", "holes", "mixed"])
        if way == "torn":
            writes = writes[: self._chance.randrange(len(writes) + 1)]
        for place, write in enumerate(writes):
            if way in ("there", "torn") or (way == "mixed" and self._chance.random() < 0.5):
                _apply(content, write)
            elif way == "holes":
                _apply(content, Bytes(write.node, write.offset, bytes(len(write.data)), write.modified))
            if way == "torn" and place == len(writes) - 1 and write.data:
                cut = self._chance.randrange(len(write.data)) // SECTOR * SECTOR
                content.data = content.data[: write.offset + cut]


def _apply(content: Content, write: Bytes) -> None:
    content.data = content.data[: write.offset].ljust(write.offset, b"\0") + write.data
    content.modified = write.modified


def _nodes(step: Names) -> set[int]:
    return {number for number in (*step.changes.values(), *step.before.values()) if number is not None}


def _follows(step: Names, earlier: Names) -> bool:
    if step.changes.keys() & earlier.changes.keys() or _nodes(step) & _nodes(earlier):
        return True
    gone = {number for key, number in step.before.items() if step.changes[key] is None and number is not None}
    return bool(gone & {above for above, _ in earlier.changes})
