"""goggles copy-database: a site moves from SQLite to PostgreSQL and back, and is the same (docs/postgresql.md)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, text

from goggles.meta import copying
from goggles.meta.database import Database
from goggles.meta.tables import entries
from goggles.testing.cluster import SOURCE, Cluster, wait_until
from goggles.testing.postgres import Postgres

pytestmark = pytest.mark.postgresql
Factory = Callable[..., Cluster]


def copy(source: object, target: object) -> subprocess.CompletedProcess[str]:
    words = ["copy-database", "--database", str(source), "--to", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "goggles.cli.goggles", *words],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def rows(where: object, table: Table) -> list[tuple[Any, ...]]:
    database = Database.open(str(where))
    try:
        with database.read() as connection:
            return sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
    finally:
        database.close()


def stop(site: Cluster) -> None:
    for process in [*site.storages.values(), site.nameserver]:
        assert process is not None
        process.stop()


def start(site: Cluster, database: str) -> None:
    site.database = database
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names, 30)


def lived(site: Cluster) -> None:
    """Files, directories below younger ones, removals, wishes, an account."""
    fs = site.connect()
    fs.mkdir("/old/deep", parents=True)
    for number in range(20):
        fs.write(f"/old/deep/file {number} ü🦆", os.urandom(number))
    fs.mkdir("/young")
    fs.mv("/old", "/young/old")
    fs.setrep("/young/old/deep/file 3 ü🦆", 1)
    fs.write("/last", b"x")
    fs.rm("/last")  # the highest number of all is of something that is gone
    fs.set_account("ann", "READONLY")
    site.wait_settled(20)


def test_a_site_moves_to_postgresql_and_back_and_is_the_same(
    cluster: Factory, postgres: Postgres, tmp_path: Path
) -> None:
    site = cluster("alice", "bob")
    first, url, last = site.database, postgres.new_database(), str(tmp_path / "last.db")
    lived(site)
    refused = copy(first, url)
    assert (refused.returncode, "another nameserver uses this database" in refused.stderr) == (1, True), refused
    stop(site)
    there, back = copy(first, url), copy(url, last)
    assert (there.returncode, back.returncode) == (0, 0), (there, back)
    for table in copying.ALL:
        assert rows(first, table) == rows(url, table) == rows(last, table), table.name
    assert next_number(last) == next_number(url) == next_number(first) > max(row[0] for row in rows(first, entries)) + 1
    start(site, url)
    fs = site.connect()
    assert fs.stat("/young/old/deep/file 3 ü🦆").copies == 1
    assert len(b"".join(fs.read("/young/old/deep/file 19 ü🦆"))) == 19
    fs.write("/on postgresql", b"new")
    stop(site)
    assert "has a site in it already" in copy(first, url).stderr
    again = str(tmp_path / "again.db")
    assert copy(url, again).returncode == 0
    start(site, again)
    assert b"".join(fs.read("/on postgresql")) == b"new"
    # whoever starts the old database by mistake loses nothing: the storages have seen a later one
    stop(site)
    site.database = first
    site.start_nameserver()
    site.start_storage("alice")
    wait_until("safe mode", lambda: site.states().get("alice") == "held", 30)
    stop(site)
    start(site, again)


def next_number(where: object) -> int:
    """The id that the next entry would get."""
    database = Database.open(str(where))
    row = {"parent_id": 1, "name": "next", "kind": "d", "created_at": 0.0, "modified_at": 0.0, "size": 0, "sha256": ""}
    row |= {"generation": 0, "uploader": "", "source": ""}
    try:
        with database.write() as connection:
            number = int(connection.execute(insert(entries).returning(entries.c.id), row).scalar_one())
            connection.execute(entries.delete().where(entries.c.id == number))
            if connection.dialect.name == "postgresql":
                sequence = "pg_get_serial_sequence('entries', 'id')"
                connection.execute(text(f"SELECT setval({sequence}, {number - 1})"))
            else:
                connection.execute(text(f"UPDATE sqlite_sequence SET seq = {number - 1} WHERE name = 'entries'"))
        return number
    finally:
        database.close()


def test_nothing_is_copied_where_something_is_wrong(postgres: Postgres, tmp_path: Path) -> None:
    missing = copy(tmp_path / "no.db", tmp_path / "new.db")
    assert (missing.returncode, "there is no database" in missing.stderr) == (1, True)
    assert not (tmp_path / "new.db").exists()
    down = copy(tmp_path / "no.db", "postgresql://nobody@127.0.0.1:1/none")
    assert down.returncode == 1


def test_what_is_not_the_same_when_it_is_read_back_is_not_kept(
    cluster: Factory, postgres: Postgres, tmp_path: Path
) -> None:
    site = cluster("alice")
    site.connect().mkdir("/a")
    stop(site)
    url = postgres.new_database()
    database = Database.open(url)
    database.prepare("goggles", 1.0)
    with database.write() as connection:
        connection.execute(text("CREATE RULE no_accounts AS ON INSERT TO epochs DO INSTEAD NOTHING"))
    done = copy(site.database, url)
    assert (done.returncode, "the rows of epochs are not the same" in done.stderr) == (1, True), done
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM entries")).scalar() == 2, "only the first two"
        assert connection.execute(text("SELECT count(*) FROM storages")).scalar() == 0
    database.close()
    start(site, site.database)
