"""The right to decide over a database, held by one nameserver at a time.

Law: it is given up only at the end of the process or of the connection; who holds it does not have to say so again
and again, and nobody can hold it by having the better clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from goggles.errors import DatabaseError

KEY = 0x676F67676C6573  # "goggles", as the number of a PostgreSQL advisory lock
PAUSE = 0.5  # seconds between tries of a standby


class Lease(Protocol):
    def lost(self) -> bool:
        """True once it is not held any more."""

    def release(self) -> None: ...


def _taken() -> DatabaseError:
    return DatabaseError(
        "another nameserver uses this database", "stop it first, or start this one with --standby to take over from it"
    )


class FileLease:
    """A lock on a file beside a SQLite database."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd: int | None = fd
        self._path = path

    @classmethod
    def take(cls, path: Path, wait: bool, stop: threading.Event) -> FileLease:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseError(f"{path} can not be made: {error.strerror}", "the folder must be writable") from error
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(fd, path)
            except BlockingIOError:
                if not wait or stop.wait(PAUSE):
                    os.close(fd)
                    raise _taken() from None

    def lost(self) -> bool:
        """Also where the file was removed or replaced: then another nameserver can lock its own."""
        fd = self._fd
        try:
            return fd is None or not os.path.samestat(os.stat(self._path), os.fstat(fd))
        except OSError:
            return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class PostgresLease:
    """An advisory lock of a connection that does nothing else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lost = False

    @classmethod
    def take(cls, engine: Engine, wait: bool, stop: threading.Event) -> PostgresLease:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": KEY}).scalar():
            if not wait or stop.wait(PAUSE):
                connection.close()
                raise _taken()
        return cls(connection)

    def lost(self) -> bool:
        if not self._lost:
            try:
                self._connection.execute(text("SELECT 1"))
            except SQLAlchemyError:
                self._lost = True
        return self._lost

    def release(self) -> None:
        self._lost = True
        with contextlib.suppress(SQLAlchemyError):
            self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": KEY})
            self._connection.close()
