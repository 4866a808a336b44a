"""Many small files at once: passed on, staged and made durable together, told of in one call; or read.

Law: as for one upload (`receiving`): each file has an entry in the answer for each storage of its chain, and the answer
goes back after the bytes are durable and the nameserver knows of them.  A file that fails does not spoil the others,
nor a next storage that fails the copies here.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from goggles import failpoints
from goggles.contracts import orders
from goggles.contracts.data import Stored
from goggles.contracts.grants import Grant
from goggles.errors import BadRequest, ChecksumMismatch, GogglesError, StorageFailure, UploadLost
from goggles.storage.receiving import patience
from goggles.storage.staging import StagedWrite
from goggles.storage.vault import Vault
from goggles.wire import faults, together
from goggles.wire.data import DataLink
from goggles.wire.dial import Address
from goggles.wire.links import Links

log = logging.getLogger(__name__)
FLUSHERS = 8  # fsyncs at once: the file system writes them down together
Notice = tuple[str, int, str]  # upload, size, sha256
Check = Callable[[bytes], Grant]


class TellAll(Protocol):
    """How the nameserver is told what is staged; for each None, or why its bytes do not count."""

    def __call__(self, notices: Sequence[Notice]) -> list[GogglesError | None]: ...


@dataclass(slots=True)
class Part:
    """One of the files."""

    file: together.Incoming
    data: memoryview
    upload: str = ""
    staged: StagedWrite | None = None
    error: GogglesError | None = None
    onward: list[Stored] = field(default_factory=list)  # what the storages further on say

    def answer(self, name: str) -> tuple[object, ...]:
        own = Stored(name, self.file.size, self.file.sha256)
        if self.error is not None:
            own = Stored(name, 0, "", self.error.code, self.error.message)
        return tuple(stored.to_wire() for stored in (own, *self.onward))

    @contextlib.contextmanager
    def step(self) -> Iterator[StagedWrite | None]:
        """What goes wrong is the answer for this file."""
        try:
            yield self.staged
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            self.give_up(faults.known(error, f"staging {self.upload}"))

    def give_up(self, error: GogglesError) -> None:
        self.error = error
        if self.staged is not None:
            self.staged.abort()


class Together:
    """Takes many files of one request."""

    def __init__(self, name: str, vault: Vault, links: Links, tell: TellAll) -> None:
        self._name = name
        self._vault = vault
        self._links = links
        self._tell = tell
        self._flushers = ThreadPoolExecutor(FLUSHERS, "flush")

    def take(self, parts: Sequence[Part], check: Check) -> tuple[object, ...]:
        """What each storage says of each file."""
        for part in parts:
            with part.step():
                _admit(part, check)
        with self._passed_on(_good(parts)):
            self._stage(parts)
        return tuple(part.answer(self._name) for part in parts)

    # --- here ------------------------------------------------------------------------------

    def _stage(self, parts: Sequence[Part]) -> None:
        self._each(self._write, parts)
        if self._vault.syncs:
            list(self._flushers.map(_flush, _good(parts)))
        else:
            for part in _good(parts):
                _flush(part)
        self._each(_name, parts)
        self._sync(_good(parts))
        self._each(_settle, parts)
        self._told(_good(parts))

    def _each(self, action: Callable[[Part], None], parts: Sequence[Part]) -> None:
        for part in _good(parts):
            with part.step():
                action(part)

    def _sync(self, parts: Sequence[Part]) -> None:
        """The names of all at once; where that fails, none of them is durable."""
        try:
            failpoints.hit("storage.together.before_sync")
            self._vault.sync_staging()
            failpoints.hit("storage.together.after_sync")
        except GogglesError as error:
            for part in parts:
                part.give_up(error)

    def _write(self, part: Part) -> None:
        part.staged = self._vault.stage(part.upload, part.file.size)
        part.staged.write(part.data)
        failpoints.hit("storage.together.some_staged")

    def _told(self, parts: Sequence[Part]) -> None:
        failpoints.hit("storage.together.before_notify")
        answers = self._tell([(part.upload, part.file.size, part.file.sha256) for part in parts]) if parts else []
        failpoints.hit("storage.together.after_notify")
        for part, error in zip(parts, answers, strict=True):
            part.error = error  # where the nameserver may have heard, the bytes stay until it says otherwise
        lost = [part.upload for part in parts if isinstance(part.error, UploadLost)]
        self._vault.apply([orders.discard(upload) for upload in lost])

    # --- further on ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _passed_on(self, parts: Sequence[Part]) -> Iterator[None]:
        """The next storages work at the same time; what they say is known at the end of the block."""
        groups: dict[tuple[str, Address], list[Part]] = defaultdict(list)
        for part in parts:
            if part.file.hops:
                name, host, port, *_ = part.file.hops[0]
                groups[name, Address(host, port)].append(part)
        threads = [threading.Thread(target=self._pass_on, args=(*step, group)) for step, group in groups.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()

    def _pass_on(self, name: str, address: Address, group: Sequence[Part]) -> None:
        files = [together.Outgoing(part.file.hops, part.data, part.file.sha256) for part in group]
        try:
            with self._links.to(name, address, patience(max(len(file.hops) for file in files))) as link:
                answers = together.send(link, files)
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            known = faults.known(error, f"passing files on to {name}")
            log.warning("storage %s took no copies of %d files: %s", name, len(group), known)
            answers = [[Stored(name, 0, "", known.code, known.message)] for _ in group]
        for part, said in zip(group, answers, strict=True):
            part.onward = said


def _good(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.error is None]


def _admit(part: Part, check: Check) -> None:
    allowed = check(part.file.grant)
    part.upload = allowed.subject
    if part.file.size > allowed.size:
        raise BadRequest(f"more than the {allowed.size} bytes that were announced")
    if hashlib.sha256(part.data).hexdigest() != part.file.sha256:
        raise ChecksumMismatch("other bytes came than were sent", "put again")


def _flush(part: Part) -> None:
    with part.step() as staged:
        assert staged is not None
        staged.flush(part.file.sha256, part.upload)


def _name(part: Part) -> None:
    assert part.staged is not None
    part.staged.name()


def _settle(part: Part) -> None:
    assert part.staged is not None
    part.staged.settle()


def read(link: DataLink, vault: Vault, wanted: Sequence[tuple[bytes, int]], check: Check) -> None:
    """Answer with the bytes of all that are here."""
    together.reply(link, [_read(vault, grant, size, check) for grant, size in wanted])


def _read(vault: Vault, grant: bytes, size: int, check: Check) -> bytes | GogglesError:
    try:
        allowed = check(grant)
        with vault.read(allowed.path, allowed.subject) as file:
            data = file.read(min(size, allowed.size))
        if len(data) < size:
            raise StorageFailure(f"{allowed.path} is shorter here than it should be")
    except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
        return faults.known(error, "reading a file")
    return data
