"""One file of the tree to a local file, tried again until it is there.

Law: what stopped a get that may go on later leaves what has come, where the target does; what can not become right by
going on (wrong bytes, a full disk) leaves nothing.
"""

from __future__ import annotations

import threading
import time

from goggles.client.calls import Calls
from goggles.client.receiving import Complain, fetch
from goggles.client.retrying import Meter, Patience, reading_patience, wait
from goggles.client.targets import Target
from goggles.contracts.data import ReadTicket
from goggles.errors import Cancelled, GogglesError, Stale, Unavailable
from goggles.paths import DfsPath
from goggles.wire.links import Links


def open_read(calls: Calls, path: DfsPath) -> ReadTicket:
    """Where a file can be read; storages that hold it and are coming back are waited for."""
    began, pause = time.monotonic(), 0.05
    while True:
        try:
            return ReadTicket.from_wire(calls("open_read", path))
        except Unavailable as error:
            if time.monotonic() - began > reading_patience(error, calls.patience):
                raise
        wait(pause, None)
        pause = min(2.0, 2 * pause)


class Getting:
    """Gets files over the connections of one session."""

    def __init__(self, calls: Calls, links: Links, complain: Complain) -> None:
        self._calls = calls
        self._links = links
        self._complain = complain

    def get(
        self,
        path: str,
        target: Target,
        meter: Meter,
        cancel: threading.Event | None,
        ticket: ReadTicket | None = None,
    ) -> None:
        """Fill `target` with the file at `path`, and give it its name.  `ticket`: one that was just asked for."""
        try:
            self._fetch(path, target, meter, cancel, ticket)
            target.finish()
        except GogglesError as error:
            if isinstance(error, Cancelled | Unavailable):
                target.leave()
            target.drop()
            raise
        except BaseException:  # Ctrl-C, or what a report of progress raised
            target.leave()
            raise

    def _fetch(
        self, path: str, target: Target, meter: Meter, cancel: threading.Event | None, ticket: ReadTicket | None
    ) -> None:
        patience, pause = Patience(), 0.05
        while True:
            meter.restart()
            try:
                ticket = ticket or ReadTicket.from_wire(self._calls("open_read", path))
                target.begin(ticket.version, ticket.size)
                meter.total = ticket.size
                fetch(self._links, ticket, target, meter.advance, cancel, self._complain)
                return
            except (Stale, Unavailable) as error:
                if patience.is_over(reading_patience(error, self._calls.patience), meter.moved):
                    raise Unavailable(error.message, error.hint) from error
            ticket = None
            wait(pause, cancel)
            pause = min(2.0, 2 * pause)
