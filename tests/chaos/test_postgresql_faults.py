"""PostgreSQL is killed, stopped, full, or has no room for one more: nobody gets a wrong answer, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goggles.errors import DatabaseError
from goggles.paths import parse
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.load import Load
from goggles.testing.postgres import OWNER, Postgres, running, why_not

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]
Harm = Callable[[Postgres], None]
FLAGS = ["--heartbeat", "0.5", "--grace", "3", "--lease", "4"]


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that a test may do harm to."""
    if why_not():
        pytest.skip(why_not())
    with running() as mine:
        yield mine


def ask(url: str, *statements: str) -> list[Any]:
    """What the last of them answers."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def supervised(cluster: Cluster) -> Iterator[list[int]]:
    """As systemd does: the nameserver is started again whenever it ends; its exit codes."""
    over, codes = threading.Event(), list[int]()

    def watch() -> None:
        while not over.is_set():
            server = cluster.nameserver
            assert server is not None
            if not server.running:
                codes.append(server.wait())
                cluster.start_nameserver()
            over.wait(0.3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield codes
    finally:
        over.set()
        watcher.join()


def kill(server: Postgres) -> None:
    server.kill()
    time.sleep(2)
    server.start()


def stop_at_once(server: Postgres) -> None:
    server.stop("immediate")
    time.sleep(1)
    server.start()


def restart(server: Postgres) -> None:
    server.stop("fast")
    server.start()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("harm", [kill, stop_at_once, restart])
def test_the_database_server_dies_under_load(
    harm: Callable[[Postgres], None], server: Postgres, tmp_path: Path
) -> None:
    url = server.new_database()
    with Cluster(tmp_path / "site", ("alice", "bob"), database=url, nameserver_flags=FLAGS) as cluster:

        def meanwhile() -> None:
            for _ in range(2):
                time.sleep(3)
                harm(server)

        with supervised(cluster) as codes, Load(cluster, processes=2) as load:
            figures = load.busy(8, 16, meanwhile=meanwhile)
            cluster.wait_active(("alice", "bob"))
        print(figures, codes)
        # The storages come back after the nameserver; a busy machine may take longer for that than clients wait.
        assert [error for error in figures.errors if "no storage " not in error] == []
        assert codes, "it held its lease through the end of the database"
        assert set(codes) <= {1}
        cluster.wait_settled()
    wait_until("order", lambda: fsck(url, {name: cluster.root(name) for name in cluster.names}) == [], 20)
    assert unexpected((tmp_path / "site" / "nameserver.log").read_text()) == []


def unexpected(text: str) -> list[str]:
    """The records of a log that have a traceback, but for that of a commit which the end of the server cut off."""
    records = re.split(r"(?m)^(?=\d{4}-)", text)
    return [record for record in records if "Traceback" in record and "not known whether a change was" not in record]


@pytest.fixture
def small_disk(server: Postgres, tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB, as the tablespace `small` of the server."""
    folder = Path(tempfile.mkdtemp(prefix="goggles-small-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tiny", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    shutil.chown(folder, OWNER)
    folder.chmod(0o700)
    ask(server.new_database(), f"CREATE TABLESPACE small LOCATION '{folder}'")
    try:
        yield folder
    finally:
        server.stop("immediate")
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_the_disk_of_the_database_is_full(server: Postgres, small_disk: Path, tmp_path: Path) -> None:
    url = server.new_database("--tablespace=small")
    with Cluster(tmp_path / "site", ("alice", "bob"), database=url, nameserver_flags=FLAGS) as cluster:
        fs = cluster.connect()
        fs.mkdir("/before")
        fs.write("/kept", b"kept")
        with open(small_disk / "ballast", "wb") as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(1 << 16))
                ballast.flush()
        with pytest.raises(DatabaseError, match="has no room: its disk is full") as caught:
            for number in range(20_000):
                fs.mkdirs([parse(f"/before/{number} {turn}") for turn in range(200)])
                fs.mkdir(f"/before/{number}")
        assert "nothing was changed" in caught.value.hint
        assert b"".join(fs.read("/kept")) == b"kept"
        assert cluster.states() == {"alice": "active", "bob": "active"}
        (small_disk / "ballast").unlink()
        fs.write("/after", b"after")
        cluster.wait_settled()
    assert fsck(url, {name: cluster.root(name) for name in cluster.names}) == []


def test_others_take_the_connections_of_the_database(tmp_path: Path) -> None:
    """The nameserver goes on with those that it has."""
    if why_not():
        pytest.skip(why_not())
    settings = ("max_connections=12", "superuser_reserved_connections=0", "max_wal_senders=0")
    with running(*settings) as narrow, contextlib.ExitStack() as hogs:
        url = narrow.new_database()
        with Cluster(tmp_path / "site", ("alice", "bob"), database=url, nameserver_flags=FLAGS) as cluster:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    hogs.enter_context(contextlib.closing(psycopg.connect(url.replace("+psycopg", ""))))
            with Load(cluster, processes=2) as load:
                figures = load.busy(8, 5)
            hogs.close()
            print(figures)
            assert figures.errors == []
            cluster.wait_settled()
        assert fsck(url, {name: cluster.root(name) for name in cluster.names}) == []
