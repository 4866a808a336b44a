"""The last many names of something, within a bound.

Law: any thread may ask and add; the oldest is forgotten first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

MOST = 100_000


class Recent:
    """A set that forgets."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}  # guarded by _lock; oldest first

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._names

    def add(self, names: Iterable[str]) -> None:
        with self._lock:
            self._names.update(dict.fromkeys(names))
            while len(self._names) > self._most:
                del self._names[next(iter(self._names))]
