"""What SQLite does to its files, recorded below it: its default file system (VFS) is given other functions for opening,
writing, truncating, syncing and deleting, which write down what they are asked for and pass it on.

Source of the structures: sqlite3.h (sqlite3_vfs, sqlite3_io_methods)."""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512  # bytes that a disk writes whole or not at all
METHODS = 19  # words of sqlite3_io_methods, version 3
WRITE, TRUNCATE, SYNC = 3, 4, 5  # places in it
P, INT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong


class Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", INT),
        ("szOsFile", INT),
        ("mxPathname", INT),
        ("pNext", P),
        ("zName", ctypes.c_char_p),
        ("pAppData", P),
        ("xOpen", P),
        ("xDelete", P),
    ]


OPEN = ctypes.CFUNCTYPE(INT, P, P, P, INT, P)  # SQLite keeps the address of the name
DELETE = ctypes.CFUNCTYPE(INT, P, ctypes.c_char_p, INT)
WRITES = ctypes.CFUNCTYPE(INT, P, P, INT, LONG)
TRUNCATES = ctypes.CFUNCTYPE(INT, P, LONG)
SYNCS = ctypes.CFUNCTYPE(INT, P, INT)


@dataclass(frozen=True, slots=True)
class Op:
    """kind: open, write, truncate (offset: to), sync, delete."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


def library() -> ctypes.CDLL | None:
    """The SQLite that Python uses, where it is a shared one."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = {line.split()[-1] for line in maps if "libsqlite3" in line}
    return ctypes.CDLL(names.pop()) if _sqlite3 and len(names) == 1 else None


@dataclass
class Tape:
    """What was done, in order."""

    ops: list[Op] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    tables: dict[int, Any] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)

    def patch(self, file: int) -> None:
        """Give an open file functions of ours."""
        methods = ctypes.cast(file, ctypes.POINTER(P))
        original = methods[0] or 0
        if original not in self.tables:
            self.tables[original] = self._table(original)
        methods[0] = ctypes.addressof(self.tables[original])

    def _table(self, original: int) -> Any:
        words = ctypes.cast(original, ctypes.POINTER(P))
        table = (P * METHODS)(*[words[place] for place in range(METHODS)])
        write, truncate, sync = WRITES(words[WRITE]), TRUNCATES(words[TRUNCATE]), SYNCS(words[SYNC])

        def on_write(file: int, data: int, count: int, offset: int) -> int:
            self.note(Op("write", self.names.get(file, ""), offset, ctypes.string_at(data, count)))
            return write(file, data, count, offset)

        def on_truncate(file: int, size: int) -> int:
            self.note(Op("truncate", self.names.get(file, ""), size))
            return truncate(file, size)

        def on_sync(file: int, flags: int) -> int:
            answer = sync(file, flags)
            self.note(Op("sync", self.names.get(file, "")))
            return answer

        for place, kind, function in ((WRITE, WRITES, on_write), (TRUNCATE, TRUNCATES, on_truncate)):
            self._put(table, place, kind(function))
        self._put(table, SYNC, SYNCS(on_sync))
        return table

    def _put(self, table: Any, place: int, function: Any) -> None:
        self.kept.append(function)
        table[place] = ctypes.cast(function, P).value

    def note(self, op: Op) -> None:
        if op.file:
            self.ops.append(op)


@contextmanager
def recorded(sqlite: ctypes.CDLL, database: Path) -> Iterator[Tape]:
    """All that connections do that are opened in this block; close them before it ends."""
    sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
    vfs = sqlite.sqlite3_vfs_find(None).contents
    tape, before = Tape(), (vfs.xOpen, vfs.xDelete)
    opens, deletes = OPEN(vfs.xOpen), DELETE(vfs.xDelete)

    def on_open(where: int, name: int | None, file: int, flags: int, out: int) -> int:
        answer = opens(where, name, file, flags, out)
        if answer == 0:
            path = os.fsdecode(ctypes.string_at(name)) if name else ""
            tape.names[file] = os.path.basename(path) if path.startswith(str(database)) else ""
            tape.note(Op("open", tape.names[file]))
            tape.patch(file)
        return answer

    def on_delete(where: int, name: bytes, sync: int) -> int:
        tape.note(Op("delete", os.path.basename(os.fsdecode(name))))
        return deletes(where, name, sync)

    kept = OPEN(on_open), DELETE(on_delete)
    vfs.xOpen, vfs.xDelete = (ctypes.cast(function, P).value for function in kept)
    try:
        yield tape
    finally:
        vfs.xOpen, vfs.xDelete = before


def cut(ops: list[Op], chance: random.Random, obeyed: Callable[[Op], bool] = lambda _: True) -> dict[str, bytes]:
    """The files as a power cut behind `ops` may leave them: what was synced, and any part of the rest.

    The first sync of a journal after it was opened syncs the folder too (unixSync in os_unix.c): what was deleted
    before stays so.

    `obeyed`: which syncs did what they should."""
    last = {op.file: place for place, op in enumerate(ops) if op.kind == "sync" and obeyed(op)}
    gone = _last_of_folder(ops, obeyed)
    keep = chance.choice([0.0, 0.5, 0.9, 1.0])
    ordered = chance.random() < 0.5  # what is there of a file is what was written first
    files: dict[str, bytearray] = {}
    over: set[str] = set()
    for place, op in enumerate(ops):
        content = files.setdefault(op.file, bytearray())
        synced = place <= (gone if op.kind == "delete" else last.get(op.file, -1))
        if op.kind in ("open", "sync") or (op.file in over and not synced):
            continue
        if not synced and chance.random() >= keep:
            if op.kind == "write" and chance.random() < 0.5:
                apply(content, Op("write", op.file, op.offset, torn(op.data, chance)))
            if ordered:
                over.add(op.file)
            continue
        apply(content, op)
        if op.kind == "delete":
            del files[op.file]
    return {name: bytes(content) for name, content in files.items()}


def _last_of_folder(ops: list[Op], obeyed: Callable[[Op], bool]) -> int:
    """The place of the last sync of the folder."""
    fresh: set[str] = set()
    found = -1
    for place, op in enumerate(ops):
        if op.kind == "open" and not op.file.endswith(".db"):
            fresh.add(op.file)
        if op.kind == "sync" and op.file in fresh and obeyed(op):
            fresh.discard(op.file)
            found = place
    return found


def torn(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1) // SECTOR * SECTOR]


def apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
    if op.kind == "write" and op.data:
        content.extend(bytes(max(0, op.offset - len(content))))
        content[op.offset : op.offset + len(op.data)] = op.data
