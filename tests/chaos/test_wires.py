"""Wires between processes: what they carry, and what becomes of it when they are cut in one direction or in both."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos import wires as kernel
from tests.chaos.wires import MARK, Wires

from goggles.errors import Unavailable
from goggles.testing.cluster import Process, wait_until

pytestmark = pytest.mark.skipif(bool(kernel.why_not()), reason=kernel.why_not())

PORT = 7007
PATIENCE = 60.0
QUIET = 0.5  # seconds, more than two of TCP's first tries
LISTENER = """
import contextlib, socket, sys
with socket.create_server((sys.argv[1], 7007)) as server:
    print("ready", flush=True)
    while True:
        sock, (host, _) = server.accept()
        with sock, contextlib.suppress(ConnectionError):
            while data := sock.recv(1 << 16):
                print(host, data.decode(), flush=True)
                sock.sendall(b"heard ")
"""
CALLER = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7007), 60) as sock:
    print("connected", flush=True)
    for word in sys.stdin:
        sock.sendall(word.strip().encode())
        print(sock.recv(1 << 16).decode(), flush=True)
"""


class Party:
    """A program that runs at the end of a wire; `said`: what it has printed."""

    def __init__(self, folder: Path, prefix: list[str], *command: str) -> None:
        self._out = folder / f"{time.monotonic_ns()}.out"
        with open(self._out, "wb") as out:
            words = [*prefix, sys.executable, "-c", *command]
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=out)

    @property
    def said(self) -> str:
        return self._out.read_text()

    def give(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def says(self, words: str, seconds: float = PATIENCE) -> None:
        with contextlib.suppress(Unavailable):
            wait_until("words", lambda: words in self.said, seconds)
        assert words in self.said


Start = Callable[..., Party]


@pytest.fixture
def wires() -> Iterator[Wires]:
    wires = Wires(["server", "client", "other"])
    yield wires
    wires.close()


@pytest.fixture
def start(tmp_path: Path, wires: Wires) -> Iterator[Start]:
    parties: list[Party] = []

    def begin(name: str, *command: str) -> Party:
        parties.append(Party(tmp_path, wires.prefix(name), *command))
        return parties[-1]

    yield begin
    for party in parties:
        party.process.kill()
        party.process.wait()
        assert party.process.stdin is not None
        party.process.stdin.close()


def listening(start: Start, wires: Wires, name: str = "server") -> Party:
    server = start(name, LISTENER, wires.address(name))
    server.says("ready")
    return server


def calling(start: Start, wires: Wires, name: str = "client", server: str = "server") -> Party:
    client = start(name, CALLER, wires.address(server))
    client.says("connected")
    return client


def test_parties_hear_each_other_and_who_made_the_wires(start: Start, wires: Wires, tmp_path: Path) -> None:
    server, client = listening(start, wires), calling(start, wires)
    client.give("hello")
    server.says(f"{wires.address('client')} hello")
    client.process.kill()
    here = Party(tmp_path, [], CALLER, wires.address("server"))
    with here.process:
        here.give("hello")
        try:
            here.says("heard")
        finally:
            here.process.kill()
    server.says(f"{wires.address('client').rpartition('.')[0]}.2 hello")


def test_what_is_sent_into_a_blackout_arrives_when_it_is_over(start: Start, wires: Wires) -> None:
    server, client = listening(start, wires), calling(start, wires)
    number = wires.lose("client", "server")
    client.give("late")
    time.sleep(QUIET)
    assert "late" not in server.said
    wires.mend(number)
    server.says("late")
    client.says("heard")


def test_a_wire_cut_in_one_direction_carries_the_other(start: Start, wires: Wires) -> None:
    server, client = listening(start, wires), calling(start, wires)
    wires.lose("server", "client")
    client.give("there")
    server.says("there")
    time.sleep(QUIET)
    assert "heard" not in client.said
    wires.heal_all()
    client.says("heard")


def test_a_cut_is_between_the_two_that_are_named(start: Start, wires: Wires) -> None:
    server = listening(start, wires)
    wires.lose("client", "server")
    wires.lose("server", "client")
    other = calling(start, wires, "other")
    other.give("through")
    server.says("through")
    other.says("heard")


def test_each_cut_is_mended_for_itself(start: Start, wires: Wires) -> None:
    server, client = listening(start, wires), calling(start, wires)
    first, second = wires.lose("client", "server"), wires.lose("client", "server")
    client.give("late")
    wires.mend(first)
    time.sleep(QUIET)
    assert "late" not in server.said
    wires.mend(second)
    server.says("late")


def test_who_sends_to_the_unreachable_is_told_at_once(start: Start, wires: Wires) -> None:
    listening(start, wires)
    wires.lose("client", "server", told=True)
    start("client", CALLER, wires.address("server")).says(f"[Errno {errno.EHOSTUNREACH}]")


def test_nobody_hears_who_is_unplugged_until_plugged_in_as_often(start: Start, wires: Wires) -> None:
    server, client = listening(start, wires), calling(start, wires)
    wires.unplug("server")
    wires.unplug("server")
    client.give("late")
    start("other", CALLER, wires.address("server")).says(f"[Errno {errno.ENETUNREACH}]")
    wires.plug_in("server")
    time.sleep(QUIET)
    assert "late" not in server.said
    wires.plug_in("server")
    server.says("late")


def test_a_signal_reaches_the_program_itself(wires: Wires, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    process = Process("sleeper", [*wires.prefix("client"), *command], tmp_path / "log", {})
    wait_until("started", lambda: (tmp_path / "log").read_text().endswith("\n"))
    assert int((tmp_path / "log").read_text()) == process.pid
    assert process.stop() == -signal.SIGTERM


def spaces() -> set[str]:
    """Those that this process has made; others may make theirs meanwhile."""
    return {path.name for path in Path("/run/netns").glob(f"{MARK}-{os.getpid()}-*")}


def test_several_have_wires_side_by_side_and_nothing_is_left() -> None:
    before = spaces()
    first, second = Wires(["a", "b"]), Wires(["a", "b"])
    assert {first.address("a"), first.address("b")}.isdisjoint({second.address("a"), second.address("b")})
    assert len(spaces() - before) == 6
    first.close()
    assert len(spaces() - before) == 3
    second.close()
    assert spaces() <= before


def test_a_block_of_addresses_that_somebody_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Wires(["a"])
    before, taken = spaces(), first.address("a").rpartition(".")[0]
    monkeypatch.setattr(kernel, "BLOCKS", [taken] * kernel.TRIES)
    with pytest.raises(kernel.WiresError, match="have an owner"):
        Wires(["a"])
    assert spaces() <= before
    monkeypatch.setattr(kernel, "BLOCKS", [taken] * (kernel.TRIES - 1) + ["198.18.0"])
    second = Wires(["a"])
    first.close()
    second.close()
    assert second.address("a") != first.address("a")


def test_where_wires_can_not_be_made_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spaces()
    monkeypatch.setattr(kernel, "BLOCKS", ["198.18.0", "no address"] * kernel.TRIES)
    with pytest.raises(kernel.WiresError):
        Wires(["a", "b/c"])
    assert spaces() <= before


def test_what_one_left_behind_that_is_gone_is_swept_away_and_what_others_use_is_not() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, used = f"{MARK}-{dead.pid}-0-a", f"{MARK}-{os.getppid()}-0-a"
    for name in (left, used):
        subprocess.run(["ip", "netns", "add", name], check=True)
    Wires(["a"]).close()
    found = {name for name in (left, used) if Path("/run/netns", name).exists()}
    subprocess.run(["ip", "netns", "del", used], check=True)
    assert found == {used}
