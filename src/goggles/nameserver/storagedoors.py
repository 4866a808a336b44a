"""What storages may say to a nameserver, and ask of it.

Law: everything a storage says of itself comes under the session that its `upgrade` opened.
"""

from __future__ import annotations

from typing import Any

from goggles.contracts.data import Committed
from goggles.contracts.orders import ScrubState
from goggles.contracts.records import Pairs, Value
from goggles.errors import BadRequest
from goggles.nameserver.doors import Doors, each, held_batch, record, storage_hello, triple
from goggles.nameserver.writing import Writer
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire.service import exposed


class StorageDoors(Doors):
    """What storages may say and ask."""

    _session = ""

    @exposed(Role.STORAGE)
    def upgrade(self, hello: tuple[Value, ...]) -> Pairs:
        welcome = self._owners.attachment.upgrade(storage_hello(hello), self.caller.identity)
        self._session = welcome.session
        return welcome.to_wire()

    @exposed(Role.STORAGE)
    def inventory(self, session: str, batch: bytes) -> tuple[int, ...]:
        return self._owners.attachment.inventory(session, held_batch(batch))

    @exposed(Role.STORAGE)
    def walk_tree(self, session: str, after: int) -> int:
        return self._owners.attachment.walk_tree(session, after)

    @exposed(Role.STORAGE)
    def verdict(self, session: str, left_out: int) -> tuple[str, str]:
        return self._owners.attachment.verdict(session, left_out)

    @exposed(Role.STORAGE)
    def condemned(self, session: str, batch: bytes) -> None:
        self._owners.attachment.condemned(session, held_batch(batch))

    @exposed(Role.STORAGE)
    def activate(self, session: str) -> None:
        self._owners.attachment.activate(session)

    @exposed(Role.STORAGE)
    def heartbeat(self, session: str, disk_free: int, uploads: tuple[str, ...], settled: bool = False) -> Value:
        """The state of the storage; asked for `settled`, also the change of the tree up to which it has all orders."""
        if disk_free < 0 or not all(isinstance(upload, str) for upload in uploads):
            raise BadRequest("a heartbeat tells free bytes, and the names of uploads")
        state, change = self._owners.attachment.heartbeat(session, disk_free, uploads)
        return (state, change) if settled else state

    @exposed(Role.STORAGE)
    def write_notification(self, session: str, upload: str, size: int, sha256: str) -> str:
        """The storage has staged these bytes and they are durable.  Answers keep or discard."""
        if self._owners.site.uploads.is_pull(upload):
            return self._owners.repair.pulled(session, upload, size, sha256)
        return self._owners.writing.notified(session, upload, size, sha256)

    @exposed(Role.STORAGE)
    def write_notifications(self, session: str, batch: tuple[tuple[str, int, str], ...]) -> tuple[Value, ...]:
        return each(batch, lambda item: self.write_notification(session, *triple(item)))

    @exposed(Role.STORAGE)
    def pull_failed(self, session: str, upload: str, message: str) -> None:
        self._owners.repair.pull_failed(session, upload, message)

    @exposed(Role.STORAGE)
    def check_done(self, session: str, job: str, verdict: str) -> None:
        """What a storage found when it read a copy again: good, bad, or why it can not be said."""
        self._owners.verifying.done(session, job, verdict)

    @exposed(Role.STORAGE)
    def scrubbed(self, session: str, batch: bytes, state: tuple[Value, ...]) -> tuple[int, ...]:
        """What a storage read of its own accord; the places of those that are not what the tree has."""
        return self._owners.scrubbing.told(session, held_batch(batch), record(ScrubState, state))

    # --- for a client that talks to the storage itself (section "Scripting") ----------------

    @exposed(Role.STORAGE)
    def open_read_for(self, holder: str, path: str) -> Pairs:
        self._may(holder, Level.READONLY)
        return self._owners.reading.open_read(path, holder).to_wire()

    @exposed(Role.STORAGE)
    def open_write_for(self, holder: str, path: str, size: int) -> Pairs:
        level, first = self._may(holder, Level.READAPPEND), self.caller.identity.name
        writer = Writer(holder, level, Identity.from_uri(holder).name)
        return self._owners.writing.open_write(path, size, writer, first=first).to_wire()

    @exposed(Role.STORAGE)
    def commit_for(self, holder: str, upload: str, size: int, sha256: str) -> Pairs:
        level = self._may(holder, Level.READAPPEND)
        answer = self._owners.writing.commit_many([(upload, size, sha256)], holder, level)[0]
        if isinstance(answer, Committed):
            return answer.to_wire()
        raise answer

    @exposed(Role.STORAGE)
    def abandon_for(self, holder: str, upload: str) -> None:
        self._owners.writing.abandon(upload, holder)

    def _may(self, holder: str, level: Level) -> Level:
        return self._owners.accounts.need(Identity.from_uri(holder), level)

    def on_disconnect(self, connection: Any) -> None:
        if self._session:
            self._owners.attachment.lost(self._session, "its connection broke")
