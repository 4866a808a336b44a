"""Bytes at no more than a given speed.

Law: what was not used is not saved up; whoever takes more than there is waits, with no lock held.
"""

from __future__ import annotations

import threading

from goggles.clock import Clock
from goggles.errors import Cancelled

AHEAD = 0.05  # seconds; shorter waits are put together


class Pace:
    """Several threads may share one: together they keep to it."""

    def __init__(self, clock: Clock, stopping: threading.Event) -> None:
        self._clock = clock
        self._stopping = stopping
        self._lock = threading.Lock()
        self._due = 0.0  # monotonic time up to which what was taken lasts; guarded by _lock

    def take(self, count: int, rate: float) -> None:
        """Wait until `count` more bytes fit `rate` bytes a second (0: at once); Cancelled when the storage stops."""
        if rate:
            with self._lock:
                now = self._clock.monotonic()
                self._due = max(self._due, now) + count / rate
                ahead = self._due - now
            if ahead > AHEAD:
                self._clock.wait(self._stopping, ahead)
        if self._stopping.is_set():
            raise Cancelled("this storage is stopping")
