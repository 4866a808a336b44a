"""How much a server takes on at once, and what it says to those it can not take.

Law: whoever can not be served is told so at once, as Overloaded, and comes back by itself; nobody waits in a queue
that has no bound.  What keeps the site alive (storages, nameservers) passes when users have filled their places.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import ssl
import threading
import time

from rpyc.core import brine, consts

from goggles.errors import ConnectionLost, Overloaded
from goggles.wire import faults
from goggles.wire.data import ALPN_DATA, DataLink
from goggles.wire.stream import TlsChannel, TlsStream

log = logging.getLogger(__name__)
BESIDE = 256  # open files that are no connections of callers: database, log, connections to others


class Gate:
    """At most `most` requests at work at the same time; `with gate:` around each, Overloaded where it is full."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._inside = 0  # guarded by _lock

    def __repr__(self) -> str:
        return f"<Gate {self._inside} of {self._most}>"

    def __enter__(self) -> None:
        with self._lock:
            if self._inside < self._most:
                self._inside += 1
                return
        raise Overloaded(f"{self._most} requests are being worked on, more are not taken", "try again in a moment")

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside -= 1


def turn_away(sock: ssl.SSLSocket, error: Overloaded, seconds: float) -> None:
    """Answer the first request of a caller with `error`.  It takes no longer than about `seconds`."""
    if sock.selected_alpn_protocol() == ALPN_DATA:
        _turn_away_data(sock, error, seconds)
        return
    channel = TlsChannel(TlsStream(sock))
    if channel.stream.wait(seconds):
        number, _ = brine.load(channel.recv()[1:])
        answer = brine.dump((number, faults.dump(error, "a connection")))
        channel.send(brine.I1.pack(consts.MSG_EXCEPTION) + answer)


def _turn_away_data(sock: ssl.SSLSocket, error: Overloaded, seconds: float) -> None:
    """What the caller has on its way is read, or its system would drop our answer."""
    deadline = time.monotonic() + seconds
    with contextlib.closing(DataLink(sock, "a caller")) as link, contextlib.suppress(ConnectionLost):
        link.set_timeout(seconds)
        link.receive()
        link.send_error(error, "a connection")
        while link.readable(deadline - time.monotonic()) and time.monotonic() < deadline:
            link.receive()


def connections_for(wanted: int, others: int, files: int = 1) -> int:
    """How many connections can be served, where `wanted` are: each needs `files` open files, and the system bounds
    those.  Its bound is raised as far as this process may; it is told where that is not far enough.

    `others`: connections beyond those."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files * (wanted + others) + BESIDE
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= needed:
        return wanted
    fitting = max(1, (soft - BESIDE) // files - others)
    log.warning(
        "this process may have %d open files, %d connections need %d: no more than %d are taken"
        " (raise it: ulimit -n, or LimitNOFILE= of systemd)",
        *(soft, wanted, needed, fitting),
    )
    return fitting
