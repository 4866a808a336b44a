"""PostgreSQL carries a commit out and its answer is lost: nobody may go on as if it had, or had not, happened."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.postgres import Postgres

pytestmark = pytest.mark.postgresql
FLAGS = ["--heartbeat", "0.5", "--grace", "3", "--lease", "4"]


class Proxy:
    """Passes everything on; once armed, it cuts a connection between a COMMIT that wrote receipts and its answer."""

    def __init__(self, port: int) -> None:
        self._aim = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed = False
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        for sock in list(self._sockets):
            _cut(sock)
        for thread in list(self._threads):
            thread.join(5)
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far, seen = socket.create_connection(("127.0.0.1", self._aim)), {"receipt": False, "cut": False}
            self._sockets += [near, far]
            for task in (self._ask, self._answer):
                self._threads.append(threading.Thread(target=task, args=(near, far, seen), daemon=True))
                self._threads[-1].start()

    def _ask(self, near: socket.socket, far: socket.socket, seen: dict[str, bool]) -> None:
        try:
            while data := near.recv(65_536):
                seen["receipt"] |= self.armed and b"INSERT INTO receipts" in data
                if self.armed and seen["receipt"] and b"COMMIT" in data:
                    seen["cut"], self.armed = True, False
                far.sendall(data)
        except OSError:
            pass
        _cut(far)

    def _answer(self, near: socket.socket, far: socket.socket, seen: dict[str, bool]) -> None:
        try:
            while data := far.recv(65_536):
                if seen["cut"]:
                    break
                near.sendall(data)
        except OSError:
            pass
        _cut(near)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_what_was_committed_without_an_answer_is_kept(postgres: Postgres, tmp_path: Path) -> None:
    url, proxy = postgres.new_database(), Proxy(postgres.port)
    local = tmp_path / "local"
    local.mkdir()
    files = {f"/d/{number}": b"precious %d" % number for number in range(8)}
    for path, data in files.items():
        (local / path.rpartition("/")[2]).write_bytes(data)
    through = url.replace(f":{postgres.port}/", f":{proxy.port}/")
    assert through != url
    with Cluster(tmp_path / "site", ("alice", "bob"), database=through, nameserver_flags=FLAGS) as cluster:
        with cluster.connect(timeout=60) as fs:
            fs.mkdir("/d")
            cluster.wait_settled()
            dying = cluster.nameserver
            assert dying is not None
            proxy.armed = True
            reviver = threading.Thread(target=lambda: (dying.wait(60), cluster.start_nameserver()))
            reviver.start()
            summary = fs.put_tree(local, "/d")
            reviver.join()
            cluster.wait_active(("alice", "bob"))
            assert summary.failed == []
            cluster.wait_settled()
            assert {path: b"".join(fs.read(path)) for path in files} == files
        wait_until("order", lambda: fsck(through, {name: cluster.root(name) for name in cluster.names}) == [], 20)
        assert "not known whether a change was committed" in dying.log.read_text()
    proxy.stop()
