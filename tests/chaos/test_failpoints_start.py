"""A program dies at each named step of a start, a migration, an export, a get, and of the tools: what it was to make is
there whole or not at all, and doing it again does it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.points import ADMINISTRATOR, EXPORT, FIRST_START, GET, MIGRATION, TOOLS, crash
from tests.contract.steps import changing, p, put

from goggles.clock import ManualClock, SystemClock
from goggles.contracts import orders
from goggles.errors import AlreadyExists, PermissionDenied
from goggles.meta.copying import copy_database
from goggles.meta.database import KNOWN, Database
from goggles.roles import Role
from goggles.storage.vault import Vault
from goggles.testing.cluster import SOURCE, Cluster, Process, wait_until
from goggles.testing.fsck import fsck

pytestmark = pytest.mark.slow
DIGEST = "ab" * 32
REVISIONS = len(KNOWN)


def dead(process: Process) -> None:
    assert process.wait(60) == -signal.SIGKILL


def run(*words: object, point: str = "") -> int:
    """The exit code of a program of ours."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, **(crash(point) if point else {})}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def tool(*words: object, point: str = "") -> int:
    return run("-m", "goggles.cli.goggles", *words, point=point)


def nameserver(folder: Path, *flags: str) -> Cluster:
    return Cluster(folder, (), nameserver_flags=flags)


@pytest.mark.parametrize("point", FIRST_START)
def test_a_first_start_that_was_cut_off_is_done_by_the_next(tmp_path: Path, point: str) -> None:
    tree = tmp_path / "tree.json"
    item = {"path": "/a/file", "type": "FILE", "size": 3, "hash": DIGEST}
    tree.write_text(json.dumps({"/a/file": item}))
    cluster = nameserver(tmp_path / "site", "--treejson", str(tree))
    try:
        dead(cluster.start_nameserver(environment=crash(point)))
        last = cluster.start_nameserver()
        with cluster.connect() as fs:
            assert [entry.path for entry in fs.find("/")] == ["/a", "/a/file"]
            fs.mkdir("/b")
        assert last.log.read_text().count("administrator of this site is") == 1
    finally:
        cluster.stop()
    assert [problem for problem in fsck(cluster.database, {}) if "no copy at all" not in problem] == []


def logs_in(cluster: Cluster, password: str) -> bool:
    peer = cluster.dial("admin", Role.ADMIN)
    try:
        peer.call("login", "admin", password)
        return True
    except PermissionDenied:
        return False
    finally:
        peer.close()


@pytest.mark.parametrize("point", ADMINISTRATOR)
def test_the_password_that_was_shown_last_is_the_administrators_wherever_a_first_start_is_cut_off(
    tmp_path: Path, point: str
) -> None:
    cluster = nameserver(tmp_path / "site")
    try:
        dead(cluster.start_nameserver(environment=crash(point)))
        for _ in range(2):  # with the start after that nothing changes any more
            last = cluster.start_nameserver()
            with cluster.connect() as fs:
                assert fs.listdir("/") == []
            shown = re.findall(r"administrator of this site is admin, with the password (\S+)", last.log.read_text())
            assert len(shown) == (2 if point.endswith("before_administrator") else 1)
            assert [logs_in(cluster, password) for password in shown] == [False] * (len(shown) - 1) + [True]
            last.kill()
        cluster.start_nameserver()
        with cluster.connect() as fs:
            assert fs.listdir("/") == []
        peer = cluster.dial("admin", Role.ADMIN)
        peer.call("update_user", "admin", "another password")  # as docs/librarian.md says for one that is lost
        peer.close()
        assert logs_in(cluster, "another password")
    finally:
        cluster.stop()


@pytest.mark.parametrize("nth", range(1, REVISIONS))
@pytest.mark.parametrize("point", MIGRATION)
def test_a_migration_that_was_cut_off_leaves_the_old_schema_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    cluster = nameserver(tmp_path / "site")
    old(cluster.database, monkeypatch)
    try:
        dead(cluster.start_nameserver(environment=crash(point, nth)))
        left = Database.open(cluster.database)
        assert left.revision() == "0001"
        left.close()
        cluster.start_nameserver()
        with cluster.connect() as fs:
            assert [entry.path for entry in fs.find("/", type="FILE")] == [f"/a/{number}" for number in range(5)]
            fs.mkdir("/b")
    finally:
        cluster.stop()
    said = fsck(cluster.database, {}, whole=False)
    assert [problem for problem in said if "no copy at all" not in problem] == []


