"""The wire on real TLS: who gets in, what can be called, what garbage does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest
import rpyc

from goggles.errors import (
    BadRequest,
    CertificateError,
    ConnectionLost,
    DeadlinePassed,
    GogglesError,
    LimitExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unavailable,
)
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Level, Role
from goggles.testing.cluster import Certificates, wait_until
from goggles.wire.admission import Gate
from goggles.wire.data import Buffer, DataLink, Kind
from goggles.wire.dial import Address, Dialer
from goggles.wire.server import Doors, Limits, Server
from goggles.wire.service import USERS, Service, exposed
from goggles.wire.stream import TlsStream, cut


class EchoService(Service):
    """Something to call."""

    slow = threading.Event()

    @exposed(*USERS)
    def echo(self, value: str) -> str:
        return value

    @exposed(*USERS)
    def big(self, size: int) -> bytes:
        return b"x" * size

    @exposed(*USERS)
    def refuse(self) -> None:
        raise NotFound("nothing there", "look elsewhere")

    @exposed(*USERS)
    def crash(self) -> None:
        raise RuntimeError("/a/secret/path")

    @exposed(*USERS, level=Level.ADMIN)
    def administer(self) -> str:
        return "done"

    @exposed(Role.STORAGE)
    def for_storages(self) -> str:
        return "hello storage"

    @exposed(*USERS)
    def wait(self) -> str:
        self.slow.wait(20)
        return "waited"

    def undeclared(self) -> str:
        return "should never be reached"

    def exposed_old_style(self) -> str:
        return "should never be reached"


def echo_data(link: DataLink, caller: object) -> None:
    while link.readable(5):
        kind, value = link.receive()
        if kind is Kind.DATA:
            link.send_data(value)
        else:
            link.send_value(Kind.OK, (kind.name, value))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certs"))


def contexts(certificates, name, role):
    certificate, key = certificates.files(name, role)
    return Contexts(PkiFiles(certificates.ca, certificate, key), recheck=0.0)


@pytest.fixture
def server(certificates):
    limits = Limits(connections=40, waiting=8, handshake=3.0)
    doors = Doors(
        EchoService, lambda identity: Level.READWRITE if identity.role is Role.CLIENT else Level.ADMIN, echo_data
    )
    made = Server("0.0.0.0", 0, contexts(certificates, "nameserver", Role.NAMESERVER), doors, limits)
    made.start()
    yield made
    EchoService.slow.set()
    made.stop()
    EchoService.slow.clear()


@pytest.fixture
def dial(server, certificates):
    peers = []

    def connect(name="ann", role=Role.CLIENT, **kwargs):
        dialer = Dialer(contexts(certificates, name, role))
        peer = dialer.rpc(Address("localhost", server.port), Role.NAMESERVER, **kwargs)
        peers.append(peer)
        return peer

    yield connect
    for peer in peers:
        peer.close()


def test_a_call_is_answered(dial):
    peer = dial()
    assert peer.call("echo", "grüße") == "grüße"
    assert str(peer.identity) == "nameserver nameserver"


def test_large_answers_arrive_whole(dial):
    assert dial().call("big", 20_000_000) == b"x" * 20_000_000


def test_many_calls_in_flight_are_answered_in_order(dial):
    answers = list(dial().call_each("echo", [(str(n),) for n in range(500)]))
    assert answers == [str(n) for n in range(500)]


def test_a_few_calls_are_sent_together_and_answered_in_order(dial):
    peer = dial()
    first, refused, last = peer.call_all([("echo", ("one",)), ("refuse", ()), ("echo", ("two",))])
    assert (first, last) == ("one", "two") and isinstance(refused, NotFound)
    assert peer.call("echo", "still here") == "still here"


def test_of_calls_that_are_sent_together_none_is_answered_when_the_connection_breaks(server, dial):
    peer, ended = dial(), []
    calls = [("echo", ("one",)), ("wait", ()), ("echo", ("two",))]
    asking = threading.Thread(target=lambda: ended.append(raised(lambda: peer.call_all(calls))))
    asking.start()
    wait_until("it waits", lambda: any(client.caller and client.caller.busy for client in server._clients), 5)
    cut(peer._sock)
    asking.join(10)
    assert [type(error) for error in ended] == [ConnectionLost] and peer.closed


def test_the_error_that_ended_the_connection_is_the_one_that_is_raised(dial, monkeypatch):
    monkeypatch.setattr("goggles.wire.dial.CALL", 0.2)
    peer = dial()
    with pytest.raises(DeadlinePassed):
        peer.call_all([("wait", ()), ("echo", ("two",))])
    assert peer.closed


def raised(action):
    try:
        return action()
    except GogglesError as error:
        return error


def test_an_error_arrives_as_itself(dial):
    with pytest.raises(NotFound) as caught:
        dial().call("refuse")
    assert (caught.value.message, caught.value.hint) == ("nothing there", "look elsewhere")


def test_a_bug_shows_nothing_of_the_server(dial):
    with pytest.raises(GogglesError) as caught:
        dial().call("crash")
    assert caught.value.code == "internal"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["undeclared", "old_style", "exposed_old_style", "__init__", "caller", "_rpyc_getattr", "__class__"]
)
def test_what_is_not_declared_can_not_be_called(dial, name):
    with pytest.raises(PermissionDenied):
        dial().call(name)


def test_roles_and_levels_are_checked(dial):
    with pytest.raises(PermissionDenied, match="client ann may not call for_storages"):
        dial().call("for_storages")
    assert dial("alice", Role.STORAGE).call("for_storages") == "hello storage"
    with pytest.raises(PermissionDenied, match="needs level ADMIN"):
        dial().call("administer")
    assert dial("root", Role.ADMIN).call("administer") == "done"


@pytest.mark.parametrize("args", [(), (1,), (None,), ("a", "b"), (b"a",), (("a",),)])
def test_wrong_arguments_are_refused_in_words(dial, args):
    with pytest.raises(BadRequest, match="echo"):
        dial().call("echo", *args)


def test_arguments_are_bounded(dial):
    with pytest.raises(LimitExceeded):
        dial().call("echo", "x" * 100_000)
    with pytest.raises(LimitExceeded):
        dial().call("big", 1 << 80)


def test_objects_can_not_be_passed(dial):
    peer = dial()
    with pytest.raises(GogglesError):
        peer.call("echo", object())
    assert peer.call("echo", "still here") == "still here"


def test_a_late_answer_is_said_to_be_late(dial):
    with pytest.raises(DeadlinePassed):
        dial().call("wait", timeout=0.2)


def test_the_wrong_peer_is_not_spoken_to(server, certificates):
    dialer = Dialer(contexts(certificates, "ann", Role.CLIENT))
    with pytest.raises(CertificateError, match="not storage alice"):
        dialer.rpc(Address("localhost", server.port), Role.STORAGE, "alice")


def test_the_host_name_is_checked(server, certificates):
    dialer = Dialer(contexts(certificates, "ann", Role.CLIENT))
    with pytest.raises(CertificateError):
        dialer.rpc(Address("127.0.0.2", server.port), Role.NAMESERVER)


def test_a_stranger_is_refused(server, tmp_path):
    stranger = Certificates(tmp_path)
    certificate, key = stranger.files("eve", Role.CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain) as sock,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        sock.sendall(b"hello")
        if not sock.recv(100):
            raise ConnectionResetError
    assert server.connected() == 0


def hand_shake(context: ssl.SSLContext, port: int, name: str) -> None:
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("localhost", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.settimeout(5)
        secured.recv(1)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("another CA", "does not know our CA"),
        ("another name", "is the name in it"),
        ("no certificate", "shows no certificate"),
        ("http", "speaks HTTP, not TLS"),
        ("noise", "does not speak TLS"),
    ],
)
def test_the_log_says_what_is_wrong_with_a_caller(server, certificates, tmp_path, caplog, case, said):
    if case in ("http", "noise"):
        with socket.create_connection(("localhost", server.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n" if case == "http" else b"EHLO there\r\n")
            plain.settimeout(5)
            with contextlib.suppress(ConnectionError):
                plain.recv(100)
    else:
        ours = certificates.ca if case != "another CA" else Certificates(tmp_path).ca
        context = ssl.create_default_context(cafile=ours)
        if case != "no certificate":
            context.load_cert_chain(*certificates.files("ann", Role.CLIENT))
        hand_shake(context, server.port, "elsewhere" if case == "another name" else "localhost")
    wait_until("it is said", lambda: said in caplog.text, 5)


def test_nobody_answers_is_said_so(certificates):
    dialer = Dialer(contexts(certificates, "ann", Role.CLIENT))
    with pytest.raises(Unavailable, match="nobody answers"):
        dialer.rpc(Address("localhost", 1), Role.NAMESERVER)


def test_a_revoked_caller_is_cut_and_stays_out(server, dial, certificates):
    peer = dial("mallory")
    assert peer.call("echo", "a") == "a"
    from goggles.pki.authority import Authority, load_certificate

    authority = Authority.load(certificates.folder / "rootCA.key", certificates.ca)
    authority.revoke(load_certificate(certificates.files("mallory", Role.CLIENT)[0]))
    deadline = time.monotonic() + 10
    with pytest.raises(ConnectionLost):
        while time.monotonic() < deadline:
            peer.call("echo", "a")
    with pytest.raises(GogglesError):
        dial("mallory")
    assert dial("ann").call("echo", "others stay") == "others stay"


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 1000],
    ids=["http", "zeros", "hello"],
)
def test_plain_tcp_and_garbage_harm_nobody(server, dial, junk):
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(junk)
        plain.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(4096):
                pass
    assert dial().call("echo", "fine") == "fine"


def test_garbage_inside_tls_ends_that_connection_only(server, dial, certificates):
    context = contexts(certificates, "ann", Role.CLIENT).client()
    for junk in (b"\xff" * 64, b"\0\0\0\5\0abcde\n", b"\0\0\0\3\1xyz\n", b"\x7f\xff\xff\xff\0"):
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(junk)
            sock.settimeout(5)
            assert sock.recv(4096) == b""
    assert dial().call("echo", "fine") == "fine"


def test_silent_callers_do_not_hold_up_others(server, dial):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    began = time.monotonic()
    assert dial().call("echo", "fine") == "fine"
    assert time.monotonic() - began < 2.5
    for sock in silent:  # those that waited longest were dropped, the others when their time was over
        sock.settimeout(10)
        assert sock.recv(10) == b""
        sock.close()


def test_the_number_of_connections_is_bounded_and_who_comes_late_is_told(server, dial):
    peers = filled(dial)
    with pytest.raises(Overloaded, match="40 callers are connected, more are not taken"):
        dial("carol")
    assert peers[0].call("echo", "those inside stay") == "those inside stay"
    peers.pop().close()
    wait_until("a place", lambda: server.connected() < 40, 5)
    assert dial("bob").call("echo", "there is room again") == "there is room again"


def filled(dial):
    """All places are taken, half of them by each of two users: one alone gets no more."""
    peers = [dial("ann") for _ in range(20)]
    with pytest.raises(Overloaded, match="ann has 20 connections, more are not taken"):
        dial("ann")
    return peers + [dial("bob") for _ in range(20)]


def test_storages_and_administrators_come_in_when_users_have_filled_the_places(server, dial):
    peers = filled(dial)
    assert dial("alice", Role.STORAGE).call("for_storages") == "hello storage"
    assert dial("root", Role.ADMIN).call("administer") == "done"
    with pytest.raises(Overloaded):
        dial("carol")
    assert len(peers) == 40


def test_the_data_plane_is_told_too_that_there_is_no_place(server, dial, certificates):
    peers = filled(dial)
    link = Dialer(contexts(certificates, "carol", Role.CLIENT)).data(Address("localhost", server.port), Role.NAMESERVER)
    buffer = Buffer()
    buffer.used = len(buffer.space)
    link.send_value(Kind.REQUEST, ("write", 1, None, b"x"))
    with contextlib.suppress(ConnectionLost):
        for _ in range(4):  # more than the system keeps for a reader
            link.send_data(buffer)
    with pytest.raises(Overloaded, match="40 callers are connected"):
        link.answer()
    link.close()
    assert len(peers) == 40


def test_more_requests_than_are_worked_on_are_refused_at_once(server, dial, monkeypatch):
    gate = Gate(2)
    monkeypatch.setattr(EchoService, "__init__", gated(gate))
    peers = [dial() for _ in range(3)]
    waiting = [threading.Thread(target=peer.call, args=("wait",)) for peer in peers[:2]]
    for thread in waiting:
        thread.start()
    wait_until("two at work", lambda: repr(gate) == "<Gate 2 of 2>", 5)
    began = time.monotonic()
    with pytest.raises(Overloaded, match="2 requests are being worked on, more are not taken"):
        peers[2].call("echo", "now")
    assert time.monotonic() - began < 1
    EchoService.slow.set()
    for thread in waiting:
        thread.join()
    assert peers[2].call("echo", "later") == "later"


def gated(gate):
    def begin(self, caller):
        Service.__init__(self, caller)
        self.gate = gate

    return begin


def stock(server, certificates, name="ann", role=Role.CLIENT):
    """A plain rpyc connection, as a script would make it."""
    certificate, key = certificates.files(name, role)
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificate, key)
    sock = context.wrap_socket(socket.create_connection(("localhost", server.port)), server_hostname="localhost")
    return rpyc.connect_stream(rpyc.SocketStream(sock))


def test_plain_rpyc_works_with_its_own_channel(server, certificates):
    connection = stock(server, certificates)
    try:
        assert connection.root.echo("hello") == "hello"
        assert connection.root.echo("x" * 10_000) == "x" * 10_000  # compressed by the stock channel
        assert connection.root.big(3_000_000) == b"x" * 3_000_000
        with pytest.raises(Exception, match="nothing there") as caught:
            connection.root.refuse()
        assert (caught.value.code, caught.value.hint) == ("not_found", "look elsewhere")
    finally:
        connection.close()


def test_plain_rpyc_reaches_nothing_else(server, certificates):
    connection = stock(server, certificates)
    try:
        method = connection.root.echo
        for attack in (
            lambda: connection.root.undeclared(),
            lambda: connection.root.caller,
            lambda: method.__self__,
            lambda: method._method,
            lambda: method.__class__.__init__.__globals__["x"],
            lambda: setattr(connection.root, "echo", 1),
            lambda: str(connection.root),
            lambda: dir(connection.root) and connection.root.__dict__,
            lambda: connection.root.__reduce_ex__(2),
        ):
            with pytest.raises(Exception) as caught:
                attack()
            assert "should never be reached" not in str(caught.value)
        assert connection.root.echo("still") == "still"
    finally:
        connection.close()


def test_the_data_plane_shares_the_port(server, certificates):
    link = Dialer(contexts(certificates, "ann", Role.CLIENT)).data(Address("localhost", server.port), Role.NAMESERVER)
    buffer = Buffer()
    buffer.space[:5] = b"hello"
    buffer.used = 5
    link.send_data(buffer)
    kind, back = link.receive()
    assert (kind, bytes(back.data)) == (Kind.DATA, b"hello")
    link.send_value(Kind.REQUEST, ("write", 1, None, b"x"))
    assert link.answer() == ("REQUEST", ("write", 1, None, b"x"))
    link.close()


def test_a_stop_lets_a_call_finish(server, dial):
    peer, answers = dial(), []
    caller = threading.Thread(target=lambda: answers.append(peer.call("wait")))
    caller.start()
    while not any(c.caller and c.caller.busy for c in list(server._clients)):
        time.sleep(0.005)
    stopper = threading.Thread(target=lambda: server.stop(drain=10))
    stopper.start()
    EchoService.slow.set()
    caller.join(10)
    stopper.join(10)
    assert answers == ["waited"]


class Reluctant(socket.socket):
    """Takes three bytes at a time, as a send may."""

    def send(self, data, flags=0):
        return super().send(data[:3], flags)


def test_what_a_send_leaves_over_is_sent_too():
    near, far = socket.socketpair()
    with Reluctant(fileno=near.detach()) as reluctant, far:
        TlsStream(reluctant).write(b"more than three bytes")
        assert far.recv(100) == b"more than three bytes"
