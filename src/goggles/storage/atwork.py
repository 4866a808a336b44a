"""Which uploads run through this storage now, and who sends each.

Law: whoever goes on with an upload waits until nobody else is at work on it.  A sender that has fallen silent (its
cable was pulled, its host is gone) is cut off; one that is heard is left alone, and whoever came later is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from goggles.errors import Conflict
from goggles.wire.data import DataLink

SILENT = 3.0  # seconds after which a sender may be taken for lost
PATIENCE = 5.0  # seconds for an earlier sender to go


class AtWork:
    """Uploads by id, each with the connection that its bytes come over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._links: dict[str, DataLink] = {}  # guarded by _changed

    def uploads(self) -> tuple[str, ...]:
        with self._changed:
            return tuple(self._links)

    @contextmanager
    def on(self, upload: str, link: DataLink, *, alone: bool) -> Iterator[None]:
        """At work on this upload until the block ends; `alone`: once an earlier sender has gone, or Conflict."""
        with self._changed:
            if alone:
                self._wait_for(upload)
            self._links[upload] = link
        try:
            yield
        finally:
            with self._changed:
                if self._links.get(upload) is link:
                    del self._links[upload]
                self._changed.notify_all()

    def _wait_for(self, upload: str) -> None:
        """The lock is held, and let go of while waiting."""
        until = time.monotonic() + PATIENCE
        while (other := self._links.get(upload)) is not None:
            now = time.monotonic()
            if other.heard < now - SILENT:
                other.cut()
            if now > until:
                raise Conflict("somebody is at work on this upload", "wait until it is over")
            self._changed.wait(0.1)
