"""Connect to a named peer: TLS with host name check, role and name check, deadlines.

Law: nobody is spoken to before it is known who it is.  A `Peer` may be shared by threads; it speaks for one
of them at a time.  An outcome that is not known is said to be so (ConnectionLost, DeadlinePassed).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rpyc.core.service import VoidService

from goggles.errors import (
    BadRequest,
    CertificateError,
    ConnectionLost,
    DeadlinePassed,
    Overloaded,
    ProtocolError,
    Unavailable,
)
from goggles.pki.context import Contexts
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.wire.connection import GuardedConnection
from goggles.wire.data import ALPN_DATA, ALPN_RPC, DataLink
from goggles.wire.server import STALL, tune
from goggles.wire.stream import TlsChannel, TlsStream, cut
from goggles.wire.values import MAX_ANSWER, MAX_VALUES

log = logging.getLogger(__name__)

CONNECT = 10.0  # seconds for connection and handshake together, each step of them
CALL = 30.0  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Peer:
    """One kept rpyc connection to a server of ours.  `most`: values in one answer of its."""

    def __init__(self, sock: ssl.SSLSocket, identity: Identity, address: Address, most: int) -> None:
        self.identity = identity
        self.address = address
        self._sock = sock
        self._lock = threading.RLock()
        config = {"sync_request_timeout": CALL}
        self._connection = GuardedConnection(VoidService(), TlsChannel(TlsStream(sock)), config, True, most)
        self._guard(lambda: self._connection.root)  # whoever is refused learns it here
        self._connection.takes_objects = False  # the service was the only one

    def __repr__(self) -> str:
        return f"<Peer {self.identity} at {self.address}{' closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    def call(self, method: str, *args: Any, timeout: float = CALL, **kwargs: Any) -> Any:
        """The answer of the peer's exposed method; values only.  Raises what the peer raised."""
        with self._lock:
            return self._guard(lambda: self._connection.ask(method, args, kwargs, timeout), method, timeout)

    def call_each(self, method: str, arguments: Iterable[tuple[Any, ...]], window: int = 64) -> Iterator[Any]:
        """`call` for each tuple of arguments, `window` of them in flight; answers in order, errors as values."""
        yield from self._in_flight(((method, args) for args in arguments), window)

    def call_all(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """A few calls, all sent before the first answer is read; answers in order, errors as values."""
        return list(self._in_flight(calls, len(calls)))

    def begin(self, method: str, args: tuple[Any, ...]) -> int:
        """Send a call and wait for nothing; `finish` takes its answer, before any other call on this connection."""
        with self._lock:
            return int(self._guard(lambda: self._connection.tell(method, args, {}), method))

    def finish(self, number: int, method: str) -> Any:
        """The answer of a call that was begun; raises what the peer raised."""
        with self._lock:
            return self._guard(lambda: self._connection.hear(number, CALL), method)

    def _in_flight(self, calls: Iterable[tuple[str, tuple[Any, ...]]], window: int) -> Iterator[Any]:
        with self._lock:
            waiting: deque[tuple[int, str]] = deque()
            for method, args in calls:
                if len(waiting) >= window:
                    yield self._value(*waiting.popleft())
                waiting.append((self.begin(method, args), method))
            while waiting:
                yield self._value(*waiting.popleft())

    def _value(self, number: int, method: str) -> Any:
        try:
            return self.finish(number, method)
        except Exception as error:  # an answer like any other: the caller sorts them
            if self.closed:  # no other answer will come
                raise
            return error

    def close(self) -> None:
        """End the connection; whoever waits for an answer gets ConnectionLost."""
        cut(self._sock)
        if self._lock.acquire(timeout=1.0):
            try:
                self._connection.close()
            finally:
                self._lock.release()

    def _guard(self, action: Any, method: str = "connecting", timeout: float = CALL) -> Any:
        try:
            return action()
        except UnicodeError as error:
            raise BadRequest("text that is not valid UTF-8 can not be sent") from error
        except ProtocolError:
            self._connection.close()
            raise
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                self._connection.close()
                message = f"{self.identity} did not answer {method} within {timeout:g} s"
                raise DeadlinePassed(message, "it may have been done all the same: look before trying again") from error
            self._connection.close()
            raise ConnectionLost(f"connection to {self.identity} at {self.address} lost") from error


class Dialer:
    """Makes the connections of one process; keeps TLS sessions so that the next handshake is shorter."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        self._lock = threading.Lock()
        self._sessions: dict[tuple[Address, str, str], tuple[object, ssl.SSLSession]] = {}

    def rpc(
        self,
        address: Address,
        role: Role,
        name: str = "",
        timeout: float = CONNECT,
        *,
        abroad: bool = False,
        hostname: str = "",
    ) -> Peer:
        """A connection for calls to the peer of this role (and name, where given) at `address`.

        `abroad`: it may be of another site.  `hostname`: what its certificate must be for, where that is not the host
        of the address (a tunnel)."""
        sock, identity = self._connect(address, ALPN_RPC, role, name, timeout, abroad, hostname)
        most = MAX_ANSWER if role is Role.NAMESERVER and not abroad else MAX_VALUES
        try:
            peer = Peer(sock, identity, address, most)
        except ConnectionLost as error:
            raise _refused(error, address, abroad) from error
        except Overloaded:
            sock.close()
            raise
        self._keep_session(address, ALPN_RPC, sock)
        return peer

    def data(
        self, address: Address, role: Role, name: str = "", timeout: float = CONNECT, *, abroad: bool = False
    ) -> DataLink:
        """A connection of the data plane."""
        sock, identity = self._connect(address, ALPN_DATA, role, name, timeout, abroad)
        if sock.selected_alpn_protocol() != ALPN_DATA:
            sock.close()
            raise Unavailable(f"{identity} at {address} has no data plane")
        return DataLink(sock, f"{identity} at {address}")

    def _connect(
        self, address: Address, alpn: str, role: Role, name: str, timeout: float, abroad: bool, hostname: str = ""
    ) -> tuple[ssl.SSLSocket, Identity]:
        plain = _connect_plain(address, timeout)
        try:
            sock = self._secure(plain, address, alpn, hostname or address.host)
        except (OSError, ValueError) as error:
            plain.close()
            raise _explain(error, address, abroad) from error
        try:
            identity = self.contexts.identify(sock, frozenset(Role) if abroad else frozenset())
        except CertificateError:
            sock.close()
            raise
        except (OSError, ValueError) as error:
            sock.close()
            raise _explain(error, address, abroad) from error
        if identity.role is not role or (name and identity.name != name):
            sock.close()
            wanted = f"{role.value} {name}" if name else f"a {role.value}"
            raise CertificateError(f"{address} is {identity}, not {wanted}", "check host and port")
        sock.settimeout(STALL)
        return sock, identity

    def _secure(self, plain: socket.socket, address: Address, alpn: str, hostname: str) -> ssl.SSLSocket:
        tune(plain)
        context = self.contexts.client(alpn)
        with self._lock:
            kept = self._sessions.get((address, alpn, hostname))
        session = kept[1] if kept is not None and kept[0] is context else None
        return context.wrap_socket(plain, server_hostname=hostname, session=session)

    def _keep_session(self, address: Address, alpn: str, sock: ssl.SSLSocket) -> None:
        session = sock.session
        if session is not None and session.has_ticket:
            with self._lock:
                if len(self._sessions) > 256:
                    self._sessions.clear()
                self._sessions[address, alpn, sock.server_hostname or ""] = (sock.context, session)


def _connect_plain(address: Address, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((address.host, address.port), timeout)
    except (OSError, OverflowError, UnicodeError) as error:
        raise Unavailable(
            f"nobody answers at {address}: {error}", "is it running, and are host and port right?"
        ) from error


def _refused(error: ConnectionLost, address: Address, abroad: bool) -> Exception:
    """In TLS 1.3 a server judges the client's certificate after the client's side of the handshake is done."""
    cause = str(error.__cause__)
    hint = f"{'is our CA in its --peer_ca? ' if abroad else ''}its log says why, and so does vg-certs check"
    if "alert" in cause.lower():
        return CertificateError(f"{address} refused our certificate: {cause}", hint)
    return ConnectionLost(f"{address} ended the connection right after the handshake: {cause}", hint)


def _explain(error: Exception, address: Address, abroad: bool) -> Exception:
    """A handshake failure in words."""
    hint = "vg-certs check says why a handshake fails"
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"the certificate of {address} is refused: {error.verify_message}"
        return CertificateError(message, _untrusted(error, abroad))
    if isinstance(error, ssl.SSLEOFError):  # whoever refuses us says so first: this one was killed, or cut off
        return ConnectionLost(f"{address} ended the connection in the handshake: {error.reason or error}", hint)
    if isinstance(error, ssl.SSLError) and "alert" in str(error).lower():
        return CertificateError(f"{address} refused our certificate: {error.reason}", hint)
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return CertificateError(f"what answers at {address} speaks no TLS", "check host and port")
    if isinstance(error, ssl.SSLError):
        return CertificateError(f"no TLS with {address}: {error.reason or error}", hint)
    if isinstance(error, TimeoutError):
        return Unavailable(
            f"{address} did not finish the handshake in time", "is it overloaded, or not a goggles port?"
        )
    return ConnectionLost(f"{address} ended the connection in the handshake: {error}", hint)


def _untrusted(error: ssl.SSLCertVerificationError, abroad: bool) -> str:
    """What to do where the other side's certificate is not believed."""
    if "mismatch" in error.verify_message.lower():
        return "its certificate must hold the name it is called by; through a tunnel, give the name that it holds"
    if "expired" in error.verify_message.lower():
        return "whoever runs it renews it: vg-certs renew"
    where = "the CA of that site must be in the --peer_ca of ours" if abroad else "its CA must be in --ca_cert"
    return f"{where}; vg-certs check says more"
