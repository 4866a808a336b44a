"""Peers that vanish without a word, as a host does whose cable is pulled or whose power fails."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.chaos import wires as kernel
from tests.chaos.wires import Wires

from goggles.testing.cluster import SOURCE

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


@pytest.fixture
def wires() -> Iterator[Wires]:
    wires = Wires(["server", "client"])
    yield wires
    wires.close()


def run(wires: Wires, name: str, text: str) -> subprocess.Popen[str]:
    words = [*wires.prefix(name), sys.executable, "-c", text, wires.address("server")]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env={"PYTHONPATH": SOURCE})


def test_who_waits_after_an_answer_that_nobody_acknowledges_notices_that_the_peer_is_gone(wires: Wires) -> None:
    """Keepalive does not: it asks only where nothing is on its way.  TCP itself goes on for a quarter of an hour."""
    with run(wires, "server", SERVER) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        with run(wires, "client", CLIENT) as client:
            assert server.stdout.readline() == "taken\n"
            wires.lose("server", "client")
            began = time.monotonic()
            server.stdin.write("\n")
            server.stdin.flush()
            try:
                server.wait(PATIENCE)
                assert server.stdout.readline() == "TimeoutError\n"
                assert time.monotonic() - began >= GONE
            finally:
                server.kill()
                client.kill()
