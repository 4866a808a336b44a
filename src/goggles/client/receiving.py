"""Bytes from the storages to a local file.

Law: nothing appears under its name before all of it is there and its digest is right.  When a storage fails, the
next one goes on at the same offset; when one lied, it is reported and the file is read anew from the others.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from goggles.bulk import BulkWriter
from goggles.contracts.data import SMALL, Hop, ReadTicket
from goggles.errors import (
    AlreadyExists,
    Cancelled,
    ChecksumMismatch,
    ConnectionLost,
    GogglesError,
    LocalFileError,
    NoSpace,
    ProtocolError,
    Stale,
    Unavailable,
)
from goggles.paths import show
from goggles.wire import together
from goggles.wire.data import Buffer, DataLink, Kind
from goggles.wire.dial import Address
from goggles.wire.fanout import Fanout
from goggles.wire.links import Links

Advance = Callable[[int], None]
Complain = Callable[[ReadTicket, str], None]  # (ticket, storage): its bytes were wrong


class Target:
    """A local file in the making: bytes go to a hidden name beside it, `finish` renames.

    A symbolic link is followed; what is neither a file nor missing is refused, never replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path = Path(os.path.realpath(path))
        need_regular(path)
        self._hidden = path.with_name(f".{secrets.token_hex(8)}.goggles")
        try:
            self.file: BinaryIO = open(self._hidden, "xb", buffering=0)  # noqa: SIM115 - closed by finish or drop
        except OSError as error:
            raise local_error(error, path) from error
        self._writer = BulkWriter(self.file.fileno(), 0)

    def write(self, data: memoryview | bytes) -> None:
        try:
            self._writer.write(data)
        except OSError as error:
            raise local_error(error, self.path) from error

    def restart(self, size: int) -> None:
        """Begin, or begin again: `size` bytes are coming."""
        self.file.seek(0)
        self.file.truncate()
        self._writer = BulkWriter(self.file.fileno(), size)

    def finish(self) -> None:
        try:
            self.file.close()
            with contextlib.suppress(FileNotFoundError):
                os.chmod(self._hidden, os.stat(self.path).st_mode & 0o7777)
            os.replace(self._hidden, self.path)
        except OSError as error:
            raise local_error(error, self.path) from error

    def drop(self) -> None:
        self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._hidden)


def need_regular(path: Path) -> None:
    """Raise where something stands at `path` that is no regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise local_error(error, path) from error
    if not stat.S_ISREG(mode):
        raise LocalFileError(f"{show(str(path))} is not a regular file", "cat writes to devices and pipes")


def may_write(path: Path, overwrite: bool) -> None:
    """Raise where a file can not be written to `path`, or may not without `overwrite`."""
    try:
        is_dir, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise local_error(error, path) from error
    if is_dir:
        raise LocalFileError(f"{show(str(path))} is a directory", "name the file")
    need_regular(path)
    if is_there and not overwrite:
        raise AlreadyExists(f"{show(str(path))} exists already", "get -f overwrites it")


def local_error(error: OSError, path: Path) -> GogglesError:
    """What a failed local write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"the local disk is full: {show(str(path))} was not written")
    return LocalFileError(f"{show(str(path))} can not be written: {os.strerror(error.errno or errno.EIO)}")


def fetch(
    links: Links,
    ticket: ReadTicket,
    target: Target,
    advance: Advance,
    cancel: threading.Event | None,
    complain: Complain,
) -> None:
    """Fill `target` with the bytes of the ticket; raises Stale where the file is not this version any more."""
    bad: set[str] = set()
    while True:
        usable = [hop for hop in ticket.hops if hop.name not in bad]
        if not usable:
            raise ChecksumMismatch(
                f"every copy of {ticket.path} has wrong bytes", "they were reported; try again later"
            )
        download = _Download(links, ticket, target, advance, cancel)
        sources = download.run(usable)
        if download.sha256 == ticket.hash:
            return
        for name in sources:
            complain(ticket, name)
        bad.update(sources)
        target.restart(ticket.size)
        advance(-ticket.size)


