"""A whole database into another one, of whichever kind: from SQLite to PostgreSQL and back.

Law: nobody decides over either of them meanwhile (both leases are held); the new one gets all rows or none, in one
transaction that ends only after they were read back and found the same; numbers that were used are not used again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, delete, func, insert, literal, select, text

from goggles import failpoints
from goggles.errors import AlreadyExists, DatabaseError
from goggles.meta import peering, tables
from goggles.meta.database import HEAD, LAST_EPOCH, Database
from goggles.meta.dumping import site_name

PAGE = 2_000
ALL = peering.peers.metadata.sorted_tables
MASK = (1 << 64) - 1


def copy_database(source: str, target: str, now: float) -> int:
    """Copy everything from `source` to `target`, a new database; the number of rows.

    AlreadyExists where a nameserver has ever used `target`; DatabaseError where one uses either of them."""
    name = site_name(source)
    with _held(source) as old:
        if old.revision() != HEAD:
            raise DatabaseError(
                f"{source} was made by another version (schema {old.revision()}, this one knows {HEAD})",
                "start the nameserver of this version on it once, and stop it again",
            )
        with _held(target) as new:
            if new.revision() is not None and _last_epoch(new) is not None:
                raise AlreadyExists("the target has a site in it already", "give a new, empty database")
            new.prepare(name, now)
            failpoints.hit("tools.copy.before_rows")
            with old.read() as reading, new.write() as writing:
                copied = _copy(reading, writing)
                failpoints.hit("tools.copy.before_commit")
                return copied


@contextlib.contextmanager
def _held(where: str) -> Iterator[Database]:
    """An open database that nobody else decides over."""
    opened = Database.open(where)
    try:
        lease = opened.lease()
        try:
            yield opened
        finally:
            lease.release()
    finally:
        opened.close()


def _last_epoch(database: Database) -> int | None:
    with database.read() as connection:
        return connection.execute(LAST_EPOCH).scalar()


def _copy(reading: Connection, writing: Connection) -> int:
    for table in reversed(ALL):
        writing.execute(delete(table))
    copied = 0
    for table in ALL:
        for page in reading.execute(_rows(table).execution_options(yield_per=PAGE)).mappings().partitions():
            writing.execute(insert(table), [dict(row) for row in page])
            copied += len(page)
        if table.autoincrement_column is not None:
            _go_on_after(writing, table, _last_number(reading, table))
    for table in ALL:
        if _fingerprint(reading, table) != _fingerprint(writing, table):
            raise DatabaseError(f"the rows of {table.name} are not the same on both sides", "nothing was copied")
    return copied


def _rows(table: Table) -> Select[Any]:
    """All rows; of entries those above first, because PostgreSQL looks for them."""
    if table is not tables.entries:
        return select(table)
    E = tables.entries.c
    level = select(E.id, literal(0).label("depth")).where(E.parent_id.is_(None)).cte(recursive=True)
    level = level.union_all(select(E.id, level.c.depth + 1).where(E.parent_id == level.c.id))
    return select(table).join(level, level.c.id == E.id).order_by(level.c.depth)


def _fingerprint(connection: Connection, table: Table) -> tuple[int, int]:
    """Of all rows in any order: PostgreSQL and SQLite sort text differently."""
    rows: Iterable[Row[Any]] = connection.execute(select(table).execution_options(yield_per=PAGE))
    count = total = 0
    for row in rows:
        count, total = count + 1, (total + hash(tuple(row))) & MASK
    return count, total


def _last_number(connection: Connection, table: Table) -> int:
    """The highest id that was ever given, also to a row that is gone."""
    there = int(connection.execute(select(func.max(table.autoincrement_column))).scalar() or 0)
    if connection.dialect.name == "sqlite":
        if not _counts(table):
            return there
        used = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
    else:
        column = {"name": table.name, "id": str(table.autoincrement_column.name)}  # type: ignore[union-attr]
        sequence = connection.execute(text("SELECT pg_get_serial_sequence(:name, :id)"), column).scalar()
        if sequence is None:
            return there
        used = connection.execute(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 - PostgreSQL's own # nosec B608
    return max(there, int(used.scalar() or 0))


def _go_on_after(connection: Connection, table: Table, number: int) -> None:
    values = {"name": table.name, "number": number}
    if connection.dialect.name == "sqlite":
        if _counts(table):
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :number)"), values)
    elif number:
        values["id"] = str(table.autoincrement_column.name)  # type: ignore[union-attr]
        connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, :id), :number)"), values)


def _counts(table: Table) -> bool:
    """Whether SQLite remembers the highest number; else it gives one more than there is."""
    return bool(table.dialect_options["sqlite"]["autoincrement"])
