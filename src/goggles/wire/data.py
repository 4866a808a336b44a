"""The data plane: framed messages and file bytes over one TLS connection, beside rpyc on the same port.

A frame is a header of 5 bytes (length of the payload: 4 bytes, big-endian; kind: 1 byte) and the payload.
Payloads of kind DATA are file bytes; all others are one value in rpyc's brine encoding.

    REQUEST  what is wanted: ("write", ...) or ("read", ...)
    DATA     1 to CHUNK bytes of the file
    END      (size, sha256) of all that was sent
    ABORT    (message,): the sender gives up, forget it
    OK       the answer
    ERROR    (code, message, hint)

Law: on one connection requests are answered in the order in which they came; one thread at a time uses it.
A sender looks for an early ERROR between chunks, so that nobody sends a gigabyte to a full disk.
"""

from __future__ import annotations

import mmap
import select
import ssl
import time
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, TypeVar

from rpyc.core import brine

from goggles.errors import ConnectionLost, ProtocolError
from goggles.wire import faults
from goggles.wire.stream import cut, time_for
from goggles.wire.values import loads

ALPN_DATA = "goggles-data"
ALPN_RPC = "goggles-rpc"
CHUNK = 1 << 20
HEADER = Struct("!IB")
MAX_VALUE = 1 << 20


class Kind(IntEnum):
    REQUEST = 1
    DATA = 2
    END = 3
    ABORT = 4
    OK = 5
    ERROR = 6


KINDS = frozenset(Kind)
T = TypeVar("T", int, str)


class Buffer:
    """Room for one DATA frame; `space` is where the file bytes go, so that header and bytes leave in one write.

    The memory comes with its first use, and the file bytes begin at a page."""

    __slots__ = ("_frame", "space", "used")

    def __init__(self) -> None:
        self._frame = memoryview(mmap.mmap(-1, mmap.PAGESIZE + CHUNK))[mmap.PAGESIZE - HEADER.size :]
        self.space = self._frame[HEADER.size :]
        self.used = 0

    @property
    def data(self) -> memoryview:
        """The file bytes that are in it now."""
        return self.space[: self.used]

    def frame(self) -> memoryview:
        """The whole frame, ready to be sent."""
        HEADER.pack_into(self._frame, 0, self.used, Kind.DATA)
        return self._frame[: HEADER.size + self.used]


