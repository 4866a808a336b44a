"""The other librarians that this one knows: how they are reached, and whether files go to them.

Law: a librarian knows only its direct neighbours.  A peer goes by one name: that of its row here, of its account here,
and of its site there.  What is known of it is read on every use, so that enabling and disabling count at once.  No
lock is held while a peer is spoken to, and a peer that is dead costs no more than a time-out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, insert, select, update

from goggles.contracts.peering import PROTOCOL, SITE_TO_SITE
from goggles.errors import (
    AlreadyExists,
    BadRequest,
    CertificateError,
    Conflict,
    ConnectionLost,
    DeadlinePassed,
    GogglesError,
    NotFound,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)
from goggles.librarian.answers import need_values, understood
from goggles.librarian.forgetting import forget
from goggles.librarian.keyring import Keyring
from goggles.librarian.patience import Rests
from goggles.meta.peering import peers
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.passwords import TOO_MANY, WRONG
from goggles.nameserver.site import Site
from goggles.pki.identity import NAME
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

log = logging.getLogger(__name__)
P = peers.c
HEARD = 30.0  # seconds between two notes of having heard of a peer
DEFAULT_MANAGERS = "goggles"


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What is known of a peer; times are seconds since 1970, UTC, 0 for never."""

    id: int
    name: str
    url: str
    port: int
    certificate_name: str
    enabled: bool
    managers: tuple[str, ...]
    last_seen: float
    last_heard: float
    sealed: bytes = b""

    def __repr__(self) -> str:
        return f"<PeerInfo {self.name} at {self.url} port {self.port}{'' if self.enabled else ' disabled'}>"

    @property
    def address(self) -> Address:
        return address_of(self.url, self.port)


