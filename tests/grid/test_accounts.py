"""Accounts with passwords: who may do what over a connection that logged in."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles.errors import AlreadyExists, BadRequest, Conflict, GogglesError, NotFound, PermissionDenied
from goggles.roles import Level, Role
from goggles.testing.cluster import Cluster, wait_until
from goggles.wire.dial import Peer

SECRET = "a password: with a colon"
Connect = Callable[..., Peer]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("accounts"), ("alice",)) as cluster:
        yield cluster


@pytest.fixture
def connect(cluster: Cluster) -> Iterator[Connect]:
    peers: list[Peer] = []

    def connect(name: str, role: Role) -> Peer:
        peers.append(cluster.dial(name, role))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture
def root(connect: Connect) -> Peer:
    return connect("root", Role.ADMIN)


def first_password(cluster: Cluster) -> list[str]:
    assert cluster.nameserver is not None
    return re.findall(r"is admin, with the password (\S+)", cluster.nameserver.log.read_text())


def test_the_first_start_makes_an_administrator_and_says_so_once(cluster: Cluster, connect: Connect) -> None:
    (password,) = first_password(cluster)
    assert connect("root", Role.ADMIN).call("login", "admin", password) == "ADMIN"
    assert cluster.nameserver is not None
    cluster.nameserver.kill()
    cluster.start_nameserver()
    cluster.wait_active(("alice",))
    assert first_password(cluster) == [password], "the log is written on: it must not be said again"
    assert connect("root", Role.ADMIN).call("login", "admin", password) == "ADMIN"


def test_a_start_that_fails_uses_no_password_up(tmp_path: Path) -> None:
    site = Cluster(tmp_path, ("alice",))
    with socket.create_server(("127.0.0.1", site.port)):
        failed = site.start_nameserver()
        assert failed.wait(20) == 2
    assert "can not listen" in failed.log.read_text()
    assert first_password(site) == []
    try:
        site.start_nameserver()
        wait_until("the password is shown", lambda: len(first_password(site)) == 1, 20)
    finally:
        site.stop()


def test_a_certificate_for_another_host_is_noticed_at_the_start(tmp_path: Path) -> None:
    site = Cluster(tmp_path, (), nameserver_flags=["--hostname", "elsewhere.example"])
    process = site.start_nameserver()
    try:
        wait_until("a warning", lambda: "not for --hostname elsewhere.example" in process.log.read_text(), 20)
    finally:
        site.stop()


@pytest.mark.parametrize("level", list(Level))
def test_a_librarian_has_the_level_of_its_account_and_no_more_than_its_role(
    root: Peer, connect: Connect, level: Level
) -> None:
    name = f"source-{level.name.lower()}"
    root.call("create_user", name, SECRET, level.name)
    assert root.call("get_user", name) == level.name
    peer = connect("source", Role.LIBRARIAN)
    assert peer.call("login", name, SECRET) == min(level, Level.READAPPEND).name
    root.call("delete_user", name)


def test_an_account_does_not_raise_what_the_certificate_allows(root: Peer, connect: Connect) -> None:
    root.call("create_user", "boss", SECRET, "ADMIN")
    client = connect("ann", Role.CLIENT)
    assert client.call("login", "boss", SECRET) == "READWRITE"
    with pytest.raises(PermissionDenied):
        client.call("create_user", "mallory", SECRET, "ADMIN")


def test_an_account_lowers_what_the_certificate_allows(root: Peer, connect: Connect) -> None:
    root.call("create_user", "reader", SECRET, "READONLY")
    client = connect("ann", Role.CLIENT)
    client.call("mkdir", "/before")
    assert client.call("login", "reader", SECRET) == "READONLY"
    assert client.call("listdir", "/") == ("before",)
    with pytest.raises(PermissionDenied, match="READAPPEND"):
        client.call("mkdir", "/after")


@pytest.mark.parametrize("change", ["delete", "password", "level"])
def test_what_changes_counts_at_once_for_those_who_are_logged_in(root: Peer, connect: Connect, change: str) -> None:
    root.call("create_user", "fading", SECRET, "READWRITE")
    client = connect("ann", Role.CLIENT)
    client.call("login", "fading", SECRET)
    client.call("listdir", "/")
    if change == "delete":
        root.call("delete_user", "fading")
    else:
        root.call("update_user", "fading", **({"password": SECRET * 2} if change == "password" else {"level": "NONE"}))
    with pytest.raises(PermissionDenied):
        client.call("listdir", "/")
    if change != "delete":
        root.call("delete_user", "fading")


def test_a_user_changes_the_own_password_only_with_the_old_one(root: Peer, connect: Connect) -> None:
    root.call("create_user", "carl", SECRET, "READONLY")
    client = connect("ann", Role.CLIENT)
    with pytest.raises(PermissionDenied):
        client.call("change_password", SECRET, "another password")
    client.call("login", "carl", SECRET)
    with pytest.raises(PermissionDenied):
        client.call("change_password", "not the old one", "another password")
    client.call("change_password", SECRET, "another password")
    assert connect("ann", Role.CLIENT).call("login", "carl", "another password") == "READONLY"


def test_the_last_administrator_stays(root: Peer) -> None:
    for name, _ in root.call("accounts"):
        if name not in ("admin",):
            root.call("delete_user", name)
    for call in (("delete_user", "admin"), ("update_user", "admin", "", "READWRITE"), ("set_account", "admin", "")):
        with pytest.raises(Conflict, match="last administrator"):
            root.call(*call)
    root.call("create_user", "second", SECRET, "ADMIN")
    root.call("update_user", "admin", "", "READONLY")
    with pytest.raises(Conflict):
        root.call("delete_user", "second")
    root.call("update_user", "admin", "", "ADMIN")


def test_two_administrators_can_not_remove_each_other_at_the_same_moment(root: Peer, connect: Connect) -> None:
    for name, _ in root.call("accounts"):
        if name not in ("admin",):
            root.call("delete_user", name)
    root.call("create_user", "second", SECRET, "ADMIN")
    refused: list[GogglesError] = []

    def delete(peer: Peer, name: str) -> None:
        try:
            peer.call("delete_user", name)
        except GogglesError as error:
            refused.append(error)

    threads = [threading.Thread(target=delete, args=(connect("root", Role.ADMIN), n)) for n in ("admin", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert [level for _, level in root.call("accounts")] == ["ADMIN"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("create_user", "no such name!", SECRET, "READONLY"), BadRequest),
        (("create_user", "dora", SECRET, "EVERYTHING"), BadRequest),
        (("create_user", "dora", "short", "READONLY"), BadRequest),
        (("update_user", "nobody", SECRET), NotFound),
        (("delete_user", "nobody"), NotFound),
        (("get_user", "nobody"), NotFound),
    ],
)
def test_what_can_not_be_is_refused(root: Peer, call: tuple[str, ...], error: type[GogglesError]) -> None:
    with pytest.raises(error):
        root.call(*call)


def test_a_name_is_there_once(root: Peer) -> None:
    root.call("create_user", "emil", SECRET, "READONLY")
    with pytest.raises(AlreadyExists):
        root.call("create_user", "emil", SECRET, "ADMIN")
    root.call("delete_user", "emil")


def test_guessing_over_the_wire_is_slowed_and_logged(cluster: Cluster, connect: Connect) -> None:
    peer = connect("guesser", Role.LIBRARIAN)
    for _ in range(3):
        with pytest.raises(PermissionDenied, match="wrong"):
            peer.call("login", "no\nbody", "guess guess guess")
    with pytest.raises(PermissionDenied, match="too many"):
        peer.call("login", "no\nbody", "guess guess guess")
    assert cluster.nameserver is not None
    text = cluster.nameserver.log.read_text()
    assert "failed log-in as" in text
    assert "guess guess guess" not in text
