"""Bytes of a file as they come: whole, in ranges, or as a file object of Python.

Law: all bytes that come out are of one version.  When no storage of the ticket can give them the nameserver is asked
again, for a while; a file that was replaced after the first byte of it came out is Stale.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

from goggles.client.receiving import AMISS, Complain
from goggles.client.retrying import reading_patience
from goggles.contracts.data import Hop, ReadTicket
from goggles.errors import ChecksumMismatch, GogglesError, Stale, Unavailable
from goggles.wire.data import Buffer, Kind
from goggles.wire.dial import Address
from goggles.wire.links import Links

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Reading:
    """One file that is being read.  `ask` gives a ticket for it; `patience`: seconds for which it is asked again."""

    def __init__(self, links: Links, ask: Callable[[], ReadTicket], complain: Complain, patience: float) -> None:
        self._links = links
        self._ask = ask
        self._complain = complain
        self._patience = patience
        self.ticket = ask()
        self.pinned = False  # something was said of this version: no other may follow it

    def chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, chunk by chunk; a storage that fails gives way to the next at the same offset.

        Of a whole file the digest is compared behind the last chunk: ChecksumMismatch where it is wrong.  Stale where
        it was replaced, Unavailable where no storage can be read."""
        begin, digest, used = offset, hashlib.sha256(), dict[str, None]()
        since, pause = 0.0, FIRST_PAUSE  # since: the first failure after the last byte
        problem: GogglesError | None = None
        while self._left(begin, offset, length) > 0:
            if problem is not None:
                since = since or time.monotonic()
                self._renew(problem, since, pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            problem = Unavailable(f"no storage that is up holds {self.ticket.path}")
            for hop in self.ticket.hops:
                try:
                    for chunk in pieces(self._links, hop, offset, self._left(begin, offset, length)):
                        self.pinned = True
                        offset += len(chunk)
                        used[hop.name] = None
                        digest.update(chunk)
                        yield chunk
                        since, pause = 0.0, FIRST_PAUSE
                except GogglesError as error:
                    problem = error
                    if isinstance(error, AMISS):
                        self._complain(self.ticket, hop.name)
        if begin == 0 and length >= self.ticket.size and digest.hexdigest() != self.ticket.hash:
            self._wrong(used)

    def _left(self, begin: int, offset: int, length: int) -> int:
        return min(self.ticket.size, begin + length) - offset

    def _renew(self, problem: GogglesError, since: float, pause: float) -> None:
        """Another ticket a moment later; raises `problem` where that has been tried for long enough."""
        if time.monotonic() + pause > since + reading_patience(problem, self._patience):
            raise problem
        time.sleep(pause)
        ticket = self._ask()
        if self.pinned and ticket.version != self.ticket.version:
            raise Stale(f"{ticket.path} was replaced while it was read", "read it again")
        self.ticket = ticket

    def _wrong(self, used: dict[str, None]) -> None:
        for name in used:
            self._complain(self.ticket, name)
        message = f"{self.ticket.path} was read with wrong bytes from {', '.join(used)}"
        raise ChecksumMismatch(message, "they were reported; read it again")


def pieces(links: Links, hop: Hop, offset: int, length: int, request: str = "read") -> Iterator[bytes]:
    """What one storage sends for a request of this kind: `length` bytes at most."""
    if length <= 0:
        return
    with links.to(hop.name, Address(hop.host, hop.port)) as link:
        link.send_value(Kind.REQUEST, (request, hop.grant, offset, length, hop.after))
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


class RangeReader(io.RawIOBase):
    """A file of the tree as Python's own raw file."""

    def __init__(self, reading: Reading) -> None:
        reading.pinned = True
        self._reading = reading
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._reading.ticket.size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        have = 0
        for chunk in self._reading.chunks(self._place, len(view)):
            view[have : have + len(chunk)] = chunk
            have += len(chunk)
        self._place += have
        return have
