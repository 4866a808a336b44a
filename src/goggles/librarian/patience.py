"""How a librarian bears with peers that do not answer: it asks them less and less often, and does not repeat itself.

Law: a peer that is dead for a week, or does not let us in, costs a few connections a minute and a line of the log every
few minutes.  One that answers a ping is alive at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from goggles.clock import Clock
from goggles.errors import GogglesError

FIRST, LONGEST = 1.0, 15.0  # seconds for which a peer that did not answer, or refused us, is left alone
REPEAT = 300.0  # seconds until the same is said again
MOST = 1_000  # things that are remembered as said


@dataclass(slots=True)
class _Rest:
    """Until when (monotonic) a peer is left alone, and why."""

    until: float
    pause: float
    error: GogglesError


class Rests:
    """The peers that are left alone, by id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rests: dict[int, _Rest] = {}  # guarded by _lock

    def check(self, peer: int) -> None:
        """Raise again what it failed with, while it is left alone."""
        with self._lock:
            rest = self._rests.get(peer)
        if rest is not None and self._clock.monotonic() < rest.until:
            raise type(rest.error)(rest.error.message, rest.error.hint)

    def failed(self, peer: int, error: GogglesError) -> None:
        with self._lock:
            last, now = self._rests.get(peer), self._clock.monotonic()
            if last is not None and now < last.until:
                return
            pause = FIRST if last is None else min(LONGEST, 2 * last.pause)
            self._rests[peer] = _Rest(now + pause, pause, error)

    def over(self, peer: int) -> None:
        """It is there."""
        with self._lock:
            self._rests.pop(peer, None)


class Said:
    """What was said last, by subject."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, float]] = {}  # guarded by _lock

    def news(self, subject: str, text: str) -> bool:
        """Whether this was not the last thing said of it, or not for a while."""
        with self._lock:
            last, now = self._said.get(subject), self._clock.monotonic()
            if last is not None and last[0] == text and now - last[1] < REPEAT:
                return False
            if len(self._said) >= MOST:
                self._said.clear()
            self._said[subject] = (text, now)
            return True

    def over(self, subject: str) -> bool:
        """Nothing is wrong with it any more; whether something was."""
        with self._lock:
            return self._said.pop(subject, None) is not None
