"""The table of errors: what goes wrong in a site, kept until somebody clears it.

Law: whoever tells a trouble neither waits nor fails, and may hold the global lock: `tell` puts it into a bounded queue,
and a thread of this owner does the rest.  What stands already is not written twice, and there is an end to how much
stands.  A webhook is told of each new row; that it can not be reached is said in the log and nowhere else.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import urllib.request
from collections import deque
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import insert, select, update

from goggles.errors import (
    CertificateError,
    ChecksumMismatch,
    Conflict,
    DatabaseAway,
    DatabaseError,
    GogglesError,
    InternalError,
    NoSpace,
    NotFound,
    PermissionDenied,
    SettingsError,
    StorageFailure,
    Unavailable,
)
from goggles.meta.peering import errors
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
SEVERITIES = ("critical", "error", "warning", "info")
CATEGORIES = (
    "data_integrity",
    "data_availability",
    "configuration",
    "store_full",
    "programming",
    "librarian_network_availability",
    "transfer",
)
KINDS: tuple[tuple[tuple[type[GogglesError], ...], str], ...] = (
    ((InternalError, DatabaseError, DatabaseAway), "programming"),
    ((ChecksumMismatch,), "data_integrity"),
    ((StorageFailure,), "data_availability"),
    ((NoSpace,), "store_full"),
    ((Unavailable,), "librarian_network_availability"),
    ((SettingsError, NotFound, PermissionDenied, CertificateError, Conflict), "configuration"),
)
WAITING = 1_000  # troubles that wait to be written
STANDING = 10_000  # rows that stand at the same time; what comes beyond them is in the log alone
UNSENT = 200  # rows that wait for the webhook
LONGEST = 2_000  # characters of a message
POST = 5.0  # seconds that the webhook may take
FLUSH = 5.0  # seconds that are left at a stop for what still waits
E = errors.c


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row.  Times are seconds since 1970, UTC; `cleared_time` is 0 while it stands."""

    id: int
    severity: str
    category: str
    message: str
    caller: str
    raised_time: float
    cleared_time: float = 0.0

    @property
    def cleared(self) -> bool:
        return self.cleared_time > 0


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows are asked for; None: any."""

    id: int | None = None
    category: str | None = None
    severity: str | None = None
    create_time_start: float | None = None
    create_time_end: float | None = None
    include_resolved: bool = False
    max_results: int = 64


def category_of(error: BaseException) -> str:
    """Where an error belongs that something which runs by itself has met."""
    for kinds, category in KINDS:
        if isinstance(error, kinds):
            return category
    return "transfer" if isinstance(error, GogglesError) else "programming"


class Troubles:
    """The table of errors of one site; `tell` is the site's `trouble`."""

    def __init__(self, site: Site, webhook: str = "") -> None:
        self._site = site
        self._webhook = webhook
        self._queue: queue.Queue[Trouble | None] = queue.Queue(WAITING)
        self._lost = 0  # that found the queue full
        self._unsent: deque[Trouble] = deque(maxlen=UNSENT)  # of the thread alone
        self._standing: set[tuple[str, str]] = set()  # (category, message); changed with the global lock held
        self._thread = threading.Thread(target=self._run, name="troubles", daemon=True)
        with site.database.read() as connection:
            rows = connection.execute(select(E.category, E.message).where(E.cleared_at.is_(None)).limit(STANDING))
            self._standing.update((row.category, row.message) for row in rows)
        site.trouble = self.tell

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        try:
            self._queue.put(None, timeout=FLUSH)
        except queue.Full:
            log.warning("troubles that wait to be written are lost")
        self._thread.join(FLUSH + POST)

    # --- telling ---------------------------------------------------------------------------

    def tell(self, severity: str, category: str, message: str) -> None:
        """Take a trouble in.  Neither waits nor raises."""
        severity = severity if severity in SEVERITIES else "error"
        category = category if category in CATEGORIES else "programming"
        text = str(message)[:LONGEST].replace("\0", "")
        if (category, text) in self._standing:
            return
        frame = sys._getframe(1)
        caller = f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}"[:255]
        try:
            self._queue.put_nowait(Trouble(0, severity, category, text, caller, self._site.clock.now()))
        except queue.Full:
            self._lost += 1

    # --- looking and clearing --------------------------------------------------------------

    def search(self, query: Query) -> list[Trouble]:
        """What fits, the newest first."""
        asked = [(E.id, query.id), (E.category, query.category), (E.severity, query.severity)]
        found = select(errors).where(*(column == value for column, value in asked if value is not None))
        if query.create_time_start is not None:
            found = found.where(E.raised_at >= query.create_time_start)
        if query.create_time_end is not None:
            found = found.where(E.raised_at <= query.create_time_end)
        if not query.include_resolved:
            found = found.where(E.cleared_at.is_(None))
        with self._site.database.read() as connection:
            rows = connection.execute(found.order_by(E.raised_at.desc(), E.id.desc()).limit(query.max_results)).all()
        return [_trouble(row) for row in rows]

    def clear(self, number: int) -> None:
        """A trouble is over; the same may be told anew.  NotFound where it was never there; twice is fine."""

        def decide(tx: Transaction) -> None:
            row = tx.tree.tx.execute(select(errors).where(E.id == number)).first()
            if row is None:
                raise NotFound(f"there is no error {number}", "search_errors lists them with their ids")
            if row.cleared_at is None:
                tx.tree.tx.execute(update(errors).where(E.id == number).values(cleared_at=tx.tree.now))
                tx.on_commit(lambda: self._standing.discard((row.category, row.message)))

        self._site.decisions.run(decide, changes=False)

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            going, batch = self._take(wait=not self._unsent)
            try:
                self._unsent.extend(self._write(batch))
            except GogglesError as error:
                log.warning("%d troubles could not be written down: %s", len(batch), error)
            except Exception:
                log.exception("%d troubles could not be written down", len(batch))
            if self._unsent and going:
                self._post(self._unsent.popleft())

    def _take(self, wait: bool) -> tuple[bool, list[Trouble]]:
        """All that waits, and whether it goes on; where there is nothing else to do, wait for the first."""
        batch: list[Trouble] = []
        try:
            item = self._queue.get(block=wait)
            while item is not None:
                batch.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return True, batch
        return False, batch

    def _write(self, batch: list[Trouble]) -> list[Trouble]:
        """Write down what does not stand yet; those rows."""
        if self._lost:
            log.warning("%d troubles came faster than they could be written; see the lines before", self._lost)
            self._lost = 0
        return self._site.decisions.run(lambda tx: self._add(tx, batch), changes=False) if batch else []

    def _add(self, tx: Transaction, batch: list[Trouble]) -> list[Trouble]:
        made: dict[tuple[str, str], Trouble] = {}
        for one in batch:
            key = one.category, one.message
            if key in made or key in self._standing or len(self._standing) + len(made) >= STANDING:
                continue
            row: dict[str, Any] = {"severity": one.severity, "category": one.category, "message": one.message}
            row |= {"caller": one.caller, "raised_at": one.raised_time, "cleared_at": None}
            found = tx.tree.tx.execute(insert(errors).values(row)).inserted_primary_key
            made[key] = replace(one, id=int(found[0]) if found else 0)
        tx.on_commit(lambda: self._standing.update(made))
        return list(made.values())

    def _post(self, one: Trouble) -> None:
        if not self._webhook:
            return
        text = f"{self._site.name}: {one.severity} ({one.category}): {one.message}"
        told = {"text": text, "severity": one.severity, "category": one.category, "message": one.message}
        body = json.dumps({**told, "site": self._site.name}).encode()
        request = urllib.request.Request(  # noqa: S310 - the setting takes http and https only
            self._webhook, body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=POST) as answer:  # noqa: S310 - as above # nosec B310
                answer.read(1)
        except Exception as error:  # noqa: BLE001 - whatever the other side does, it is no trouble of this site
            log.warning("the webhook at %s could not be told of an error: %s", urlsplit(self._webhook).hostname, error)


def _trouble(row: Any) -> Trouble:
    return Trouble(
        row.id, row.severity, row.category, row.message, row.caller, row.raised_at, float(row.cleared_at or 0.0)
    )
