"""Whole directories in and out: many files in flight, tickets and commits in batches.

Law: one file that fails is written down and the others go on, unless nobody answers at the nameserver any more;
small files share round trips, large ones stream one by one.  A few workers; memory bounded by the size of a batch.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goggles.client.api import OnProgress, Progress, Summary
from goggles.client.calls import Calls
from goggles.contracts.data import SMALL
from goggles.errors import Cancelled, GogglesError, Unavailable
from goggles.paths import DfsPath
from goggles.wire import faults
from goggles.wire.data import CHUNK
from goggles.wire.links import Links

if TYPE_CHECKING:
    from goggles.client.session import Session

WORKERS = 4
BATCH = 128  # files in one request


@dataclass(frozen=True, slots=True)
class Job:
    """One file: where it is here, where there, and how large.

    `sha256`: where that file may be there already."""

    local: Path
    path: DfsPath
    size: int
    sha256: str = ""


@dataclass(slots=True)
class Tally:
    """What has been done so far; shared by the workers."""

    report: OnProgress | None
    files_total: int = 0
    total: int = 0
    files: int = 0
    done: int = 0
    same: int = 0
    same_bytes: int = 0
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

    def was_there(self, job: Job) -> None:
        with self.lock:
            self.same, self.same_bytes = self.same + 1, self.same_bytes + job.size
        self.finished(job, job.size)

    def fail(self, path: str, error: GogglesError) -> None:
        with self.lock:
            self.failed.append((path, str(error)))

    def summary(self) -> Summary:
        seconds = time.monotonic() - self.began
        moved = self.done - self.same_bytes
        return Summary(self.files, self.directories, moved, self.failed, seconds, self.same)


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
        self.tally = Tally(self._told if progress is not None else None)
        self._progress = progress
        self._trouble: Exception | None = None  # what `progress` raised
        self._hopeless: GogglesError | None = None  # why nothing more is tried

    def work(self, jobs: list[Job], small: Callable[[list[Job]], None], large: Callable[[Job], None]) -> None:
        """Run all jobs; raises Cancelled where the user stopped it, and whatever `progress` raises."""
        self.tally.files_total, self.tally.total = len(jobs), sum(job.size for job in jobs)
        batches: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        for batch in _batches(jobs):
            batches.put(batch)
        with ThreadPoolExecutor(WORKERS, "tree") as pool:
            workers = [pool.submit(self._worker, batches, small, large) for _ in range(WORKERS)]
            try:
                for worker in as_completed(workers):
                    worker.result()
            except BaseException:
                self.cancel.set()
                raise
        if self._trouble is not None:
            raise self._trouble
        if self.cancel.is_set():
            raise Cancelled(f"cancelled after {self.tally.files} of {len(jobs)} files")

    def _told(self, progress: Progress) -> None:
        assert self._progress is not None
        try:
            self._progress(progress)
        except Exception as error:
            self._trouble = error
            self.cancel.set()
            raise

    def _worker(
        self, batches: queue.SimpleQueue[list[Job]], small: Callable[[list[Job]], None], large: Callable[[Job], None]
    ) -> None:
        while not self.cancel.is_set():
            try:
                batch = batches.get_nowait()
            except queue.Empty:
                return
            if len(batch) == 1 or self._hopeless is not None:
                self.singly(batch, large)
            else:
                small(batch)

    def advance(self, job: Job) -> OnProgress:
        """Reports on one file, added to what the whole has done."""
        seen = 0

        def report(progress: Progress) -> None:
            nonlocal seen
            self.tally.moved(job.path, progress.done - seen)
            seen = progress.done

        return report

    def singly(self, jobs: list[Job], action: Callable[[Job], None]) -> None:
        """Run `action` for each; what goes wrong is written down under the job's path."""
        for job in jobs:
            if self._hopeless is not None:
                self.tally.fail(job.path, self._hopeless)
            elif not self.cancel.is_set():
                self._guarded(job, action)

    def _guarded(self, job: Job, action: Callable[[Job], None]) -> None:
        try:
            action(job)
        except Cancelled:
            self.cancel.set()
        except Exception as error:  # noqa: BLE001 - one file that fails must not stop the others
            known = faults.known(error, f"moving {job.path}")
            if isinstance(known, Unavailable) and not self.calls.connected:
                self._hopeless = known  # it was waited for with all patience; the next file would wait as long
            self.tally.fail(job.path, known)


def _batches(jobs: list[Job]) -> Iterator[list[Job]]:
    """Large files alone, small ones together."""
    for job in jobs:
        if job.size > SMALL:
            yield [job]
    batch, size = list[Job](), 0
    for job in jobs:
        if job.size > SMALL:
            continue
        if len(batch) == BATCH or size + job.size > CHUNK:
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += job.size
    if batch:
        yield batch


def is_error(answer: Any) -> bool:
    """Records are tuples of pairs; errors are (code, message, hint)."""
    return len(answer) == 3 and isinstance(answer[0], str)
