"""goggles backup: a dump of a running site, and the site that is made from it (docs/backup.md)."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.errors import GogglesError
from goggles.meta.database import Database
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.postgres import Postgres

Factory = Callable[..., Cluster]
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes the place of a new, empty database."""
    if request.param == "sqlite":
        numbers = iter(range(9))
        return lambda: str(tmp_path / f"database-{next(numbers)}.db")
    return request.getfixturevalue("postgres").new_database  # type: ignore[no-any-return]


def goggles(*words: object, cwd: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "goggles.cli.goggles", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCE, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    return done


def backup(site: Cluster, folder: Path) -> Path:
    done = goggles("backup", "--database", site.database, "--to", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def restore(dump: Path, place: str) -> None:
    """As docs/backup.md says."""
    if dump.suffix == ".sqlite":
        Path(place).write_bytes(dump.read_bytes())
    else:
        url = place.replace("postgresql+psycopg", "postgresql")
        subprocess.run(["pg_restore", "--no-owner", "-d", url, str(dump)], check=True, capture_output=True)


def halt(site: Cluster) -> None:
    for process in [*site.storages.values(), site.nameserver]:
        assert process is not None
        process.stop()


def content(fs: Session, path: str) -> bytes:
    return b"".join(fs.read(path))


def everything(fs: Session) -> dict[str, bytes]:
    return {entry.path: content(fs, entry.path) for entry in fs.find("/", type="FILE")}


OLD = {"/d/kept": b"kept", "/d/overwritten": b"before", "/d/removed": b"removed", "/d/renamed": b"renamed"}


def older(cluster: Factory, database: Callable[[], str], folder: Path) -> Cluster:
    """A site on a database that was dumped before its files were changed; its storages are held."""
    site = cluster("alice", "bob", database=database())
    fs = site.connect()
    fs.mkdir("/d")
    for path, data in OLD.items():
        fs.write(path, data)
    site.wait_settled(20)
    dump = backup(site, folder)
    fs.write("/d/overwritten", b"after")
    fs.rm("/d/removed")
    fs.mv("/d/renamed", "/d/another name")
    fs.write("/d/new", b"new")
    site.wait_settled(20)
    halt(site)
    site.database = database()
    restore(dump, site.database)
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    wait_until("all held", lambda: set(site.states().values()) == {"held"}, 30)
    return site


def test_accept_makes_the_site_as_it_was_at_the_dump(
    cluster: Factory, database: Callable[[], str], tmp_path: Path
) -> None:
    site = older(cluster, database, tmp_path)
    fs = site.connect(timeout=2)
    assert content(fs, "/d/kept") == b"kept"
    for name in site.names:
        fs.accept(name)
    site.wait_active(site.names, 30)
    wait_until("what is gone is known to be gone", lambda: lost(fs) == {"/d/overwritten", "/d/removed"}, 20)
    assert content(fs, "/d/renamed") == b"renamed"
    assert not fs.exists("/d/new")
    kept = {p.read_bytes() for p in (site.root("alice") / ".goggles/quarantine").glob("*/**/*") if p.is_file()}
    assert {b"after", b"new"} <= kept
    for path in lost(fs):
        fs.rm(path)
    assert everything(fs) == {"/d/kept": b"kept", "/d/renamed": b"renamed"}


def test_restoretree_takes_what_came_after_the_dump(
    cluster: Factory, database: Callable[[], str], tmp_path: Path
) -> None:
    site = older(cluster, database, tmp_path)
    fs = site.connect(timeout=2)
    for name in site.names:
        fs.restoretree(name)
    site.wait_active(site.names, 30)
    wait_until("what is gone is known to be gone", lambda: "/d/removed" in lost(fs), 20)
    for path in lost(fs):
        fs.rm(path)
    found = everything(fs)
    assert (found["/d/kept"], found["/d/new"], found["/d/renamed"]) == (b"kept", b"new", b"renamed")
    beside = [data for path, data in found.items() if path.startswith("/d/overwritten.restored-")]
    assert beside == [b"after"], found
    fs.write("/d/more", b"more")
    assert content(fs, "/d/more") == b"more"


def lost(fs: Session) -> set[str]:
    """Files that no storage has."""
    return {entry.path for entry in fs.find("/d", type="FILE") if not entry.storages}  # type: ignore[union-attr]


def test_a_dump_is_one_moment_while_writers_are_at_work(
    cluster: Factory, database: Callable[[], str], tmp_path: Path
) -> None:
    site = cluster("alice", database=database(), nameserver_flags=["--copies", "1"])
    ended, errors = threading.Event(), list[GogglesError]()

    def write() -> None:
        with site.connect() as fs:
            number = 0
            while not ended.is_set():
                try:
                    fs.write(f"/file-{number}", b"%d" % number)
                except GogglesError as error:
                    errors.append(error)
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with site.connect() as fs:
            wait_until("files", lambda: len(fs.listdir("/")) > 30)
        dumps = []
        for folder in (tmp_path / "one", tmp_path / "two"):
            folder.mkdir()
            dumps.append(backup(site, folder))
    finally:
        ended.set()
        writer.join()
    assert errors == []
    sizes = []
    for dump in dumps:
        assert [path.name for path in dump.parent.iterdir()] == [dump.name], "nothing is left beside it"
        assert stat.S_IMODE(dump.stat().st_mode) == 0o600
        place = database()
        restore(dump, place)
        problems = fsck(place, {})
        assert problems == []
        sizes.append(count(place))
    assert 30 < sizes[0] < sizes[1]


def count(place: str) -> int:
    opened = Database.open(place)
    try:
        with opened.read() as connection:
            rows = connection.exec_driver_sql("SELECT count(*) FROM entries WHERE kind = 'f'").scalar()
            total = connection.exec_driver_sql("SELECT files FROM totals").scalar()
    finally:
        opened.close()
    assert rows == total
    return int(rows or 0)


def test_a_dump_can_go_into_the_tree(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob", site="kat-7")
    fs = site.connect()
    fs.write("/file", b"bytes")
    place = ["--database", site.database, "--upload", "/backups/of/database", "--ns_port", site.port]
    to = [*place, *site.certificates.flags("client", Role.CLIENT)]
    done = goggles("backup", *to, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = done.stdout.strip()
    assert re.fullmatch(r"/backups/of/database/kat-7-\d{8}T\d{6}Z\.sqlite", path)
    assert list(tmp_path.glob("*.sqlite")) == []
    fs.get(path, tmp_path / "back.db")
    with sqlite3.connect(tmp_path / "back.db") as connection:
        assert connection.execute("SELECT count(*) FROM entries WHERE name = 'file'").fetchone() == (1,)
    connection.close()
    both = goggles("backup", *to, "--upload", "/other", "--to", tmp_path, cwd=tmp_path)  # the last word counts
    local, there = both.stdout.split()
    assert Path(local).read_bytes() == content(fs, there)


def test_older_dumps_go_from_folder_and_tree_alike(
    cluster: Factory, database: Callable[[], str], tmp_path: Path
) -> None:
    site = cluster("alice", "bob", database=database())
    fs = site.connect()
    kind = "sqlite" if "://" not in site.database else "pgdump"
    others = ["other-20200101T000000Z.sqlite", "goggles-20200101T000000Z.txt", "goggles-1.sqlite", "notes"]
    older = [f"goggles-2020010{day}T000000Z.{kind}" for day in range(1, 6)]
    (tmp_path / "to").mkdir()
    fs.mkdir("/backups")
    for name in others + older:
        (tmp_path / "to" / name).write_bytes(b"x")
        fs.write(f"/backups/{name}", b"x")
    flags = ["--to", "to", "--upload", "/backups", "--ns_port", site.port]
    flags += site.certificates.flags("client", Role.CLIENT)
    done = goggles("backup", "--database", site.database, "--keep", 3, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    left = sorted([*others, *older[-2:], Path(done.stdout.split()[0]).name])
    assert sorted(os.listdir(tmp_path / "to")) == left
    assert sorted(fs.listdir("/backups")) == left
    failed = goggles("backup", "--database", "nothing.db", "--keep", 1, *flags, cwd=tmp_path)
    assert failed.returncode != 0
    assert sorted(os.listdir(tmp_path / "to")) == left, "nothing goes where nothing came"
    assert "at least 1" in goggles("backup", "--database", "x", "--keep", 0, cwd=tmp_path).stderr.splitlines()[-1]


def test_a_site_is_made_from_a_dump_in_a_storages_folder(
    cluster: Factory, database: Callable[[], str], tmp_path: Path
) -> None:
    """Nothing is left but the storages' disks and the keys: no nameserver, no database, no other dump."""
    site = cluster("alice", "bob", database=database())
    fs = site.connect()
    for path, data in {"/one": b"1", "/two": b"2"}.items():
        fs.write(path, data)
    flags = ["--upload", "/backups", "--ns_port", site.port, *site.certificates.flags("client", Role.CLIENT)]
    done = goggles("backup", "--database", site.database, "--keep", 14, *flags, cwd=tmp_path)
    name = Path(done.stdout.strip()).name
    fs.write("/three", b"3")
    site.wait_settled(20)
    halt(site)
    for dump in (site.root("alice") / "backups").iterdir():
        assert dump.name == name
        site.database = database()
        restore(dump, site.database)
    site.start_nameserver()
    for storage in site.names:
        site.start_storage(storage)
    wait_until("all held", lambda: set(site.states().values()) == {"held"}, 30)
    for storage in site.names:
        fs.restoretree(storage)
    site.wait_active(site.names, 30)
    found = everything(fs)
    assert {path: found[path] for path in ("/one", "/two", "/three")} == {"/one": b"1", "/two": b"2", "/three": b"3"}
    assert f"/backups/{name}" in found, "the dump itself, which no dump knows"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--database", "nothing.db"], "there is no database"),
        (["--database", "text"], "is damaged"),
        (["--database", "{database}", "--to", "nowhere"], "there is no folder nowhere"),
        (["--database", "{database}", "--upload", "relative"], "relative"),
        (["--database", "mysql://x/y"], "not supported"),
        ([], "--database"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(site: Cluster, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "text").write_text("no database at all, but long enough to be read")
    flags = [*site.certificates.flags("client", Role.CLIENT), "--ns_port", str(site.port)]
    extra = flags if "--upload" in words else []
    done = goggles("backup", *[word.format(database=site.database) for word in words], *extra, cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "text"] == []


@pytest.mark.postgresql
def test_what_is_wrong_with_pg_dump_is_said(postgres: Postgres, cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", database=postgres.new_database())
    (tmp_path / "empty").mkdir()
    without = {"PATH": str(tmp_path / "empty")}
    done = goggles("backup", "--database", site.database, cwd=tmp_path, environment=without)
    assert (done.returncode, "pg_dump is not installed" in done.stderr) == (2, True)
    broken = tmp_path / "empty" / "pg_dump"
    broken.write_text("#!/bin/sh\necho 'server version mismatch' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = goggles("backup", "--database", site.database, cwd=tmp_path, environment=without)
    assert (done.returncode, "server version mismatch" in done.stderr) == (1, True)
    assert list(tmp_path.glob("*.pgdump")) == list(tmp_path.glob(".*.part")) == []
