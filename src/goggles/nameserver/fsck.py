"""Compare the database with the disks: what the tree says against what the storages have.

Law: it only reads, and it reads everything: every file of every storage is hashed.  Run it on a site at rest; an
empty answer means that both agree.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from goggles.meta import tables
from goggles.meta.database import Database

OWN = ".goggles"
ROOT_ID = 1


@dataclass(slots=True)
class Found:
    """What is on one storage's disk: files with their digests, directories, staged uploads."""

    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    staged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the database says of one file."""

    id: int
    path: str
    size: int
    sha256: str
    copies: int
    holders: tuple[str, ...]


def fsck(database: str, roots: Mapping[str, Path], *, whole: bool = True) -> list[str]:
    """Every disagreement in words.  `whole`: files with fewer copies than wanted are one too."""
    opened = Database.open(database)
    try:
        with opened.read() as connection:
            directories, files = _tree(connection)
            owed = set(connection.execute(select(tables.owed.c.entry_id)).scalars())
    finally:
        opened.close()
    disks = {name: scan(root) for name, root in roots.items()}
    return [
        *_missing(files, disks),
        *_extra(directories, files, disks),
        *_counts(files, owed, len(roots), whole),
    ]


def _tree(connection: Connection) -> tuple[set[str], list[Expected]]:
    e, i, s = tables.entries.c, tables.instances.c, tables.storages.c
    names = dict(connection.execute(select(s.id, s.name)).all())
    holders: dict[int, list[str]] = {}
    for entry, storage in connection.execute(select(i.entry_id, i.storage_id)):
        holders.setdefault(entry, []).append(names[storage])
    rows = connection.execute(select(e.id, e.parent_id, e.name, e.kind, e.size, e.sha256, e.copies)).all()
    parents = {row.id: (row.parent_id, row.name) for row in rows}
    directories, files = set(), []
    for row in rows:
        path = _path(parents, row.id)
        if path is None:
            continue
        if row.kind == "d":
            directories.add(path)
        else:
            files.append(Expected(row.id, path, row.size, row.sha256, row.copies, tuple(holders.get(row.id, ()))))
    return directories, files


def _path(parents: Mapping[int, tuple[int | None, str]], entry: int) -> str | None:
    """The path of an entry; None below the trash."""
    names: list[str] = []
    while entry != ROOT_ID:
        parent, name = parents[entry]
        if parent is None:
            return None
        names.append(name)
        entry = parent
    return "/" + "/".join(reversed(names))


def _missing(files: list[Expected], disks: Mapping[str, Found]) -> Iterator[str]:
    for file in files:
        for holder in file.holders:
            if holder not in disks:
                continue
            have = disks[holder].files.get(file.path)
            if have is None:
                yield f"{file.path} should be on {holder} and is not"
            elif have != (file.size, file.sha256):
                yield f"{file.path} on {holder} has other bytes than it should have"


def _extra(directories: set[str], files: list[Expected], disks: Mapping[str, Found]) -> Iterator[str]:
    known = {(holder, file.path) for file in files for holder in file.holders}
    for name, disk in disks.items():
        for path in disk.files:
            if (name, path) not in known:
                yield f"{path} is on {name}, where the tree knows of no copy"
        for path in disk.directories ^ (directories - {"/"}):
            yield f"directory {path} is {'only on' if path in disk.directories else 'missing on'} {name}"
        for upload in disk.staged:
            yield f"upload {upload} is left over in the staging area of {name}"


def _counts(files: list[Expected], owed: set[int], storages: int, whole: bool) -> Iterator[str]:
    for file in files:
        short = len(file.holders) < file.copies
        if not file.holders:
            yield f"{file.path} has no copy at all"
        if short and file.id not in owed:
            yield f"{file.path} has {len(file.holders)} of {file.copies} copies, and that is not written down as owed"
        if whole and len(file.holders) < min(file.copies, storages):
            yield f"{file.path} has {len(file.holders)} of {file.copies} copies"


def scan(root: Path) -> Found:
    """Read all that is below a storage's folder, but for what storages leave alone: what is no file or directory."""
    found = Found()
    for folder, names, files in os.walk(root):
        here = "/" + os.path.relpath(folder, root) if folder != str(root) else ""
        if folder == str(root) and OWN in names:
            names.remove(OWN)
        names[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]
        found.directories.update(f"{here}/{name}" for name in names)
        for name in files:
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.files[f"{here}/{name}"] = (status.st_size, _digest(path))
    staging = root / OWN / "staging"
    found.staged = [path.name for path in staging.iterdir()] if staging.exists() else []
    return found


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
