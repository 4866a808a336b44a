"""What may stand behind --database, and what is said of what may not."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import ResourceClosedError

from goggles.errors import DatabaseError
from goggles.meta import opening, tables
from goggles.meta.database import Database
from goggles.meta.validating import validate

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a database in it, closed."""
    database = Database.open(tmp_path / "tree.db")
    with database.write() as connection:
        tables.metadata.create_all(connection)
        rows = [{"version": f"{n:032}", "sha256": "0" * 64, "size": n, "removed_at": 1.0} for n in range(2_000)]
        connection.execute(insert(tables.tombstones), rows)
    database.close()
    return tmp_path / "tree.db"


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("postgres://me@host/tree", "postgresql+psycopg://me@host/tree"),
        ("postgresql://me@host/tree", "postgresql+psycopg://me@host/tree"),
        ("sqlite:////var/tree.db", "sqlite+pysqlite:////var/tree.db"),
        ("/var/tree #1.db", "sqlite+pysqlite:////var/tree %231.db"),
    ],
)
def test_a_database_is_a_file_name_or_a_url(given: str, means: str) -> None:
    assert opening.parse_url(given).render_as_string() == means


@pytest.mark.parametrize("given", ["mysql://host/tree", "://", "oracle+what://x", "sqlite://", "sqlite:///:memory:"])
def test_what_it_can_not_be_is_refused_with_what_it_can(given: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        Database.open(given)
    assert "file name" in caught.value.hint


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseError, match="no driver for postgresql") as caught:
        Database.open("postgresql://nobody@localhost/none")
    assert "pip install" in caught.value.hint


def test_a_new_file_is_for_its_owner_only(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_commits_survive_a_power_cut(file: Path) -> None:
    database = Database.open(file)
    with database.write() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(b"shopping list\n" * 500)
    with pytest.raises(DatabaseError, match="damaged") as caught:
        Database.open(file)
    assert "backup" in caught.value.hint and "restoretree" in caught.value.hint
    assert file.read_bytes() == b"shopping list\n" * 500


def test_a_file_that_is_cut_short_is_damaged(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DatabaseError, match="damaged"):
        Database.open(file)


def test_a_page_that_was_overwritten_is_damage(file: Path) -> None:
    with open(file, "r+b") as raw:
        raw.seek(-3 * 4096, os.SEEK_END)
        raw.write(os.urandom(4096))
    with pytest.raises(DatabaseError, match="damaged"):
        Database.open(file)


def test_only_the_head_of_a_large_file_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(file, "r+b") as raw:
        raw.seek(-3 * 4096, os.SEEK_END)
        raw.write(os.urandom(4096))
    monkeypatch.setattr(opening, "SMALL", 4096)
    Database.open(file).close()


@pytest.fixture
def somebody(file: Path) -> Iterator[Path]:
    """The same file, for a user who is not its owner."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folders = [folder for folder in file.parents if folder.owner() == "root" and folder != Path("/")]
    modes = [(folder, stat.S_IMODE(folder.stat().st_mode)) for folder in folders]
    for folder, mode in modes:
        folder.chmod(mode | 0o555)
    file.chmod(0o644)
    os.seteuid(NOBODY)
    yield file
    os.seteuid(0)
    for folder, mode in modes:
        folder.chmod(mode)


def test_a_file_that_can_not_be_written_to_is_refused(somebody: Path) -> None:
    with pytest.raises(DatabaseError, match="can not be written to"):
        Database.open(somebody)


def test_a_file_that_can_not_be_made_is_refused(somebody: Path) -> None:
    with pytest.raises(DatabaseError, match="can not be made: Permission denied"):
        Database.open(somebody.with_name("new.db"))


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="is a folder"):
        Database.open(tmp_path)
    with pytest.raises(DatabaseError, match="no folder"):
        Database.open(tmp_path / "missing" / "tree.db")


def test_a_database_locked_by_another_program_is_told_so(file: Path) -> None:
    database = Database.open(file, timeout=0.02)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseError, match="locked by another program"), database.write():
        pass
    other.close()
    database.close()


def test_a_mistake_of_the_program_is_not_taken_for_one_of_the_operator() -> None:
    said = opening.explain(ResourceClosedError("connection closed"), opening.parse_url("/tree.db"))
    assert "failed: connection closed" in said.message


def test_passwords_are_not_shown() -> None:
    url = opening.parse_url("postgresql://me:secret@host/tree")
    assert "secret" not in str(opening.explain(OSError("no route"), url)) + repr(url)


def test_validate_finds_what_is_wrong(file: Path) -> None:
    database = Database.open(file)
    row = {"parent_id": 9, "name": "a", "kind": "f", "copies": 1, "created_at": 1.0, "modified_at": 1.0, "size": 1}
    row |= {"sha256": "short", "generation": 1, "version": f"{7:032}", "uploader": "", "source": ""}
    with database.write() as connection:
        connection.execute(insert(tables.totals), {"id": 1, "files": 0, "directories": 0, "size": 0})
        connection.execute(insert(tables.entries), {**row, "id": 10})
        connection.execute(insert(tables.owed), {"entry_id": 11, "live": 0, "since": 1.0})
        instance = {"entry_id": 10, "storage_id": 1, "size": 2, "created_at": 1.0, "verified_at": 1.0}
        connection.execute(insert(tables.instances), instance)
        found = " / ".join(validate(connection))
    database.close()
    for part in (
        "no directory above",
        "not the root",
        "not reached",
        "lacks",
        "let go",
        "is owed",
        "nobody",
        "another size",
    ):
        assert part in found, part
    assert "the books say (0, 0, 0)" in found
