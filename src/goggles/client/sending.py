"""Bytes from a local file to the storages.

Law: what is committed is what was read: the digest is of the bytes that were sent, the size is the one the file had
when it was opened, and a file that changes meanwhile is refused.  Reading, hashing and sending overlap; memory does
not grow with the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from goggles.contracts.data import LARGE, SMALL, STEP, Stored, WriteTicket, reading
from goggles.errors import Cancelled, ChecksumMismatch, GogglesError, LocalFileError, SourceChanged, Unavailable
from goggles.paths import show
from goggles.wire import together
from goggles.wire.data import CHUNK, Buffer, DataLink, Kind
from goggles.wire.dial import Address
from goggles.wire.fanout import Fanout
from goggles.wire.links import Links
from goggles.wire.server import STALL

Advance = Callable[[int], None]  # bytes that went on their way


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what each storage says of it."""

    size: int
    sha256: str
    stored: tuple[Stored, ...]

    @property
    def good(self) -> list[Stored]:
        return [one for one in self.stored if not one.code]


class Source:
    """A local file that is read once from start to end."""

    def __init__(self, path: Path) -> None:
        self.name = show(str(path))
        self._file = _open(path, self.name)
        self._before = os.fstat(self._file.fileno())
        self.size = self._before.st_size
        self._path = path

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def mark(self) -> str:
        """By what this source is known again: its host, path, size and time of change, as a sha256."""
        what = (socket.gethostname(), os.path.realpath(self._path), self.size, self._before.st_mtime_ns)
        return hashlib.sha256(repr(what).encode("utf-8", "surrogateescape")).hexdigest()

    def rewind(self) -> None:
        self._file.seek(0)

    def digest(self, size: int, cancel: threading.Event | None) -> hashlib._Hash:
        """The sha256 so far of the next `size` bytes, which are read for it."""
        digest, buffer, left = hashlib.sha256(), Buffer(), size
        while left > 0 and self.read_into(buffer):
            if cancel is not None and cancel.is_set():
                raise Cancelled("put was cancelled")
            digest.update(buffer.data[:left])
            left -= buffer.used
        self._file.seek(size)
        return digest

    def read_into(self, buffer: Buffer) -> int:
        try:
            buffer.used = self._file.readinto(buffer.space[:CHUNK]) or 0
        except OSError as error:
            raise LocalFileError(f"{self.name} can not be read: {error.strerror}") from error
        return buffer.used

    def read_all(self) -> bytes:
        """The whole of a small file."""
        try:
            data = self._file.read(self.size + 1)
        except OSError as error:
            raise LocalFileError(f"{self.name} can not be read: {error.strerror}") from error
        self.check(len(data))
        return data

    def check(self, size: int) -> None:
        """Raise SourceChanged unless `size` bytes is what it had, and it was not written to meanwhile."""
        now = os.fstat(self._file.fileno())
        same = (now.st_size, now.st_mtime_ns) == (self._before.st_size, self._before.st_mtime_ns)
        if size != self.size or not same:
            raise SourceChanged(f"{self.name} changed while it was read", "put it again when nobody writes to it")


def _open(path: Path, name: str) -> FileIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LocalFileError(f"{name} can not be read: {os.strerror(error.errno or errno.EIO)}") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        hint = "put -r takes whole directories" if stat.S_ISDIR(kind) else "only regular files can be put"
        raise LocalFileError(f"{name} is {_kind(kind)}, not a file", hint)
    return open(descriptor, "rb", buffering=0)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def send(links: Links, ticket: WriteTicket, source: Source, advance: Advance, cancel: threading.Event | None) -> Sent:
    """Send the whole source through the chain of the ticket."""
    first = ticket.chain[0]
    with links.to(first.name, Address(first.host, first.port)) as link:
        if source.size <= SMALL:
            return _send_whole(link, ticket, source, advance)
        link.send_value(Kind.REQUEST, ("write", first.grant, first.after, ticket.route[1:]))
        return _Stream(link, source, advance, cancel).run()


