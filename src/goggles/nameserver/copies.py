"""Copies, what is owed, what was let go, and the other things that are remembered, over one transaction.

Law: the books of a transaction (totals) are written once, at its end; a version that was let go has a tombstone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from goggles.meta.quick import plain
from goggles.meta.tables import ROOT_ID, TRASH_ID
from goggles.nameserver import statements as sql
from goggles.nameserver.entry import Entry, entry_of
from goggles.nameserver.marks import Marks
from goggles.paths import ROOT, DfsPath, join
from goggles.roles import Level

CHUNK = 500  # ids in one statement; SQLite takes 32,766 parameters, older ones 999
TICK = 0.001  # seconds by which two moments differ


@dataclass(slots=True)
class Purged:
    """A piece of the trash that is gone: rows, and by storage (files, bytes) that it held."""

    rows: int = 0
    freed: dict[int, tuple[int, int]] = field(default_factory=dict)


class Copies(Marks):
    """What `Tree` builds on."""

    def __init__(self, tx: Connection, now: float) -> None:
        super().__init__(tx, now)
        self._paths: dict[int, DfsPath | None] = {ROOT_ID: ROOT, TRASH_ID: None}
        self._files = self._directories = self._size = 0

    # --- books -----------------------------------------------------------------------------

    def count(self, files: int = 0, directories: int = 0, size: int = 0) -> None:
        self._files += files
        self._directories += directories
        self._size += size

    def changes(self) -> int:
        """How many groups of decisions have changed the tree: two equal numbers mean the same tree."""
        return int(self.tx.execute(sql.CHANGES).scalar() or 0)

    def add_change(self) -> None:
        self.tx.execute(sql.ADD_CHANGE)

    def flush(self) -> None:
        """Write the books down; call it once before the commit."""
        if self._files or self._directories or self._size:
            values = {"add_files": self._files, "add_directories": self._directories, "add_size": self._size}
            self.tx.execute(sql.ADD_TOTALS, values)
            self._files = self._directories = self._size = 0

    def totals(self) -> tuple[int, int, int]:
        """(files, directories, bytes) of the whole tree; what was removed as a whole tree counts until it is purged."""
        row = self.tx.execute(sql.TOTALS).one()
        return row.files, row.directories, row.size

    # --- entries by id ---------------------------------------------------------------------

    def get(self, entry: int) -> Entry | None:
        row = self.tx.execute(sql.BY_ID, {"id": entry}).first()
        return None if row is None else entry_of(row)

    def path_of(self, entry: int) -> DfsPath | None:
        """The path of an entry; None where it is in the trash, or gone."""
        if entry in self._paths:
            return self._paths[entry]
        row = self.tx.execute(sql.UP, {"id": entry}).first()
        above = None if row is None or row.parent_id is None else self._directory_path(row.parent_id)
        return None if above is None or row is None else join(above, row.name)

    def place_of(self, entry: Entry) -> DfsPath | None:
        """The path of an entry as it was read in this transaction; None where it is in the trash."""
        above = None if entry.parent_id is None else self._directory_path(entry.parent_id)
        return self.path_of(entry.id) if above is None else join(above, entry.name)

    def _directory_path(self, directory: int) -> DfsPath | None:
        """The same for a directory, and remembered for it and all above it.  A path may have 2,048 of them."""
        climbed: list[tuple[int, str]] = []
        number = directory
        while number not in self._paths:
            row = self.tx.execute(sql.UP, {"id": number}).first()
            if row is None or row.parent_id is None:
                self._paths[number] = None
                break
            climbed.append((number, row.name))
            number = row.parent_id
        path = self._paths[number]
        for number, name in reversed(climbed):
            path = self._paths[number] = None if path is None else join(path, name)
        return path

    def children(self, directory: int, after: str = "") -> Iterator[Entry]:
        """The entries of a directory after the name `after`, in byte order of their names, read page by page."""
        while rows := self.tx.execute(sql.PAGE, {"parent": directory, "after": after, "most": CHUNK}).all():
            yield from map(entry_of, rows)
            after = rows[-1].name

    def by_versions(self, versions: Sequence[str]) -> dict[str, Entry]:
        """The files whose current version is one of these."""
        found: dict[str, Entry] = {}
        for start in range(0, len(versions), CHUNK):
            rows = self.tx.execute(sql.BY_VERSIONS, {"versions": list(versions[start : start + CHUNK])})
            found.update((row.version, entry_of(row)) for row in rows)
        return found

    def files(self, ids: Sequence[int]) -> list[tuple[Entry, list[int]]]:
        """Those of these entries that are files of the tree, each with the storages that hold it."""
        found: list[Entry] = []
        for start in range(0, len(ids), CHUNK):
            rows = self.tx.execute(sql.FILES, {"ids": list(ids[start : start + CHUNK])})
            found += [entry_of(row) for row in rows]
        holders = self.instances_of([entry.id for entry in found])
        return [(entry, holders.get(entry.id, [])) for entry in found if self.place_of(entry) is not None]

    # --- number of copies ------------------------------------------------------------------

    def set_copies_below(self, directory: int, copies: int, after: int, limit: int) -> list[int]:
        """Set it for the next `limit` files below a directory, in order of their paths; their ids, none at the end.

        `after` is the last id of the page before, 0 for the first.  Where that file has left the directory, the walk
        begins again and passes over the files that have this number already."""
        places = self._places(directory, after) if after else [(directory, "")]
        again = not places
        walk = [self.children(*place) for place in places or [(directory, "")]]
        ids: list[int] = []
        while walk and len(ids) < limit:
            found = next(walk[-1], None)
            if found is None:
                walk.pop()
            elif found.is_dir:
                walk.append(self.children(found.id))
            elif not again or found.copies != copies:
                ids.append(found.id)
        if ids:
            self.tx.execute(sql.SET_COPIES, [{"entry": number, "new_copies": copies} for number in ids])
        return ids

    def _places(self, directory: int, last: int) -> list[tuple[int, str]]:
        """Where a walk stands that saw `last` last: (directory, name seen last), outermost first; [] where it left."""
        places: list[tuple[int, str]] = []
        number = last
        while number != directory:
            row = self.tx.execute(sql.UP, {"id": number}).first()
            if row is None or row.parent_id is None:
                return []
            places.insert(0, (row.parent_id, row.name))
            number = row.parent_id
        return places

    # --- copies ----------------------------------------------------------------------------

    def instances_of(self, ids: Sequence[int]) -> dict[int, list[int]]:
        """Storage ids by entry id."""
        found: dict[int, list[int]] = {}
        for start in range(0, len(ids), CHUNK):
            for entry, storage in plain(self.tx.execute(sql.HOLDERS, {"ids": list(ids[start : start + CHUNK])})):
                found.setdefault(entry, []).append(storage)
        return found

    def add_holders(self, entry: int, size: int, holders: Sequence[int]) -> None:
        rows = [self._instance(entry, storage, size) for storage in holders]
        if rows:
            self.tx.execute(sql.ADD_INSTANCE, rows)

    def add_instances(self, storage: int, sizes: Mapping[int, int]) -> None:
        """`storage` holds these entries (id: size)."""
        rows = [self._instance(entry, storage, size) for entry, size in sizes.items()]
        if rows:
            self.tx.execute(sql.ADD_INSTANCE, rows)

    def _instance(self, entry: int, storage: int, size: int) -> dict[str, Any]:
        return {
            "entry_id": entry,
            "storage_id": storage,
            "size": size,
            "created_at": self.now,
            "verified_at": self.now,
        }

    def drop_instances(self, storage: int, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), CHUNK):
            self.tx.execute(sql.DROP_ON, {"storage": storage, "ids": list(ids[start : start + CHUNK])})

    def verified_on(self, entry: int, since: float) -> set[int]:
        """The storages whose copy was read again, and found good, since then."""
        words = {"entry": entry, "since": since, "until": self.now}
        return set(self.tx.execute(sql.VERIFIED_ON, words).scalars())

    def set_verified(self, entry: int, storage: int) -> None:
        words = {"entry": entry, "storage": storage, "now": self.now, "before": self.now - TICK}
        self.tx.execute(sql.SET_VERIFIED, words)

    def unread_on(self, storage: int, before: float, limit: int) -> list[tuple[int, str]]:
        """(entry id, version) of copies on a storage that were not found good since then, the oldest first."""
        rows = self.tx.execute(sql.UNREAD_ON, {"storage": storage, "before": before, "most": limit})
        return [(int(row.id), row.version) for row in rows]

    def instances_on(self, storage: int, after: int, limit: int) -> list[int]:
        """A page of the entries that a storage holds, by id."""
        rows = self.tx.execute(sql.ON_STORAGE, {"storage": storage, "after": after, "most": limit})
        return [int(number) for number in rows.scalars()]

    def used_by_storage(self) -> dict[int, tuple[int, int]]:
        """(files, bytes) by storage id."""
        return {storage: (int(count), int(size)) for storage, count, size in self.tx.execute(sql.USED)}

    # --- letting go ------------------------------------------------------------------------

    def bury(self, entry: Entry) -> tuple[int, ...]:
        """Forget a version: its copies and what is owed of it; the storages that held it."""
        holders = tuple(self.instances_of([entry.id]).get(entry.id, ()))
        tombstone = {"version": entry.version, "sha256": entry.sha256, "size": entry.size, "removed_at": self.now}
        self.tx.execute(sql.ADD_TOMBSTONE, tombstone)
        self.tx.execute(sql.DROP_INSTANCES, {"entry": entry.id})
        self.tx.execute(sql.CLEAR_OWED, {"entry": entry.id})
        self.forget_marks(entry.id)
        return holders

    def let_go(self, entry: Entry) -> tuple[int, ...]:
        """Remove a file; the storages that held it."""
        holders = self.bury(entry)
        self.forget_sharing(entry.id)
        self.tx.execute(sql.DELETE_ENTRY, {"entry": entry.id})
        self.count(files=-1, size=-entry.size)
        return holders

    def purge_trash(self, limit: int) -> Purged:
        """Remove up to `limit` rows of what was removed as whole directories, innermost first."""
        purged = Purged()
        walk = [(TRASH_ID, self.children(TRASH_ID))]
        while walk and purged.rows < limit:
            directory, rest = walk[-1]
            entry = next(rest, None)
            if entry is None:
                self._purge_directory(directory, purged)
                walk.pop()
            elif entry.is_dir:
                walk.append((entry.id, self.children(entry.id)))
            else:
                self._purge_file(entry, purged)
        return purged

    def _purge_directory(self, directory: int, purged: Purged) -> None:
        if directory != TRASH_ID:
            self.tx.execute(sql.DELETE_ENTRY, {"entry": directory})
            self.count(directories=-1)
            purged.rows += 1

    def _purge_file(self, entry: Entry, purged: Purged) -> None:
        for storage in self.let_go(entry):
            count, size = purged.freed.get(storage, (0, 0))
            purged.freed[storage] = (count + 1, size + entry.size)
        purged.rows += 1

    def is_tombstoned(self, version: str, sha256: str, size: int) -> bool:
        """Whether the tree remembers having let this go: by version, or by content where no version is known."""
        if version:
            return self.tx.execute(sql.TOMBSTONE, {"v": version}).first() is not None
        return self.tx.execute(sql.TOMBSTONE_BY_CONTENT, {"digest": sha256, "length": size}).first() is not None

    def prune_tombstones(self, before: float) -> None:
        self.tx.execute(sql.PRUNE_TOMBSTONES, {"before": before})

    # --- owed ------------------------------------------------------------------------------

    def set_owed(self, entry: int, live: int) -> None:
        """Write down that a file has only `live` copies that count."""
        self.clear_owed(entry)
        self.tx.execute(sql.ADD_OWED, {"entry_id": entry, "live": live, "since": self.now})

    def clear_owed(self, entry: int) -> None:
        self.tx.execute(sql.CLEAR_OWED, {"entry": entry})

    def owed_among(self, ids: Sequence[int]) -> dict[int, int]:
        """Live copies by entry id, of those of these entries that are owed some."""
        found: dict[int, int] = {}
        for start in range(0, len(ids), CHUNK):
            found.update(self.tx.execute(sql.OWED_AMONG, {"ids": list(ids[start : start + CHUNK])}).all())
        return found

    def owed_first(self, limit: int, skip: Collection[int]) -> list[int]:
        """Entries that are owed copies, fewest live copies first."""
        rows = self.tx.execute(sql.OWED_FIRST, {"most": limit + len(skip)}).scalars()
        return [number for number in rows if number not in skip][:limit]

    def owed_count(self) -> int:
        return int(self.tx.execute(sql.OWED_COUNT).scalar() or 0)

    # --- receipts, storages, accounts ------------------------------------------------------

    def receipt(self, request: str) -> str | None:
        """The answer that this request got, as JSON."""
        return self.tx.execute(sql.RECEIPT, {"asked": request}).scalar()

    def add_receipt(self, request: str, answer: str) -> None:
        self.tx.execute(sql.ADD_RECEIPT, {"request": request, "answer": answer, "made_at": self.now})

    def prune_receipts(self, before: float) -> None:
        self.tx.execute(sql.PRUNE_RECEIPTS, {"before": before})

    def storages(self) -> Sequence[Any]:
        return self.tx.execute(sql.STORAGES).all()

    def enroll_storage(self, name: str, values: dict[str, Any]) -> Any:
        """Add a storage or bring its row up to date; `values`: storage_id, host, port, capacity, zone, ingestable."""
        row = self.tx.execute(sql.STORAGE, {"called": name}).first()
        if row is None:
            fresh = {"name": name, "counted": False, "draining": False, "enabled": True, "added_at": self.now}
            self.tx.execute(sql.ADD_STORAGE, values | fresh)
        else:
            self.tx.execute(sql.UPDATE_STORAGE, {f"new_{k}": v for k, v in values.items()} | {"storage": row.id})
        return self.tx.execute(sql.STORAGE, {"called": name}).one()

    def retire_storage(self, storage: int, name: str) -> None:
        """No folder belongs to this storage any more, and its name is free."""
        self.tx.execute(sql.RETIRE_STORAGE, {"storage": storage, "gone": name})

    def only_on(self, storage: int) -> tuple[int, int, str]:
        """How many files have no copy here but on this storage, how many of them others hold, and one of them."""
        only = list(self.tx.execute(sql.ONLY_ON, {"storage": storage}).scalars())
        here = [entry for entry in only if self.path_of(entry) is not None]
        elsewhere = sum(
            bool(held.remote)
            for start in range(0, len(here), CHUNK)
            for held in self.holders_elsewhere(here[start : start + CHUNK]).values()
        )
        return len(here), elsewhere, (self.path_of(here[0]) or "") if here else ""

    def set_counted(self, storage: int, on: bool) -> None:
        self.tx.execute(sql.SET_COUNTED, {"storage": storage, "on": on})

    def set_enabled(self, storage: int, on: bool) -> None:
        self.tx.execute(sql.SET_ENABLED, {"storage": storage, "on": on})

    def set_draining(self, storage: int, on: bool) -> None:
        self.tx.execute(sql.SET_DRAINING, {"storage": storage, "on": on})

    def accounts(self) -> list[tuple[str, int, bytes | None]]:
        return [(name, level, digest) for name, level, digest in self.tx.execute(sql.ACCOUNTS)]

    def set_account(self, name: str, level: Level, digest: bytes | None) -> None:
        self.drop_account(name)
        row = {"name": name, "level": int(level), "password_hash": digest, "created_at": self.now}
        self.tx.execute(sql.ADD_ACCOUNT, row)

    def drop_account(self, name: str) -> None:
        self.tx.execute(sql.DELETE_ACCOUNT, {"called": name})
