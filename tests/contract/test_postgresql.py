"""What PostgreSQL alone can do to a nameserver: put a transaction back, refuse a connection, prefer other rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from tests.contract.conftest import KINDS, Maker
from tests.contract.steps import changing, looking, p

from goggles.clock import ManualClock
from goggles.errors import DatabaseAway, DatabaseError, Overloaded
from goggles.meta.database import Database
from goggles.nameserver.decisions import Decisions, Transaction
from goggles.nameserver.dircache import DirCache
from goggles.testing.cluster import wait_until
from goggles.testing.postgres import Postgres, running, why_not

pytestmark = pytest.mark.postgresql
ON_POSTGRESQL = pytest.mark.parametrize("maker", KINDS[1:], indirect=True)
HICCUP = """
CREATE SEQUENCE hiccups;
CREATE FUNCTION hiccup() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('hiccups') <= {times} THEN RAISE EXCEPTION 'hiccup' USING ERRCODE = '{code}'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER hiccup BEFORE INSERT ON entries FOR EACH ROW WHEN (NEW.name LIKE 'new%') EXECUTE FUNCTION hiccup();
"""


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def decisions(database: Database) -> Decisions:
    return Decisions(database, DirCache(), ManualClock(), 2)


def mkdir(name: str):
    def decide(tx: Transaction) -> list[str]:
        return [str(path) for path in tx.tree.mkdir(p(name))]

    return decide


@pytest.fixture
def narrow() -> Iterator[Postgres]:
    """A server that takes no more than five connections."""
    if why_not():
        pytest.skip(why_not())
    with running("max_connections=5", "superuser_reserved_connections=0", "max_wal_senders=0") as server:
        yield server


@ON_POSTGRESQL
@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
def test_a_transaction_that_was_put_back_runs_again(database: Database, where: str, code: str) -> None:
    """Serialization failure, deadlock, lock not available: alone and in a group."""
    with psycopg.connect(plain(where), autocommit=True) as connection:
        connection.execute(HICCUP.format(times=1, code=code))
    deciding = decisions(database)
    assert deciding.run(mkdir("/new")) == ["/new"]
    with psycopg.connect(plain(where), autocommit=True) as connection:
        connection.execute("ALTER SEQUENCE hiccups RESTART")
    assert deciding.run_all([mkdir("/new 1"), mkdir("/old"), mkdir("/new 2")]) == [["/new 1"], ["/old"], ["/new 2"]]
    with looking(database) as tree:
        assert [entry.name for entry in tree.listing(p("/"))] == ["new", "new 1", "new 2", "old"]


@ON_POSTGRESQL
def test_what_is_put_back_again_and_again_is_told_as_overload(database: Database, where: str) -> None:
    with psycopg.connect(plain(where), autocommit=True) as connection:
        connection.execute(HICCUP.format(times=1_000, code="40001"))
    with pytest.raises(Overloaded, match="let another program go first: hiccup"):
        decisions(database).run(mkdir("/new"))


@ON_POSTGRESQL
@pytest.mark.parametrize("preferred", ["repeatable read", "serializable"])
def test_who_waited_for_a_new_epoch_sees_it_whatever_the_server_prefers(
    maker: Maker, where: str, preferred: str
) -> None:
    """An older snapshot would show the writer its own epoch as the last one."""
    with psycopg.connect(plain(where), autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{preferred}'")
    database, errors = Database.open(where, timeout=5), list[BaseException]()
    database.begin_epoch(ManualClock())

    def write() -> None:
        try:
            with changing(database) as tree:
                tree.mkdir(p("/after"))
        except DatabaseError as error:
            errors.append(error)

    with psycopg.connect(plain(where)) as other:
        other.execute("SELECT id FROM site FOR UPDATE")
        other.execute("INSERT INTO epochs (number, token, started_at) VALUES (2, 'x', 0)")
        writer = threading.Thread(target=write)
        writer.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with psycopg.connect(plain(where), autocommit=True) as watch:
            wait_until("it waits", lambda: watch.execute(waiting).fetchone() == (1,), 10)
        other.commit()
        writer.join()
    assert [str(error) for error in errors] == [
        "another nameserver has taken over this database (stop this one)",
    ]
    with looking(database) as tree:
        assert tree.find(p("/after")) is None
    database.close()


@ON_POSTGRESQL
def test_a_connection_that_is_cut_before_the_commit_has_done_nothing(database: Database) -> None:
    def decide(tx: Transaction) -> None:
        tx.tree.mkdir(p("/a"))
        tx.tree.tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    deciding = decisions(database)
    with pytest.raises(DatabaseAway, match="broke the connection"):
        deciding.run_all([decide, mkdir("/b")])
    assert deciding.run(mkdir("/a")) == ["/a"]
    with looking(database) as tree:
        assert [entry.name for entry in tree.listing(p("/"))] == ["a"]


def test_when_there_is_no_connection_left_it_is_said_and_passes(narrow: Postgres) -> None:
    url = narrow.new_database()
    hogs = [psycopg.connect(plain(url)) for _ in range(5)]
    with pytest.raises(DatabaseAway, match="takes no more connections") as caught:
        Database.open(url, timeout=5)
    assert "max_connections" in caught.value.hint
    for hog in hogs[:2]:
        hog.close()
    database = Database.open(url, timeout=5)
    database.prepare("home", 1.0)
    with database.read() as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(DatabaseAway, match="takes no more connections"), database.read():
            pass
    with database.read() as again:
        assert again.execute(text("SELECT 1")).scalar() == 1
    database.close()
    for hog in hogs:
        hog.close()
