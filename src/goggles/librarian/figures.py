"""The figures of a site for those who watch it, read at once.

Law: one snapshot of the database for all that is in it, and never the global lock; whoever asks again within a second
gets the same figures.  What only memory knows (states, room, uploads in flight) is read as it is at that moment.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from goggles.contracts.peering import State
from goggles.contracts.records import StorageInfo
from goggles.librarian.ledger import SENT, WAITING
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.runs import Run
from goggles.librarian.schedule import Plan
from goggles.librarian.tasks import Tasks
from goggles.librarian.underway import Flight, UnderWay
from goggles.meta.peering import errors, incoming, outgoing, send_queue
from goggles.meta.tables import entries, owed, totals
from goggles.nameserver.site import Site

FRESH = 1.0  # seconds for which figures are good enough
E, Q = entries.c, send_queue.c
TOTALS = select(totals.c.files, totals.c.directories, totals.c.size)
OWED = select(func.count()).select_from(owed)
LAST_FILE = select(E.modified_at).where(E.kind == "f").order_by(E.id.desc()).limit(1)
QUEUED = select(Q.peer_id, func.count()).where(Q.state.in_((WAITING, SENT))).group_by(Q.peer_id)
STANDING = (
    select(errors.c.severity, errors.c.category, func.count())
    .where(errors.c.cleared_at.is_(None))
    .group_by(errors.c.severity, errors.c.category)
)


@dataclass(frozen=True, slots=True)
class Figures:
    """How a site is.  Sizes are bytes, times seconds since 1970, UTC; `since_upload` is None without any file."""

    now: float = 0.0
    files: int = 0
    directories: int = 0
    size: int = 0
    owed: int = 0
    uploads: int = 0
    since_upload: float | None = None
    storages: Sequence[StorageInfo] = ()
    transfers: dict[tuple[str, State], int] = field(default_factory=dict)  # (incoming or outgoing, state)
    queued: dict[int, int] = field(default_factory=dict)  # batches that are not over, by peer
    peers: Sequence[PeerInfo] = ()
    errors: dict[tuple[str, str], int] = field(default_factory=dict)  # that stand, by (severity, category)
    tasks: Sequence[tuple[Plan, Run, float]] = ()
    flights: Sequence[Flight] = ()  # batches that managers have
    uptime: float = 0.0
    certificate_expires: float = 0.0  # of the nameserver

    @property
    def free(self) -> int:
        """Bytes that all storages together can still take."""
        return sum(info.free for info in self.storages)


class Reader:
    """Reads figures, at most once in a second."""

    def __init__(self, site: Site, peers: Peers, tasks: Tasks, underway: UnderWay) -> None:
        self._site = site
        self._peers = peers
        self._tasks = tasks
        self._underway = underway
        self._lock = threading.Lock()
        self._last = Figures()  # guarded by _lock
        self._read_at = float("-inf")  # guarded by _lock

    def read(self) -> Figures:
        with self._lock:
            if self._site.clock.monotonic() - self._read_at >= FRESH:
                self._last, self._read_at = self._read(), self._site.clock.monotonic()
            return self._last

    def _read(self) -> Figures:
        site, now = self._site, self._site.clock.now()
        with site.database.read() as connection:
            whole = connection.execute(TOTALS).one()
            last = connection.execute(LAST_FILE).scalar()
            known: dict[str, Any] = {
                "files": whole.files,
                "directories": whole.directories,
                "size": whole.size,
                "owed": connection.execute(OWED).scalar() or 0,
                "transfers": {**_states(connection, "incoming", incoming), **_states(connection, "outgoing", outgoing)},
                "queued": dict(row._tuple() for row in connection.execute(QUEUED)),
                "errors": {(severity, category): count for severity, category, count in connection.execute(STANDING)},
                "peers": self._peers.listing(connection),
            }
        return Figures(
            now=now,
            since_upload=None if last is None else max(0.0, now - last),
            uploads=site.uploads.writes,
            storages=[node.info() for node in site.roster.all()],
            tasks=self._tasks.report(),
            flights=self._underway.sent(),
            uptime=site.clock.monotonic() - site.started,
            certificate_expires=site.dialer.contexts.expires_at,
            **known,
        )


def _states(connection: Connection, direction: str, table: Table) -> dict[tuple[str, State], int]:
    query: Select[Any] = select(table.c.state, func.count()).group_by(table.c.state)
    return {(direction, State(state)): count for state, count in connection.execute(query)}
