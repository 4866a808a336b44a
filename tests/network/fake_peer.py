"""A librarian that says what a test wants it to say: right where nothing else was asked for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from goggles.contracts.peering import PROTOCOL, Place, Reception
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Level, Role
from goggles.testing.cluster import Certificates, Cluster
from goggles.wire.dial import Address, Dialer, Peer
from goggles.wire.server import Doors, Server
from goggles.wire.service import Caller, Service, exposed

Script = dict[str, Callable[..., Any]]
PASSWORD = "of a fake"


def right() -> Script:
    """What a librarian would answer that takes everything and never gets to the end."""

    def batch_stage(source: str, offers: tuple[Any, ...]) -> Any:
        ids = [secrets.token_hex(16) for _ in offers]
        places = tuple(Place(one, f".goggles/incoming/{one}/data").to_wire() for one in ids)
        facilities = json.dumps({"goggles": {}})
        return Reception("store", "localhost", 9, facilities, 1 << 40, places).to_wire()

    return {
        "login": lambda user, password: "READAPPEND",
        "peer_hello": lambda name, protocol: (("name", "fake"), ("protocol", PROTOCOL)),
        "batch_stage": batch_stage,
        "open_push": lambda items: tuple(b"grant" for _ in items),
        "checkin_update": lambda arrivals, state, why: tuple(True for _ in arrivals),
        "checkin_status": lambda arrivals: tuple((0, "store") for _ in arrivals),
        "outgoing_status": lambda transfers: tuple((0, "") for _ in transfers),
        "clone_complete": lambda items: None,
        "whereabouts": lambda files: tuple(() for _ in files),
        "validate_for": lambda path, visited, patience: (),
        "please_send": lambda path, size, sha256: None,
    }


class FakeDoors(Service):
    """Every door of a librarian; each asks the script."""

    def __init__(self, caller: Caller, script: Script, asked: list[tuple[str, tuple[Any, ...]]]) -> None:
        super().__init__(caller)
        self._script = script
        self._asked = asked

    def _say(self, method: str, *args: Any) -> Any:
        self._asked.append((method, args))
        return self._script[method](*args)

    @exposed(Role.LIBRARIAN)
    def login(self, user: str, password: str) -> Any:
        return self._say("login", user, password)

    @exposed(Role.LIBRARIAN)
    def peer_hello(self, name: str, protocol: int) -> Any:
        return self._say("peer_hello", name, protocol)

    @exposed(Role.LIBRARIAN)
    def batch_stage(self, source: str, offers: tuple[Any, ...]) -> Any:
        return self._say("batch_stage", source, offers)

    @exposed(Role.LIBRARIAN)
    def open_push(self, items: tuple[Any, ...]) -> Any:
        return self._say("open_push", items)

    @exposed(Role.LIBRARIAN)
    def checkin_update(self, arrivals: tuple[Any, ...], state: int, why: str) -> Any:
        return self._say("checkin_update", arrivals, state, why)

    @exposed(Role.LIBRARIAN)
    def checkin_status(self, arrivals: tuple[Any, ...]) -> Any:
        return self._say("checkin_status", arrivals)

    @exposed(Role.LIBRARIAN)
    def outgoing_status(self, transfers: tuple[Any, ...]) -> Any:
        return self._say("outgoing_status", transfers)

    @exposed(Role.LIBRARIAN)
    def clone_complete(self, items: tuple[Any, ...]) -> Any:
        return self._say("clone_complete", items)

    @exposed(Role.LIBRARIAN)
    def whereabouts(self, files: tuple[Any, ...], staying: bool = False) -> Any:
        return self._say("whereabouts", files)

    @exposed(Role.LIBRARIAN)
    def validate_for(self, path: str, visited: tuple[str, ...], patience: float) -> Any:
        return self._say("validate_for", path, visited, patience)

    @exposed(Role.LIBRARIAN)
    def please_send(self, path: str, size: int, sha256: str) -> Any:
        return self._say("please_send", path, size, sha256)


class FakePeer:
    """A site called fake, of which there is nothing but a librarian.  `script` may be changed at any time."""

    def __init__(self, folder: Path, site: str = "fake") -> None:
        self.site = site
        self.certificates = Certificates(folder / "certs", site)
        self.script = right()
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self._server: Server | None = None

    def start(self, other: Cluster) -> Self:
        """Serve, for that site."""
        files = self.certificates.files("nameserver", Role.NAMESERVER)
        contexts = Contexts(PkiFiles(self.certificates.ca, *files, peer_ca=other.certificates.ca))
        doors = Doors(
            lambda caller: FakeDoors(caller, self.script, self.asked),
            lambda identity: Level.ADMIN,
            visitors=frozenset({Role.LIBRARIAN}),
        )
        self._server = Server("127.0.0.1", 0, contexts, doors)
        self._server.start()
        return self

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.stop()

    def dial(self, other: Cluster) -> Peer:
        """As a librarian to that site, logged in."""
        files = self.certificates.files("librarian", Role.LIBRARIAN)
        dialer = Dialer(Contexts(PkiFiles(self.certificates.ca, *files, peer_ca=other.certificates.ca)))
        peer = dialer.rpc(Address("localhost", other.port), Role.NAMESERVER, abroad=True)
        try:
            peer.call("login", self.site, PASSWORD)
        except BaseException:
            peer.close()
            raise
        return peer
