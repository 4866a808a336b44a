"""A directory of the tree into a local directory.

Law: see `trees`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from goggles.client.api import Summary
from goggles.client.getting import Getting
from goggles.client.retrying import Meter
from goggles.client.targets import Target, local_error, same
from goggles.client.trees import Job, TreeTransfer
from goggles.contracts import tickets
from goggles.contracts.data import SMALL, ReadTicket
from goggles.contracts.records import DirInfo, FileInfo
from goggles.errors import GogglesError, IsADirectory, LocalFileError, NotADirectory
from goggles.paths import DfsPath, show
from goggles.wire import together
from goggles.wire.dial import Address


class GetTree(TreeTransfer):
    """A directory of the tree into a local directory."""

    _overwrite = _resume = False

    def run(self, path: DfsPath, local: Path, overwrite: bool, resume: bool) -> Summary:
        self._overwrite, self._resume = overwrite, resume
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
                    jobs.append(self._job(here, entry))
            except GogglesError as error:
                self.tally.fail(entry.path, error)
        return jobs

    def _job(self, here: Path, entry: FileInfo) -> Job:
        if here.is_dir():
            raise IsADirectory(f"{show(str(here))} is a directory")
        perhaps = self._resume and here.is_file() and here.stat().st_size == entry.size
        if not perhaps and not self._overwrite and here.exists():
            raise _exists(here)
        return Job(here, DfsPath(entry.path), entry.size, entry.hash if perhaps else "")

    def _is_there(self, job: Job) -> bool:
        """Whether the file needs no getting; it is counted then.  LocalFileError where other bytes may not go."""
        if not job.sha256:
            return False
        if same(job.local, job.size, job.sha256, self.cancel):
            self.tally.was_there(job)
            return True
        if not self._overwrite and not self.cancel.is_set():
            raise _exists(job.local)
        return False

    def _large(self, job: Job) -> None:
        if self._is_there(job):
            return
        target, meter = Target(job.local, self._resume), Meter(self.advance(job), job.path, job.size)
        Getting(self.calls, self.links, self.session.complain).get(job.path, target, meter, self.cancel)
        self.tally.finished(job, 0)

    def _small(self, batch: list[Job]) -> None:
        perhaps, missing = [job for job in batch if job.sha256], [job for job in batch if not job.sha256]
        try:
            again = self._together(missing) if missing else []
        except GogglesError:
            again = missing
        self.singly(perhaps + again, self._large)

    def _together(self, batch: list[Job]) -> list[Job]:
        """The jobs that have to be tried singly."""
        answers = tickets.unpack(ReadTicket, self.calls("open_read_many", tuple(job.path for job in batch), True))
        again: list[Job] = []
        by_first: dict[tuple[str, Address], list[tuple[Job, ReadTicket]]] = defaultdict(list)
        for job, ticket in zip(batch, answers, strict=True):
            if isinstance(ticket, GogglesError) or ticket.size > SMALL:
                again.append(job)
            else:
                by_first[ticket.hops[0].name, Address(ticket.hops[0].host, ticket.hops[0].port)].append((job, ticket))
        for (name, address), items in by_first.items():
            done = self._from(name, address, items)
            again += [job for job, _ in items if job.path not in done]
        return again

    def _from(self, name: str, address: Address, items: list[tuple[Job, ReadTicket]]) -> set[str]:
        """Ask one storage for many files; the paths that have arrived."""
        hops = [ticket.hops[0] for _, ticket in items]
        try:
            with self.links.to(name, address) as link:
                wanted = [(hop.grant, ticket.size) for hop, (_, ticket) in zip(hops, items, strict=True)]
                answers = together.ask(link, max(hop.after for hop in hops), wanted)
                pairs = zip(items, answers, strict=True)
                return {job.path for (job, ticket), data in pairs if self._save(job, ticket, data)}
        except GogglesError:
            return set()

    def _save(self, job: Job, ticket: ReadTicket, data: memoryview | GogglesError) -> bool:
        """Whether these are the bytes, and they are in their file now."""
        if isinstance(data, GogglesError) or hashlib.sha256(data).hexdigest() != ticket.hash:
            return False
        try:
            _write(job.local, data)
        except GogglesError:
            return False  # it is tried once more, singly, and then reported
        self.tally.finished(job, len(data))
        return True


def _exists(here: Path) -> LocalFileError:
    return LocalFileError(f"{show(str(here))} exists already", "get -f overwrites")


def _write(path: Path, data: memoryview) -> None:
    target = Target(path)
    try:
        target.begin("", len(data))
        target.write(data)
        target.finish()
    except BaseException:
        target.drop()
        raise
