"""Making librarians known to each other: what is refused, and in which words; the dead, the disabled, the removed."""

from __future__ import annotations

import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from goggles.errors import (
    AlreadyExists,
    BadRequest,
    CertificateError,
    Conflict,
    GogglesError,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from goggles.roles import Role
from goggles.testing.cluster import Cluster, free_port, wait_until
from goggles.testing.network import PASSWORD, Network

SECRET = PASSWORD.format("source", "central")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("peers"), {"source": ("alice",), "central": ("carol",)}) as network:
        network.link("source", "central")
        yield network


@pytest.fixture
def add(network: Network) -> Callable[..., Any]:
    """Make central known to source anew, with something about it changed."""

    def add(name: str = "central", url: str = "localhost", authenticator: str = f"source:{SECRET}", **more: Any) -> Any:
        port = more.pop("port", network["central"].port)
        for known in listing(network):
            network.admin("source", "remove_librarian", known, True)
        return network.admin("source", "add_librarian", name, url, port, authenticator, **more)

    return add


def listing(network: Network, ping: bool = False) -> dict[str, dict[str, Any]]:
    return {dict(peer)["name"]: dict(peer) for peer in network.admin("source", "get_librarian_list", ping)}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"authenticator": "source:not the password"}, PermissionDenied, "does not let us in as source"),
        ({"authenticator": "nobody:not the password"}, PermissionDenied, "does not let us in as nobody"),
        ({"authenticator": "no colon"}, BadRequest, "user:password"),
        ({"name": "another"}, Conflict, "is called central, here it is known as another"),
        ({"name": "source"}, Conflict, "this librarian is source itself"),
        ({"name": "no name!"}, BadRequest, "can not be the name"),
        ({"url": "http://", "port": 0}, BadRequest, "not an address"),
        ({"port": 99_999}, BadRequest, "not an address"),
        ({"port": free_port()}, Unavailable, "nobody answers"),
        ({"url": "no-such-host.invalid"}, Unavailable, "nobody answers"),
        ({"url": "127.0.0.2"}, Unavailable, "nobody answers"),
        ({"managers": ("pigeons",)}, BadRequest, "no transfer manager"),
    ],
)
def test_what_is_wrong_is_said_when_a_peer_is_added(
    add: Callable[..., Any], change: dict[str, Any], error: type[GogglesError], words: str
) -> None:
    with pytest.raises(error, match=words):
        add(**change)


def test_without_the_check_it_is_written_down_and_shown_as_dead(network: Network, add: Callable[..., Any]) -> None:
    add(port=free_port(), check_connection=False)
    peer = listing(network, ping=True)["central"]
    assert (peer["available"], peer["last_seen"]) == (False, 0.0)
    assert "nobody answers" in peer["why_not"]
    with pytest.raises(AlreadyExists):
        network.admin("source", "add_librarian", "central", "x", 1, "a:b", check_connection=False)


def test_a_dead_peer_spoils_nothing_for_the_living(network: Network, add: Callable[..., Any]) -> None:
    add()
    network.admin("source", "add_librarian", "dead", "localhost", free_port(), "a:b", check_connection=False)
    found = listing(network, ping=True)
    assert (found["central"]["available"], found["dead"]["available"]) == (True, False)
    with network["source"].connect() as fs:
        fs.write("/despite-the-dead", b"1")
    network.run("source", "send_clone")
    network.wait_arrived("central", ["/despite-the-dead"])
    network.admin("source", "remove_librarian", "dead", True)
    assert list(listing(network)) == ["central"]


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "https://localhost/", "localhost:{port}"])
def test_urls_are_taken_as_people_write_them(network: Network, add: Callable[..., Any], url: str) -> None:
    add(url=url.format(port=network["central"].port), **({"port": 0} if "{" in url else {}))
    assert listing(network, ping=True)["central"]["available"]


def test_the_port_of_a_storage_is_told_from_that_of_a_nameserver(network: Network, add: Callable[..., Any]) -> None:
    with network["central"].connect() as there:
        port = there.du()[1][0].addr[1]
    with pytest.raises(CertificateError, match=f"localhost:{port} is storage carol, not a nameserver"):
        add(port=port)


def test_what_speaks_no_tls_is_told(add: Callable[..., Any]) -> None:
    class Plain(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(CertificateError, match="speaks no TLS"):
            add(port=server.server_address[1])
        server.shutdown()


def test_a_tunnel_has_an_address_of_its_own(network: Network, add: Callable[..., Any]) -> None:
    with Tunnel("127.0.0.2", network["central"].port) as tunnel:
        with pytest.raises(CertificateError):
            add(url="127.0.0.2", port=tunnel.port)
        add(url="127.0.0.2", port=tunnel.port, certificate_name="localhost")
        assert listing(network, ping=True)["central"]["available"]


class Tunnel:
    """Passes connections on, as ssh -L does."""

    def __init__(self, host: str, port: int) -> None:
        self._aim = port
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Tunnel:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("localhost", self._aim))
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            each.close()


