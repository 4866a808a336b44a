"""One local file into the tree, tried again until it is there.

Law: a put that fails leaves the tree as it was.  An upload of a large file that was interrupted is left to the
nameserver, which keeps it for a while: the next put of the same source to the same path goes on behind the bytes that
the storages have.  Both sides read these again, and their digests must be the same; else the put begins anew.
"""

from __future__ import annotations

import threading

from goggles.client.calls import Calls
from goggles.client.retrying import ChainFailed, Meter, Patience, patience_with, wait
from goggles.client.sending import Sent, Source, go_on, send, staged, why_not
from goggles.contracts.data import LARGE, Committed, WriteTicket
from goggles.errors import Cancelled, ChecksumMismatch, Conflict, GogglesError, NoSpace, Stale, Unavailable, UploadLost
from goggles.paths import DfsPath
from goggles.wire.links import Links


class Putting:
    """One put.  `resume`: go on with an earlier one of this source, and leave what may be gone on with."""

    def __init__(
        self,
        calls: Calls,
        links: Links,
        source: Source,
        path: DfsPath,
        meter: Meter,
        cancel: threading.Event | None,
        resume: bool,
    ) -> None:
        self._calls = calls
        self._links = links
        self._source = source
        self._path = path
        self._meter = meter
        self._cancel = cancel
        self._resume = resume
        self._mark = source.mark if source.size >= LARGE else ""
        self._left: set[str] = set()  # uploads that this put might have gone on with

    def put(self) -> Committed:
        """Returns when the copies are durable and visible."""
        avoid: list[str] = []
        patience, pause = Patience(), 0.1
        while True:
            self._meter.restart()
            try:
                done = self._once(avoid)
                for upload in self._left - {done.version}:
                    self._abandon(upload)
                return done
            except (NoSpace, Unavailable, UploadLost, ChecksumMismatch, ChainFailed) as error:
                avoid += error.failed if isinstance(error, ChainFailed) else []
                if patience.is_over(patience_with(error, self._calls.patience), self._meter.moved):
                    raise (error.reason if isinstance(error, ChainFailed) else error) from None
            wait(pause, self._cancel)
            pause = min(2.0, 2 * pause)

    def _once(self, avoid: list[str]) -> Committed:
        ticket, offset = self._open(avoid)
        try:
            sent = self._send(ticket, offset)
            return Committed.from_wire(self._calls("commit", ticket.upload, sent.size, sent.sha256))
        except BaseException as error:
            if self._resume and self._mark and _may_go_on(error):
                self._left.add(ticket.upload)
            else:
                self._abandon(ticket.upload)
            raise

    def _open(self, avoid: list[str]) -> tuple[WriteTicket, int]:
        """The upload to send to, and how many bytes of it the storages have."""
        ticket = self._ticket(avoid)
        if not ticket.resumed:
            return ticket, 0
        try:
            there = staged(self._links, ticket)
        except Conflict:  # another put of the same source is under way; this one gets an upload of its own
            self._mark = ""
            return self._ticket(avoid), 0
        except GogglesError:
            there = 0
        if there and self._resume:
            return ticket, there
        self._abandon(ticket.upload)
        return self._ticket(avoid), 0

    def _ticket(self, avoid: list[str]) -> WriteTicket:
        words = (self._path, self._source.size, 0, tuple(avoid))
        return WriteTicket.from_wire(self._calls("open_write", *words, *([self._mark] if self._mark else [])))

    def _send(self, ticket: WriteTicket, offset: int) -> Sent:
        self._source.rewind()
        to = (self._links, ticket, self._source, self._meter.advance, self._cancel)
        try:
            sent = go_on(*to, offset) if offset else send(*to)
        except (Unavailable, NoSpace, Stale) as error:
            raise ChainFailed(error, [ticket.chain[0].name]) from error
        if not sent.good:
            raise ChainFailed(why_not(sent), [one.name for one in sent.stored])
        return sent

    def _abandon(self, upload: str) -> None:
        try:
            self._calls("abandon", upload)
        except GogglesError:
            return  # its lease will end it


def _may_go_on(error: BaseException) -> bool:
    """Whether a put that failed so may go on later where it was."""
    reason = error.reason if isinstance(error, ChainFailed) else error
    return isinstance(reason, Cancelled | Unavailable) or not isinstance(reason, GogglesError)
