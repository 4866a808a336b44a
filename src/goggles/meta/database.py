"""The one truth: opening it, transactions, the lease, the epoch, migrations.

Law: one nameserver at a time decides over a database (the lease), and each taking of the lease raises the epoch.
Once an epoch is over nothing more is written in its name, whatever became of the lease.
Writers use one connection, one at a time; readers have snapshots of their own and never wait for the writer.
SQLite is opened with WAL and synchronous=FULL: what was committed survives a power cut (unless that is not wanted).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, func, insert, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from goggles import failpoints
from goggles.clock import Clock
from goggles.errors import DatabaseError
from goggles.meta import tables
from goggles.meta.lease import FileLease, Lease, PostgresLease
from goggles.meta.opening import BUSY, READERS, Explained, explain, lease_engine, open_engines, parse_url
from goggles.meta.quick import Transactions, quick, remember

log = logging.getLogger(__name__)
HEAD = "0004"  # the schema that this program works with
KNOWN = ("0001", "0002", "0003", "0004")
LAST_EPOCH = select(func.max(tables.epochs.c.number))
SHARE = select(tables.site.c.id).with_for_update(read=True)  # PostgreSQL: no epoch begins while a writer is at work
OWN = select(tables.site.c.id).with_for_update()
remember({"last": LAST_EPOCH})


@dataclass(frozen=True, slots=True)
class Epoch:
    """One taking of the lease."""

    number: int
    token: str


class Database:
    """An open database.  Errors of the driver leave it as DatabaseError."""

    def __init__(self, url: URL, writer: Engine, reader: Engine, timeout: float) -> None:
        self.url = url
        self._is_file = url.get_backend_name() == "sqlite"
        self._writer = writer
        self._reader = reader
        self._writing = Transactions(writer, "BEGIN IMMEDIATE", 1, timeout) if self._is_file else writer.begin
        self._reading = Transactions(reader, "BEGIN", READERS, timeout) if self._is_file else reader.begin
        self._timeout = timeout
        self._epoch: Epoch | None = None

    def __repr__(self) -> str:
        return f"<Database {self.url!r}>"

    @classmethod
    def open(cls, where: str | Path, *, timeout: float = BUSY, durable: bool = True) -> Database:
        """Open (and, for SQLite, create) the database at a URL or a file name.

        `timeout`: seconds to wait for a lock of another program, a free connection, an answer of PostgreSQL.
        `durable`: a commit is on disk when it is answered."""
        url = parse_url(str(where))
        try:
            return cls(url, *open_engines(url, timeout, durable), timeout)
        except (SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
            raise explain(error, url) from error

    def close(self) -> None:
        for kept in (self._reading, self._writing):
            if isinstance(kept, Transactions):
                kept.close()
        self._reader.dispose()
        self._writer.dispose()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; committed at the end of the block.  One at a time."""
        with Explained(self.url, self._writing()) as connection:
            if self._epoch is not None:
                self._check_epoch(connection, self._epoch.number)
            yield connection

    def _check_epoch(self, connection: Connection, own: int) -> None:
        """The first statements of a transaction, so that it can not begin before a new epoch and end after it."""
        if not self._is_file:
            connection.execute(SHARE)
        if self.quick(connection).execute(LAST_EPOCH).scalar() != own:
            raise DatabaseError("another nameserver has taken over this database", "stop this one")

    def read(self) -> AbstractContextManager[Connection]:
        """A snapshot, for looking only.  From any thread; a few at once, others wait for a while."""
        return Explained(self.url, self._reading())

    def glance(self) -> AbstractContextManager[Connection]:
        """The same for a single statement; a second one sees another moment."""
        kept = self._reading
        return Explained(self.url, kept.glance()) if isinstance(kept, Transactions) else self.read()

    def quick(self, connection: Connection) -> Connection:
        """The same transaction for the statements that run all the time: `goggles.meta.quick`."""
        return quick(connection) if self._is_file else connection

    def _explained(self) -> AbstractContextManager[None]:
        return Explained(self.url, contextlib.nullcontext())

    # --- lease, schema, site ----------------------------------------------------------------

    def lease(self, wait: bool = False, stop: threading.Event | None = None) -> Lease:
        """Take the lease; DatabaseError where another nameserver holds it, unless `wait` (until `stop` is set)."""
        stop = stop or threading.Event()
        if self._is_file:
            return FileLease.take(Path(str(self.url.database) + ".lock"), wait, stop)
        with self._explained():
            return PostgresLease.take(lease_engine(self.url, self._timeout), wait, stop)

    def prepare(self, site_name: str, now: float) -> None:
        """Bring the schema up to date, and make the first rows of a new database.  Call it under the lease."""
        found = self.revision()
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
                failpoints.hit("nameserver.start.before_first_rows")

    def revision(self) -> str | None:
        """The schema; None for a new database.  DatabaseError where it is another program's."""
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
            if not connection.in_transaction():  # alembic would make a transaction of each revision
                connection.begin()
            config.attributes["connection"] = connection
            failpoints.hit("nameserver.migrate.before_first")
            command.upgrade(config, HEAD)
            failpoints.hit("nameserver.migrate.before_commit")
        log.info("database schema is now %s", HEAD)

    def site(self) -> tuple[str, str]:
        """(site id, name)."""
        with self.read() as connection:
            row = connection.execute(select(tables.site.c.site_id, tables.site.c.name)).one()
            return row.site_id, row.name

    def begin_epoch(self, clock: Clock) -> Epoch:
        """A new epoch, one higher than the last."""
        self._epoch = None
        with self.write() as connection:
            if not self._is_file:
                connection.execute(OWN)
            epoch = Epoch((connection.execute(LAST_EPOCH).scalar() or 0) + 1, secrets.token_hex(16))
            row = {"number": epoch.number, "token": epoch.token, "started_at": clock.now()}
            connection.execute(insert(tables.epochs), row)
        self._epoch = epoch
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
