"""Kept connections of the data plane to other storages.

Law: a connection is used by one transfer at a time and goes back only when its last answer has been read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from goggles.roles import Role
from goggles.wire.data import DataLink
from goggles.wire.dial import Address, Dialer
from goggles.wire.server import STALL

IDLE = 240.0  # seconds; the other side keeps it a little longer


class Links:
    """A pool of data links, by storage."""

    def __init__(self, dialer: Dialer, most: int = 8) -> None:
        self._dialer = dialer
        self._most = most
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, Address], list[tuple[float, DataLink]]] = {}  # guarded by _lock

    @contextlib.contextmanager
    def to(self, name: str, address: Address, stall: float = STALL) -> Iterator[DataLink]:
        """A link to the storage `name`; kept afterwards unless it broke or the block raised.

        `stall`: seconds without progress after which it counts as broken."""
        link = self._take(name, address) or self._dialer.data(address, Role.STORAGE, name)
        link.set_timeout(stall)
        try:
            yield link
        except BaseException:
            link.close()
            raise
        self._give_back(name, address, link)

    def _take(self, name: str, address: Address) -> DataLink | None:
        while True:
            with self._lock:
                idle = self._idle.get((name, address))
                if not idle:
                    return None
                since, link = idle.pop()
            if time.monotonic() - since < IDLE and not link.broken and not link.readable():
                return link
            link.close()

    def _give_back(self, name: str, address: Address, link: DataLink) -> None:
        with self._lock:
            idle = self._idle.setdefault((name, address), [])
            if not link.broken and len(idle) < self._most:
                idle.append((time.monotonic(), link))
                return
        link.close()

    def close(self) -> None:
        with self._lock:
            links = [link for idle in self._idle.values() for _, link in idle]
            self._idle.clear()
        for link in links:
            link.close()
