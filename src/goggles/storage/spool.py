"""Bytes of a script whose length is not known before its end.

Law: they go to an unnamed file beside the staging area first (it is gone with the process, whatever happens), and
from there through the chain like any upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from goggles.contracts.data import Stored, WriteTicket
from goggles.errors import NoSpace
from goggles.storage.receiving import Local, Tell, relay
from goggles.storage.vault import Vault
from goggles.wire.data import CHUNK, Buffer
from goggles.wire.links import Links


class Spool:
    """A file that grows, and then is sent."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._file = vault.temporary_file()
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        if len(data) + self.size > self._vault.free:
            raise NoSpace("this storage has no room for the file", "write to another one; see availableStorages")
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def send(self, ticket: WriteTicket, links: Links, name: str, tell: Tell) -> list[Stored]:
        """Stage it here and on the other storages of the ticket; what each says."""
        local = Local(self._vault, name, ticket.upload, self.size)
        with relay(links, ticket.route[1:]) as onward:
            try:
                for buffer in self._chunks():
                    local.consume(buffer)
                    if onward is not None:
                        onward.consume(buffer)
            except BaseException:
                local.abort()
                if onward is not None:
                    onward.abort()
                raise
            if onward is not None:
                onward.end(self.size, self.sha256)
            results = [local.finish(self.size, self.sha256, tell)]
            return results + (onward.results() if onward is not None else [])

    def _chunks(self) -> Iterator[Buffer]:
        self._file.seek(0)
        buffer = Buffer()
        while count := self._file.readinto(buffer.space[:CHUNK]):
            buffer.used = count
            yield buffer
