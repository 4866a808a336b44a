"""Which files other librarians hold or are getting, and which directories have such files in them.

Law: what is shared keeps its path and its bytes; it may be removed here.  A file's count is that of its copies
elsewhere and on their way; a directory's is that of the shared files anywhere below it.  All counts change in the
transaction that changes what they count, so that the question is answered by looking at one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from goggles.errors import Shared
from goggles.meta.peering import remote_instances, shared
from goggles.meta.quick import remember
from goggles.meta.tables import entries

S, R = shared.c, remote_instances.c
COUNT = select(S.count).where(S.entry_id == bindparam("entry"))
ADD = insert(shared)
CHANGE = update(shared).where(S.entry_id == bindparam("entry")).values(count=bindparam("new_count"))
DROP = delete(shared).where(S.entry_id == bindparam("entry"))
ABOVE = select(entries.c.parent_id).where(entries.c.id == bindparam("entry"))
ELSEWHERE = select(remote_instances).where(R.entry_id.in_(bindparam("ids", expanding=True)))
AT = select(R.copied_at).where(
    R.entry_id == bindparam("entry"), R.peer_id == bindparam("peer"), R.store == bindparam("at_store")
)
ADD_ELSEWHERE = insert(remote_instances)
VERIFIED = (
    update(remote_instances)
    .where(R.entry_id == bindparam("entry"), R.peer_id == bindparam("peer"), R.store == bindparam("at_store"))
    .values(verified_at=bindparam("now"))
)
DROP_ALL = delete(remote_instances).where(R.entry_id == bindparam("entry"))
remember(globals())


class Sharing:
    """What `Copies` builds on."""

    def __init__(self, tx: Connection, now: float) -> None:
        self.tx = tx
        self.now = now

    def shared_count(self, entry: int) -> int:
        """How many copies of a file others hold or get; for a directory, how many shared files it has in it."""
        return int(self.tx.execute(COUNT, {"entry": entry}).scalar() or 0)

    def need_unshared(self, entry: int, path: str, what: str) -> None:
        """Raise Shared where others rely on this path: `what` may not be done."""
        if self.shared_count(entry):
            raise Shared(f"{path} can not be {what}: other librarians hold it, or are getting it", "rm removes it here")

    def share(self, entry: int) -> None:
        """One more copy of this file elsewhere, or on its way there."""
        if self._change(entry, 1) == 1:
            for above in self._above(entry):
                self._change(above, 1)

    def unshare(self, entry: int) -> None:
        """One copy less; nothing where the file was let go meanwhile."""
        if self.shared_count(entry) and self._change(entry, -1) == 0:
            for above in self._above(entry):
                self._change(above, -1)

    def add_elsewhere(self, entry: int, peer: int, store: str, sender: str, copied_at: float) -> bool:
        """Another librarian has a copy; False where that was known already."""
        if self.tx.execute(AT, {"entry": entry, "peer": peer, "at_store": store}).first() is not None:
            self.tx.execute(VERIFIED, {"entry": entry, "peer": peer, "at_store": store, "now": self.now})
            return False
        row = {"entry_id": entry, "peer_id": peer, "store": store, "sender": sender, "copied_at": copied_at}
        self.tx.execute(ADD_ELSEWHERE, row | {"verified_at": self.now})
        self.share(entry)
        return True

    def elsewhere(self, ids: Sequence[int]) -> list[Any]:
        """The remote instances of these files, as rows."""
        return list(self.tx.execute(ELSEWHERE, {"ids": list(ids)}).all()) if ids else []

    def drop_elsewhere(self, entry: int, peer: int | None = None) -> int:
        """Forget copies elsewhere, of one librarian or of all; how many."""
        statement = delete(remote_instances).where(R.entry_id == entry)
        dropped = self.tx.execute(statement if peer is None else statement.where(R.peer_id == peer)).rowcount
        for _ in range(dropped):
            self.unshare(entry)
        return int(dropped)

    def forget_sharing(self, entry: int) -> None:
        """A file that is let go is nobody's any more, as far as this site knows."""
        if not self.shared_count(entry):
            return
        self.tx.execute(DROP_ALL, {"entry": entry})
        self.tx.execute(DROP, {"entry": entry})
        for above in self._above(entry):
            self._change(above, -1)

    def take_out(self, directory: int) -> None:
        """A directory leaves the tree with all that is in it: what it counts is not above it any more."""
        count = self.shared_count(directory)
        for above in self._above(directory) if count else ():
            self._change(above, -count)

    def _change(self, entry: int, by: int) -> int:
        """The new count."""
        before = self.tx.execute(COUNT, {"entry": entry}).scalar()
        after = max(0, int(before or 0) + by)
        if before is None and after:
            self.tx.execute(ADD, {"entry_id": entry, "count": after})
        elif before is not None and after:
            self.tx.execute(CHANGE, {"entry": entry, "new_count": after})
        elif before is not None:
            self.tx.execute(DROP, {"entry": entry})
        return after

    def _above(self, entry: int) -> list[int]:
        """The directories above, from the inside to the top."""
        found: list[int] = []
        parent = self.tx.execute(ABOVE, {"entry": entry}).scalar()
        while parent is not None:
            found.append(parent)
            parent = self.tx.execute(ABOVE, {"entry": parent}).scalar()
        return found
