"""rpyc's stream and channel, tuned for TLS; what stock rpyc peers speak, they speak too.

Law: one thread at a time uses a TLS socket (OpenSSL's objects take no two callers), a frame that is announced longer
than the bound is refused before it is read, and one that comes too slowly is not waited for.

Beside rpyc's own: a frame leaves in one write, bytes are received into one buffer, nothing is compressed
(compressed frames of stock peers are understood), and bytes that TLS has already decrypted count as readable:
the file descriptor shows nothing of them.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
import zlib
from typing import Any

from rpyc.core.channel import Channel
from rpyc.core.stream import ClosedFile, SocketStream

from goggles.wire.room import Share

MAX_FRAME = 32 << 20
BUFFER = 64 << 10
PATIENCE = 60.0  # seconds for a message, and for each so many bytes of it one more:
SLOWEST = 16 << 10
STEP = 1 << 20  # bytes that are decompressed at a time


def time_for(size: int) -> float:
    """When a message of so many bytes must be here, in monotonic seconds."""
    return time.monotonic() + PATIENCE + size / SLOWEST


class TlsStream(SocketStream):  # type: ignore[misc]
    """A buffered stream over a connected TLS socket.

    The socket's timeout bounds each stalled read or write within a frame; between frames it may be silent."""

    __slots__ = ("_buffer", "_end", "_poller", "_start")
    _buffer: memoryview
    sock: Any

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._buffer = memoryview(bytearray(BUFFER))
        self._start = self._end = 0
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read within this time; EOFError where the connection is closed."""
        if self.closed:
            raise EOFError("the connection is closed")
        return self._start < self._end or bool(self.sock.pending() or self._poller.poll(1e3 * max(0.0, seconds)))

    def poll(self, timeout: object) -> bool:
        if self._start < self._end or (self.sock is not ClosedFile and self.sock.pending()):
            return True
        return bool(super().poll(timeout))

    def read(self, count: int, started: bool = False) -> bytes:
        """Exactly `count` bytes; EOFError where the peer is gone or stalls.  `started`: within a message."""
        if self._start == self._end:
            self._start, self._end = 0, self._receive(self._buffer, started)
        end = self._start + count
        if end <= self._end:
            found = bytes(self._buffer[self._start : end])
            self._start = end
            return found
        result = bytearray(count)
        self._read_into(memoryview(result))
        return bytes(result)

    def _read_into(self, target: memoryview) -> None:
        have, deadline = self._end - self._start, time_for(len(target))
        target[:have] = self._buffer[self._start : self._end]
        self._start = self._end
        while have < len(target):
            if time.monotonic() > deadline:
                self.close()
                raise EOFError("the peer sends a message too slowly")
            if len(target) - have >= BUFFER:
                have += self._receive(target[have:], started=True)
                continue
            self._start, self._end = 0, self._receive(self._buffer, started=True)
            step = min(len(target) - have, self._end)
            target[have : have + step] = self._buffer[:step]
            have, self._start = have + step, step

    def _receive(self, target: memoryview, started: bool) -> int:
        while True:
            try:
                count = int(self.sock.recv_into(target))
            except TimeoutError as error:
                if not started:
                    continue
                self.close()
                raise EOFError("the peer stalled in the middle of a message") from error
            except (OSError, ValueError) as error:
                self.close()
                raise EOFError(str(error)) from error
            if not count:
                self.close()
                raise EOFError("connection closed by peer")
            return count

    def write(self, data: bytes | memoryview) -> None:
        try:
            sent = self.sock.send(data)
            if sent < len(data):
                self.sock.sendall(memoryview(data)[sent:])
        except (OSError, ValueError) as error:
            self.close()
            raise EOFError(str(error)) from error

    def close(self) -> None:
        if not self.closed:
            cut(self.sock)
        self.sock.close()
        self.sock = ClosedFile


def cut(sock: socket.socket) -> None:
    """End the connection under whoever is using it; safe from any thread.

    Not `SSLSocket.shutdown`: that one drops the TLS layer and lets a reader go on in plain text."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # not connected any more, which is what was wanted


class TlsChannel(Channel):  # type: ignore[misc]
    """rpyc's framing: length, compressed?, payload, newline.  `share`: the room that the peer's messages have."""

    __slots__ = ("_share",)

    def __init__(self, stream: TlsStream, share: Share | None = None) -> None:
        super().__init__(stream, compress=False)
        self._share = share

    def recv(self) -> bytes:
        if self._share is not None:
            self._share.give_back()
        length, compressed = self.FRAME_HEADER.unpack(self.stream.read(self.FRAME_HEADER.size))
        if length > MAX_FRAME:
            self.close()
            raise EOFError(f"a message of {length} bytes was announced, the limit is {MAX_FRAME}")
        self._take(length)
        data = self.stream.read(length + len(self.FLUSHER), started=True)[: -len(self.FLUSHER)]
        return self._inflate(data) if compressed else data

    def _take(self, size: int) -> None:
        if self._share is not None:
            self._share.take(size)

    def _inflate(self, data: bytes) -> bytes:
        inflater, pieces, size = zlib.decompressobj(), list[bytes](), 0
        while data and size <= MAX_FRAME:
            try:
                pieces.append(inflater.decompress(data, STEP))
            except zlib.error as error:
                self.close()
                raise EOFError(f"a message that can not be decompressed: {error}") from error
            size, data = size + len(pieces[-1]), inflater.unconsumed_tail
            self._take(len(pieces[-1]))
        if size > MAX_FRAME:
            self.close()
            raise EOFError(f"a message decompresses to more than {MAX_FRAME} bytes")
        return b"".join(pieces)

    def close(self) -> None:
        if self._share is not None:
            self._share.give_back()
        super().close()

    def send(self, data: bytes) -> None:
        self.stream.write(b"".join((self.FRAME_HEADER.pack(len(data), 0), data, self.FLUSHER)))
