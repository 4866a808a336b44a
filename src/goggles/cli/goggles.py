"""goggles: tools for whoever runs a site.

goggles restoretree --treejson tree.json FOLDER [FOLDER ...]    a tree from the folders of stopped storages
goggles backup --database FILE [--to FOLDER] [--upload PATH]    a dump of a running site's database
goggles copy-database --database FROM --to TO                   from SQLite to PostgreSQL, and back
goggles fsck --database FILE NAME=FOLDER [NAME=FOLDER ...]      the database of a stopped site against its disks
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from goggles.cli import backup, parsing
from goggles.cli.arguments import run
from goggles.clock import SystemClock
from goggles.errors import DatabaseError, SettingsError
from goggles.log import escape
from goggles.nameserver import restoretree
from goggles.storage.vault import Vault


def main(argv: Sequence[str] | None = None) -> int:
    """Run one tool; the exit code."""

    def program() -> int:
        options = _parser().parse_args(argv)
        return int(options.tool(options))

    return run("goggles", program)


def _parser() -> argparse.ArgumentParser:
    parser = parsing.parser("goggles", description="Tools for whoever runs a site.")
    tools = parser.add_subparsers(required=True, metavar="TOOL")
    restore = tools.add_parser(
        "restoretree",
        help="make a tree.json from the folders of stopped storages",
        description="Make a tree.json from the folders of stopped storages, where the database is lost and there is no "
        "backup.  A nameserver that is started on an empty database with --treejson takes it.",
    )
    restore.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the --rootpath of a storage")
    restore.add_argument(
        "--treejson", type=Path, default=Path("tree.json"), help="where to write it (default: %(default)s)"
    )
    restore.add_argument("--force", action="store_true", help="overwrite a tree.json that is there")
    restore.set_defaults(tool=_restoretree)
    check = tools.add_parser(
        "fsck",
        help="compare the database of a stopped site with the folders of its storages",
        description="Compare the database of a stopped site with the folders of its storages, byte for byte, and print "
        "each disagreement.  Nothing is changed.  The exit code is 0 only if they agree.",
    )
    check.add_argument("folders", nargs="+", metavar="NAME=FOLDER", help="a storage's name and its --rootpath")
    check.add_argument("--database", required=True, help="file name or URL")
    check.set_defaults(tool=_fsck)
    backup.add(tools)
    copy = tools.add_parser(
        "copy-database",
        help="all of a stopped site's database into a new one, of either kind",
        description="Copy the database of a stopped site into a new one, from SQLite to PostgreSQL or back.  All rows "
        "are read again and compared before the new one counts; the old one is not changed.",
    )
    copy.add_argument("--database", required=True, help="file name or URL, as the nameserver has it")
    copy.add_argument("--to", required=True, metavar="DATABASE", help="file name or URL of a new, empty database")
    copy.set_defaults(tool=_copy_database)
    return parser


def _copy_database(options: argparse.Namespace) -> int:
    from goggles.meta.copying import copy_database  # needs the libraries of the database

    rows = copy_database(options.database, options.to, SystemClock().now())
    print(f"copied {rows} rows, read back and found the same")
    print("start the nameserver with the new --database, and never again with the old one")
    return 0


def _restoretree(options: argparse.Namespace) -> int:
    if options.treejson.exists() and not options.force:
        raise SettingsError(f"{options.treejson} exists already", "--force overwrites it; --treejson names another")
    vaults = [Vault.open(_existing(folder), 1 << 62, SystemClock()) for folder in options.folders]
    try:
        inventories = [[held for batch in vault.walk() for held in batch] for vault in vaults]
    finally:
        for vault in vaults:
            vault.close()
    restored = restoretree.gather(inventories)
    sites = {vault.site.site_id for vault in vaults if vault.site.site_id}
    if len(sites) > 1:
        raise SettingsError("these folders belong to several sites", "give the folders of one site")
    restoretree.write(restored, options.treejson, next(iter(sites), ""))
    for path in restored.disputed:
        print(f"storages differ about {path!r}: the newest was taken")
    print(f"{len(restored.files)} files and {len(restored.directories)} directories written to {options.treejson}")
    print(f"start a nameserver on an empty database with --treejson {options.treejson}")
    return 0


def _need_stopped(database: str, roots: dict[str, Path]) -> None:
    """What runs changes while it is looked at: disagreements would be found, or missed."""
    from goggles.meta.database import Database

    if "://" not in database and not Path(database).exists():
        raise SettingsError(f"there is no database {database}", "give the --database of the nameserver")
    opened = Database.open(database)
    try:
        opened.lease().release()
    except DatabaseError as error:
        raise SettingsError(f"the site is running ({error.message})", "stop its nameserver first") from error
    finally:
        opened.close()
    for root in roots.values():
        Vault.open(root, 1 << 62, SystemClock()).close()


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}", "give the --rootpath of a stopped storage")
    return folder


def _fsck(options: argparse.Namespace) -> int:
    from goggles.nameserver.fsck import fsck  # needs the libraries of the database

    roots = {}
    for item in options.folders:
        name, equals, folder = item.partition("=")
        if not equals:
            raise SettingsError(f"{item!r} is not NAME=FOLDER", "for example: alice=storages/alice")
        roots[name] = _existing(Path(folder))
    _need_stopped(options.database, roots)
    problems = fsck(options.database, roots)
    for problem in problems:
        print(escape(problem))
    print(f"{len(problems)} disagreements" if problems else "database and disks agree")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
