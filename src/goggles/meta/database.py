"""The one truth: opening it, transactions, the lease, the epoch, migrations.

Law: one nameserver at a time decides over a database (the lease), and each taking of the lease raises the epoch.
Writers use one connection, one at a time; readers have snapshots of their own and never wait for the writer.
SQLite is opened with WAL and synchronous=FULL: what was committed survives a power cut.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from goggles.clock import Clock
from goggles.errors import DatabaseError
from goggles.meta import tables
from goggles.meta.lease import FileLease, Lease, PostgresLease

log = logging.getLogger(__name__)
HEAD = "0001"  # the schema that this program works with
KNOWN = ("0001",)
READERS = 8
BUSY = 30  # seconds that SQLite waits for another process


@dataclass(frozen=True, slots=True)
class Epoch:
    """One taking of the lease."""

    number: int
    token: str


class Database:
    """An open database.  Errors of the driver leave it as DatabaseError."""

    def __init__(self, url: URL, writer: Engine, reader: Engine) -> None:
        self.url = url
        self._writer = writer
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Database {self.url!r}>"

    @classmethod
    def open(cls, where: str | Path) -> Database:
        """Open (and, for SQLite, create) the database at a URL or a file name."""
        url = _url(str(where))
        try:
            if url.get_backend_name() == "sqlite":
                return cls(url, *_open_sqlite(url))
            engine = create_engine(url, pool_size=READERS + 2, max_overflow=0, pool_pre_ping=True)
            with engine.connect() as connection:
                connection.execute(select(1))
            return cls(
                url, engine, engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
            )
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise explain(error, url) from error

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; committed at the end of the block."""
        with self._explained(), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot, for looking only."""
        with self._explained(), self._reader.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise explain(error, self.url) from error

    # --- lease, schema, site ----------------------------------------------------------------

    def lease(self, wait: bool, stop: threading.Event) -> Lease:
        """Take the lease; DatabaseError where another nameserver holds it, unless `wait`."""
        if self.url.get_backend_name() == "sqlite":
            return FileLease.take(Path(str(self.url.database) + ".lock"), wait, stop)
        with self._explained():
            return PostgresLease.take(self._writer, wait, stop)

    def prepare(self, site_name: str, now: float) -> None:
        """Bring the schema up to date, and make the first rows of a new database.  Call it under the lease."""
        found = self._revision()
        if found is not None and found not in KNOWN:
            raise DatabaseError(
                f"the database was made by a newer program (schema {found}, this one knows {HEAD})",
                "upgrade the nameserver, or restore a backup",
            )
        if found != HEAD:
            self._migrate()
        with self.write() as connection:
            if connection.execute(select(tables.site.c.id)).first() is None:
                _first_rows(connection, site_name, now)

    def _revision(self) -> str | None:
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                if inspect(connection).get_table_names():
                    raise DatabaseError("this is some other program's database", "give one of its own with --database")
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self) -> None:
        from alembic import command  # only a new or an old database needs it
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        log.info("database schema is now %s", HEAD)

    def site(self) -> tuple[str, str]:
        """(site id, name)."""
        with self.read() as connection:
            row = connection.execute(select(tables.site.c.site_id, tables.site.c.name)).one()
            return row.site_id, row.name

    def begin_epoch(self, clock: Clock) -> Epoch:
        """A new epoch, one higher than the last."""
        with self.write() as connection:
            last = connection.execute(select(func.max(tables.epochs.c.number))).scalar() or 0
            epoch = Epoch(last + 1, secrets.token_hex(16))
            row = {"number": epoch.number, "token": epoch.token, "started_at": clock.now()}
            connection.execute(insert(tables.epochs), row)
        return epoch

    def knows_epoch(self, number: int, token: str) -> bool:
        """Whether this database has been through that epoch (one restored from a backup may not have)."""
        with self.read() as connection:
            found = connection.execute(select(tables.epochs.c.token).where(tables.epochs.c.number == number)).scalar()
            return found == token


def _first_rows(connection: Connection, site_name: str, now: float) -> None:
    site_id = secrets.token_hex(16)
    connection.execute(insert(tables.site), {"id": 1, "site_id": site_id, "name": site_name, "created_at": now})
    connection.execute(insert(tables.totals), {"id": 1, "files": 0, "directories": 0, "size": 0})
    common = {"parent_id": None, "kind": "d", "copies": None, "created_at": now, "modified_at": now}
    common |= {"size": 0, "sha256": "", "generation": 0, "version": None, "uploader": "", "source": ""}
    for entry_id, name in ((tables.ROOT_ID, ""), (tables.TRASH_ID, ".trash")):
        connection.execute(insert(tables.entries), {"id": entry_id, "name": name, **common})
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval(pg_get_serial_sequence('entries', 'id'), 2)"))


def _url(where: str) -> URL:
    try:
        if "://" not in where:
            return URL.create("sqlite+pysqlite", database=str(Path(where).absolute()))
        url = make_url(where)
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    except ArgumentError as error:
        raise DatabaseError(
            f"{where!r} is not a database", "give a file name, or postgresql+psycopg://user@host/name"
        ) from error


def _open_sqlite(url: URL) -> tuple[Engine, Engine]:
    path = Path(str(url.database))
    if not path.parent.is_dir():
        raise DatabaseError(
            f"there is no folder {path.parent} for the database", "make it, or choose another --database"
        )
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise DatabaseError(
            f"the database {path} can not be written to", "the nameserver needs it and its folder writable"
        )
    _check_sqlite(path)
    arguments: dict[str, Any] = {"check_same_thread": False, "isolation_level": None, "timeout": BUSY}
    writer = create_engine(url, pool_size=1, max_overflow=0, connect_args=arguments)
    reader = create_engine(url, pool_size=READERS, max_overflow=0, connect_args=arguments)
    event.listen(writer, "connect", _set_up)
    event.listen(reader, "connect", _set_up_reader)
    event.listen(writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    event.listen(reader, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return writer, reader


def _check_sqlite(path: Path) -> None:
    """Raises sqlite3.DatabaseError where the file is no database, or its head is damaged."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _set_up(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-32768", "wal_autocheckpoint=2000"):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_reader(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "cache_size=-4096", "query_only=ON"):
        connection.execute(f"PRAGMA {pragma}")


def explain(error: Exception, url: URL) -> DatabaseError:
    """A failure of the database in words."""
    if isinstance(error, NoSuchModuleError | ModuleNotFoundError):
        return DatabaseError(f"no driver for {url.drivername}", "pip install 'verbose-goggles[postgresql]'")
    said = str(error.orig if isinstance(error, DBAPIError) and error.orig else error).strip().splitlines()
    reason = said[0] if said else type(error).__name__
    shown = url.render_as_string(hide_password=True)
    if "malformed" in reason or "not a database" in reason:
        return DatabaseError(
            f"the database {shown} is damaged: {reason}", "restore it from a backup, or use restoretree"
        )
    if "readonly" in reason or "read-only" in reason:
        return DatabaseError(f"the database {shown} is read-only", "make the file and its folder writable")
    if "full" in reason:
        return DatabaseError(f"the disk of the database {shown} is full", "make room; nothing was changed")
    return DatabaseError(f"the database {shown} failed: {reason}", "see the log of the nameserver")
