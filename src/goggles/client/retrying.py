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
CHANCES = 5  # times that a transfer which got somewhere has all its patience again


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


class Patience:
    """How long a transfer is tried again.  It counts from the last try that got somewhere: a large file may take longer
    than that until the first thing goes wrong."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._chances = CHANCES

    def is_over(self, seconds: float, moved: bool) -> bool:
        """Whether to give up after a try that failed; `moved`: bytes went through before it did."""
        now = time.monotonic()
        if moved and self._chances:
            self._since, self._chances = now, self._chances - 1
        return seconds <= 0 or now - self._since > seconds


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

    @property
    def moved(self) -> bool:
        """Whether bytes went through since it began, or began again."""
        return self._done > 0

    def restart(self) -> None:
        self._done = 0

    def advance(self, count: int) -> None:
        self._done = max(0, self._done + count)
        if self._report is not None:
            self._report(Progress(self._path, self._done, self.total, int(self._done >= self.total), 1))
