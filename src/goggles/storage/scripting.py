"""Files of a storage for plain rpyc scripts: the seeds' `open` and `write_fileobj`.

Law: the nameserver is asked on behalf of the caller, and what it answers is what the caller may do.  The one
object that leaves is a `RemoteFile`, of which only reading is reachable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, BinaryIO

from goggles.contracts.data import Committed, ReadTicket, WriteTicket
from goggles.errors import BadRequest, GogglesError, NotFound, PermissionDenied, Unavailable
from goggles.storage.receiving import Tell
from goggles.storage.spool import Spool
from goggles.storage.stream import OrderStream
from goggles.storage.vault import Vault
from goggles.wire.dial import Peer
from goggles.wire.links import Links
from goggles.wire.service import Caller

log = logging.getLogger(__name__)
PIECE = 1 << 20
MAX_READ = 16 << 20


class RemoteFile:
    """A file open for reading, as the other side sees it: read, seek, tell, close, and `with`."""

    _DOORS = frozenset({"read", "seek", "tell", "close", "__enter__", "__exit__"})

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def _rpyc_getattr(self, name: str) -> Any:
        if name not in self._DOORS:
            raise PermissionDenied(f"a file object has no {name[:40]!r} here", "there are read, seek, tell and close")
        return _Door(getattr(self, name))

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; b'' at the end.  At most 16 MiB at once."""
        wanted = MAX_READ if size < 0 else min(size, MAX_READ)
        return self._file.read(wanted)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Door:
    """One method of a RemoteFile; nothing else of it can be reached."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def _rpyc_getattr(self, name: str) -> Any:
        raise PermissionDenied("a method can only be called")

    def __call__(self, *args: Any) -> Any:
        try:
            return self._function(*args)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise BadRequest(f"the file can not do that: {error}") from error


class Scripting:
    """Reads and writes for callers that have no ticket."""

    def __init__(
        self, name: str, vault: Vault, orders: OrderStream, links: Links, connect: Callable[[], Peer], tell: Tell
    ) -> None:
        self._name = name
        self._vault = vault
        self._orders = orders
        self._links = links
        self._connect = connect
        self._tell = tell

    def open(self, path: str, mode: str, caller: Caller) -> RemoteFile:
        """The file at `path` if the caller may read it and this storage holds it."""
        if mode not in ("r", "rb"):
            raise BadRequest(
                f"mode {mode[:20]!r} is not possible", "read with 'rb', write with write_fileobj(path, fsrc)"
            )
        ticket = ReadTicket.from_wire(self._ask("open_read_for", caller.identity.uri, path))
        mine = [hop for hop in ticket.hops if hop.name == self._name]
        if not mine:
            others = ", ".join(hop.name for hop in ticket.hops)
            raise NotFound(f"storage {self._name} has no copy of {path}", f"it is on {others}")
        self._orders.wait_for(mine[0].after)
        return RemoteFile(self._vault.read(ticket.path, ticket.version))

    def write_fileobj(self, path: str, source: Any, caller: Caller) -> Committed:
        """Write all that `source` gives; commit when the copies are durable."""
        with Spool(self._vault) as spool:
            while piece := self._piece(source):
                spool.write(piece)
            return self._deliver(path, spool, caller)

    def _piece(self, source: Any) -> bytes:
        try:
            piece = source.read(PIECE)
        except EOFError:
            raise
        except Exception as error:
            raise BadRequest(
                f"the file object can not be read from here: {str(error)[:200]}",
                "connect with config={'allow_public_attrs': True} so that its read method can be called",
            ) from error
        if not isinstance(piece, bytes):
            raise BadRequest("the file object gives no bytes", "open it with mode 'rb'")
        return piece

    def _deliver(self, path: str, spool: Spool, caller: Caller) -> Committed:
        """Through the chain that the nameserver chooses, this storage first."""
        holder = caller.identity.uri
        ticket = WriteTicket.from_wire(self._ask("open_write_for", holder, path, spool.size))
        try:
            stored = spool.send(ticket, self._links, self._name, self._tell)
            if all(one.code for one in stored):
                raise Unavailable(f"no copy could be written: {stored[0].message}")
            return Committed.from_wire(self._ask("commit_for", holder, ticket.upload, spool.size, spool.sha256))
        except BaseException:
            self._abandon(holder, ticket.upload)
            raise

    def _abandon(self, holder: str, upload: str) -> None:
        try:
            self._ask("abandon_for", holder, upload)
        except GogglesError as error:
            log.info("upload %s will end with its lease: %s", upload, error)

    def _ask(self, method: str, *args: Any) -> Any:
        peer = self._connect()
        try:
            return peer.call(method, *args)
        finally:
            peer.close()
