"""What was decided about the copies of single files: whether they may be let go here, and which were.

Law: a file that was let go here wants no copies (`copies` 0) until it is taken in again; what it wanted before is kept
in its mark.  Marks end with their file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, literal, select, update

from goggles.meta.peering import corruptions, marks, peers, remote_instances, unavailable
from goggles.meta.quick import remember
from goggles.meta.tables import entries, instances, storages
from goggles.nameserver.sharing import Sharing

M, U, R, N = marks.c, unavailable.c, remote_instances.c, instances.c
MARK = select(marks).where(M.entry_id == bindparam("entry"))
MARKS = select(marks).where(M.entry_id.in_(bindparam("ids", expanding=True)))
ADD = insert(marks)
SET = update(marks).where(M.entry_id == bindparam("entry"))
DROP = delete(marks).where(M.entry_id == bindparam("entry"))
DROP_UNAVAILABLE = delete(unavailable).where(U.entry_id == bindparam("entry"))
WANTED = update(entries).where(entries.c.id == bindparam("entry")).values(copies=bindparam("wanted"))
LET_GO = insert(unavailable)
# One statement for both kinds: librarian '' means that a storage of ours had it and let it go.
_IDS: Any = bindparam("ids", expanding=True)
HOLDERS_ELSEWHERE = (
    select(R.entry_id, peers.c.name.label("librarian"), R.store, R.copied_at, R.verified_at, R.sender)
    .join(peers, peers.c.id == R.peer_id)
    .where(R.entry_id.in_(_IDS))
    .union_all(
        select(U.entry_id, literal(""), storages.c.name, U.since, U.verified_at, literal(""))
        .join(storages, storages.c.id == U.storage_id)
        .where(U.entry_id.in_(_IDS))
    )
)
COPIES = (
    select(N.entry_id, storages.c.name, N.size, N.created_at, N.verified_at)
    .join(storages, storages.c.id == N.storage_id)
    .where(N.entry_id.in_(_IDS))
)
remember(globals())


@dataclass(slots=True)
class Elsewhere:
    """Of one file: copies at other librarians, as (librarian, store, copied at, verified at, sender), and copies here
    that were let go, as (storage, since, verified at)."""

    remote: list[tuple[str, str, float, float, str]]
    gone: list[tuple[str, float, float]]


class Marks(Sharing):
    """What `Copies` builds on."""

    def mark_of(self, entry: int) -> Any:
        """The row, or None."""
        return self.tx.execute(MARK, {"entry": entry}).first()

    def deletable(self, ids: Sequence[int]) -> set[int]:
        """Those of these files whose copies here may be let go."""
        rows = self.tx.execute(MARKS, {"ids": list(ids)}).all() if ids else []
        return {row.entry_id for row in rows if row.deletable}

    def set_deletable(self, entry: int, on: bool) -> None:
        if self.mark_of(entry) is None:
            self.tx.execute(ADD, {"entry_id": entry, "deletable": on, "copies": None, "evicted_at": None})
        else:
            self.tx.execute(SET.values(deletable=on), {"entry": entry})

    def want_fewer(self, entry: int, wanted: int, left: int) -> None:
        """Copies here were let go on purpose: from now on `left` are wanted, and what was wanted before is kept."""
        mark = self.mark_of(entry)
        if mark is None:
            self.tx.execute(ADD, {"entry_id": entry, "deletable": False, "copies": wanted, "evicted_at": None})
        elif mark.copies is None:
            self.tx.execute(SET.values(copies=wanted), {"entry": entry})
        if not left:
            self.tx.execute(SET.values(evicted_at=self.now), {"entry": entry})
        self.tx.execute(WANTED, {"entry": entry, "wanted": left})

    def want_again(self, entry: int, asked: int, default: int) -> int:
        """The file is here again: as many copies are wanted as were asked for meanwhile, else (0) as before; how
        many."""
        mark = self.mark_of(entry)
        before = default if mark is None or mark.copies is None else int(mark.copies)
        wanted = asked or before
        self.tx.execute(SET.values(copies=None, evicted_at=None), {"entry": entry})
        self.tx.execute(DROP_UNAVAILABLE, {"entry": entry})
        self.tx.execute(WANTED, {"entry": entry, "wanted": wanted})
        return wanted

    def set_unavailable(self, entry: int, storage: int) -> None:
        """Remember that this storage had a copy that was let go; before the copy is struck."""
        row = self.tx.execute(select(instances).where(N.entry_id == entry, N.storage_id == storage)).first()
        if row is None:
            return
        if self.mark_of(entry) is None:
            self.tx.execute(ADD, {"entry_id": entry, "deletable": False, "copies": None, "evicted_at": None})
        self.tx.execute(delete(unavailable).where(U.entry_id == entry, U.storage_id == storage))
        values = {"entry_id": entry, "storage_id": storage, "size": row.size, "since": self.now}
        self.tx.execute(LET_GO, values | {"created_at": row.created_at, "verified_at": row.verified_at})

    def holders_elsewhere(self, ids: Sequence[int]) -> dict[int, Elsewhere]:
        """Who else holds these files, and which copies here were let go."""
        found: dict[int, Elsewhere] = {}
        for row in self.tx.execute(HOLDERS_ELSEWHERE, {"ids": list(ids)}).all() if ids else ():
            entry, librarian, store, when, verified, sender = row
            known = found.setdefault(entry, Elsewhere([], []))
            if librarian:
                known.remote.append((librarian, store, when, verified, sender))
            else:
                known.gone.append((store, when, verified))
        return found

    def copies_here(self, ids: Sequence[int]) -> dict[int, list[tuple[str, int, float, float]]]:
        """(storage, size, made at, verified at) of each copy of these files."""
        found: dict[int, list[tuple[str, int, float, float]]] = {}
        for entry, *copy in self.tx.execute(COPIES, {"ids": list(ids)}).all() if ids else ():
            found.setdefault(entry, []).append(tuple(copy))
        return found

    def note_corruption(self, entry: int, found_by: str, detail: str) -> None:
        """A copy of this file turned out to be bad, or not to be there; what was noted before stays."""
        if self.tx.execute(select(corruptions.c.entry_id).where(corruptions.c.entry_id == entry)).first() is None:
            row = {"entry_id": entry, "found_at": self.now, "found_by": found_by[:64], "detail": detail[:1000]}
            self.tx.execute(insert(corruptions).values(row))

    def forget_marks(self, entry: int) -> None:
        """The file is gone, or has other bytes now."""
        if self.tx.execute(DROP, {"entry": entry}).rowcount:
            self.tx.execute(DROP_UNAVAILABLE, {"entry": entry})
