"""Whoever is slow waits alone: clients that do not read or write on, storages that stand still or have a thin line."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rpyc.core import brine, consts

from goggles.client.session import Session
from goggles.contracts.data import ReadTicket, WriteTicket
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.testing.cluster import MIB, Cluster, wait_until
from goggles.testing.load import at
from goggles.wire.connection import HANDLE_METHOD
from goggles.wire.data import DataLink, Kind
from goggles.wire.dial import Address, Dialer, Peer
from goggles.wire.server import STALL

Factory = Callable[..., Cluster]
LINE = 10_000  # bytes a second of a storage with a thin line


def latencies(fs: Session, path: str, turns: int = 12) -> tuple[float, float]:
    """(median, worst) seconds of an honest client: look, write below `path`, read."""
    taken = []
    for number in range(turns):
        began = time.perf_counter()
        fs.stat(path)
        fs.write(f"{path}/{number}", b"honest" * 100)
        assert b"".join(fs.read(f"{path}/{number}")) == b"honest" * 100
        taken.append(time.perf_counter() - began)
    taken.sort()
    return at(taken, 0.5), taken[-1]


class Idler:
    """A principal that begins things and does not go on with them."""

    def __init__(self, site: Cluster) -> None:
        files = site.certificates.files("idler", Role.CLIENT)
        self._dialer = Dialer(Contexts(PkiFiles(site.certificates.ca, *files)))
        self._nameserver = Address("localhost", site.port)
        self.peer = self._dial()
        self.links: list[DataLink] = []
        self.over = threading.Event()

    def _dial(self) -> Peer:
        return self._dialer.rpc(self._nameserver, Role.NAMESERVER)

    def _link(self, name: str, host: str, port: int) -> DataLink:
        self.links.append(self._dialer.data(Address(host, port), Role.STORAGE, name))
        return self.links[-1]

    def read_byte_by_byte(self, path: str) -> None:
        """One byte a second of a large file, until it is over."""
        ticket = ReadTicket.from_wire(self.peer.call("open_read", path))
        hop = ticket.hops[0]
        link = self._link(hop.name, hop.host, hop.port)
        link.send_value(Kind.REQUEST, ("read", hop.grant, 0, ticket.size, hop.after))

        def read() -> None:
            with contextlib.suppress(OSError):
                while not self.over.wait(1.0):
                    link._sock.recv(1)

        threading.Thread(target=read, daemon=True).start()

    def stop_in_a_put(self, path: str) -> None:
        ticket = WriteTicket.from_wire(self.peer.call("open_write", path, 64 * MIB, 0, ()))
        first = ticket.chain[0]
        link = self._link(first.name, first.host, first.port)
        link.send_value(Kind.REQUEST, ("write", first.grant, first.after, ticket.route[1:]))
        link.send_data(link._spare)

    def ask_and_read_no_answer(self, path: str) -> Peer:
        """More answers than the system keeps for a reader."""
        peer, channel = self._dial(), None
        channel = peer._connection._channel
        for number in range(100, 400):
            request = HANDLE_METHOD, peer._connection._box(("listdir", (path,), ()))
            data = brine.I1.pack(consts.MSG_REQUEST) + brine.dump((number, request))
            with contextlib.suppress(EOFError, OSError):
                peer._sock.settimeout(0.5)
                channel.send(data)
        return peer

    def close(self) -> None:
        self.over.set()
        for link in self.links:
            link.close()
        self.peer.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_clients_that_do_not_go_on_hold_up_nobody_and_end(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob", nameserver_flags=("--lease", "3"))
    fs = site.connect("honest", Role.CLIENT)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(48 * MIB))
    fs.put(large, "/large")
    fs.mkdir("/wide")
    fs.mkdirs([f"/wide/{'x' * 200}{number}" for number in range(2_000)])
    for name in ("/before", "/meanwhile"):
        fs.mkdir(name)
    alone = latencies(fs, "/before")
    idler = Idler(site)
    for _ in range(4):
        idler.read_byte_by_byte("/large")
    for number in range(4):
        idler.stop_in_a_put(f"/never {number}")
    deaf = [idler.ask_and_read_no_answer("/wide") for _ in range(4)]
    assert fs.du()[0].uploads == 4
    beside = latencies(fs, "/meanwhile")
    print(
        f"alone: median {alone[0]:.3f} s, worst {alone[1]:.3f}; beside slow clients: {beside[0]:.3f}, {beside[1]:.3f}"
    )
    assert beside[0] < max(4 * alone[0], 0.5)
    assert beside[1] < 5
    wait_until("their uploads are over", lambda: fs.du()[0].uploads == 0, STALL + 30)
    assert not fs.exists("/never 0")
    idler.close()
    for peer in deaf:
        peer.close()


class ThinLine:
    """Passes bytes on at `LINE` a second, each way of each connection."""

    def __init__(self, port: int, aim: tuple[str, int]) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._aim = aim
        self.on = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._aim)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError), one:
            while data := one.recv(LINE // 10 if self.on else 1 << 16):
                other.sendall(data)
                if self.on:
                    time.sleep(len(data) / LINE)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.on = False
        self._listener.close()


@contextlib.contextmanager
def thin_line(site: Cluster, name: str) -> Iterator[None]:
    """A storage that is started meanwhile is reached by a slow line alone."""
    line = ThinLine(site.ports[name], ("127.0.0.2", site.ports[name]))
    try:
        yield
    finally:
        line.close()


def without(fs: Session, name: str) -> str:
    """A file that this storage does not hold."""
    for number in range(60):
        fs.write(f"/file {number}", os.urandom(2_000))
        if name not in fs.stat(f"/file {number}").storages:
            return f"/file {number}"
    raise AssertionError(f"every file is on {name}")


def looks(fs: Session, path: str, turns: int = 30) -> tuple[float, float]:
    """(median, worst) seconds for what needs no slow storage."""
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        fs.stat(path)
        fs.ls("/")
        assert len(b"".join(fs.read(path))) == 2_000
        taken.append(time.perf_counter() - began)
    taken.sort()
    return at(taken, 0.5), taken[-1]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["stands still", "has a thin line"])
def test_a_slow_storage_holds_up_only_what_goes_through_it(how: str, cluster: Factory) -> None:
    site = cluster("alice", "bob", nameserver_flags=("--lease", "5"))
    site.ports["carol"] = site.ports["alice"] + 1
    site.names.append("carol")
    with thin_line(site, "carol") if "thin" in how else contextlib.nullcontext():
        carol = site.start_storage("carol", ["--listen", "127.0.0.2"] if "thin" in how else [])
        site.wait_active(["carol"])
        fs = site.connect("honest", Role.CLIENT)
        path = without(fs, "carol")
        alone = looks(fs, path)
        if "still" in how:
            carol.signal(signal.SIGSTOP)
        began = time.monotonic()
        writers = [threading.Thread(target=fs.write, args=(f"/through {number}", bytes(20_000))) for number in range(6)]
        for writer in writers:
            writer.start()
        beside = looks(fs, path)
        time.sleep(max(0.0, 4 - (time.monotonic() - began)))
        carol.signal(signal.SIGCONT)
        for writer in writers:
            writer.join(60)
        took = time.monotonic() - began
        print(f"{how}: (median, worst) seconds: alone {alone}, beside it {beside}; puts through it {took:.1f} s")
        assert beside[0] < max(4 * alone[0], 0.3)
        assert beside[1] < max(8 * alone[1], 3)
        assert all(fs.stat(f"/through {number}").size == 20_000 for number in range(6))
        assert "lost" not in (site.folder / "nameserver.log").read_text()
        site.wait_settled(60)
