"""An upload arrives: stage it, hash it, and pass it on to the next storage of the chain at the same time.

Law: the answer goes back after the bytes are durable here and the nameserver knows of them.  A next storage that
fails does not spoil the copy here (one that hangs is given up before whoever waits for us gives us up), nor a full
disk here the copies further on: each storage of the chain has its own entry in the answer.  Memory does not grow with
the file.  What has come of a large file when the sender is lost stays, to be gone on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from goggles.contracts import orders
from goggles.contracts.data import LARGE, MAX_SIZE, STEP, Next, Stored, reading
from goggles.errors import ChecksumMismatch, ConnectionLost, GogglesError, ProtocolError, Unavailable, UploadLost
from goggles.storage.staging import StagedWrite
from goggles.storage.vault import Vault
from goggles.wire import faults
from goggles.wire.data import Buffer, DataLink, Kind
from goggles.wire.dial import Address
from goggles.wire.fanout import Consumer, Fanout
from goggles.wire.links import Links
from goggles.wire.server import STALL
from goggles.wire.together import stored_all

log = logging.getLogger(__name__)
INLINE = 256 << 10  # bytes; smaller files are not worth threads


class Tell(Protocol):
    """How the nameserver is told that bytes are staged."""

    def __call__(self, upload: str, size: int, sha256: str) -> None: ...


class Local:
    """The copy here."""

    def __init__(self, vault: Vault, name: str, upload: str, size: int, offset: int = 0) -> None:
        self.name = name
        self._vault = vault
        self._upload = upload
        self._digest = hashlib.sha256()
        self._size = 0
        self._error: GogglesError | None = None
        self._staged: StagedWrite | None = None
        try:
            self._staged = vault.stage(upload, size, offset)
        except GogglesError as error:
            self._error = error
        if offset:
            self._read_again(offset)

    def _read_again(self, offset: int) -> None:
        """Those who go on must know that they can: errors are raised."""
        if self._staged is None:
            assert self._error is not None
            raise self._error
        try:
            self._digest, self._size = self._staged.digest(), offset
        except BaseException:
            self._staged.suspend()
            raise

    @property
    def sha256(self) -> str:
        """The digest of what has come."""
        return self._digest.hexdigest()

    @property
    def failed(self) -> bool:
        return self._error is not None

    def consume(self, buffer: Buffer) -> None:
        if self._staged is None or self._error is not None:
            return
        try:
            self._staged.write(buffer.data)
            self._digest.update(buffer.data)
            self._size += buffer.used
        except GogglesError as error:
            self._error = error

    def finish(self, size: int, sha256: str, tell: Tell) -> Stored:
        """Make it durable and tell the nameserver, or say why not."""
        try:
            self._complete(size, sha256)
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            self.abort()
            return self._failure(error)
        try:
            tell(self._upload, size, sha256)
        except UploadLost as error:
            self._vault.apply([orders.discard(self._upload)])
            return self._failure(error)
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            # It may have been heard all the same: the bytes stay until the nameserver says otherwise.
            return self._failure(error)
        return Stored(self.name, size, sha256)

    def _failure(self, error: Exception) -> Stored:
        known = faults.known(error, f"staging {self._upload}")
        return Stored(self.name, self._size, "", known.code, known.message)

    def _complete(self, size: int, sha256: str) -> None:
        if self._error is not None:
            raise self._error
        if (self._size, self._digest.hexdigest()) != (size, sha256):
            raise ChecksumMismatch(f"storage {self.name} received other bytes than were sent")
        assert self._staged is not None
        self._staged.finish(sha256, self._upload)

    def abort(self) -> None:
        if self._staged is not None:
            self._staged.abort()

    def suspend(self) -> None:
        """The sender was lost: leave what may be gone on with."""
        given_up = self._vault.is_given_up(self._upload)
        if self._staged is not None and self._error is None and self._size >= STEP and not given_up:
            self._staged.suspend()
        self.abort()

    @property
    def error(self) -> GogglesError | None:
        return self._error


class Relay:
    """The copies further on; `link` is None once the next storage has failed."""

    def __init__(self, link: DataLink | None, name: str, why: GogglesError | None) -> None:
        self.name = name
        self._link = link
        self._why = why

    @property
    def failed(self) -> bool:
        return self._link is None

    def consume(self, buffer: Buffer) -> None:
        self._try(lambda link: self._forward(link, buffer))

    def _forward(self, link: DataLink, buffer: Buffer) -> None:
        if link.readable():
            raise link.refusal(*link.receive())
        link.send_data(buffer)

    def end(self, size: int, sha256: str) -> None:
        self._try(lambda link: link.send_value(Kind.END, (size, sha256)))

    def read_again(self, offset: int, further: int) -> None:
        """Wait until the storages further on, so many of them, have read again what they have."""

        def wait(link: DataLink) -> None:
            link.set_timeout(further * reading(offset))
            link.answer()
            link.set_timeout(patience(further))

        self._try(wait)

    def abort(self) -> None:
        self._try(lambda link: link.send_value(Kind.ABORT, ("the sender gave up",)))
        self.hang_up()

    def hang_up(self) -> None:
        """Go without a word, as the sender did: it may come back."""
        if self._link is not None:
            self._link.broken = True

    def results(self) -> list[Stored]:
        answers: list[Stored] = []
        self._try(lambda link: answers.extend(stored_all(link.peer, link.answer())))
        if answers:
            return answers
        why = self._why or Unavailable("no answer")
        return [Stored(self.name, 0, "", why.code, why.message)]

    def _try(self, action: Callable[[DataLink], object]) -> None:
        if self._link is None:
            return
        try:
            action(self._link)
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            self._why = faults.known(error, f"passing bytes on to {self.name}")
            log.warning("storage %s fell out of the chain: %s", self.name, self._why)
            self._link.broken = True
            self._link = None


def patience(further: int) -> float:
    """Seconds for a next storage that hangs, where so many are further on: less than whoever waits for us has."""
    return STALL * further / (further + 1)


@contextlib.contextmanager
def relay(links: Links, hops: tuple[Next, ...], offset: int = 0) -> Iterator[Relay | None]:
    """The connection to the next storage of the chain; None at its end.  `offset`: it is to go on there."""
    if not hops:
        yield None
        return
    (name, host, port, grant, after), rest = hops[0], hops[1:]
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(links.to(name, Address(host, port), patience(len(hops))))
            request = ("resume", grant, after, rest, offset) if offset else ("write", grant, after, rest)
            link.send_value(Kind.REQUEST, request)
        except GogglesError as error:
            log.warning("storage %s can not be reached for a copy: %s", name, error)
            yield Relay(None, name, error)
            return
        yield Relay(link, name, None)


def staged_further(links: Links, hops: tuple[Next, ...]) -> int:
    """How many bytes of an interrupted upload the storages further on have, all of them; none where one is lost."""
    if not hops:
        return MAX_SIZE
    (name, host, port, grant, after), rest = hops[0], hops[1:]
    try:
        with links.to(name, Address(host, port), patience(len(hops))) as link:
            link.send_value(Kind.REQUEST, ("staged", grant, after, rest))
            return max(0, link.answer_of(int))
    except (Unavailable, ProtocolError) as error:
        log.warning("storage %s can not be asked what it has: %s", name, error)
        return 0


@dataclass(slots=True)
class Receiver:
    """Takes the DATA frames of one upload from `link` until END or ABORT."""

    link: DataLink
    local: Local
    onward: Relay | None
    size: int

    def run(self, tell: Tell) -> list[Stored] | None:
        """What each storage says; None where the sender gave up."""
        try:
            end = self._inline() if self.size <= INLINE else self._threaded()
        except ConnectionLost:
            self._suspend()
            raise
        except BaseException:
            self.abort()
            raise
        if end is None:
            self.abort()
            return None
        if self.onward is not None:
            self.onward.end(*end)
        results = [self.local.finish(*end, tell)]
        return results + (self.onward.results() if self.onward is not None else [])

    def abort(self) -> None:
        self.local.abort()
        if self.onward is not None:
            self.onward.abort()

    def _suspend(self) -> None:
        if self.size < LARGE:
            self.abort()
            return
        self.local.suspend()
        if self.onward is not None:
            self.onward.hang_up()

    def _inline(self) -> tuple[int, str] | None:
        buffer = Buffer()
        while True:
            kind, value = self.link.receive(buffer)
            if kind is not Kind.DATA:
                return self._end(kind, value)
            self.local.consume(buffer)
            if self.onward is not None:
                self.onward.consume(buffer)
            self._hopeless()

    def _threaded(self) -> tuple[int, str] | None:
        consumers: dict[str, Consumer] = {"stage": self.local.consume}
        if self.onward is not None:
            consumers["relay"] = self.onward.consume
        lanes = Fanout(consumers, "receive")
        try:
            while True:
                buffer = lanes.free()
                kind, value = self.link.receive(buffer)
                if kind is not Kind.DATA:
                    return self._end(kind, value)
                lanes.feed(buffer)
                self._hopeless()
        finally:
            lanes.finish()

    def _hopeless(self) -> None:
        """Raise what happened here where no storage of the chain can use any more bytes."""
        if self.local.failed and (self.onward is None or self.onward.failed):
            raise self.local.error or Unavailable("the upload failed")

    def _end(self, kind: Kind, value: object) -> tuple[int, str] | None:
        if kind is Kind.ABORT:
            return None
        match value:
            case (int(size), str(sha256)) if kind is Kind.END:
                return size, sha256
        raise ProtocolError(f"{self.link.peer} sent {kind.name} in the middle of a file")