def old(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the first schema, with files in it."""
    database = Database.open(where)
    with monkeypatch.context() as past:
        past.setattr("goggles.meta.database.HEAD", "0001")
        database.prepare("home", 7.0)
    with changing(database) as tree:
        tree.mkdir(p("/a"))
        for number in range(5):
            tree.set_owed(put(tree, f"/a/{number}").id, 0)
    database.close()


@pytest.mark.parametrize("point", EXPORT)
def test_an_export_leaves_the_old_tree_or_the_new(tmp_path: Path, point: str) -> None:
    tree = tmp_path / "tree.json"
    cluster = nameserver(tmp_path / "site", "--treejson", str(tree))
    try:
        first = cluster.start_nameserver()
        with cluster.connect() as fs:
            fs.mkdir("/old")
        assert first.stop() == 0
        before = set(json.loads(tree.read_text()))
        second = cluster.start_nameserver(environment=crash(point))
        with cluster.connect() as fs:
            fs.mkdir("/new")
        second.signal(signal.SIGTERM)
        dead(second)
        after = set(json.loads(tree.read_text()))
        assert after == (before | {"/new"} if point.endswith("after_rename") else before)
        assert cluster.start_nameserver().running
        with cluster.connect() as fs:
            assert fs.listdir("/") == ["new", "old"]
    finally:
        cluster.stop()
    assert set(json.loads(tree.read_text())) == before | {"/new"}


@pytest.mark.parametrize("point", GET)
def test_a_get_leaves_the_old_file_or_the_new(tmp_path: Path, point: str) -> None:
    with Cluster(tmp_path / "site", ("alice",)) as cluster:
        with cluster.connect() as fs:
            fs.write("/file", b"new" * 1000)
        certificate, key = (
            cluster.certificates.folder / "admin/admin.crt",
            cluster.certificates.folder / "admin/admin.key",
        )
        local = tmp_path / "local"
        local.write_bytes(b"old")
        words = ["-m", "goggles.cli.client", "--ns_hostname", "localhost", "--ns_port", cluster.port]
        words += ["--ca_cert", cluster.certificates.ca, "--certfile", certificate, "--keyfile", key]
        words += ["-c", f"get -f /file {local}"]
        assert run(*words, point=point) == -signal.SIGKILL
        assert local.read_bytes() == (b"new" * 1000 if point.endswith("after_rename") else b"old")
        assert run(*words) == 0
        assert local.read_bytes() == b"new" * 1000


def filled(where: Path) -> str:
    """A database that a nameserver has used."""
    database = Database.open(where)
    database.prepare("home", 7.0)
    database.begin_epoch(SystemClock())
    with changing(database) as tree:
        tree.mkdir(p("/a"))
        put(tree, "/a/kept")
    database.close()
    return str(where)


@pytest.mark.parametrize("point", [point for point in TOOLS if "copy" in point])
def test_a_copy_of_a_database_that_was_cut_off_is_made_again(tmp_path: Path, point: str) -> None:
    source, target = filled(tmp_path / "source.db"), tmp_path / "target.db"
    words = ("copy-database", "--database", source, "--to", target)
    assert tool(*words, point=point) == -signal.SIGKILL
    left = Database.open(target)
    with left.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM epochs").scalar() == 0
    left.close()
    assert tool(*words) == 0
    with pytest.raises(AlreadyExists):
        copy_database(source, str(target), 1.0)


def test_a_backup_that_was_cut_off_has_no_name(tmp_path: Path) -> None:
    source, folder = filled(tmp_path / "source.db"), tmp_path / "dumps"
    folder.mkdir()
    words = ("backup", "--database", source, "--to", folder)
    assert tool(*words, point="tools.backup.before_name") == -signal.SIGKILL
    assert list(folder.glob("*.sqlite")) == []
    wait_until("a dump", lambda: tool(*words) == 0)
    (made,) = folder.glob("*.sqlite")
    with sqlite3.connect(made) as dump:
        assert dump.execute("SELECT name FROM entries WHERE kind = 'f'").fetchall() == [("kept",)]


def test_a_tree_from_folders_that_was_cut_off_is_not_there(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path / "alice", 1 << 20, ManualClock())
    staged = vault.stage("a" * 32, 4)
    staged.write(b"data")
    staged.finish("3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7", "a" * 32)
    assert vault.apply([orders.publish("a" * 32, "/file", "a" * 32, 1, "")]) == [("ok",)]
    vault.close()
    target = tmp_path / "tree.json"
    words = ("restoretree", "--treejson", target, tmp_path / "alice")
    assert tool(*words, point="tools.restoretree.before_rename") == -signal.SIGKILL
    assert not target.exists()
    assert tool(*words) == 0
    assert "/file" in json.loads(target.read_text())