def staged(links: Links, ticket: WriteTicket) -> int:
    """How many bytes all storages of the chain have of an upload that was interrupted: a multiple of STEP.

    Conflict where somebody is at work on it."""
    first = ticket.chain[0]
    with links.to(first.name, Address(first.host, first.port)) as link:
        link.send_value(Kind.REQUEST, ("staged", first.grant, first.after, ticket.route[1:]))
        there = link.answer_of(int)
    return max(0, min(there, ticket.size)) // STEP * STEP


def go_on(
    links: Links, ticket: WriteTicket, source: Source, advance: Advance, cancel: threading.Event | None, offset: int
) -> Sent:
    """Send what comes behind the first `offset` bytes; ChecksumMismatch where the storage has others than these."""
    first, digest = ticket.chain[0], source.digest(offset, cancel)
    with links.to(first.name, Address(first.host, first.port)) as link:
        link.send_value(Kind.REQUEST, ("resume", first.grant, first.after, ticket.route[1:], offset))
        link.set_timeout(len(ticket.chain) * reading(offset))
        if link.answer_of(str) != digest.hexdigest():
            link.broken = True
            raise ChecksumMismatch(f"what storage {first.name} has of {source.name} is something else", "put again")
        link.set_timeout(STALL)
        advance(offset)
        return _Stream(link, source, advance, cancel, offset, digest).run()


def _send_whole(link: DataLink, ticket: WriteTicket, source: Source, advance: Advance) -> Sent:
    data = source.read_all()
    sha256 = hashlib.sha256(data).hexdigest()
    stored = together.send(link, [together.Outgoing(ticket.route, data, sha256)])[0]
    advance(len(data))
    return Sent(len(data), sha256, tuple(stored))


class _Stream:
    """One file on its way."""

    def __init__(
        self,
        link: DataLink,
        source: Source,
        advance: Advance,
        cancel: threading.Event | None,
        offset: int = 0,
        digest: hashlib._Hash | None = None,
    ) -> None:
        self._link = link
        self._source = source
        self._advance = advance
        self._cancel = cancel
        self._digest = digest or hashlib.sha256()
        self._size = offset

    def run(self) -> Sent:
        try:
            self._pump()
            self._source.check(self._size)
        except GogglesError as error:
            if self._source.size < LARGE or not isinstance(error, Cancelled):  # else it may go on later
                self._give_up()
            raise
        sha256 = self._digest.hexdigest()
        self._link.send_value(Kind.END, (self._size, sha256))
        stored = tuple(together.stored_all(self._link.peer, self._link.answer()))
        return Sent(self._size, sha256, stored)

    def _pump(self) -> None:
        lanes = Fanout({"hash": lambda buffer: self._digest.update(buffer.data), "send": self._send}, "put")
        try:
            while not lanes.errors:
                if self._cancel is not None and self._cancel.is_set():
                    raise Cancelled("put was cancelled")
                buffer = lanes.free()
                if not self._source.read_into(buffer):
                    break
                self._size += buffer.used
                lanes.feed(buffer)
                if self._size > self._source.size:
                    break
        finally:
            lanes.finish()
        for error in lanes.errors.values():
            raise error

    def _send(self, buffer: Buffer) -> None:
        if self._link.readable():
            raise self._link.refusal(*self._link.receive())
        self._link.send_data(buffer)
        self._advance(buffer.used)

    def _give_up(self) -> None:
        if not self._link.broken:
            try:
                self._link.send_value(Kind.ABORT, ("the sender gave up",))
            except GogglesError:
                self._link.broken = True


def why_not(sent: Sent) -> GogglesError:
    """No storage has the bytes: what the first one said."""
    first = sent.stored[0] if sent.stored else None
    said = f"storage {first.name}: {first.message}" if first else "no storage answered"
    return Unavailable(f"no copy could be written ({said})", "try again; du shows the state of the storages")
