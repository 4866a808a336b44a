"""From what the operator wrote behind --database to engines: SQLite, PostgreSQL, and what is wrong with either.

Law: opening looks at no more of a database than its head, whatever its size; only a small SQLite file is checked
whole.  Whatever goes wrong is a DatabaseError that says what to do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from goggles.errors import DatabaseAway, DatabaseError, GogglesError, Overloaded

T = TypeVar("T")
READERS = 8
BUSY = 30.0  # seconds to wait for another process, for a free connection, and for PostgreSQL to answer
HEADER = b"SQLite format 3\0"
SMALL = 64 << 20  # bytes of a SQLite file that is checked whole: a fraction of a second
FORMS = "give a file name, or postgresql+psycopg://user@host/name"
DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def parse_url(where: str) -> URL:
    """The URL of a database given as a URL or a file name."""
    if "://" not in where:
        return URL.create("sqlite+pysqlite", database=str(Path(where).absolute()))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError("--database is not a URL that can be understood", FORMS) from error
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseError(f"{url.drivername} databases are not supported", FORMS)
    if url.get_backend_name() == "sqlite" and (url.database or ":memory:").startswith((":memory:", "file:")):
        raise DatabaseError("a database in memory would forget everything", FORMS)
    return url.set(database=str(Path(str(url.database)).absolute())) if url.get_backend_name() == "sqlite" else url


def open_engines(url: URL, timeout: float, durable: bool) -> tuple[Engine, Engine]:
    """An engine with one connection for the writer, and one with a few for readers.

    PostgreSQL's writer sees what was committed before each statement, whatever its server prefers: who waited for the
    lock of a new epoch must see that epoch.

    Not `durable`: a power cut may take the last commits with it, and nothing else."""
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url, timeout, durable)
    return _open_postgres(url, timeout, durable)


def lease_engine(url: URL, timeout: float) -> Engine:
    """PostgreSQL: connections that belong to whoever takes them, and end when they are closed."""
    return create_engine(url, poolclass=NullPool, connect_args=_keep_alive(timeout))


def _open_postgres(url: URL, timeout: float, durable: bool) -> tuple[Engine, Engine]:
    common: dict[str, Any] = {"max_overflow": 0, "pool_pre_ping": True, "pool_timeout": timeout}
    common["connect_args"] = _keep_alive(timeout)
    writer = create_engine(url, pool_size=1, isolation_level="READ COMMITTED", **common)
    if not durable:
        event.listen(writer, "connect", _relax)
    reader = create_engine(url, pool_size=READERS, **common).execution_options(
        postgresql_readonly=True, isolation_level="REPEATABLE READ"
    )
    with writer.connect() as connection:
        connection.execute(select(1))
    return writer, reader


def _relax(connection: Any, _: Any) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()


def _keep_alive(timeout: float) -> dict[str, Any]:
    """A host that vanished is noticed after some `timeout` seconds, also in the middle of a statement."""
    probes = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    return {"connect_timeout": max(2, int(timeout)), "tcp_user_timeout": int(timeout * 1_000), **probes}


def _open_sqlite(url: URL, timeout: float, durable: bool) -> tuple[Engine, Engine]:
    path = Path(str(url.database))
    if not path.parent.is_dir():
        raise DatabaseError(
            f"there is no folder {path.parent} for the database", "make it, or choose another --database"
        )
    if path.is_dir():
        raise DatabaseError(f"the database {path} is a folder", "give the name of a file in it")
    _make_file(path)
    _check_sqlite(path, timeout)
    arguments: dict[str, Any] = {"check_same_thread": False, "isolation_level": None, "timeout": timeout}
    common: dict[str, Any] = {"max_overflow": 0, "pool_timeout": timeout, "connect_args": arguments}
    writer = create_engine(url, pool_size=1, **common)
    reader = create_engine(url, pool_size=READERS, **common)
    event.listen(writer, "connect", lambda connection, _: _set_up(connection, "FULL" if durable else "NORMAL"))
    event.listen(reader, "connect", _set_up_reader)
    event.listen(writer, "begin", lambda connection: _begin(connection, "BEGIN IMMEDIATE"))
    event.listen(reader, "begin", lambda connection: _begin(connection, "BEGIN"))
    return writer, reader


def _begin(connection: Connection, words: str) -> None:
    """Unless the driver has begun already (`quick.Transactions`)."""
    if not cast(sqlite3.Connection, connection.connection.driver_connection).in_transaction:
        connection.exec_driver_sql(words)


def _make_file(path: Path) -> None:
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    except OSError as error:
        raise DatabaseError(f"the database {path} can not be made: {error.strerror}", "choose another place") from error
    if not writable:
        raise DatabaseError(
            f"the database {path} can not be written to", "the nameserver needs it and its folder writable"
        )


def _check_sqlite(path: Path, timeout: float) -> None:
    """Raises sqlite3.DatabaseError where the file is no database, or is damaged as far as this looks."""
    with open(path, "rb") as file:
        if file.read(len(HEADER)) not in (b"", HEADER):  # SQLite itself takes a very short file for an empty one
            raise sqlite3.DatabaseError("file is not a database")
    with contextlib.closing(sqlite3.connect(path, timeout=timeout)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if path.stat().st_size <= SMALL:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != ("ok",):
                raise sqlite3.DatabaseError(f"malformed: {' '.join(str(found[0]).split())}")


def _set_up(connection: Any, synchronous: str) -> None:
    connection.create_function("octet_length", 1, _octets, deterministic=True)  # SQLite's own came with 3.43
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "cache_size=-32768", "wal_autocheckpoint=2000"):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_reader(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "cache_size=-4096", "query_only=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _octets(text: str) -> int:
    return len(text.encode())


# Words in what the driver says, what that means, and what to do.
MEANINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("malformed", "not a database", "file is encrypted", "invalid page in block"),
        "is damaged",
        "restore it from a backup, or make a new one from the storages with: goggles restoretree",
    ),
    (
        ("readonly", "read-only", "permission denied"),
        "can not be written to",
        "it, and for SQLite its folder, must be writable for the nameserver",
    ),
    (("is full", "no space left"), "has no room: its disk is full", "make room; nothing was changed"),
    (("is locked",), "is locked by another program", "end the program that has it open"),
    (
        ("unable to open", "disk i/o error"),
        "can not be read or written",
        "look at its folder and its disk; the kernel's log may say more",
    ),
    (
        ("too many clients", "connection slots", "too many connections"),
        "takes no more connections",
        "raise max_connections of PostgreSQL: a nameserver needs ten",
    ),
    (
        ("refused", "failed to resolve", "name or service", "timeout", "timed out", "unreachable", "no such file"),
        "can not be reached",
        "is PostgreSQL running, and are host and port right?",
    ),
    (
        ("authentication failed", "no password supplied", "role ", "pg_hba"),
        "does not let the nameserver in",
        "check user and password in the URL, and pg_hba.conf",
    ),
    (('database "',), "is not there", "make it with createdb, or correct the name in the URL"),
    (
        ("closed", "terminat", "shutting down", "starting up", "recovery mode", "lost"),
        "broke the connection",
        "it is tried again with the next request",
    ),
)
# What passes by itself, where the database is a server.
AWAY = frozenset({"takes no more connections", "can not be reached", "broke the connection"})
# Deadlock, serialization failure, lock not available (SQLSTATE): the transaction was put back for another's sake.
PUT_BACK = frozenset({"40P01", "40001", "55P03"})


def explain(error: Exception, url: URL) -> GogglesError:
    """A failure of the database in words; Overloaded or DatabaseAway where it may work in a moment."""
    if isinstance(error, PoolTimeout):
        return Overloaded("too many requests read the database at once", "try again in a moment")
    if isinstance(error, ImportError):
        return DatabaseError(
            f"no driver for {url.drivername} is installed", "pip install 'verbose-goggles[postgresql]'"
        )
    shown = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    said = str(cause).strip()
    reason = said.splitlines()[0] if said else type(error).__name__
    if getattr(cause, "sqlstate", None) in PUT_BACK:
        return Overloaded(f"the database {shown} let another program go first: {reason}", "try again in a moment")
    for words, meaning, hint in MEANINGS if isinstance(error, DBAPIError | sqlite3.Error | OSError) else ():
        if any(word in reason.lower() for word in words):
            away = meaning in AWAY and url.get_backend_name() == "postgresql"
            return (DatabaseAway if away else DatabaseError)(f"the database {shown} {meaning}: {reason}", hint)
    return DatabaseError(f"the database {shown} failed: {reason}", "the log of the nameserver may say more")


class Explained(AbstractContextManager[T]):
    """`inner`, where failures of the database leave it in words."""

    __slots__ = ("_inner", "_url")

    def __init__(self, url: URL, inner: AbstractContextManager[T]) -> None:
        self._url = url
        self._inner = inner

    def __enter__(self) -> T:
        try:
            return self._inner.__enter__()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise explain(error, self._url) from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        try:
            ended = self._inner.__exit__(kind, error, trace)
        except (SQLAlchemyError, sqlite3.Error) as own:
            raise explain(own, self._url) from own
        if not ended and isinstance(error, SQLAlchemyError | sqlite3.Error):
            raise explain(error, self._url) from error
        return ended
