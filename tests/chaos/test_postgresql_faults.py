"""PostgreSQL is killed, stopped, full, or has no room for one more: nobody gets a wrong answer, nothing is lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.load import Load
from goggles.testing.postgres import Postgres, running, why_not

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]
Harm = Callable[[Postgres], None]
FLAGS = ["--heartbeat", "0.5", "--grace", "3", "--lease", "4"]


@pytest.fixture(scope="module")
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
    assert "Traceback" not in (tmp_path / "site" / "nameserver.log").read_text()
