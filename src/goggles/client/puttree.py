"""A local directory into the tree.

Law: see `trees`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from goggles.client.api import Summary
from goggles.client.sending import Source
from goggles.client.trees import Job, TreeTransfer
from goggles.contracts import tickets
from goggles.contracts.data import Committed, WriteTicket
from goggles.errors import GogglesError, LocalFileError, Unavailable
from goggles.paths import DfsPath, join, plain, show
from goggles.wire import faults, together
from goggles.wire.dial import Address


@dataclass(frozen=True, slots=True)
class Loaded:
    """A small file in memory, and where it goes."""

    job: Job
    data: bytes
    ticket: WriteTicket
    sha256: str


class PutTree(TreeTransfer):
    """A local directory into the tree."""

    _resume = False

    def run(self, local: Path, path: DfsPath, resume: bool = True) -> Summary:
        self._resume = resume
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
                below = self._place(here, name, os.path.join(folder, name))
                if below is not None and not os.path.islink(os.path.join(folder, name)):
                    places[os.path.join(folder, name)] = below
                    directories.append(below)
            jobs += [job for name in sorted(files) if (job := self._job(here, name, os.path.join(folder, name)))]
        return directories, jobs

    def _unreadable(self, error: OSError) -> None:
        name = str(error.filename)
        self.tally.fail(plain(name), LocalFileError(f"{show(name)} can not be read: {error.strerror}"))

    def _place(self, here: DfsPath, name: str, local: str) -> DfsPath | None:
        try:
            return join(here, name)
        except GogglesError as error:
            self.tally.fail(plain(local), error)
            return None

    def _job(self, here: DfsPath, name: str, local: str) -> Job | None:
        place = self._place(here, name, local)
        if place is None:
            return None
        try:
            status = os.stat(local)
        except OSError as error:
            self.tally.fail(place, LocalFileError(f"{show(local)} can not be read: {error.strerror}"))
            return None
        if not stat.S_ISREG(status.st_mode):
            self.tally.fail(place, LocalFileError(f"{show(local)} is not a regular file: left out"))
            return None
        return Job(Path(local), place, status.st_size)

    def _large(self, job: Job) -> None:
        self.session.put(job.local, job.path, resume=self._resume, progress=self.advance(job), cancel=self.cancel)
        self.tally.finished(job, 0)

    def _small(self, batch: list[Job]) -> None:
        """Tickets for all, bytes to each first storage, one commit; what fails on the way goes singly."""
        loaded = [(job, data) for job in batch if (data := self._load(job)) is not None]
        try:
            again = self._together(loaded)
        except GogglesError:
            again = [job for job, _ in loaded]
        self.singly(again, self._large)

    def _load(self, job: Job) -> bytes | None:
        try:
            with Source(job.local) as source:
                return source.read_all()
        except GogglesError as error:
            self.tally.fail(job.path, error)
            return None

    def _together(self, loaded: list[tuple[Job, bytes]]) -> list[Job]:
        """The jobs that have to be tried singly."""
        wanted = tuple((job.path, len(data)) for job, data in loaded)
        answers = tickets.unpack(WriteTicket, self.calls("open_write_many", wanted, True))
        again: list[Job] = []
        by_first: dict[tuple[str, Address], list[Loaded]] = defaultdict(list)
        for (job, data), ticket in zip(loaded, answers, strict=True):
            if isinstance(ticket, GogglesError):
                if isinstance(ticket, Unavailable):
                    again.append(job)
                else:
                    self.tally.fail(job.path, ticket)
                continue
            first = ticket.chain[0]
            one = Loaded(job, data, ticket, hashlib.sha256(data).hexdigest())
            by_first[first.name, Address(first.host, first.port)].append(one)
        staged: list[Loaded] = []
        for (name, address), items in by_first.items():
            done = self._through(name, address, items)
            staged += [one for one, there in zip(items, done, strict=True) if there]
            again += [one.job for one, there in zip(items, done, strict=True) if not there]
        return again + self._commit(staged)

    def _through(self, name: str, address: Address, items: list[Loaded]) -> list[bool]:
        """Send the files to one storage; for each whether at least one storage has staged it."""
        files = [together.Outgoing(one.ticket.route, one.data, one.sha256) for one in items]
        try:
            with self.links.to(name, address) as link:
                answers = together.send(link, files)
        except GogglesError:
            return [False] * len(items)
        return [any(not stored.code for stored in said) for said in answers]

    def _commit(self, staged: list[Loaded]) -> list[Job]:
        again: list[Job] = []
        if not staged:
            return again
        uploads = tuple((one.ticket.upload, len(one.data), one.sha256) for one in staged)
        answers = tickets.unpack(Committed, self.calls("commit_many", uploads, True))
        for one, answer in zip(staged, answers, strict=True):
            if isinstance(answer, GogglesError):
                again.append(one.job)
            else:
                self.tally.finished(one.job, len(one.data))
        return again
