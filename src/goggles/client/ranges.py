"""A file of the tree as one of Python's own: read, seek, tell."""

from __future__ import annotations

import io
from typing import Any

from goggles.client.receiving import Complain, stream
from goggles.contracts.data import ReadTicket
from goggles.wire.links import Links


class RangeReader(io.RawIOBase):
    """A file of the tree as Python's own raw file."""

    def __init__(self, links: Links, ticket: ReadTicket, complain: Complain) -> None:
        self._links = links
        self._ticket = ticket
        self._complain = complain
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._ticket.size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        have = 0
        for chunk in stream(self._links, self._ticket, self._place, len(view), self._complain):
            view[have : have + len(chunk)] = chunk
            have += len(chunk)
        self._place += have
        return have
