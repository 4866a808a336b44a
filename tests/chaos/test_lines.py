"""Lines between processes: what they pass on, and what they do when they are cut, silent or slow."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.chaos.lines import Lines

from goggles.testing.cluster import free_port

ADDRESS = "127.0.1.77"
PATIENCE = 10.0
QUIET = 0.3


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what comes."""

    def serve(sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(1 << 16):
                sock.sendall(data)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", free_port()))
    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def lines(echo: int) -> Iterator[Lines]:
    lines = Lines(lambda: [(os.getpid(), "me")])
    lines.open("server", ADDRESS, echo)
    yield lines
    lines.close()


def call(port: int) -> socket.socket:
    return socket.create_connection((ADDRESS, port), PATIENCE)


def says(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    found = b""
    while len(found) < len(data):
        piece = sock.recv(1 << 16)
        if not piece:
            break
        found += piece
    return found


def test_all_bytes_come_through_in_their_order(echo: int, lines: Lines) -> None:
    data = os.urandom(50_000)
    with call(echo) as sock:
        assert says(sock, data) == data


def test_a_line_that_is_cut_breaks_what_there_is_and_takes_nothing_new(echo: int, lines: Lines) -> None:
    with call(echo) as sock:
        assert says(sock, b"before") == b"before"
        lines.refuse("me", "server")
        assert sock.recv(1) == b""
    with call(echo) as sock, pytest.raises((ConnectionError, AssertionError)):
        assert says(sock, b"during") == b"during"
    lines.heal("server", "me")
    with call(echo) as sock:
        assert says(sock, b"after") == b"after"


def test_only_the_pair_that_is_named_is_cut(echo: int, lines: Lines) -> None:
    lines.refuse("somebody", "server")
    with call(echo) as sock:
        assert says(sock, b"here") == b"here"


def test_who_calls_itself_is_a_pair_too(echo: int) -> None:
    lines = Lines(lambda: [(os.getpid(), "server")])
    lines.open("server", ADDRESS, echo)
    with call(echo) as sock:
        assert says(sock, b"mine") == b"mine"
        lines.heal_all()
        lines.close()
        assert sock.recv(1) == b""


def test_what_is_sent_into_silence_arrives_afterwards(echo: int, lines: Lines) -> None:
    with call(echo) as sock:
        assert says(sock, b"before") == b"before"
        lines.way("me", "server").silent = True
        sock.sendall(b"during")
        sock.settimeout(QUIET)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        lines.heal_all()
        sock.settimeout(PATIENCE)
        assert sock.recv(6) == b"during"


@pytest.mark.parametrize("trouble", ["delay", "loss"])
def test_a_slow_line_is_slow_and_loses_nothing(echo: int, lines: Lines, trouble: str) -> None:
    setattr(lines.way("me", "server"), trouble, QUIET if trouble == "delay" else 1.0)
    began = time.monotonic()
    with call(echo) as sock:
        assert says(sock, b"slowly") == b"slowly"
    assert time.monotonic() - began >= 2 * min(QUIET, 0.2)
