"""Whole directories in and out: many files in flight, tickets and commits in batches.

Law: one file that fails is written down and the others go on; small files share round trips, large ones stream
one by one.  A few workers; memory bounded by the size of a batch.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goggles.client.api import OnProgress, Progress, Summary
from goggles.client.calls import Calls
from goggles.errors import Cancelled, GogglesError
from goggles.paths import DfsPath
from goggles.wire import faults
from goggles.wire.links import Links

if TYPE_CHECKING:
    from goggles.client.session import Session

WORKERS = 4
BATCH = 64  # files
SMALL = 64 << 10  # bytes; such files are sent without waiting for each other
WINDOW = 16  # small files in flight on one connection


@dataclass(frozen=True, slots=True)
class Job:
    """One file: where it is here, where there, and how large."""

    local: Path
    path: DfsPath
    size: int


@dataclass(slots=True)
class Tally:
    """What has been done so far; shared by the workers."""

    report: OnProgress | None
    files_total: int = 0
    total: int = 0
    files: int = 0
    done: int = 0
    directories: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = field(default_factory=time.monotonic)

    def moved(self, path: str, count: int) -> None:
        with self.lock:
            self.done += count
            snapshot = Progress(path, self.done, self.total, self.files, self.files_total)
        if self.report is not None:
            self.report(snapshot)

    def finished(self, job: Job, count: int) -> None:
        with self.lock:
            self.files += 1
        self.moved(job.path, count)

    def fail(self, path: str, error: GogglesError) -> None:
        with self.lock:
            self.failed.append((path, str(error)))

    def summary(self) -> Summary:
        seconds = time.monotonic() - self.began
        return Summary(self.files, self.directories, self.done, self.failed, seconds)


class TreeTransfer:
    """What both directions share: batches, workers, cancellation."""

    def __init__(
        self,
        session: Session,
        calls: Calls,
        links: Links,
        progress: OnProgress | None,
        cancel: threading.Event | None,
    ) -> None:
        self.session = session
        self.calls = calls
        self.links = links
        self.cancel = cancel or threading.Event()
        self.tally = Tally(progress)

    def work(self, jobs: list[Job], small: Callable[[list[Job]], None], large: Callable[[Job], None]) -> None:
        """Run all jobs; raises Cancelled where the user stopped it."""
        self.tally.files_total, self.tally.total = len(jobs), sum(job.size for job in jobs)
        batches: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        for batch in _batches(jobs):
            batches.put(batch)
        threads = [
            threading.Thread(target=self._worker, args=(batches, small, large), name=f"tree-{n}", daemon=True)
            for n in range(WORKERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.cancel.is_set():
            raise Cancelled(f"cancelled after {self.tally.files} of {len(jobs)} files")

    def _worker(
        self, batches: queue.SimpleQueue[list[Job]], small: Callable[[list[Job]], None], large: Callable[[Job], None]
    ) -> None:
        while not self.cancel.is_set():
            try:
                batch = batches.get_nowait()
            except queue.Empty:
                return
            if len(batch) == 1:
                self.guarded(batch[0], large)
            else:
                small(batch)

    def guarded(self, job: Job, action: Callable[[Job], None]) -> None:
        """Run `action`; what goes wrong is written down under the job's path."""
        try:
            action(job)
        except Cancelled:
            self.cancel.set()
        except Exception as error:  # noqa: BLE001 - one file that fails must not stop the others
            self.tally.fail(job.path, faults.known(error, f"moving {job.path}"))


def _batches(jobs: list[Job]) -> Iterator[list[Job]]:
    """Large files alone, small ones together."""
    for job in jobs:
        if job.size > SMALL:
            yield [job]
    little = [job for job in jobs if job.size <= SMALL]
    for start in range(0, len(little), BATCH):
        yield little[start : start + BATCH]


def is_error(answer: Any) -> bool:
    """Records are tuples of pairs; errors are (code, message, hint)."""
    return len(answer) == 3 and isinstance(answer[0], str)
