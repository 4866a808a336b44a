"""librarian-change-transfer-status: enable or disable transfers to a librarian, in the database itself.

Law: one column of one row is changed, in one transaction.  The nameserver may run meanwhile: it looks at the row on
every use.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goggles.cli import parsing
from goggles.cli.arguments import FILE_VARIABLE, need_streams, run
from goggles.errors import DatabaseError, NotFound, SettingsError
from goggles.settings import NameserverSettings, resolve

PROGRAM = "librarian-change-transfer-status"
WAIT = 15.0  # seconds for the nameserver to end a transaction of its own


def main(argv: Sequence[str] | None = None) -> int:
    """Change it; the exit code."""

    def program() -> int:
        options = _parser().parse_args(argv)
        if options.enable == options.disable:
            raise SettingsError("give one of --enable and --disable", f"{PROGRAM} --help tells more")
        change(_database(options.database), options.librarian, options.enable)
        told = {"librarian": options.librarian, "enabled": bool(options.enable)}
        state = "enabled" if options.enable else "disabled"
        print(json.dumps(told) if options.json else f"transfers to {options.librarian} are {state}")
        return 0

    need_streams()
    return run(PROGRAM, program)


def _parser() -> argparse.ArgumentParser:
    made = parsing.parser(
        PROGRAM,
        description="Change the status of an external librarian, to enable or disable transfers.",
        epilog=f"example: {PROGRAM} --librarian destination_librarian --disable",
    )
    made.add_argument("--librarian", required=True, help="Name of the librarian to change the status of.")
    made.add_argument("--enable", action="store_true", help="Enable the librarian.")
    made.add_argument("--disable", action="store_true", help="Disable the librarian.")
    made.add_argument("--database", help="As of vg-nameserver: a SQLite file or a URL (default: goggles.db).")
    made.add_argument("--json", action="store_true", help="Print the answer as JSON.")
    return made


@dataclass(frozen=True, kw_only=True)
class _Settings(NameserverSettings):
    """Those of the nameserver; its certificates are not needed here."""

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> dict[str, Path]:
        return dict.fromkeys(("ca_cert", "certfile", "keyfile"), Path())


def _database(given: str | None) -> str:
    file = os.environ.get(FILE_VARIABLE)
    flags = {"database": given} if given else {}
    return resolve(_Settings, flags, os.environ, Path(file) if file else None).database


def change(where: str, name: str, enabled: bool) -> None:
    """Write it down; NotFound where that librarian is not known, DatabaseError where there is no such database."""
    from sqlalchemy import inspect, select, update  # after the settings: --help needs no database

    from goggles.meta.database import Database
    from goggles.meta.opening import parse_url
    from goggles.meta.peering import peers

    url, hint = parse_url(where), "give the --database of the nameserver"
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise DatabaseError(f"there is no database {url.database}", hint)
    database = Database.open(where, timeout=WAIT)
    try:
        with database.write() as connection:
            if not inspect(connection).has_table(peers.name):
                raise DatabaseError(f"the database {where} is not that of a librarian", hint)
            if not connection.execute(update(peers).where(peers.c.name == name).values(enabled=enabled)).rowcount:
                known = ", ".join(connection.execute(select(peers.c.name).order_by(peers.c.name)).scalars())
                raise NotFound(f"no librarian {name[:80]!r} is known here", f"there are: {known or 'none'}")
    finally:
        database.close()


if __name__ == "__main__":
    raise SystemExit(main())
