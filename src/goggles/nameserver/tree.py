"""The rules of files and directories, over one transaction.

Law: a verb that refuses raises a GogglesError before its first write, so decisions that share a transaction can not
spoil each other.  Overwriting and removing leave a tombstone: the tree remembers what it let go.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from goggles.contracts.data import DEFAULT_COPIES
from goggles.errors import (
    AlreadyExists,
    BadRequest,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
)
from goggles.meta.quick import first, plain
from goggles.meta.tables import ROOT_ID, TRASH_ID
from goggles.nameserver import statements as sql
from goggles.nameserver.copies import CHUNK, Copies
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry, Written, entries_of, entry_of
from goggles.nameserver.lengths import need_short_enough
from goggles.paths import ROOT, DfsPath, is_inside, join, parts, show, split

FIXED: dict[int, DfsPath | None] = {ROOT_ID: ROOT, TRASH_ID: None}  # paths that no change can touch


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move came to: the entry, and the file it replaced with the storages that hold that."""

    entry: Entry
    replaced: Entry | None
    replaced_holders: tuple[int, ...]


class Tree(Copies):
    """The tree in one transaction.  Paths have been parsed."""

    def __init__(self, tx: Connection, cache: DirCache, now: float, default_copies: int = DEFAULT_COPIES) -> None:
        super().__init__(tx, now)
        self._cache = cache
        self._generation = cache.generation  # noted before the first statement begins the snapshot
        self._trusting = True  # until the cache turns out to be newer than the snapshot
        self._found: dict[DfsPath, int] = {}
        self._wanted: dict[int, int] = {}  # copies that new files of a directory get
        self._restructured = False
        self._default_copies = default_copies

    # --- the end of the transaction --------------------------------------------------------

    def committed(self) -> None:
        """The transaction is durable: others may use what it found."""
        if self._restructured:
            self._cache.reopen()
        else:
            for path, directory in self._found.items():
                self._cache.put(path, directory, self._generation)

    def rolled_back(self) -> None:
        if self._restructured:
            self._cache.reopen()

    def _restructure(self) -> None:
        """Directories move or go: what was known of paths is not, from here on."""
        if not self._restructured:
            self._cache.shut()
        self._restructured = True
        self._found.clear()
        self._wanted.clear()
        self._paths = dict(FIXED)

    # --- looking ---------------------------------------------------------------------------

    def find(self, path: DfsPath) -> Entry | None:
        """What stands at `path`."""
        if path == ROOT:
            return self.get(ROOT_ID)
        found = self._look_up(path)
        if self._trusting and not self._restructured and self._cache.generation != self._generation:
            # The snapshot may be of another moment than what the cache said: look without it.
            self._trusting = False
            self._found.clear()
            found = self._look_up(path)
        return found

    def _look_up(self, path: DfsPath) -> Entry | None:
        above, name = split(path)
        parent = self._directory_id(above)
        return None if parent is None else self._child(parent, name)

    def glance(self, path: DfsPath) -> tuple[Entry, tuple[int, ...]] | None:
        """The file at `path` and the storages that hold it, by one statement; None where that does not tell."""
        above, name = split(path)
        parent = self._known(above)
        if parent is None:
            return None
        row = first(self.tx.execute(sql.CHILD_HELD, {"parent": parent, "child": name}))
        if row is None or self._cache.generation != self._generation:
            return None
        entry, holders = entry_of(row[:-1]), row[-1]
        return None if entry.is_dir else (entry, tuple(map(int, holders.split(","))) if holders else ())

    def need(self, path: DfsPath) -> Entry:
        found = self.find(path)
        if found is None:
            raise self._missing(path)
        return found

    def need_dir(self, path: DfsPath) -> Entry:
        found = self.need(path)
        if not found.is_dir:
            raise NotADirectory(f"{path} is a file, not a directory")
        return found

    def need_dir_id(self, path: DfsPath) -> int:
        """The id of the directory; looked up once in a transaction."""
        number = self._found.get(path)
        if number is None:
            number = self._found[path] = self.need_dir(path).id
        return number

    def need_file(self, path: DfsPath) -> Entry:
        found = self.need(path)
        if found.is_dir:
            raise IsADirectory(f"{path} is a directory, not a file")
        return found

    def _missing(self, path: DfsPath) -> NotFound | NotADirectory:
        """Why nothing stands there, as precisely as it can be said."""
        here = ROOT
        for name in parts(path):
            found = self.find(here)
            if found is not None and not found.is_dir:
                return NotADirectory(f"{here} is a file: there is nothing below it")
            here = join(here, name)
        return NotFound(f"there is nothing at {path}")

    def _child(self, parent: int, name: str) -> Entry | None:
        row = first(self.tx.execute(sql.CHILD, {"parent": parent, "child": name}))
        return None if row is None else entry_of(row)

    def _directory_id(self, path: DfsPath) -> int | None:
        """The id of the directory at `path`; None where there is none."""
        below: list[str] = []
        here, number = path, self._known(path)
        while number is None:
            here, name = split(here)
            below.append(name)
            number = self._known(here)
        while below:
            name = below.pop()
            row = self.tx.execute(sql.CHILD_DIR, {"parent": number, "child": name}).first()
            if row is None or row.kind != "d":
                return None
            here, number = join(here, name), int(row.id)
            self._found[here] = number
        return number

    def _known(self, path: DfsPath) -> int | None:
        """The id of a directory without a look into the database."""
        if path == ROOT:
            return ROOT_ID
        known = self._found.get(path)
        if known is None and self._trusting and not self._restructured:
            known = self._cache.get(path)
        return known

    def listing(self, path: DfsPath, after: str = "", limit: int = 10_000) -> list[Entry]:
        """A page of the entries of a directory, in byte order of their names."""
        directory = self.need_dir(path)
        rows = self.tx.execute(sql.PAGE, {"parent": directory.id, "after": after, "most": limit})
        return entries_of(plain(rows))

    def count_children(self, directories: Sequence[int]) -> dict[int, int]:
        """Number of entries by directory id; 0 is left out."""
        if not directories:
            return {}
        found: dict[int, int] = {}
        for start in range(0, len(directories), CHUNK):
            rows = self.tx.execute(sql.CHILDREN, {"ids": list(directories[start : start + CHUNK])})
            found.update((int(row[0]), int(row[1])) for row in rows)
        return found

    def directories(self, after: int, limit: int) -> list[tuple[int, DfsPath]]:
        """A page of all directories but the root, by id; those that are in the trash are left out."""
        ids = self.tx.execute(sql.DIRECTORIES, {"after": max(after, TRASH_ID), "most": limit}).scalars().all()
        return [(number, path) for number in ids if (path := self.path_of(number)) is not None]

    def last_directory(self, after: int, limit: int) -> int:
        """Where the page of `directories` after `after` ends; -1 where it is the last."""
        ids = self.tx.execute(sql.DIRECTORIES, {"after": max(after, TRASH_ID), "most": limit}).scalars().all()
        return int(ids[-1]) if len(ids) == limit else -1

    # --- directories -----------------------------------------------------------------------

    def mkdir(self, path: DfsPath, *, parents: bool = False, exist_ok: bool = False) -> list[DfsPath]:
        """Make a directory (and those above it); the paths that were made."""
        found = self.find(path)
        if found is not None:
            if exist_ok and found.is_dir:
                return []
            raise AlreadyExists(f"{path} exists already", "" if found.is_dir else "it is a file")
        above, name = split(path)
        missing = self._missing_above(above) if parents else []
        parent = self.need_dir(above).id if not missing else self._make_all(missing)
        self._add_directory(parent, name)
        return [*missing, path]

    def _missing_above(self, path: DfsPath) -> list[DfsPath]:
        """Directories that are not there, outermost first; NotADirectory where a file is in the way."""
        missing: list[DfsPath] = []
        while (found := self.find(path)) is None:
            missing.insert(0, path)
            path = split(path)[0]
        if not found.is_dir:
            raise NotADirectory(f"{path} is a file: there can be nothing below it")
        return missing

    def _make_all(self, missing: list[DfsPath]) -> int:
        parent = self.need_dir(split(missing[0])[0]).id
        for path in missing:
            parent = self._add_directory(parent, split(path)[1])
            self._found[path] = parent
        return parent

    def _add_directory(self, parent: int, name: str) -> int:
        row = self._row(parent, name, "d")
        number = self._insert(row)
        self.count(directories=1)
        return number

    def _insert(self, row: dict[str, Any]) -> int:
        key = self.tx.execute(sql.ADD_ENTRY, row).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _row(self, parent: int, name: str, kind: str) -> dict[str, Any]:
        row = {"parent_id": parent, "name": name, "kind": kind, "copies": None, "size": 0, "sha256": ""}
        row |= {"created_at": self.now, "modified_at": self.now, "generation": 0, "version": None}
        return row | {"uploader": "", "source": ""}

    def rmdir(self, path: DfsPath) -> Entry:
        """Remove an empty directory."""
        found = self._removable(path)
        if self.tx.execute(sql.HAS_CHILD, {"parent": found.id}).first() is not None:
            raise NotEmpty(f"{path} is not empty", "rmdir -r removes a directory with all that is in it")
        self._restructure()
        self.tx.execute(sql.DELETE_ENTRY, {"entry": found.id})
        self.count(directories=-1)
        return found

    def remove_tree(self, path: DfsPath) -> Entry:
        """Take a directory with all that is in it out of the tree, at once; the trash is purged piece by piece."""
        found = self._removable(path)
        self._restructure()
        self.take_out(found.id)
        name = f"{found.id}.{secrets.token_hex(4)}"
        self.tx.execute(sql.RENAME, {"entry": found.id, "to_parent": TRASH_ID, "to_name": name})
        return found

    def _removable(self, path: DfsPath) -> Entry:
        if path == ROOT:
            raise BadRequest("the root directory can not be removed")
        return self.need_dir(path)

    # --- moving ----------------------------------------------------------------------------

    def move(self, source: DfsPath, target: DfsPath) -> Moved:
        """Rename to exactly `target`; a file replaces a file."""
        found = self.need(source)
        if source == ROOT:
            raise BadRequest("the root directory can not be moved")
        if found.is_dir and is_inside(target, source):
            raise BadRequest(f"{source} can not be moved into itself", "choose a target outside of it")
        above, name = split(target)
        there = self.find(target)
        if there is not None and there.id == found.id:
            return Moved(found, None, ())
        self.need_unshared(found.id, source, "renamed")
        self._may_replace(found, there, target)
        parent = self.need_dir(above)
        if found.is_dir:
            need_short_enough(self.tx, found.id, source, target)
            self._restructure()
        holders = self.let_go(there) if there is not None else ()
        self.tx.execute(sql.RENAME, {"entry": found.id, "to_parent": parent.id, "to_name": name})
        return Moved(found, there, holders)

    def _may_replace(self, found: Entry, there: Entry | None, target: DfsPath) -> None:
        if there is None:
            return
        if there.is_dir:
            raise AlreadyExists(f"{target} exists already and is a directory")
        if found.is_dir:
            raise AlreadyExists(f"{target} exists already and is a file")
        self.need_unshared(there.id, target, "replaced")

    # --- files -----------------------------------------------------------------------------

    def rm(self, path: DfsPath) -> tuple[Entry, tuple[int, ...]]:
        """Remove a file; it, and the storages that held it."""
        if path == ROOT:
            raise IsADirectory("/ is a directory", "rmdir removes directories")
        found = self.need(path)
        if found.is_dir:
            raise IsADirectory(f"{path} is a directory", "rmdir removes directories")
        return found, self.let_go(found)

    def commit_file(
        self,
        parent: int,
        name: str,
        *,
        size: int,
        sha256: str,
        version: str,
        uploader: str,
        source: str,
        copies: int,
        holders: Sequence[int],
    ) -> Written:
        """Create or overwrite a file in directory `parent`."""
        if self._directory_path(parent) is None:
            raise NotFound(f"the directory for {show(name)} is gone", "put it elsewhere")
        there = self._child(parent, name)
        if there is not None and there.is_dir:
            raise IsADirectory(f"{show(name)} is a directory", "give the file a name of its own")
        values = {"size": size, "sha256": sha256, "version": version, "uploader": uploader, "source": source}
        if there is None:
            return Written(self._create(parent, name, copies, values, holders), None, ())
        return self._overwrite(there, copies, values, holders)

    def _create(self, parent: int, name: str, copies: int, values: dict[str, Any], holders: Sequence[int]) -> Entry:
        row = self._row(parent, name, "f") | values | {"copies": copies, "generation": 1}
        number = self._insert(row)
        self.count(files=1, size=values["size"])
        self.add_holders(number, values["size"], holders)
        return Entry(number, parent, name, "f", copies, self.now, self.now, generation=1, **values)

    def _overwrite(self, there: Entry, copies: int, values: dict[str, Any], holders: Sequence[int]) -> Written:
        self.need_unshared(there.id, there.name, "overwritten")
        old_holders = self.bury(there)
        new = {f"new_{key}": value for key, value in values.items()}
        new |= {"entry": there.id, "new_generation": there.generation + 1, "now": self.now, "new_copies": copies}
        self.tx.execute(sql.OVERWRITE, new)
        self.count(size=values["size"] - there.size)
        self.add_holders(there.id, values["size"], holders)
        changes = values | {"generation": there.generation + 1, "copies": copies, "modified": self.now}
        return Written(there._replace(**changes), there, old_holders)

    def set_created(self, entry: int, created: float) -> None:
        """A file that was made elsewhere keeps the time at which it was made."""
        self.tx.execute(sql.SET_CREATED, {"entry": entry, "created": created})

    # --- number of copies ------------------------------------------------------------------

    def copies_for(self, directory: int) -> int:
        """Copies that new files of this directory get: its own setting, or that of the nearest directory above."""
        if directory not in self._wanted:
            self._wanted[directory] = self._copies_for(directory)
        return self._wanted[directory]

    def _copies_for(self, directory: int | None) -> int:
        while directory is not None:
            row = self.tx.execute(sql.UP, {"id": directory}).first()
            if row is None:
                break
            if row.copies is not None:
                return int(row.copies)
            directory = row.parent_id
        return self._default_copies

    def set_copies(self, path: DfsPath, copies: int) -> Entry:
        """Set the number for a file, or for new files of a directory."""
        found = self.need(path)
        self._wanted.clear()
        self.tx.execute(sql.SET_COPIES, {"entry": found.id, "new_copies": copies})
        return found
