"""Whatever a power cut leaves of the nameserver's SQLite files: what was answered is there, the rest whole or not."""

from __future__ import annotations

import contextlib
import ctypes
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.chaos import sqlite_disk
from tests.chaos.sqlite_disk import Op, Tape
from tests.contract.steps import put

from goggles.clock import ManualClock
from goggles.errors import DatabaseError
from goggles.meta import tables
from goggles.meta.database import Database
from goggles.nameserver.decisions import Decisions, Transaction
from goggles.nameserver.dircache import DirCache
from goggles.paths import parse

STATES = 80
CHECKPOINT = 60  # pages: checkpoints come often
Known = frozenset[str]


@dataclass
class Life:
    """A database at work: what was done below SQLite, and what had been answered by when."""

    tape: Tape
    answered: list[tuple[int, Known]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def say(self) -> None:
        self.answered.append((len(self.tape.ops), frozenset(self.names)))


@pytest.fixture(scope="module")
def sqlite() -> ctypes.CDLL:
    found = sqlite_disk.library()
    if found is None:
        pytest.skip("the SQLite of this Python can not be reached")
    return found


def live(sqlite: ctypes.CDLL, where: Path, durable: bool) -> Life:
    """A new database, and some groups of decisions."""
    with sqlite_disk.recorded(sqlite, where) as tape:
        life = Life(tape)
        database = Database.open(where, durable=durable)
        try:
            database.prepare("home", 1.0)
            with database.write() as connection:
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
            raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT}")
            life.say()
            decisions = Decisions(database, DirCache(), ManualClock(), 2)
            decisions.load()
            for group in range(60):
                decide(life, decisions, group)
        finally:
            ended = len(tape.ops)
            database.close()
        del tape.ops[ended:]  # a power cut comes without a stop
    return life


def decide(life: Life, decisions: Decisions, group: int) -> None:
    """One group: a directory with a few files, and now and then one that goes again."""
    made = {f"/{group}", *(f"/{group}/{n}" for n in range(group % 7))}
    gone = {name for name in life.names if group % 5 == 4 and name.startswith(f"/{group - 1}/")}

    def change(tx: Transaction) -> None:
        tx.tree.mkdir(parse(f"/{group}"))
        for name in sorted(made - {f"/{group}"}):
            put(tx.tree, name, size=group)
        for name in gone:
            tx.tree.rm(parse(name))

    decisions.run(change)
    life.names = (life.names | made) - gone
    life.say()


@pytest.fixture(scope="module")
def life(sqlite: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> Life:
    made = live(sqlite, tmp_path_factory.mktemp("life") / "goggles.db", durable=True)
    synced = {op.file for op in made.tape.ops if op.kind == "sync"}
    print(f"{len(made.tape.ops)} operations, {len(made.answered)} answers")
    assert synced >= {"goggles.db", "goggles.db-wal"}, "no checkpoint came"
    return made


def wrong(life: Life, moment: int, files: dict[str, bytes], folder: Path) -> list[str]:
    """What is not as it should be in a database of these files."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = [known for when, known in life.answered if when <= moment]
    after = [known for when, known in life.answered if when > moment][:1]
    try:
        with contextlib.closing(Database.open(folder / "goggles.db", durable=False)) as database:
            if database.revision() is None or not has_site(database):
                return ["missing is all of it"] if before else []
            found = paths(database)
            allowed = [*before[-1:], *after] if before else [frozenset()]
            return [*books(database), *([] if found in allowed else [difference(found, allowed)])]
    except (DatabaseError, sqlite3.Error) as error:
        return [f"it does not open: {error}"]
    finally:
        shutil.rmtree(folder)


def has_site(database: Database) -> bool:
    with database.read() as connection:
        return connection.execute(select(tables.site.c.id)).first() is not None


def difference(found: Known, allowed: list[Known]) -> str:
    return f"missing {sorted(allowed[0] - found)[:5]}, not answered {sorted(found - allowed[-1])[:5]}"


def paths(database: Database) -> Known:
    """Everything in the tree; one level of directories is enough here."""
    e = tables.entries.c
    with database.read() as connection:
        rows = connection.execute(select(e.id, e.parent_id, e.name).where(e.id > tables.TRASH_ID)).all()
    names = {row.id: row.name for row in rows}
    above = {row.id: f"/{names[row.parent_id]}" if row.parent_id in names else "" for row in rows}
    return frozenset(f"{above[row.id]}/{row.name}" for row in rows)


def books(database: Database) -> list[str]:
    """The totals, and what SQLite says of its own pages."""
    e, t = tables.entries.c, tables.totals.c
    with database.read() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        whole = raw.execute("PRAGMA integrity_check").fetchone()[0]
        files, size = connection.execute(
            select(func.count(), func.coalesce(func.sum(e.size), 0)).where(e.kind == "f")
        ).one()
        directories = connection.execute(select(func.count()).where(e.kind == "d", e.id > tables.TRASH_ID)).scalar_one()
        said = connection.execute(select(t.files, t.directories, t.size)).one()
    found = [] if whole == "ok" else [whole]
    if tuple(said) != (files, directories, size):
        found.append(f"the totals are {tuple(said)}, there are {(files, directories, size)}")
    return found


def look(
    life: Life, folder: Path, seed: int, most: int, obeyed: Callable[[Op], bool] = lambda _: True
) -> Iterator[str]:
    """What is wrong, in so many states."""
    chance = random.Random(seed)
    for number in range(most):
        moment = chance.randrange(len(life.tape.ops) + 1)
        files = sqlite_disk.cut(life.tape.ops[:moment], chance, obeyed)
        for problem in wrong(life, moment, files, folder / str(number)):
            yield f"after {moment} operations: {problem}"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_power_cut_leaves_of_the_database_has_what_was_answered(
    life: Life, tmp_path: Path, seed: int
) -> None:
    assert list(look(life, tmp_path, seed, STATES)) == []


@pytest.mark.parametrize("file", ["goggles.db", "goggles.db-wal"])
def test_without_the_syncs_of_one_of_the_files_something_is_lost(life: Life, tmp_path: Path, file: str) -> None:
    found = next(look(life, tmp_path, 1, 10 * STATES, lambda op: op.file != file), "")
    print(found)
    assert found


def test_a_database_that_leaves_it_to_the_system_loses_what_was_answered_and_stays_whole(
    sqlite: ctypes.CDLL, tmp_path: Path
) -> None:
    """--durability os: the last decisions may go, and nothing else."""
    relaxed = live(sqlite, tmp_path / "goggles.db", durable=False)
    found = list(look(relaxed, tmp_path, 1, 2 * STATES))
    assert found
    assert [problem for problem in found if ": missing" not in problem] == []
