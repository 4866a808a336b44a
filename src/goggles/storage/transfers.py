"""Work for the network of librarians: files that go to other sites are sent, files that came are read and taken in.

Law: as with copies (`workers`): it takes long, a few threads do it, and how it ended is reported.  A report that is
lost is no harm: the nameserver asks again for what it hears nothing of.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from goggles.contracts.orders import Order, PushOrder
from goggles.errors import GogglesError
from goggles.storage.pushing import Pusher
from goggles.storage.vault import Vault
from goggles.wire import faults

log = logging.getLogger(__name__)
THREADS = 4
Report = Callable[..., object]  # (method, *arguments): says something to the nameserver


class Transfers:
    """A few threads and the queue of what they have to do."""

    def __init__(self, vault: Vault, pusher: Pusher, report: Report) -> None:
        self._vault = vault
        self._pusher = pusher
        self._report = report
        self._queue: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._active: dict[str, None] = {}  # transfers in the queue or at work; guarded by _lock
        self._threads = [
            threading.Thread(target=self._run, name=f"transfer-{number}", daemon=True) for number in range(THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def active(self) -> tuple[str, ...]:
        """The transfers that wait or run."""
        with self._lock:
            return tuple(self._active)

    def take(self, order: Order) -> None:
        """Take an order; one that is waiting or running already is not taken twice."""
        with self._lock:
            name = _name(order)
            if name in self._active:
                return
            self._active[name] = None
        self._queue.put(order)

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            try:
                self._work(order)
            except Exception:
                log.exception("%s failed", order[0])

    def _work(self, order: Order) -> None:
        error: GogglesError | None = None
        try:
            if order[0] == "push":
                self._pusher.push(PushOrder.from_wire(order[1]))
            else:
                self._vault.arrivals.ingest(*order[1:])
        except Exception as wrong:  # noqa: BLE001 - told to the nameserver; `faults.known` logs what is not ours
            error = faults.known(wrong, str(order[0]))
            log.warning("%s %s failed: %s", order[0], _name(order), error)
        finally:
            with self._lock:
                self._active.pop(_name(order), None)
        method = "pushed" if order[0] == "push" else "ingested"
        self._report(method, _name(order), error.code if error else "", str(error)[:500] if error else "")


def _name(order: Order) -> str:
    return PushOrder.from_wire(order[1]).transfer if order[0] == "push" else str(order[1])
