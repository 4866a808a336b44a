"""Time as an argument.

Law: nothing reads the clock but through a Clock, so that a test can be the one who says what time it is.
Wall time is for people and records (seconds since 1970, UTC); monotonic time is for leases and deadlines.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

SHIFT = "GOGGLES_CLOCK_SHIFT"  # environment, for tests: seconds that this process is ahead of the machine's wall time
_shift = float(os.environ.get(SHIFT, "0"))


class Clock(Protocol):
    """What a component may ask of time."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds from some fixed moment; never goes back."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; True if it was set."""


class SystemClock:
    """The machine's own time; tests set the wall time of real processes apart with SHIFT."""

    def now(self) -> float:
        return time.time() + _shift

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


class ManualClock:
    """Time that only moves when `advance` is called.  `wait` returns at once when its time has come."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._moved = threading.Condition()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._moved:
            self._now += seconds
            self._moved.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        until = self._now + seconds
        with self._moved:
            while not event.is_set() and self._now < until:
                self._moved.wait(0.01)
        return event.is_set()
