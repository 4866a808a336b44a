"""The methods that a storage exposes, each with those who may call it.

Law: the nameserver of its own site gives orders; users may read and write files here only as the nameserver
would let them, which is asked each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goggles.contracts.records import Pairs, Value
from goggles.roles import Level, Role
from goggles.storage.quarantine import Quarantine
from goggles.storage.scripting import RemoteFile, Scripting
from goggles.storage.stream import OrderStream
from goggles.wire.service import USERS, Caller, Service, exposed

PAGE = 500


class StorageService(Service):
    """All doors of a storage."""

    def __init__(
        self,
        caller: Caller,
        orders: OrderStream,
        scripting: Scripting,
        quarantine: Quarantine,
        health: Callable[[], tuple[str, str]],
    ) -> None:
        super().__init__(caller)
        self._orders = orders
        self._scripting = scripting
        self._quarantine = quarantine
        self._health = health
        self._open_files: list[RemoteFile] = []

    @exposed(*USERS, Role.NAMESERVER, Role.STORAGE)
    def health(self) -> tuple[str, str]:
        """("well", what it does) where its nameserver counts on it, else ("ill", what it waits for)."""
        return self._health()

    @exposed(Role.NAMESERVER)
    def carry_out(self, session: str, first: int, orders: tuple[Value, ...]) -> tuple[tuple[Value, ...], ...]:
        """Carry out orders in their order; see goggles.contracts.orders."""
        return self._orders.carry_out(session, first, orders)

    @exposed(Role.NAMESERVER)
    def quarantined(self, after: str, limit: int) -> tuple[Pairs, ...]:
        """A page of what is in quarantine, after the entry `after`; see Kept."""
        return tuple(kept.to_wire() for kept in self._quarantine.listing(after, min(max(0, limit), PAGE)))

    @exposed(*USERS, level=Level.NONE)
    def open(self, path: str, mode: str = "rb") -> Any:
        """A file object for reading (read, seek, tell, close); the path as in the tree."""
        file = self._scripting.open(path, mode, self.caller)
        self._open_files.append(file)
        return file

    @exposed(*USERS, level=Level.NONE)
    def write_fileobj(self, path: str, fsrc: Any) -> Pairs:
        """Write all that `fsrc.read(n)` gives to `path`, with its copies; see Committed."""
        return self._scripting.write_fileobj(path, fsrc, self.caller).to_wire()

    def on_disconnect(self, connection: Any) -> None:
        for file in self._open_files:
            file.close()