class _Download:
    """One pass over the file, from as many storages as it takes."""

    def __init__(
        self, links: Links, ticket: ReadTicket, target: Target, advance: Advance, cancel: threading.Event | None
    ) -> None:
        self._links = links
        self._ticket = ticket
        self._target = target
        self._advance = advance
        self._cancel = cancel
        self._digest = hashlib.sha256()
        self._done = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def run(self, hops: list[Hop]) -> list[str]:
        """The names of the storages that bytes came from."""
        used: list[str] = []
        problem: GogglesError = Unavailable(f"no storage that is up holds {self._ticket.path}")
        for hop in hops:
            before = self._done
            try:
                self._from(hop)
                return [*used, hop.name]
            except (Cancelled, LocalFileError, NoSpace):
                raise
            except GogglesError as error:
                problem = error
                if self._done > before:
                    used.append(hop.name)
        raise problem if isinstance(problem, Stale) else _gone(problem, self._ticket)

    def _from(self, hop: Hop) -> None:
        with self._links.to(hop.name, Address(hop.host, hop.port)) as link:
            left = self._ticket.size - self._done
            if left <= SMALL and not self._done:
                self._whole(link, hop)
            else:
                link.send_value(Kind.REQUEST, ("read", hop.grant, self._done, left, hop.after))
                link.answer()
                self._receive(link)
        if self._done != self._ticket.size:
            raise ConnectionLost(f"storage {hop.name} sent {self._done} of {self._ticket.size} bytes")

    def _whole(self, link: DataLink, hop: Hop) -> None:
        """A small file comes in one piece."""
        data = together.ask(link, hop.after, [(hop.grant, self._ticket.size)])[0]
        if isinstance(data, GogglesError):
            raise data
        self._digest.update(data)
        self._target.write(data)
        self._done += len(data)
        self._advance(len(data))

    def _receive(self, link: DataLink) -> None:
        """Chunks are hashed and written in threads of their own; `_done` counts what both have taken."""
        lanes = Fanout(
            {"hash": lambda b: self._digest.update(b.data), "write": lambda b: self._target.write(b.data)}, "get"
        )
        try:
            while not lanes.errors:
                if self._cancel is not None and self._cancel.is_set():
                    raise Cancelled("get was cancelled")
                buffer = lanes.free()
                kind, value = link.receive(buffer)
                if kind is not Kind.DATA:
                    if kind is Kind.END:
                        return
                    raise link.refusal(kind, value)
                if self._done + buffer.used > self._ticket.size:
                    raise ProtocolError(f"{link.peer} sent more bytes than the file has")
                lanes.feed(buffer)
                self._done += buffer.used
                self._advance(buffer.used)
        finally:
            lanes.finish()
            for error in lanes.errors.values():
                raise error


def _gone(problem: GogglesError, ticket: ReadTicket) -> GogglesError:
    """None of the storages could be read: perhaps they changed meanwhile, so ask anew."""
    return Stale(f"{ticket.path} could not be read: {problem.message}", problem.hint)


def stream(links: Links, ticket: ReadTicket, offset: int, length: int, complain: Complain) -> Iterator[bytes]:
    """The bytes of a range, chunk by chunk; a storage that fails gives way to the next at the same offset.

    Of a whole file the digest is compared behind the last chunk: ChecksumMismatch where it is wrong."""
    end, whole = min(ticket.size, offset + length), offset == 0 and length >= ticket.size
    digest, used = hashlib.sha256(), list[str]()
    problem: GogglesError = Unavailable(f"no storage that is up holds {ticket.path}")
    for hop in ticket.hops:
        try:
            for chunk in _range(links, hop, offset, end - offset):
                offset += len(chunk)
                used += [hop.name] if hop.name not in used else []
                digest.update(chunk)
                yield chunk
            if offset >= end:
                break
        except GogglesError as error:
            problem = error
    if offset < end:
        raise problem
    if whole and digest.hexdigest() != ticket.hash:
        for name in used:
            complain(ticket, name)
        raise ChecksumMismatch(
            f"{ticket.path} was read with wrong bytes from {', '.join(used)}", "they were reported; read it again"
        )


def _range(links: Links, hop: Hop, offset: int, length: int) -> Iterator[bytes]:
    with links.to(hop.name, Address(hop.host, hop.port)) as link:
        link.send_value(Kind.REQUEST, ("read", hop.grant, offset, length, hop.after))
        link.answer()
        buffer = Buffer()
        while True:
            kind, value = link.receive(buffer)
            if kind is Kind.END:
                return
            length -= buffer.used
            if kind is not Kind.DATA or length < 0:
                raise link.refusal(kind, value)
            yield bytes(buffer.data)
