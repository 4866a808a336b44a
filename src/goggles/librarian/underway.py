"""What is on its way to other librarians: each batch that waits or has been given to a manager, and how far it is.

Law: nobody is asked, and no lock is taken but those that guard a table in memory: what is told is as old as the last
look of the manager at its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from goggles.contracts.peering import State
from goggles.librarian import ledger
from goggles.librarian.ledger import Record
from goggles.librarian.managers import Managers, Progress
from goggles.librarian.peers import Peers
from goggles.librarian.states import LIVE
from goggles.meta.peering import outgoing, send_queue
from goggles.nameserver.site import Site

MOST = 1_000  # batches that are told, the first in the queue
O, Q = outgoing.c, send_queue.c  # noqa: E741 - columns
GOING = frozenset({State.INITIATED, State.ONGOING})
WAITING_BATCHES = (
    select(Q.id, Q.peer_id, Q.updated_at, Q.tries, func.count().label("files"), func.sum(O.size).label("size"))
    .join(outgoing, O.batch_id == Q.id)
    .where(Q.state == ledger.WAITING, O.state.in_([int(state) for state in (*LIVE, State.COMPLETED)]))
    .group_by(Q.id, Q.peer_id, Q.updated_at, Q.tries, Q.created_at)
    .order_by(Q.peer_id, Q.created_at)
    .limit(MOST)
)


@dataclass(frozen=True, slots=True)
class Flight:
    """One batch, waiting or sent since a time (seconds since 1970, UTC).  Sizes are bytes; `rate` bytes a second since
    then; `task` is the name that the manager's service has for it, '' where it has none."""

    peer: str
    batch: str
    state: str
    since: float
    tries: int
    files: int
    size: int
    manager: str = ""
    files_done: int = 0
    size_done: int = 0
    rate: float = 0.0
    task: str = ""
    trouble: str = ""


class UnderWay:
    """All of them."""

    def __init__(self, site: Site, peers: Peers, managers: Managers) -> None:
        self._site = site
        self._peers = peers
        self._managers = managers

    def read(self) -> list[Flight]:
        """The batches that are not over, those that were sent first."""
        with self._site.database.read() as connection:
            waiting = self._waiting(connection)
        return [*self.sent(), *waiting]

    def sent(self) -> list[Flight]:
        """Those that a manager has; they are few."""
        with self._site.database.read() as connection:
            names = self._names(connection)
            query = select(send_queue).where(Q.state == ledger.SENT).order_by(Q.peer_id, Q.created_at).limit(MOST)
            batches = connection.execute(query).all()
            rows = {batch.id: ledger.of_batch(connection, batch.id) for batch in batches}
        return [self._flight(names.get(batch.peer_id, ""), batch, rows[batch.id]) for batch in batches]

    def _names(self, connection: Connection) -> dict[int, str]:
        return {peer.id: peer.name for peer in self._peers.listing(connection)}

    def _waiting(self, connection: Connection) -> list[Flight]:
        """There may be very many: their transfers are counted in the database."""
        names = self._names(connection)
        return [
            Flight(
                peer=names.get(row.peer_id, ""),
                batch=row.id,
                state=ledger.WAITING,
                since=row.updated_at,
                tries=row.tries,
                files=row.files,
                size=int(row.size),
            )
            for row in connection.execute(WAITING_BATCHES)
        ]

    def _flight(self, peer: str, batch: Record, rows: Sequence[Record]) -> Flight:
        """Of a batch that was sent."""
        wanted = [row for row in rows if State(row.state) in LIVE or State(row.state) is State.COMPLETED]
        going = [row for row in wanted if State(row.state) in GOING]
        noted = [row for row in wanted if State(row.state) not in GOING]
        told = self._managers.progress(batch, going) if going else Progress()
        files, size = len(wanted), sum(row.size for row in wanted)
        spent = self._site.clock.now() - batch.updated_at
        fresh = sum(row.size for row in noted if row.updated_at >= batch.updated_at) + told.size_done
        return Flight(
            peer=peer,
            batch=batch.id,
            manager=batch.manager,
            state=batch.state,
            since=batch.updated_at,
            tries=batch.tries,
            files=files,
            files_done=min(files, len(noted) + told.files_done),
            size=size,
            size_done=min(size, sum(row.size for row in noted) + told.size_done),
            rate=told.rate or (fresh / spent if spent > 0 else 0.0),
            task=told.task,
            trouble=told.trouble,
        )
