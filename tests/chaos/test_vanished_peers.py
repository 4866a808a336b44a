"""Peers that vanish without a word, as a host does whose cable is pulled or whose power fails, and come back."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.chaos import wires as kernel
from tests.chaos.wires import Wires

from goggles.testing.cluster import SOURCE
from goggles.wire import server

pytestmark = pytest.mark.skipif(bool(kernel.why_not()), reason=kernel.why_not())

GONE = 3
PATIENCE = 30.0
SERVER = f"""
import socket, sys
from goggles.wire import server
server.GONE = {GONE}
with socket.create_server((sys.argv[1], 7008)) as listener:
    print("ready", flush=True)
    sock, _ = listener.accept()
    server.tune(sock)
    print("taken", flush=True)
    sys.stdin.readline()
    sock.sendall(b"an answer")
    try:
        sock.recv(1)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""
CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7008)):
    time.sleep(60)
"""


HEARER = """
import socket, sys
with socket.create_connection((sys.argv[1], 7008)) as sock:
    print(sock.recv(9).decode(), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def wires() -> Iterator[Wires]:
    wires = Wires(["server", "client"])
    yield wires
    wires.close()


def run(wires: Wires, name: str, text: str) -> subprocess.Popen[str]:
    words = [*wires.prefix(name), sys.executable, "-c", text, wires.address("server")]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env={"PYTHONPATH": SOURCE})


def can_be_hasty() -> bool:
    """Whether this kernel (Linux 6.15 and later) can be told how long TCP waits at most before it sends again."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, server.RTO_MAX_MS, server.RESEND * 1_000)
            return True
        except OSError:
            return False


@pytest.mark.skipif(not can_be_hasty(), reason="the kernel is older than 6.15")
def test_a_healed_network_is_used_again_at_once_and_not_after_as_long_as_it_was_cut(wires: Wires) -> None:
    """TCP doubles its pauses: what was cut for 14 s is tried again after 25 s."""
    with run(wires, "server", SERVER.replace("server.GONE = 3", "")) as answering:
        assert answering.stdin is not None
        assert answering.stdout is not None
        assert answering.stdout.readline() == "ready\n"
        with run(wires, "client", HEARER) as client:
            assert client.stdout is not None
            assert answering.stdout.readline() == "taken\n"
            wires.lose("server", "client")
            answering.stdin.write("\n")
            answering.stdin.flush()
            time.sleep(14)
            wires.heal_all()
            healed = time.monotonic()
            try:
                assert client.stdout.readline() == "an answer\n"
                assert time.monotonic() - healed < server.RESEND + 1
            finally:
                client.kill()
                answering.kill()


def test_who_waits_after_an_answer_that_nobody_acknowledges_notices_that_the_peer_is_gone(wires: Wires) -> None:
    """Keepalive does not: it asks only where nothing is on its way.  TCP itself goes on for a quarter of an hour."""
    with run(wires, "server", SERVER) as answering:
        assert answering.stdin is not None
        assert answering.stdout is not None
        assert answering.stdout.readline() == "ready\n"
        with run(wires, "client", CLIENT) as client:
            assert answering.stdout.readline() == "taken\n"
            wires.lose("server", "client")
            began = time.monotonic()
            answering.stdin.write("\n")
            answering.stdin.flush()
            try:
                answering.wait(PATIENCE)
                assert answering.stdout.readline() == "TimeoutError\n"
                assert time.monotonic() - began >= GONE
            finally:
                answering.kill()
                client.kill()
