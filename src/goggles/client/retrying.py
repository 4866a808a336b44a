"""When a transfer is tried again, and what it says of its progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from goggles.client.api import Progress
from goggles.contracts.data import COMING_BACK
from goggles.errors import ChecksumMismatch, GogglesError, Unavailable, UploadLost

READ_PATIENCE = 6.0  # seconds for which a file that no storage has is asked for again: one may be restarting
RETURNING = 8.0  # seconds in which a storage that was only restarted is back
READ_PATIENCE = 6.0  # seconds for which a file that no storage has is asked for again


class ChainFailed(Exception):
    """The storages named in `failed` could not take the bytes, for this `reason`."""

    def __init__(self, reason: GogglesError, failed: list[str]) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.failed = failed


def patience_with(error: Exception, patience: float) -> float:
    """Seconds for which a put is tried again after this error.  What the nameserver refuses is final; what a storage
    says is not, and storages that are coming back are waited for a little."""
    if isinstance(error, ChainFailed | UploadLost | ChecksumMismatch):
        return patience
    if isinstance(error, Unavailable):
        return patience if _will_be_well(error) else min(RETURNING, patience)
    return 0.0


def reading_patience(error: GogglesError, patience: float) -> float:
    """The same for a file that can not be read just now."""
    return patience if _will_be_well(error) else min(READ_PATIENCE, patience)


def _will_be_well(error: GogglesError) -> bool:
    return COMING_BACK in error.message or "no storage that holds" in error.message


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
