"""The last many names of something, within a bound.

Law: any thread may ask and add; the oldest is forgotten first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

MOST = 100_000


class Recent:
    """A set that forgets."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._names: set[str] = set()  # guarded by _lock, as is their order
        self._order: deque[str] = deque()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._names

    def add(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                if name not in self._names:
                    self._names.add(name)
                    self._order.append(name)
                if len(self._order) > self._most:
                    self._names.remove(self._order.popleft())
