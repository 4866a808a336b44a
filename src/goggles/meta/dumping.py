"""A dump of the database while the nameserver runs.

Law: a dump is one moment of the database, whole, or it is not there: it is made beside its name, read through, made
durable, and only then gets the name.  Nobody but its owner can read it: it has the digests of passwords.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

from goggles import failpoints
from goggles.errors import AlreadyExists, DatabaseError, LocalFileError, SettingsError
from goggles.meta.database import Database
from goggles.meta.opening import explain, parse_url

WAIT = 60.0  # seconds for a lock of another program


def suffix(where: str) -> str:
    """What the name of a dump of this database ends in."""
    return ".sqlite" if _is_file(parse_url(where)) else ".pgdump"


def site_name(where: str) -> str:
    """What the site of a database is called; DatabaseError where there is no such database."""
    url = parse_url(where)
    if _is_file(url) and not Path(str(url.database)).is_file():
        raise DatabaseError(f"there is no database {url.database}", "give the --database of the nameserver")
    opened = Database.open(where)
    try:
        return opened.site()[1]
    finally:
        opened.close()


def dump(where: str, target: Path) -> None:
    """Write the database as it is now to `target`, which must not be there."""
    part = target.with_name(f".{target.name}.part")
    try:
        if target.exists():
            raise AlreadyExists(f"{target} exists already", "a dump is not written over another")
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        url = parse_url(where)
        (_dump_sqlite if _is_file(url) else _dump_postgres)(url, part)
        _make_durable(part, target)
    except OSError as error:
        raise LocalFileError(f"{target} can not be written: {error.strerror}", "choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _dump_sqlite(url: URL, part: Path) -> None:
    source = f"file:{quote(str(url.database))}?mode=rw"
    try:
        with (
            contextlib.closing(sqlite3.connect(source, uri=True, timeout=WAIT)) as database,
            contextlib.closing(sqlite3.connect(part, timeout=WAIT)) as copy,
        ):
            database.backup(copy)  # all pages in one go: one snapshot, and no writer waits for it
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without others beside it
            found = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise explain(error, url) from error
    if found != ("ok",):
        raise DatabaseError(f"the dump of {url.database} is damaged: {found[0]}", "look at the disk, and dump again")


def _dump_postgres(url: URL, part: Path) -> None:
    if shutil.which("pg_dump") is None:
        raise SettingsError("pg_dump is not installed here", "install the client programs of PostgreSQL")
    password = {} if url.password is None else {"PGPASSWORD": str(url.password)}  # arguments can be seen by others
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    shown = plain.render_as_string()
    _run(["pg_dump", "-F", "custom", "-f", str(part), "-d", shown], password, f"pg_dump of {shown}")
    _run(["pg_restore", "--list", str(part)], {}, "reading the dump")


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[:500] or f"it ended with {done.returncode}"
        raise DatabaseError(f"{what} failed: {said}", "can the nameserver reach it? is pg_dump as new as the server?")


def _make_durable(part: Path, target: Path) -> None:
    for path in (part, part.parent):
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)
        if path is part:
            failpoints.hit("tools.backup.before_name")
            os.link(part, target)  # refuses where something came to be there meanwhile
