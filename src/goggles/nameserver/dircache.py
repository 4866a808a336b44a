"""Which directory stands at which path: a bounded cache, shared by readers and the writer.

Law: it may only hold what every new snapshot would find.  A reader notes `generation` before its snapshot begins: if
directories were moved or removed since, what it puts is ignored, and what it found here must not be used, because its
snapshot may be older or newer than that.  While such a change is being committed the cache is shut: nothing is found in
it and nothing is put.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

SIZE = 50_000


class DirCache:
    """Path to directory id, least recently used first out."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._ids: OrderedDict[str, int] = OrderedDict()  # guarded by _lock
        self._shut = False  # guarded by _lock
        self.generation = 0

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, path: str) -> int | None:
        with self._lock:
            found = self._ids.get(path)
            if found is not None:
                self._ids.move_to_end(path)
            return found

    def put(self, path: str, directory: int, generation: int) -> None:
        with self._lock:
            if self._shut or generation != self.generation:
                return
            self._ids[path] = directory
            self._ids.move_to_end(path)
            if len(self._ids) > self._size:
                self._ids.popitem(last=False)

    def shut(self) -> None:
        """Directories are about to move or go."""
        with self._lock:
            self._shut = True
            self.generation += 1
            self._ids.clear()

    def reopen(self) -> None:
        """They have, or it came to nothing."""
        with self._lock:
            self._shut = False
            self.generation += 1
            self._ids.clear()
