"""When a transfer is tried again, and what it says of its progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from goggles.client.api import Progress
from goggles.errors import ChecksumMismatch, GogglesError, Unavailable, UploadLost


class ChainFailed(Exception):
    """The storages named in `failed` could not take the bytes, for this `reason`."""

    def __init__(self, reason: GogglesError, failed: list[str]) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.failed = failed


def worth_another_try(error: Exception) -> bool:
    """The nameserver's own "no room" and "no storage" are final; what a storage says is not."""
    return isinstance(error, ChainFailed | UploadLost | ChecksumMismatch) or (
        isinstance(error, Unavailable) and "no storage that holds" in str(error)
    )


def wait(seconds: float, cancel: threading.Event | None) -> None:
    if cancel is not None:
        cancel.wait(seconds)
    else:
        time.sleep(seconds)


class Meter:
    """Turns steps into progress reports for one file."""

    def __init__(self, report: Callable[[Progress], None] | None, path: str, total: int) -> None:
        self._report = report
        self._path = path
        self.total = total
        self._done = 0

    def restart(self) -> None:
        self._done = 0

    def advance(self, count: int) -> None:
        self._done = max(0, self._done + count)
        if self._report is not None:
            self._report(Progress(self._path, self._done, self.total, int(self._done >= self.total), 1))
