"""The storage's side of the data plane: one request after another on each connection.

Law: nothing is read or written without a grant of the nameserver for this very caller; an upload is written once; a
request waits until the orders that came before it have been carried out.  After a refusal the rest of what the sender
has on its way is read and thrown away, so that the connection stays usable.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from io import FileIO

from goggles import failpoints
from goggles.clock import Clock
from goggles.contracts.data import MAX_HOPS, SMALL, Next
from goggles.contracts.grants import PUSH, QUARANTINED, READ, WRITE, Grant, check
from goggles.errors import BadRequest, Conflict, ConnectionLost, GogglesError, ProtocolError, StorageFailure, UploadLost
from goggles.storage import delivering
from goggles.storage.atwork import AtWork
from goggles.storage.notifier import Notifier
from goggles.storage.receiving import Local, Receiver, Relay, relay, staged_further
from goggles.storage.recent import Recent
from goggles.storage.stream import OrderStream
from goggles.storage.together import Notice, Part, Together
from goggles.storage.together import read as read_many
from goggles.storage.vault import Vault
from goggles.wire import together
from goggles.wire.data import CHUNK, Buffer, DataLink, Kind
from goggles.wire.links import Links
from goggles.wire.service import Caller

log = logging.getLogger(__name__)
IDLE = 300.0  # seconds without a request until a connection is closed
KINDS = ("write", "resume", "staged", "write_many", "read", "read_many", "read_quarantined", "arrived", "append")


class DataServer:
    """Serves data links."""

    def __init__(
        self,
        name: str,
        vault: Vault,
        orders: OrderStream,
        links: Links,
        keys: Callable[[], Sequence[bytes]],
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._name = name
        self._vault = vault
        self._orders = orders
        self._links = links
        self._keys = keys
        self._notifier = notifier
        self._together = Together(name, vault, links, self._told_all)
        self._clock = clock
        self._at_work = AtWork()
        self._lock = threading.Lock()
        self._over = Recent()  # uploads that were completed here
        self._requests = 0  # being answered; guarded by _lock

    def active(self) -> tuple[str, ...]:
        """The uploads that run through this storage now."""
        return self._at_work.uploads()

    @property
    def busy(self) -> bool:
        """Whether somebody reads or writes now."""
        return self._requests > 0

    def serve(self, link: DataLink, caller: Caller) -> None:
        """Answer requests until the caller hangs up or is silent for too long."""
        while link.readable(IDLE):
            try:
                kind, value = link.receive()
            except ConnectionLost:
                return
            if kind is not Kind.REQUEST or not isinstance(value, tuple) or not value:
                link.send_error(BadRequest("a request was expected"), "data request")
                return
            caller.busy += 1
            self._count(1)
            try:
                self._answer(link, caller, value)
            finally:
                self._count(-1)
                caller.busy -= 1

    def _count(self, change: int) -> None:
        with self._lock:
            self._requests += change

    def _answer(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        if request[0] in ("write", "resume", "write_many"):
            self._write(link, caller, request)
        elif request[0] == "staged":
            self._staged(link, caller, request)
        elif request[0] in ("read", "read_quarantined"):
            self._read(link, caller, request)
        elif request[0] == "read_many":
            self._read_many(link, caller, request)
        elif request[0] in ("arrived", "append"):
            self._deliver(link, caller, request)
        else:
            link.send_error(BadRequest(f"there are {', '.join(KINDS)}"), "data request")

    def _deliver(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        """Requests of other sites' storages."""
        action = delivering.append if request[0] == "append" else delivering.arrived
        try:
            action(link, self._vault.arrivals, request, lambda grant: self._check(grant, PUSH, caller))
        except (ConnectionLost, ProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            link.send_error(error, f"a delivery of {caller}")
            if request[0] == "append":
                self._drain(link)

    # --- writing ---------------------------------------------------------------------------

    def _write(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        take = self._take_many if request[0] == "write_many" else self._take_one
        try:
            results = take(link, caller, request)
        except (ConnectionLost, ProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            link.send_error(error, f"a write for {caller}")
            self._drain(link)
            return
        if results is not None:
            link.send_value(Kind.OK, results)

    def _take_one(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> tuple[object, ...] | None:
        """What each storage says; None where the sender gave up."""
        sealed, after, hops, offset = _write_request(request)
        grant = self._check(sealed, WRITE, caller)
        self._need_open(grant)
        self._orders.wait_for(after)
        with (
            self._at_work.on(grant.subject, link, alone=offset > 0),
            relay(self._links, hops, offset) as onward,
        ):
            local = Local(self._vault, self._name, grant.subject, grant.size, offset)
            if offset:
                self._ready(link, local, onward, offset, len(hops))
            results = Receiver(link, local, onward, grant.size).run(self._told)
        return None if results is None else tuple(stored.to_wire() for stored in results)

    def _ready(self, link: DataLink, local: Local, onward: Relay | None, offset: int, further: int) -> None:
        """Tell the sender what the bytes are that it goes on behind, once all have read theirs again."""
        try:
            if onward is not None:
                onward.read_again(offset, further)
            link.send_value(Kind.OK, (local.sha256,))
        except BaseException:
            local.suspend()
            raise

    def _staged(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        """("staged", grant, after, hops): how many bytes of an interrupted upload all storages of the chain have."""
        try:
            sealed, after, hops, _ = _write_request(request)
            grant = self._check(sealed, WRITE, caller)
            self._orders.wait_for(after)
            with self._at_work.on(grant.subject, link, alone=True):
                here = self._vault.staged_part(grant.subject)
            link.send_value(Kind.OK, (min(here, staged_further(self._links, hops)),))
        except ConnectionLost:
            raise
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            link.send_error(error, f"an upload of {caller}")

    def _take_many(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> tuple[object, ...] | None:
        """The same for each of many small files.  They are over before a lease is."""
        after, files = together.announced(request)
        self._orders.wait_for(after)
        pieces = together.receive(link, [file.size for file in files])
        if pieces is None:
            return None
        parts = [Part(file, data) for file, data in zip(files, pieces, strict=True)]
        return self._together.take(parts, lambda sealed: self._need_open(self._check(sealed, WRITE, caller)))

    def _need_open(self, grant: Grant) -> Grant:
        """A grant is good for twelve hours, and for one upload: what was written, or given up, is not written again."""
        if self._vault.is_given_up(grant.subject):
            raise UploadLost(f"upload {grant.subject} was given up", "put again")
        if grant.subject in self._over or self._vault.is_staged(grant.subject):
            raise Conflict(f"upload {grant.subject} is complete here already", "open another one to write again")
        return grant

    def _told(self, upload: str, size: int, sha256: str) -> None:
        failpoints.hit("storage.write.before_notify")
        self._notifier.notify(upload, size, sha256)
        self._over.add([upload])
        failpoints.hit("storage.write.after_notify")

    def _told_all(self, notices: Sequence[Notice]) -> list[GogglesError | None]:
        answers = self._notifier.notify_all(notices)
        self._over.add([notice[0] for notice, error in zip(notices, answers, strict=True) if error is None])
        return answers

    def _drain(self, link: DataLink) -> None:
        while link.receive()[0] is Kind.DATA:
            pass

    # --- reading ---------------------------------------------------------------------------

    def _read(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        try:
            grant, offset, length, after = _read_request(request)
            kept = request[0] == "read_quarantined"
            allowed = self._check(grant, QUARANTINED if kept else READ, caller)
            self._orders.wait_for(after)
            with self._open(allowed, kept) as file:
                size = os.fstat(file.fileno()).st_size if kept else allowed.size
                self._send(link, file, allowed.path, min(offset, size), max(0, min(length, size - offset)))
        except ConnectionLost:
            raise
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            link.send_error(error, f"a read for {caller}")

    def _read_many(self, link: DataLink, caller: Caller, request: tuple[object, ...]) -> None:
        try:
            after, wanted = together.asked(request)
            self._orders.wait_for(after)
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            link.send_error(error, f"a read for {caller}")
            return
        read_many(link, self._vault, wanted, lambda sealed: self._check(sealed, READ, caller))

    def _open(self, grant: Grant, kept: bool) -> FileIO:
        return self._vault.quarantine.open(grant.path) if kept else self._vault.read(grant.path, grant.subject)

    def _send(self, link: DataLink, file: FileIO, path: str, offset: int, length: int) -> None:
        file.seek(offset)
        if length <= SMALL:
            data = file.read(length)
            if len(data) < length:
                raise StorageFailure(f"{path} is shorter on storage {self._name} than it should be")
            link.send_together(Kind.OK, (length,), [data], (length, ""))
            return
        link.send_value(Kind.OK, (length,))
        buffer, left = Buffer(), length
        while left:
            buffer.used = file.readinto(buffer.space[: min(left, CHUNK)]) or 0
            if not buffer.used:
                raise StorageFailure(f"{path} is shorter on storage {self._name} than it should be")
            link.send_data(buffer)
            left -= buffer.used
        link.send_value(Kind.END, (length, ""))

    def _check(self, grant: bytes, kind: str, caller: Caller) -> Grant:
        holder, now = caller.identity.uri, self._clock.now()
        return check(grant, self._keys(), kind=kind, storage=self._name, holder=holder, now=now)


def _write_request(request: tuple[object, ...]) -> tuple[bytes, int, tuple[Next, ...], int]:
    match request:
        case ("write" | "staged", bytes(grant), int(after), tuple(hops)) if len(hops) <= MAX_HOPS:
            return grant, after, tuple(together.hop(one) for one in hops), 0
        case ("resume", bytes(grant), int(after), tuple(hops), int(at)) if len(hops) <= MAX_HOPS and at > 0:
            return grant, after, tuple(together.hop(one) for one in hops), at
    raise BadRequest("a write request must be (write, grant, after, hops) or (resume, grant, after, hops, offset)")


def _read_request(request: tuple[object, ...]) -> tuple[bytes, int, int, int]:
    match request:
        case ("read" | "read_quarantined", bytes(grant), int(offset), int(length), int(after)) if (
            offset >= 0 and length >= 0
        ):
            return grant, offset, length, after
    raise BadRequest("a read request must be (KIND, grant, offset, length, after)")
