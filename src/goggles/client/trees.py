"""Whole directories in and out: many files in flight, tickets and commits in batches.

Law: one file that fails is written down and the others go on; small files share round trips, large ones stream
one by one.  A few workers; memory bounded by the size of a batch.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goggles.client.api import OnProgress, Progress, Summary
from goggles.client.calls import Calls
from goggles.client.receiving import Target, local_error, receive_small
from goggles.client.sending import Source, send_small
from goggles.contracts.data import ReadTicket, Stored, WriteTicket
from goggles.contracts.records import DirInfo, FileInfo
from goggles.errors import Cancelled, GogglesError, IsADirectory, LocalFileError, NotADirectory
from goggles.paths import DfsPath, join, show
from goggles.wire import faults
from goggles.wire.data import Kind
from goggles.wire.dial import Address
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


class _Tree:
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
        except Exception as error:
            self.tally.fail(job.path, faults.known(error, f"moving {job.path}"))


def _batches(jobs: list[Job]) -> Iterator[list[Job]]:
    """Large files alone, small ones together."""
    for job in jobs:
        if job.size > SMALL:
            yield [job]
    little = [job for job in jobs if job.size <= SMALL]
    for start in range(0, len(little), BATCH):
        yield little[start : start + BATCH]


class PutTree(_Tree):
    """A local directory into the tree."""

    def run(self, local: Path, path: DfsPath) -> Summary:
        if not local.is_dir():
            raise LocalFileError(f"{show(str(local))} is not a directory", "put takes single files")
        directories, jobs = self._survey(local, path)
        for directory, answer in zip(directories, self.session.mkdirs(directories), strict=True):
            if answer is not True:
                self.tally.fail(directory, faults.from_tuple(*answer))
        self.tally.directories = len(directories)
        self.work(jobs, self._small, self._large)
        return self.tally.summary()

    def _survey(self, local: Path, path: DfsPath) -> tuple[list[DfsPath], list[Job]]:
        directories, jobs = [path], []
        places = {str(local): path}
        for folder, names, files in os.walk(local, onerror=self._unreadable):
            here = places.get(folder)
            if here is None:
                names.clear()
                continue
            for name in sorted(names):
                below = self._place(here, name, Path(folder) / name)
                if below is not None and not os.path.islink(os.path.join(folder, name)):
                    places[os.path.join(folder, name)] = below
                    directories.append(below)
            jobs += [job for name in sorted(files) if (job := self._job(here, name, Path(folder) / name))]
        return directories, jobs

    def _unreadable(self, error: OSError) -> None:
        name = show(str(error.filename))
        self.tally.fail(name, LocalFileError(f"{name} can not be read: {error.strerror}"))

    def _place(self, here: DfsPath, name: str, local: Path) -> DfsPath | None:
        try:
            return join(here, name)
        except GogglesError as error:
            self.tally.fail(show(str(local)), error)
            return None

    def _job(self, here: DfsPath, name: str, local: Path) -> Job | None:
        place = self._place(here, name, local)
        if place is None:
            return None
        try:
            status = local.stat()
        except OSError as error:
            self.tally.fail(place, LocalFileError(f"{show(str(local))} can not be read: {error.strerror}"))
            return None
        if not stat.S_ISREG(status.st_mode):
            self.tally.fail(place, LocalFileError(f"{show(str(local))} is not a regular file: left out"))
            return None
        return Job(local, place, status.st_size)

    def _large(self, job: Job) -> None:
        seen = [0]

        def advance(progress: Progress) -> None:
            self.tally.moved(job.path, progress.done - seen[0])
            seen[0] = progress.done

        self.session.put(job.local, job.path, progress=advance, cancel=self.cancel)
        self.tally.finished(job, 0)

    def _small(self, batch: list[Job]) -> None:
        """Tickets for all, bytes to each first storage, one commit; what fails on the way goes singly."""
        loaded = [(job, data) for job in batch if (data := self._load(job)) is not None]
        try:
            again = self._together(loaded)
        except GogglesError:
            again = [job for job, _ in loaded]
        for job in again:
            if not self.cancel.is_set():
                self.guarded(job, self._large)

    def _load(self, job: Job) -> bytes | None:
        try:
            with Source(job.local) as source:
                return source.read_all()
        except GogglesError as error:
            self.tally.fail(job.path, error)
            return None

    def _together(self, loaded: list[tuple[Job, bytes]]) -> list[Job]:
        """The jobs that have to be tried singly."""
        answers = self.calls("open_write_many", tuple((job.path, len(data)) for job, data in loaded))
        again: list[Job] = []
        by_first: dict[tuple[str, Address], list[tuple[Job, bytes, WriteTicket]]] = defaultdict(list)
        for (job, data), answer in zip(loaded, answers, strict=True):
            if _is_error(answer):
                self.tally.fail(job.path, faults.from_tuple(*answer))
                continue
            ticket = WriteTicket.from_wire(answer)
            first = ticket.chain[0]
            by_first[first.name, Address(first.host, first.port)].append((job, data, ticket))
        staged: list[tuple[Job, WriteTicket, int, str]] = []
        for (name, address), items in by_first.items():
            done = self._through(name, address, items)
            staged += done
            again += [job for job, _, ticket in items if ticket.upload not in {one[1].upload for one in done}]
        return again + self._commit(staged)

    def _through(
        self, name: str, address: Address, items: list[tuple[Job, bytes, WriteTicket]]
    ) -> list[tuple[Job, WriteTicket, int, str]]:
        """Send the files to one storage, several on their way at once; those that at least one storage has staged."""
        done: list[tuple[Job, WriteTicket, int, str]] = []
        try:
            with self.links.to(name, address) as link:
                waiting: list[tuple[Job, WriteTicket, int, str]] = []
                for job, data, ticket in items:
                    waiting.append((job, ticket, len(data), send_small(link, ticket, data)))
                    if len(waiting) >= WINDOW:
                        done += self._answer(link, waiting.pop(0))
                while waiting:
                    done += self._answer(link, waiting.pop(0))
        except GogglesError:
            return done
        return done

    def _answer(self, link: Any, item: tuple[Job, WriteTicket, int, str]) -> list[tuple[Job, WriteTicket, int, str]]:
        kind, value = link.receive()
        if kind is not Kind.OK:
            link.refusal(kind, value)
            return []
        return [item] if any(not Stored.from_wire(one).code for one in value) else []

    def _commit(self, staged: list[tuple[Job, WriteTicket, int, str]]) -> list[Job]:
        again: list[Job] = []
        if not staged:
            return again
        answers = self.calls("commit_many", tuple((ticket.upload, size, sha256) for _, ticket, size, sha256 in staged))
        for (job, _, size, _), answer in zip(staged, answers, strict=True):
            if _is_error(answer):
                again.append(job)
            else:
                self.tally.finished(job, size)
        return again


class GetTree(_Tree):
    """A directory of the tree into a local directory."""

    def __init__(
        self,
        session: Session,
        calls: Calls,
        links: Links,
        progress: OnProgress | None,
        cancel: threading.Event | None,
        overwrite: bool,
    ) -> None:
        super().__init__(session, calls, links, progress, cancel)
        self._overwrite = overwrite

    def run(self, path: DfsPath, local: Path) -> Summary:
        if isinstance(self.session.stat(path), FileInfo):
            raise NotADirectory(f"{path} is a file", "get takes single files")
        self._make(local)
        jobs = self._survey(path, local)
        self.work(jobs, self._small, self._large)
        return self.tally.summary()

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise local_error(error, folder) from error
        self.tally.directories += 1

    def _survey(self, path: DfsPath, local: Path) -> list[Job]:
        jobs: list[Job] = []
        for entry in self.session.find(path):
            if self.cancel.is_set():
                break
            here = local / entry.path[len(path.rstrip("/")) + 1 :]
            try:
                if isinstance(entry, DirInfo):
                    self._make(here)
                else:
                    self._may_write(here)
                    jobs.append(Job(here, DfsPath(entry.path), entry.size))
            except GogglesError as error:
                self.tally.fail(entry.path, error)
        return jobs

    def _may_write(self, here: Path) -> None:
        if here.is_dir():
            raise IsADirectory(f"{show(str(here))} is a directory")
        if not self._overwrite and here.exists():
            raise LocalFileError(f"{show(str(here))} exists already", "get -f overwrites")

    def _large(self, job: Job) -> None:
        seen = [0]

        def advance(progress: Progress) -> None:
            self.tally.moved(job.path, progress.done - seen[0])
            seen[0] = progress.done

        self.session.get(job.path, job.local, overwrite=self._overwrite, progress=advance, cancel=self.cancel)
        self.tally.finished(job, 0)

    def _small(self, batch: list[Job]) -> None:
        try:
            again = self._together(batch)
        except GogglesError:
            again = batch
        for job in again:
            if not self.cancel.is_set():
                self.guarded(job, self._large)

    def _together(self, batch: list[Job]) -> list[Job]:
        """The jobs that have to be tried singly."""
        answers = self.calls("open_read_many", tuple(job.path for job in batch))
        again: list[Job] = []
        by_first: dict[tuple[str, Address], list[tuple[Job, ReadTicket]]] = defaultdict(list)
        for job, answer in zip(batch, answers, strict=True):
            ticket = None if _is_error(answer) else ReadTicket.from_wire(answer)
            if ticket is None or ticket.size > SMALL:
                again.append(job)
            else:
                by_first[ticket.hops[0].name, Address(ticket.hops[0].host, ticket.hops[0].port)].append((job, ticket))
        for (name, address), items in by_first.items():
            done = self._from(name, address, items)
            again += [job for job, _ in items if job.path not in done]
        return again

    def _from(self, name: str, address: Address, items: list[tuple[Job, ReadTicket]]) -> set[str]:
        """Ask one storage for many files; the paths that have arrived."""
        arrived: set[str] = set()
        try:
            with self.links.to(name, address) as link:
                asked = 0
                for place, (job, ticket) in enumerate(items):
                    while asked < min(len(items), place + WINDOW):
                        hop, size = items[asked][1].hops[0], items[asked][1].size
                        link.send_value(Kind.REQUEST, ("read", hop.grant, 0, size, hop.after))
                        asked += 1
                    self._save(job, receive_small(link, ticket))
                    arrived.add(job.path)
        except GogglesError:
            return arrived
        return arrived

    def _save(self, job: Job, data: bytes) -> None:
        target = Target(job.local)
        try:
            target.write(data)
            target.finish()
        except BaseException:
            target.drop()
            raise
        self.tally.finished(job, len(data))


def _is_error(answer: Any) -> bool:
    """Records are tuples of pairs; errors are (code, message, hint)."""
    return len(answer) == 3 and isinstance(answer[0], str)
