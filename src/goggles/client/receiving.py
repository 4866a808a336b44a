"""Bytes from the storages to a local file.

Law: nothing appears under its name before all of it is there and its digest is right.  When a storage fails, the
next one goes on at the same offset; one that has no copy where it should have one, or can not read it, is reported.
When one lied, it is reported too, and the file is read anew from the others.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from goggles.client.targets import Target
from goggles.contracts.data import SMALL, Hop, ReadTicket
from goggles.errors import (
    Cancelled,
    ChecksumMismatch,
    ConnectionLost,
    GogglesError,
    IsADirectory,
    LocalFileError,
    NoSpace,
    NotADirectory,
    NotFound,
    ProtocolError,
    Stale,
    StorageFailure,
    Unavailable,
)
from goggles.wire import together
from goggles.wire.data import DataLink, Kind
from goggles.wire.dial import Address
from goggles.wire.fanout import Fanout
from goggles.wire.links import Links

Advance = Callable[[int], None]
Complain = Callable[[ReadTicket, str], None]  # (ticket, storage): its bytes were wrong, or not there
AMISS = (NotFound, NotADirectory, IsADirectory, StorageFailure)  # what a storage says that should have a copy


def fetch(
    links: Links,
    ticket: ReadTicket,
    target: Target,
    advance: Advance,
    cancel: threading.Event | None,
    complain: Complain,
) -> None:
    """Fill `target`, which has begun with this version; raises Stale where the file is not this version any more."""
    bad: set[str] = set()
    alone = False  # bytes of several were wrong together: from now on only one and the same storage gives all of them
    while True:
        usable = [hop for hop in ticket.hops if hop.name not in bad]
        if not usable:
            raise ChecksumMismatch(
                f"every copy of {ticket.path} has wrong bytes", "they were reported; try again later"
            )
        download = _Download(links, ticket, target, advance, cancel, complain)
        sources = download.run(usable, alone)
        if download.sha256 == ticket.hash:
            return
        if not target.kept:  # what was kept may be what is wrong
            for name in sources:
                complain(ticket, name)
            if len(sources) == 1:
                bad.update(sources)
            alone = alone or len(sources) > 1
        download.restart()


class _Download:
    """One pass over the file, from as many storages as it takes."""

    def __init__(
        self,
        links: Links,
        ticket: ReadTicket,
        target: Target,
        advance: Advance,
        cancel: threading.Event | None,
        complain: Complain,
    ) -> None:
        self._links = links
        self._ticket = ticket
        self._target = target
        self._advance = advance
        self._cancel = cancel
        self._complain = complain
        self._digest = target.digest(cancel)
        self._done = target.kept
        advance(target.kept)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def restart(self) -> None:
        """Forget what has come."""
        self._target.restart(self._ticket.size)
        self._advance(-self._done)
        self._digest, self._done = hashlib.sha256(), 0

    def run(self, hops: list[Hop], alone: bool) -> list[str]:
        """The names of the storages that bytes came from; `alone`: of one, and nothing is kept of the others."""
        used: list[str] = []
        problem: GogglesError = Unavailable(f"no storage that is up holds {self._ticket.path}")
        if self._done and self._done == self._ticket.size:
            return used
        for hop in hops:
            if alone and self._done:
                self.restart()
                used.clear()
            before = self._done
            try:
                self._from(hop)
                return [*used, hop.name]
            except (Cancelled, LocalFileError, NoSpace):
                raise
            except GogglesError as error:
                problem = error
                if isinstance(error, AMISS):
                    self._complain(self._ticket, hop.name)
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
        if len(data) != self._ticket.size:
            raise ProtocolError(f"{link.peer} sent {len(data)} of {self._ticket.size} bytes")
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
