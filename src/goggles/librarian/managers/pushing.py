"""The managers whose bytes our own storages send: goggles (our data plane), local (a shared file system), rsync.

Law: each file is sent by one storage that holds it.  How it ended is known from that storage's report; a storage that
neither reports nor says that it is at work is asked again, and goes on where it ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from goggles.contracts import orders
from goggles.contracts.orders import PushOrder
from goggles.librarian.ledger import Record
from goggles.librarian.managers.base import Facility, Progress, Status
from goggles.librarian.managers.steps import begin, holders, joined
from goggles.librarian.peers import PeerInfo, Peers
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site

SILENCE = 20.0  # seconds without report or sign of life until a storage is asked again


class Reports:
    """How pushes ended, as storages told; forgotten with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[str, str] = {}  # transfer: error, '' where it is done; guarded by _lock

    def add(self, transfer: str, error: str) -> None:
        with self._lock:
            self._ended[transfer] = error

    def get(self, transfer: str) -> str | None:
        with self._lock:
            return self._ended.get(transfer)

    def forget(self, transfers: Sequence[str]) -> None:
        with self._lock:
            for transfer in transfers:
                self._ended.pop(transfer, None)


class PushManager:
    """Base of the three."""

    name = ""

    def __init__(self, site: Site, peers: Peers, reports: Reports, rate: int) -> None:
        self._site = site
        self._peers = peers
        self._reports = reports
        self._rate = rate
        self._lock = threading.Lock()
        self._asked: dict[str, float] = {}  # transfer: when a storage was told to push it; guarded by _lock

    def valid(self, facility: Facility) -> bool:
        raise NotImplementedError

    def start(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> dict[str, Any]:
        facility = json.loads(batch.facilities)[self.name]
        senders = {key: self._site.chance.choice(nodes) for key, nodes in holders(self._site, rows).items()}
        tickets = begin(self._site, self._peers, peer, [(row, senders[row.id]) for row in rows])
        self._reports.forget([row.id for row in rows])
        with self._site.decisions.lock:
            for row in rows:
                if isinstance(tickets[row.id], bytes):
                    self._order(row, senders[row.id], batch.store, facility, tickets[row.id])
                else:
                    self._reports.add(row.id, str(tickets[row.id]))
        return {"senders": {row.id: senders[row.id].name for row in rows}}

    def poll(self, batch: Record, rows: Sequence[Record]) -> dict[str, Status]:
        return {row.id: self._status(row) for row in rows}

    def _status(self, row: Record) -> Status:
        ended = self._reports.get(row.id)
        if ended is not None:
            return Status(done=not ended, error=ended)
        if any(row.id in node.busy for node in self._site.roster.all()):
            return Status()
        with self._lock:
            asked = self._asked.get(row.id)
        if asked is None:
            return Status(error="the nameserver was started anew meanwhile", lost=True)
        if self._site.clock.monotonic() - asked < SILENCE:
            return Status()
        return Status(error="the storage that sent it has not said how it ended")

    def progress(self, batch: Record, rows: Sequence[Record]) -> Progress:
        """A storage reports a file when it is sent; how much of one that is under way is there, it does not say."""
        ended = {row.id: self._reports.get(row.id) for row in rows}
        done = [row for row in rows if ended[row.id] == ""]
        size = sum(row.size for row in done)
        with self._lock:
            began = [self._asked[row.id] for row in rows if row.id in self._asked]
        spent = self._site.clock.monotonic() - min(began) if began else 0.0
        trouble = next((error for error in ended.values() if error), "")
        return Progress(len(done), size, size / spent if spent > 0 else 0.0, trouble=trouble)

    def forget(self, transfers: Sequence[str]) -> None:
        self._reports.forget(transfers)
        with self._lock:
            for transfer in transfers:
                self._asked.pop(transfer, None)

    def stop(self, batch: Record) -> None:
        """What was ordered ends by itself."""

    def close(self) -> None:
        """Nothing waits here."""

    def _order(self, row: Record, node: Node, store: str, facility: Facility, grant: bytes) -> None:
        """Lock held."""
        host, port, place = self._where(facility, row.place)
        job = PushOrder(row.id, self.name, row.path, row.version, row.size, store, host, port, place, grant, self._rate)
        node.order(orders.push(job))
        with self._lock:
            self._asked[row.id] = self._site.clock.monotonic()

    def _where(self, facility: Facility, place: str) -> tuple[str, int, str]:
        raise NotImplementedError


class GogglesManager(PushManager):
    """From storage to storage over our own data plane; resumes after a break."""

    name = "goggles"

    def valid(self, facility: Facility) -> bool:
        return isinstance(facility.get("host"), str) and isinstance(facility.get("port"), int)

    def _where(self, facility: Facility, place: str) -> tuple[str, int, str]:
        return facility["host"], facility["port"], place


class LocalManager(PushManager):
    """A copy into a file system that both storages see."""

    name = "local"

    def valid(self, facility: Facility) -> bool:
        return str(facility.get("root", "")).startswith("/")

    def _where(self, facility: Facility, place: str) -> tuple[str, int, str]:
        return "", 0, joined(facility["root"], place)


class RsyncManager(PushManager):
    """rsync over ssh, started by the storage that holds the file."""

    name = "rsync"

    def valid(self, facility: Facility) -> bool:
        return bool(facility.get("ssh_host")) and str(facility.get("root", "")).startswith("/")

    def _where(self, facility: Facility, place: str) -> tuple[str, int, str]:
        return str(facility["ssh_host"]), 0, joined(facility["root"], place)