class DataLink:
    """One connection of the data plane.  Its errors are ConnectionLost, ProtocolError, or what the peer sent."""

    def __init__(self, sock: ssl.SSLSocket, peer: str) -> None:
        self._sock = sock
        self.peer = peer
        self.broken = False
        self.heard = time.monotonic()  # when bytes came last
        self._spare = Buffer()
        self._ahead = b""  # bytes of a header that were read already

    def __repr__(self) -> str:
        return f"<DataLink {self.peer}{' broken' if self.broken else ''}>"

    def send_value(self, kind: Kind, value: Any) -> None:
        payload = brine.dump(value)
        self._send(HEADER.pack(len(payload), kind) + payload)

    def send_data(self, buffer: Buffer) -> None:
        self._send(buffer.frame())

    def send_together(self, kind: Kind, before: Any, data: Sequence[bytes | memoryview], after: Any) -> None:
        """A value, DATA and END in one write, for bytes that fit into one chunk."""
        first, last, size = brine.dump(before), brine.dump(after), sum(len(piece) for piece in data)
        body = (HEADER.pack(size, Kind.DATA), *data) if size else ()
        head = (HEADER.pack(len(first), kind), first)
        self._send(b"".join((*head, *body, HEADER.pack(len(last), Kind.END), last)))

    def send_error(self, error: BaseException, doing: str) -> None:
        self.send_value(Kind.ERROR, faults.to_tuple(faults.known(error, doing)))

    def receive(self, into: Buffer | None = None) -> tuple[Kind, Any]:
        """The next frame: (DATA, buffer it was read into), or (kind, value)."""
        header = bytearray(HEADER.size)
        self._fill(memoryview(header))
        length, number = HEADER.unpack(header)
        if number == Kind.DATA and 0 < length <= CHUNK:
            buffer = into or self._spare
            buffer.used = length
            self._fill(buffer.data)
            return Kind.DATA, buffer
        if number not in KINDS or length > MAX_VALUE:
            raise self._break(ProtocolError(f"{self.peer} sent something that is not in the protocol"))
        payload = bytearray(length)
        self._fill(memoryview(payload))
        return Kind(number), self._decode(bytes(payload))

    def answer(self) -> Any:
        """The value of the OK that comes next; raises the error that comes instead."""
        kind, value = self.receive()
        if kind is Kind.OK:
            return value
        raise self.refusal(kind, value)

    def answer_of(self, kind: type[T]) -> T:
        """The one value of this kind in the OK that comes next; ProtocolError where it has another."""
        match self.answer():
            case (value,) if type(value) is kind:
                return value
        raise self._break(ProtocolError(f"{self.peer} sent an answer that can not be read"))

    def refusal(self, kind: Kind, value: Any) -> Exception:
        """The error that this frame stands for."""
        if kind is Kind.ERROR and isinstance(value, tuple) and len(value) == 3:
            return faults.from_tuple(*value)
        return self._break(ProtocolError(f"{self.peer} sent {kind.name} where an answer was due"))

    def readable(self, seconds: float = 0.0) -> bool:
        """True where a frame (or the end) is there, or comes within this time.

        A readable descriptor does not say so: it may be a session ticket of TLS 1.3.  So the first bytes are read."""
        deadline = time.monotonic() + seconds
        while not self._ahead and not self._sock.pending():
            if not self._poll(max(0.0, deadline - time.monotonic())):
                return False
            if self._look_ahead():
                return True
        return True

    def _poll(self, seconds: float) -> bool:
        poll = select.poll()
        try:
            poll.register(self._sock, select.POLLIN)
        except ValueError as error:
            raise self._break(ConnectionLost(f"connection to {self.peer} is closed")) from error
        return bool(poll.poll(1e3 * seconds))

    def _look_ahead(self) -> bool:
        """Take what is there of a header without waiting; True where that is something, or the end."""
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            self._ahead = self._sock.recv(HEADER.size)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except (OSError, ValueError):
            return True  # broken: whoever receives next is told
        finally:
            self._sock.settimeout(timeout)
        return True

    def set_timeout(self, seconds: float) -> None:
        """Bound each stalled send or receive from now on."""
        self._sock.settimeout(seconds)

    def cut(self) -> None:
        """End the connection under whoever is using it, from any thread."""
        cut(self._sock)

    def close(self) -> None:
        self.broken = True
        cut(self._sock)
        self._sock.close()

    def _decode(self, payload: bytes) -> Any:
        try:
            return loads(payload)
        except ProtocolError as error:
            raise self._break(ProtocolError(f"{self.peer} sent {error.message}")) from error

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            raise self._break(ConnectionLost(f"connection to {self.peer} lost: {error}")) from error

    def _fill(self, target: memoryview) -> None:
        have, deadline = len(self._ahead), time_for(len(target))
        target[:have] = self._ahead
        self._ahead = b""
        while have < len(target):
            try:
                count = self._sock.recv_into(target[have:])
            except (OSError, ValueError) as error:
                raise self._break(ConnectionLost(f"connection to {self.peer} lost: {error}")) from error
            if not count:
                raise self._break(ConnectionLost(f"{self.peer} closed the connection"))
            have += count
            self.heard = time.monotonic()
            if have < len(target) and time.monotonic() > deadline:
                raise self._break(ConnectionLost(f"{self.peer} sends a message too slowly"))

    def _break(self, error: Exception) -> Exception:
        self.broken = True
        return error