def address_of(url: str, port: int) -> Address:
    """Host and port of a librarian from what people write: host, host:port, http://host, https://host:port/."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, named = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"{url[:200]!r} is not a host or URL: {error}") from error
    number = port or named or 0
    if not host or not 0 < number < 65_536:
        raise BadRequest(f"{url[:200]!r} with port {port} is not an address", "give --url HOST and --port PORT")
    return Address(host, number)


def split_authenticator(text: str) -> tuple[str, str]:
    """(user, password); the password may have colons."""
    user, colon, password = text.partition(":")
    if not colon or not user or not password:
        raise BadRequest("an authenticator is user:password", "as the other librarian's create-user was given")
    return user, password


def _info(row: Any) -> PeerInfo:
    return PeerInfo(
        row.id,
        row.name,
        row.url,
        row.port,
        row.certificate_name,
        bool(row.enabled),
        tuple(row.managers.split(",")),
        row.last_seen,
        row.last_heard,
        row.authenticator,
    )


def check_managers(names: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in SITE_TO_SITE]
    if unknown or not names:
        raise BadRequest(f"there is no transfer manager {unknown[:1]}", "there are " + ", ".join(SITE_TO_SITE))
    return tuple(dict.fromkeys(names))


class Peers:
    """All peers of this librarian.  `dialer` has the librarian's own certificate, or None where it has none."""

    def __init__(self, site: Site, dialer: Dialer | None, keyring: Keyring) -> None:
        self._site = site
        self._dialer = dialer
        self._keyring = keyring
        self._lock = threading.Lock()
        # Kept connections, by what a peer is known by once and never again: its sealed authenticator; guarded by _lock.
        self._lines: dict[bytes, Peer] = {}
        self._heard: dict[str, float] = {}  # guarded by _lock
        self._rests = Rests(site.clock)
        self.forgotten: Callable[[Transaction, int], None] = _nobody  # told in the decision that forgets a peer, by id
        self._closed = False

    # --- looking ---------------------------------------------------------------------------

    def all(self) -> list[PeerInfo]:
        with self._site.database.read() as connection:
            return self.listing(connection)

    def listing(self, connection: Connection) -> list[PeerInfo]:
        """All of them, in a snapshot that somebody else has opened."""
        return [_info(row) for row in connection.execute(select(peers).order_by(P.name))]

    def find(self, name: str) -> PeerInfo | None:
        with self._site.database.read() as connection:
            row = connection.execute(select(peers).where(P.name == name)).first()
        return None if row is None else _info(row)

    def need(self, name: str) -> PeerInfo:
        found = self.find(name)
        if found is None:
            raise NotFound(f"no librarian {name[:80]!r} is known here", "add-librarian makes it known")
        return found

    def by_id(self, number: int) -> PeerInfo:
        with self._site.database.read() as connection:
            row = connection.execute(select(peers).where(P.id == number)).first()
        if row is None:
            raise NotFound("this librarian is not known here any more")
        return _info(row)

    # --- changing --------------------------------------------------------------------------

    def add(
        self,
        name: str,
        url: str,
        port: int,
        authenticator: str,
        certificate_name: str,
        managers: Sequence[str],
        *,
        seen: bool = False,
    ) -> PeerInfo:
        """Write a peer down; `seen`: it has just answered."""
        made = self.draft(name, url, port, authenticator, certificate_name, managers)
        now = self._site.clock.now()

        def decide(tx: Transaction) -> PeerInfo:
            connection = tx.tree.tx
            if connection.execute(select(P.id).where(P.name == name)).first() is not None:
                raise AlreadyExists(f"a librarian {name} is known already", "remove-librarian it first")
            row = {"name": name, "url": made.url, "port": made.port, "certificate_name": made.certificate_name}
            row |= {"authenticator": made.sealed, "enabled": True, "managers": ",".join(made.managers)}
            row |= {"added_at": now, "last_seen": now if seen else 0.0, "last_heard": 0.0}
            key = connection.execute(insert(peers).values(row)).inserted_primary_key
            self._site.linked = True
            return replace(made, id=int(key[0]) if key else 0)

        return self._site.decisions.run(decide)

    def draft(
        self, name: str, url: str, port: int, authenticator: str, certificate_name: str, managers: Sequence[str]
    ) -> PeerInfo:
        """A peer as it would be written down; BadRequest where something in it is wrong."""
        if not NAME.match(name):
            raise BadRequest(f"{name[:80]!r} can not be the name of a librarian")
        if name == self._site.name:
            raise Conflict(f"this librarian is {name} itself", "the name must be that of the other one")
        split_authenticator(authenticator)
        address = address_of(url, port)
        chosen = check_managers(managers or DEFAULT_MANAGERS.split(","))
        sealed = self._keyring.seal(authenticator)
        return PeerInfo(0, name, url[:512], address.port, certificate_name[:64], True, chosen, 0.0, 0.0, sealed)

    def set_enabled(self, name: str, on: bool) -> None:
        def decide(tx: Transaction) -> None:
            changed = tx.tree.tx.execute(update(peers).where(P.name == name).values(enabled=on))
            if not changed.rowcount:
                raise NotFound(f"no librarian {name[:80]!r} is known here", "get-librarian-list shows those there are")

        self._site.decisions.run(decide)

    def remove(self, name: str, with_transfers: bool) -> int:
        """Forget a peer, with what it was known to hold; how many transfers went with it."""
        found = self.need(name)

        def decide(tx: Transaction) -> int:
            self.forgotten(tx, found.id)  # of memory; dropped where the peer may not go
            return forget(tx, found.id, found.name, with_transfers)

        count = self._site.decisions.run(decide)
        self._rests.over(found.id)
        self._drop_line(found.sealed)
        return count

    # --- speaking --------------------------------------------------------------------------

    def call(self, peer: PeerInfo, method: str, *args: Any, timeout: float = 60.0) -> Any:
        """The answer of the peer's method, over a kept connection; one that died unseen is made again."""
        try:
            answer = self._call(peer, method, args, timeout)
        except (Unavailable, CertificateError) as error:
            if not self.reached(peer):  # else it answered, that something of its own is not there
                self._tell(peer, error)
            raise
        with understood(peer.name):
            need_values(answer)
        self._seen(peer)
        return answer

    def reached(self, peer: PeerInfo) -> bool:
        """Whether there is a connection to it, as far as is known."""
        with self._lock:
            line = self._lines.get(peer.sealed)
        return line is not None and not line.closed

    def _call(self, peer: PeerInfo, method: str, args: tuple[Any, ...], timeout: float) -> Any:
        line, kept = self._line(peer)
        try:
            return line.call(method, *args, timeout=timeout)
        except PermissionDenied as error:
            self._look_again(peer, line)
            raise PermissionDenied(f"librarian {peer.name} refuses: {error.message}", error.hint) from error
        except DeadlinePassed as error:
            if line.closed:
                self._rests.failed(peer.id, error)
            raise
        except ConnectionLost:
            self._drop_line(peer.sealed)
            if not kept:
                raise
            return self._line(peer)[0].call(method, *args, timeout=timeout)

    def _look_again(self, peer: PeerInfo, line: Peer) -> None:
        """Where our log-in is worth nothing any more, because the account there was made anew, log in the next time."""
        try:
            line.call("peer_hello", self._site.name, PROTOCOL, timeout=15.0)
        except GogglesError:
            self._drop_line(peer.sealed)

    def _tell(self, peer: PeerInfo, error: GogglesError) -> None:
        """In the same words as long as it lasts."""
        if isinstance(error, CertificateError) or self._dialer is None:
            self._site.trouble("error", "configuration", f"librarian {peer.name} can not be spoken to: {error}")
            return
        where = f"librarian {peer.name} at {peer.url} port {peer.port}"
        self._site.trouble("error", "librarian_network_availability", f"{where} does not answer")

    def ping(self, peer: PeerInfo) -> dict[str, Any]:
        """Connect, log in, and ask who is there; raises what is wrong."""
        line = self._connect(peer)
        try:
            with understood(peer.name):
                answer = dict(line.call("peer_hello", self._site.name, PROTOCOL, timeout=15.0))
        finally:
            line.close()
        if peer.id:
            self._rests.over(peer.id)
            self._seen(peer)
        return answer

    def _line(self, peer: PeerInfo) -> tuple[Peer, bool]:
        with self._lock:
            line = self._lines.get(peer.sealed)
        if line is not None and not line.closed:
            return line, True
        self._rests.check(peer.id)
        try:
            line = self._connect(peer)
        except (Unavailable, PermissionDenied) as error:
            self._rests.failed(peer.id, error)
            raise
        self._rests.over(peer.id)
        with self._lock:
            other = self._lines.setdefault(peer.sealed, line)
        if other is not line and not other.closed:
            line.close()
            return other, True
        with self._lock:
            self._lines[peer.sealed] = line
        return line, False

    def _connect(self, peer: PeerInfo) -> Peer:
        if self._closed:
            raise Unavailable("this nameserver is stopping")
        if self._dialer is None:
            raise Unavailable(
                "this site has no certificate of the role librarian",
                "make -C certs peer NAME=librarian ROLE=librarian HOSTS=..., then start the nameserver again",
            )
        user, password = split_authenticator(self._keyring.open(peer.sealed))
        line = self._dialer.rpc(peer.address, Role.NAMESERVER, hostname=peer.certificate_name, abroad=True)
        try:
            line.call("login", user, password, timeout=30.0)
            with understood(peer.name):
                hello = dict(line.call("peer_hello", self._site.name, PROTOCOL, timeout=15.0))
            self._check_names(peer, hello)
        except PermissionDenied as error:
            line.close()
            raise PermissionDenied(
                f"librarian {peer.name} does not let us in as {user}: {error.message}", _what_to_do(error)
            ) from error
        except BaseException:
            line.close()
            raise
        return line

    def _check_names(self, peer: PeerInfo, hello: dict[str, Any]) -> None:
        name = hello.get("name")
        if name != peer.name:
            raise Conflict(
                f"the librarian at {peer.address} is called {name!s:.80}, here it is known as {peer.name}",
                "both must be the same: remove it, and add it under its own name",
            )
        if hello.get("protocol") != PROTOCOL:
            raise ProtocolError(f"librarian {peer.name} speaks another version ({hello.get('protocol')!s:.20})")

    def _drop_line(self, sealed: bytes) -> None:
        with self._lock:
            line = self._lines.pop(sealed, None)
        if line is not None:
            line.close()

    def close(self) -> None:
        """Whoever waits for an answer gets none, and nobody is spoken to any more."""
        self._closed = True
        for sealed in list(self._lines):
            self._drop_line(sealed)

    def _seen(self, peer: PeerInfo) -> None:
        self._note(peer.name, "last_seen")

    def heard(self, name: str) -> None:
        """A peer has called us."""
        self._note(name, "last_heard")

    def _note(self, name: str, column: str) -> None:
        now, key = self._site.clock.now(), f"{column} {name}"
        with self._lock:
            if abs(now - self._heard.get(key, 0.0)) < HEARD:
                return
            self._heard[key] = now

        def decide(tx: Transaction) -> None:
            tx.tree.tx.execute(update(peers).where(P.name == name).values({column: now}))

        try:
            self._site.decisions.run(decide)
        except GogglesError as error:
            log.warning("%s of %s could not be written down: %s", column, name, error)


def _what_to_do(error: PermissionDenied) -> str:
    """In the same words each time, so that the same is told once."""
    if error.message == TOO_MANY:
        return "wait a minute; if it lasts, the authenticator has a wrong password"
    if error.message != WRONG:
        return error.hint
    return "the authenticator is USER:PASSWORD of an account there: remove-librarian, and add-librarian with it"


def _nobody(tx: Transaction, peer: int) -> None:
    """Until somebody has to be told."""