def test_a_peer_that_is_disabled_gets_nothing(network: Network, add: Callable[..., Any]) -> None:
    add()
    network.admin("source", "set_librarian_transfer", "central", False)
    with network["source"].connect() as fs:
        fs.write("/not-now", b"1")
    assert network.run("source", "send_clone") == 0
    with network["central"].connect() as there:
        assert not there.exists("/not-now")
    network.admin("source", "set_librarian_transfer", "central", True)
    network.run("source", "send_clone")
    network.wait_arrived("central", ["/not-now"])
    with pytest.raises(NotFound):
        network.admin("source", "set_librarian_transfer", "nobody", True)


def test_passwords_lie_encrypted_in_the_database(network: Network, add: Callable[..., Any]) -> None:
    add()
    folder = network["source"].folder
    assert not [path for path in folder.glob("goggles.db*") if SECRET.encode() in path.read_bytes()]
    assert (folder / "goggles.key").stat().st_mode & 0o077 == 0
    assert SECRET not in (folder / "nameserver.log").read_text()


def test_who_is_removed_is_forgotten_and_can_come_back(network: Network, add: Callable[..., Any]) -> None:
    add()
    with network["source"].connect() as fs:
        fs.write("/known", b"1")
        network.run("source", "send_clone")
        network.wait_arrived("central", ["/known"])
        network.admin("source", "remove_librarian", "central", True)
        assert listing(network) == {}
        fs.mv("/known", "/moved")
    with pytest.raises(NotFound):
        network.admin("source", "remove_librarian", "central")
    add()
    network.run("source", "send_clone")
    network.wait_arrived("central", ["/moved"])


def test_a_site_of_a_ca_that_is_not_trusted_is_no_peer(
    network: Network, add: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Cluster(tmp_path_factory.mktemp("stranger"), ("zoe",), site="stranger") as stranger:
        stranger.certificates.files("librarian", Role.LIBRARIAN)
        with pytest.raises(CertificateError, match=r"is refused.*--peer_ca of ours"):
            add(name="stranger", port=stranger.port)


@pytest.mark.parametrize("level", ["NONE", "READONLY", "CALLBACK"])
def test_a_librarian_may_do_what_its_account_says(network: Network, add: Callable[..., Any], level: str) -> None:
    add()
    network.admin("central", "update_user", "source", "", level)
    path = f"/may-{level.lower()}"
    with network["source"].connect() as fs:
        fs.write(path, os.urandom(10))
    assert network.run("source", "send_clone") == 0
    with network["central"].connect() as there:
        assert not there.exists(path)
    network.admin("central", "update_user", "source", "", "READAPPEND")
    network.run("source", "send_clone")
    network.wait_arrived("central", [path])


def test_whoever_answers_was_seen_just_now(network: Network, add: Callable[..., Any]) -> None:
    add()
    assert listing(network)["central"]["last_seen"] == pytest.approx(time.time(), abs=30)
    assert listing(network, ping=True)["central"]["last_seen"] == pytest.approx(time.time(), abs=10)


def test_an_account_that_is_made_anew_lets_us_in_again(network: Network, add: Callable[..., Any]) -> None:
    add()
    with network["source"].connect() as fs:
        fs.write("/before-the-account-went", b"1")
        network.run("source", "send_clone")
        network.wait_arrived("central", ["/before-the-account-went"])
        network.admin("central", "delete_user", "source")
        fs.write("/while-there-is-none", b"2")
        network.run("source", "send_clone")
        network.admin("central", "create_user", "source", SECRET, "READAPPEND")

        def sent() -> bool:
            network.run("source", "send_clone")
            with network["central"].connect() as there:
                return bool(there.exists("/while-there-is-none"))

        wait_until("sent again", sent, 60)


def test_a_wrong_password_makes_nobody_else_wait_and_is_told_once(network: Network, add: Callable[..., Any]) -> None:
    """All these sites speak from one address, as those do that come through a tunnel."""
    network.admin("central", "create_user", "boss", SECRET, "ADMIN")
    add(authenticator="source:not the password", check_connection=False)
    for _ in range(4):
        assert not listing(network, ping=True)["central"]["available"]
    peer = network["central"].dial("admin", Role.ADMIN)
    try:
        assert peer.call("login", "boss", SECRET) == "ADMIN"
    finally:
        peer.close()
    for _ in range(20):
        network.run("source", "send_clone")
    told = [dict(one)["message"] for one in network.admin("source", "search_errors")]
    refused = [message for message in told if "password is wrong" in message or "too many failed" in message]
    assert 1 <= len(refused) <= 4, refused
    assert not any(re.search(r"in \d+ s", message) for message in refused)
