"""The lines between the processes of a site, which can be cut, slowed and spoilt pair by pair.

Law: each server has a line in front of it; who called is known by the process that owns the calling socket.  A line
passes on what comes, in its order, and never changes a byte.  A lost packet is what TCP makes of it: a pause.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from goggles.testing.descriptors import descriptors

Pair = frozenset[str]
STEP = 0.02
CHUNK = 65_536
LOOKS = 5


@dataclass(slots=True)
class Way:
    """How it stands between two parties."""

    refused: bool = False  # connections break, and none is taken
    silent: bool = False  # nothing passes, and nobody is told
    delay: float = 0.0  # seconds before each piece
    loss: float = 0.0  # share of pieces that wait to be sent again
    sockets: set[socket.socket] = field(default_factory=set)


class Lines:
    """All lines of a site; `owners` tells (process id, name) of everyone."""

    def __init__(self, owners: Callable[[], Iterable[tuple[int, str]]]) -> None:
        self._owners = owners
        self._lock = threading.Lock()
        self._ways: dict[Pair, Way] = {}  # guarded by _lock, and so are their sockets
        self._listeners: list[socket.socket] = []
        self._chance = random.Random()

    def open(self, name: str, address: str, port: int) -> None:
        """Take connections at `address`:`port` for the server that listens at 127.0.0.1:`port`."""
        listener = socket.create_server((address, port), backlog=64)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, name, port), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for way in list(self._ways.values()):
            self._break(way)

    def way(self, one: str, other: str) -> Way:
        with self._lock:
            return self._ways.setdefault(frozenset((one, other)), Way())

    def refuse(self, one: str, other: str) -> None:
        """Break what there is between two, and let nothing new come about."""
        way = self.way(one, other)
        way.refused = True
        self._break(way)

    def heal(self, one: str, other: str) -> None:
        _heal(self.way(one, other))

    def heal_all(self) -> None:
        for way in list(self._ways.values()):
            _heal(way)

    def _break(self, way: Way) -> None:
        with self._lock:
            sockets = list(way.sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # --- connections -----------------------------------------------------------------------

    def _accept(self, listener: socket.socket, name: str, port: int) -> None:
        while True:
            try:
                near, caller = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near, caller[1], name, port), daemon=True).start()

    def _connect(self, near: socket.socket, caller: int, name: str, port: int) -> None:
        way = self.way(self._who(caller), name)
        while way.silent and not way.refused:
            time.sleep(STEP)
        try:
            far = None if way.refused else socket.create_connection(("127.0.0.1", port))
        except OSError:
            far = None
        if far is None:
            near.close()
            return
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            way.sockets |= {near, far}
        ends = [
            threading.Thread(target=self._pass, args=(a, b, way), daemon=True) for a, b in ((near, far), (far, near))
        ]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
        with self._lock:
            way.sockets -= {near, far}
        near.close()
        far.close()

    def _pass(self, source: socket.socket, target: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._hold(way)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _hold(self, way: Way) -> None:
        """Wait as long as a piece takes on this way."""
        if way.delay:
            time.sleep(way.delay)
        if way.loss and self._chance.random() < way.loss:
            time.sleep(self._chance.choice((0.2, 0.2, 0.4, 0.8)))
        while way.silent and not way.refused:
            time.sleep(STEP)

    def _who(self, port: int) -> str:
        for _ in range(LOOKS):  # the kernel's table may change while it is read
            inode = _inode(port)
            for pid, name in list(self._owners()):
                if inode and _has_socket(pid, inode):
                    return name
        return "?"


def _heal(way: Way) -> None:
    way.refused, way.silent, way.delay, way.loss = False, False, 0.0, 0.0


def _inode(port: int) -> str:
    """The socket of this machine's loopback that calls from `port`."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted:
            return fields[9]
    return ""


def _has_socket(pid: int, inode: str) -> bool:
    return f"socket:[{inode}]" in descriptors(pid)
