"""A threaded TLS server: one port, two planes, split by what the client asks for in the handshake (ALPN).

Law: the thread that accepts does nothing else; whoever connects and says nothing costs one waiting thread for
`HANDSHAKE` seconds at most, and when too many wait, the one that has waited longest is dropped, so that silent
callers can not hold up honest ones.  A principal is known before its first byte is read; one alone can take no more
than half of the connections.  When all places are taken, who comes is told so in words, and a few more places are kept
for those without whom the site stands still.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from goggles.errors import CertificateError, GogglesError, Overloaded, SettingsError
from goggles.pki.context import Contexts
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire.admission import turn_away
from goggles.wire.connection import GuardedConnection
from goggles.wire.data import ALPN_DATA, DataLink
from goggles.wire.room import Room, Share
from goggles.wire.service import Caller, Service
from goggles.wire.stream import TlsChannel, TlsStream, cut

log = logging.getLogger(__name__)

HANDSHAKE = 10.0  # seconds
# What OpenSSL names, as whoever reads the log can act on it.
REFUSALS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know our CA: is its --ca_cert that of another site?",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not take our certificate: is the name in it by which it calls us?",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "HTTP_REQUEST": "it speaks HTTP, not TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}
STALL = 60.0  # seconds without progress within a message
GONE = 60  # seconds without an acknowledgement
RESEND = 5  # seconds after which TCP sends again at the latest: a network that is healed is used again soon
RTO_MAX_MS = 44  # of linux/tcp.h, since 6.15
MAX_WAITING = 128  # handshakes under way
MAX_CONNECTIONS = 2_000
RESERVED = 64  # connections beyond these, for OURS
OURS = frozenset({Role.STORAGE, Role.NAMESERVER, Role.ADMIN})


@dataclass(eq=False, slots=True)
class _Client:
    sock: socket.socket
    address: str
    since: float
    identity: Identity | None = None
    principal: str = ""  # whose share of the connections it counts in: its own, or that of another site
    serial: str = ""
    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """What a server does with its connections: `service` for calls, `data` for the data plane (or refused).

    `visitors`, `data_visitors`: the roles in which principals of other sites may come."""

    service: Callable[[Caller], Service]
    level: Callable[[Identity], Level]
    data: Callable[[DataLink, Caller], None] | None = None
    takes_objects: bool = False
    visitors: frozenset[Role] = frozenset()
    data_visitors: frozenset[Role] = frozenset()


@dataclass(slots=True)
class Limits:
    connections: int = MAX_CONNECTIONS
    waiting: int = MAX_WAITING
    handshake: float = HANDSHAKE

    @property
    def each(self) -> int:
        """Connections of one principal, or of all principals of another site."""
        return max(1, self.connections // 2)

    @property
    def beyond(self) -> int:
        """How many there may be beyond `connections` for a while."""
        return self.waiting + RESERVED


class Server:
    """Listens on `host`:`port` (0: any free one) from `start` to `stop`."""

    def __init__(self, host: str, port: int, contexts: Contexts, doors: Doors, limits: Limits | None = None) -> None:
        self._contexts = contexts
        self._doors = doors
        self._limits = limits or Limits()
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._waiting: dict[_Client, None] = {}  # guarded by _lock; oldest first
        self._clients: set[_Client] = set()  # guarded by _lock
        self._counts: Counter[str] = Counter()  # of _clients, by principal; guarded by _lock
        self._room = Room()
        self._threads: set[threading.Thread] = set()  # guarded by _lock
        self._stopping = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name=f"accept-{self.port}", daemon=True)
        self._warden = threading.Thread(target=self._watch, name=f"warden-{self.port}", daemon=True)

    def __repr__(self) -> str:
        return f"<Server port {self.port}, {len(self._clients)} connected, {len(self._waiting)} shaking hands>"

    def start(self) -> None:
        self._acceptor.start()
        self._warden.start()

    def stop(self, drain: float = 0.0) -> None:
        """Take no more callers, let those who are here finish for `drain` seconds, then cut them."""
        self._stopping.set()
        cut(self._listener)
        self._listener.close()
        deadline = time.monotonic() + drain
        while self._busy() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.cut(lambda identity: True)
        for thread in self._copy_threads():
            thread.join(2.0)

    def cut(self, whom: Callable[[Identity | None], bool]) -> int:
        """End the connections of all principals that `whom` says; answers how many."""
        with self._lock:
            chosen = [client for client in (*self._clients, *self._waiting) if whom(client.identity)]
        for client in chosen:
            cut(client.sock)
        return len(chosen)

    def connected(self) -> int:
        with self._lock:
            return len(self._clients)

    def _busy(self) -> bool:
        with self._lock:
            return any(client.caller is not None and client.caller.busy for client in self._clients)

    def _copy_threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._threads)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                log.warning("accept failed: %s", error)
                self._stopping.wait(0.1)  # out of file descriptors: some will come back
                continue
            self._admit(_Client(sock, f"{address[0]}:{address[1]}", time.monotonic()))

    def _admit(self, client: _Client) -> None:
        dropped = None
        with self._lock:
            if len(self._waiting) >= self._limits.waiting:
                dropped = next(iter(self._waiting))
                del self._waiting[dropped]
            self._waiting[client] = None
        if dropped is not None:
            log.warning("too many handshakes at once: dropping %s, which waited longest", dropped.address)
            cut(dropped.sock)
        try:
            threading.Thread(target=self._run, args=(client,), name=f"conn-{client.address}", daemon=True).start()
        except RuntimeError:  # no more threads: the next one may have better luck
            log.exception("no thread for %s", client.address)
            with self._lock:
                self._waiting.pop(client, None)
            client.sock.close()

    def _run(self, client: _Client) -> None:
        with self._lock:
            self._threads.add(threading.current_thread())
        try:
            secured = self._handshake(client)
            if secured is not None:
                self._receive(client, secured)
        except (OSError, EOFError) as error:
            log.debug("connection of %s ended: %s", client.address, error)
        except GogglesError as error:
            log.info("connection of %s ended: %s", client.address, error)
        except Exception:
            log.exception("connection of %s failed", client.address)
        finally:
            with self._lock:
                if client in self._clients:
                    self._clients.discard(client)
                    self._counts[client.principal] -= 1
                    self._counts += Counter()  # forget who has none
                self._waiting.pop(client, None)
                self._threads.discard(threading.current_thread())
            client.sock.close()

    def _handshake(self, client: _Client) -> ssl.SSLSocket | None:
        client.sock.settimeout(self._limits.handshake)
        tune(client.sock)
        try:
            secured = self._contexts.server().wrap_socket(client.sock, server_side=True)
            client.sock = secured
            visitors = self._doors.data_visitors if _is_data(secured) else self._doors.visitors
            client.identity = self._contexts.identify(secured, visitors)
            client.serial = self._contexts.peer_serial(secured)
        except (OSError, ValueError, CertificateError) as error:
            meaning = REFUSALS.get(getattr(error, "reason", None) or "", "")
            text = f"{error} ({meaning})" if meaning else error
            log.warning("refused %s in the handshake: %s", client.address, text)
            return None
        return secured

    def _receive(self, client: _Client, sock: ssl.SSLSocket) -> None:
        assert client.identity is not None
        why = self._enter(client, client.identity)
        if why:
            self._refuse(client, sock, why)
        else:
            sock.settimeout(STALL)
            self._serve(client, sock)

    def _enter(self, client: _Client, who: Identity) -> str:
        """Give this caller a place; why there is none for it."""
        principal = who.uri if who.site == self._contexts.identity.site else f"site {who.site}"
        most, each = self._limits.connections, self._limits.each
        with self._lock:
            if len(self._clients) >= most + (RESERVED if who.role in OURS else 0):
                return f"{most} callers are connected"
            if self._counts[principal] >= each:
                return f"{principal} has {each} connections"
            client.principal = principal
            self._waiting.pop(client, None)
            self._clients.add(client)
            self._counts[principal] += 1
            return ""

    def _refuse(self, client: _Client, sock: ssl.SSLSocket, why: str) -> None:
        """It counts as one that waits until it is told."""
        log.warning("%s, more are not taken: %s at %s refused", why, client.identity, client.address)
        turn_away(sock, Overloaded(f"{why}, more are not taken", "try again in a moment"), 2.0)

    def _serve(self, client: _Client, sock: ssl.SSLSocket) -> None:
        identity, doors = client.identity, self._doors
        assert identity is not None
        caller = client.caller = Caller(identity, client.address, lambda: doors.level(identity))
        log.debug("%s connected", caller)
        if not _is_data(sock):
            self._serve_calls(sock, caller, self._room.share(client.principal))
        elif doors.data is not None:
            with contextlib.closing(DataLink(sock, str(identity))) as link:
                doors.data(link, caller)
        log.debug("%s disconnected", caller)

    def _serve_calls(self, sock: ssl.SSLSocket, caller: Caller, share: Share) -> None:
        service = self._doors.service(caller)
        connection = GuardedConnection(service, TlsChannel(TlsStream(sock), share), {}, self._doors.takes_objects)
        try:
            service.on_connect(connection)
            connection.serve_all()
        finally:
            connection.close()

    def _watch(self) -> None:
        """Cut the connections of principals whose certificate has been revoked meanwhile."""
        while not self._stopping.wait(1.0):
            with self._lock:
                clients = list(self._clients)
            for client in clients:
                if self._contexts.is_revoked(client.serial):
                    log.warning("certificate of %s was revoked: connection of %s cut", client.identity, client.address)
                    cut(client.sock)


def _is_data(sock: ssl.SSLSocket) -> bool:
    return sock.selected_alpn_protocol() == ALPN_DATA


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"can not listen on {host or '*'}:{port}: {error}",
            "is another program on that port? choose one with --port",
        ) from error


def tune(sock: socket.socket) -> None:
    """No waiting for more bytes to send (Nagle).  A peer whose host is gone is noticed within about GONE seconds: by
    keepalive where nothing is on its way, and by its silence where something is.  One that comes back before hears of
    us within RESEND seconds where the kernel can be told so; otherwise after as long as it was away."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE * 1_000)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, RTO_MAX_MS, RESEND * 1_000)
