"""How much memory the large messages of callers may take at once: those of one principal, and all together.

Law: room is taken before the bytes are read, and given back when the next message is waited for.  Small messages need
none, so that whoever fills the room holds up nobody who only calls.
"""

from __future__ import annotations

import threading
from collections import Counter

from goggles.errors import LimitExceeded

MIB = 1 << 20
SMALL = 64 << 10  # bytes of a message that needs no room


class Room:
    """Bytes that may be under way at a server."""

    def __init__(self, total: int = 256 * MIB, each: int = 64 * MIB) -> None:
        self._total = total
        self._each = each
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()  # by principal; guarded by _lock

    def share(self, principal: str) -> Share:
        """What one connection of a principal takes of it."""
        return Share(self, principal)

    def take(self, principal: str, size: int) -> None:
        """LimitExceeded where that is too much."""
        with self._lock:
            own, together = self._taken[principal] + size, self._taken.total() + size
            if own > self._each or together > self._total:
                raise LimitExceeded(f"{principal} has {own} bytes of large messages under way, all together {together}")
            self._taken[principal] += size

    def give_back(self, principal: str, size: int) -> None:
        with self._lock:
            self._taken[principal] -= size
            if not self._taken[principal]:
                del self._taken[principal]


class Share:
    """The room of one connection; used by its thread."""

    def __init__(self, room: Room, principal: str) -> None:
        self._room = room
        self._principal = principal
        self._size = 0

    def take(self, size: int) -> None:
        """Room for so many bytes more; LimitExceeded."""
        if size > SMALL:
            self._room.take(self._principal, size)
            self._size += size

    def give_back(self) -> None:
        if self._size:
            self._room.give_back(self._principal, self._size)
            self._size = 0
