"""Orders that wait to be carried to one storage.

Law: first in, first out; the number that `push` returns is the order's place in its session, and of no other.
Pushed with the global lock held (so that orders stand in the order of the decisions), taken by the courier.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from goggles.contracts.orders import Order, before_first
from goggles.contracts.records import Value

MAX_WAITING = 200_000
AWAITED = frozenset({"check", "expect", "ingest", "pull", "push", "recheck"})  # orders to begin something with
Report = Callable[[tuple[Value, ...]], None]


@dataclass(slots=True)
class Entry:
    """An order, and who wants to know what came of it."""

    order: Order
    report: Report | None = None


@dataclass(eq=False)
class Outbox:
    """The orders of one session of one storage."""

    session: str
    last: int = field(init=False)  # number of the last order pushed
    taken: int = field(init=False)
    done: int = field(init=False)  # carried out, as far as is known
    closed: bool = False
    moves: int = 0  # orders among them that move files about: a walk that runs meanwhile may miss some
    _wanted: int = field(init=False)  # what is waited for has numbers up to this one
    _entries: deque[Entry] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _hurried: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.last = self.taken = self.done = self._wanted = before_first(self.session)

    def push(self, order: Order, report: Report | None = None) -> int:
        """Queue `order`; its number.  Where far too many wait, the outbox closes: the storage checks itself again."""
        with self._changed:
            self.last += 1
            self.moves += order[0] in ("move", "move_file", "publish")
            if len(self._entries) >= MAX_WAITING:
                self.closed = True
            self._entries.append(Entry(order, report))
            if len(self._entries) == 1:  # else the courier has not come for those before it
                self._changed.notify()
            return self.hurry() if order[0] in AWAITED else self.last

    def stir(self) -> None:
        """Something happened that a walk under way may have missed."""
        with self._changed:
            self.moves += 1

    def take(self, most: int, seconds: float) -> tuple[int, list[Entry]]:
        """(number of the first, up to `most` entries), waiting up to `seconds` for any."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self.closed, seconds)
            batch = [self._entries.popleft() for _ in range(min(most, len(self._entries)))]
            first = self.taken + 1
            self.taken += len(batch)
            return first, batch

    def hurry(self) -> int:
        """The number of the last order; somebody waits until it is carried out."""
        last = self.last
        if self.done < last:
            self._wanted = last
            self._hurried.set()
        return last

    def gather(self, least: float, most: float) -> None:
        """Let more orders come: for `most` seconds; only for `least` where somebody waits for some that are here."""
        least = max(0.0, least)
        time.sleep(least)
        self._hurried.wait(max(0.0, most - least))
        self._hurried.clear()
        if self.done < self._wanted:
            self._hurried.set()

    def close(self) -> list[Entry]:
        """No more orders will be carried; answers those that were not."""
        self._hurried.set()
        with self._changed:
            self.closed = True
            left = list(self._entries)
            self._entries.clear()
            self._changed.notify_all()
            return left
