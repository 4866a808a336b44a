"""The orders of the nameserver, as they come.

Law: the orders of one session are carried out in their order, each at most once; a number that was carried out
is not carried out again.  Orders that take long (pull, check, ingest...) are handed aside, and count as carried out
when they are handed over.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from goggles.contracts.orders import NONE, Order, before_first, is_of
from goggles.contracts.records import Value
from goggles.errors import ProtocolError, Stale
from goggles.storage.vault import Vault

log = logging.getLogger(__name__)
ASIDE = frozenset({"pull", "check", "recheck", "ingest", "push"})
OPENING = 10.0  # seconds that a new session may take to be known here
WAIT = 10.0  # seconds that a reader waits for orders before it
SESSIONS = 8  # that are remembered when they are over

OK: tuple[Value, ...] = ("ok",)


class OrderStream:
    """Which orders of the current session have been carried out."""

    def __init__(self, vault: Vault, aside: Callable[[Order], None]) -> None:
        self._vault = vault
        self._aside = aside
        self._changed = threading.Condition()
        self._running = threading.Lock()  # held while orders are carried out
        self._session = ""
        self._done = 0  # number of the last order of this session that was carried out
        self._ended: deque[range] = deque(maxlen=SESSIONS)  # numbers carried out in sessions that are over

    def begin(self, session: str) -> None:
        """A new session, with numbers of its own.  Those orders of the last one that are being carried out end first,
        so that they change nothing under the walk of the new self-check."""
        with self._running, self._changed:
            self._vault.begin()
            self._ended.append(self._carried_out())
            self._session, self._done = session, before_first(session)
            self._changed.notify_all()

    def _carried_out(self) -> range:
        return range(before_first(self._session), self._done + 1)

    def carry_out(self, session: str, first: int, orders: Sequence[Order]) -> tuple[tuple[Value, ...], ...]:
        """Carry out `orders`, the first of which has the number `first`; one result each."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._session == session, OPENING):
                raise Stale("this session is over", "the storage upgrades anew")
        if not is_of(first, session):
            raise ProtocolError(f"order {first} is none of this session", "are both sides of the same version?")
        with self._running:
            if session != self._session or first > self._done + 1:
                raise Stale("orders came out of their order", "the storage upgrades anew")
            skip = self._done + 1 - first
            results = [OK] * min(skip, len(orders)) + self._run(orders[skip:])
            with self._changed:
                self._done = max(self._done, first + len(orders) - 1)
                self._changed.notify_all()
            return tuple(results)

    def _run(self, orders: Sequence[Order]) -> list[tuple[Value, ...]]:
        """Runs of ordinary orders go to the vault together, so that they share its fsyncs."""
        results: list[tuple[Value, ...]] = []
        group: list[Order] = []
        for order in orders:
            if order and order[0] in ASIDE:
                results += self._vault.apply(group)
                group = []
                self._aside(order)
                results.append(OK)
            else:
                group.append(order)
        return results + self._vault.apply(group)

    def wait_for(self, number: int) -> None:
        """Return when the order of this number has been carried out; Stale where it does not come.

        A number of a session that is over comes no more, and is not waited for."""
        with self._changed:
            session = self._session
            if is_of(number, session):
                self._changed.wait_for(lambda: self._is_done(number) or session != self._session, WAIT)
            if not self._is_done(number):
                raise Stale("the storage has not caught up with the nameserver", "ask the nameserver again")

    def _is_done(self, number: int) -> bool:
        return number == NONE or any(number in numbers for numbers in (self._carried_out(), *self._ended))
