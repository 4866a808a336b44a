"""goggles backup: a dump of a running site's database into a folder, into the tree, or both."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goggles.cli.arguments import FILE_VARIABLE, shown_default
from goggles.clock import SystemClock
from goggles.errors import SettingsError
from goggles.settings import ClientSettings, options, resolve

MOMENT = r"-[0-9]{8}T[0-9]{6}Z\.(sqlite|pgdump)"  # how the name of a dump ends
CONNECTION = ("ns_hostname", "ns_port", "ca_cert", "certfile", "keyfile", "timeout")


def add(tools: Any) -> None:
    """Declare the tool beside the others."""
    made = tools.add_parser(
        "backup",
        help="dump the database of a site, also while it runs",
        description="Dump the database of a site, also while it runs, and print where the dump is.",
    )
    made.add_argument("--database", required=True, help="file name or URL, as the nameserver has it")
    made.add_argument("--to", type=Path, metavar="FOLDER", help="folder for the dump (default: the current one)")
    made.add_argument(
        "--upload", metavar="PATH", help="directory of the tree to put the dump into; without --to only there"
    )
    made.add_argument(
        "--keep", type=_number, metavar="NUMBER", help="then remove older dumps of this site there, but for so many"
    )
    group = made.add_argument_group("where the nameserver is, for --upload (as for vg)")
    for option in options(ClientSettings):
        if option.name in CONNECTION:
            names = dict.fromkeys([option.flag, option.flag.replace("_", "-")])
            text = f"{option.help} ({shown_default(option)})".replace("%", "%%")
            group.add_argument(*names, dest=option.name, default=argparse.SUPPRESS, help=text)
    made.set_defaults(tool=backup)


def backup(given: argparse.Namespace) -> int:
    """Make the dump, and say where it is."""
    settings = _settings(given) if given.upload else None
    with _folder(given) as folder:
        made = dump_into(given.database, folder)
        if not given.upload or given.to:
            print(made)
            for name in surplus(made.name, os.listdir(folder), given.keep):
                (folder / name).unlink()
        if settings is not None:
            print(_upload(settings, made, given.upload, given.keep))
    return 0


def surplus(newest: str, names: Iterable[str], keep: int | None) -> list[str]:
    """Which of these names are dumps of the same site as `newest` that are too old to be kept; None keeps all."""
    site = re.sub(MOMENT + r"\Z", "", newest)
    dumps = sorted(name for name in names if re.fullmatch(re.escape(site) + MOMENT, name))
    return [] if keep is None else dumps[:-keep]


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dumps: at least 1 is kept")
    return int(text)


def dump_into(database: str, folder: Path) -> Path:
    """A dump under a name with site and date."""
    from goggles.meta import dumping  # needs the libraries of the database

    made = folder / (_name(dumping.site_name(database)) + dumping.suffix(database))
    dumping.dump(database, made)
    return made


def _settings(given: argparse.Namespace) -> ClientSettings:
    flags = {name: value for name, value in vars(given).items() if name in CONNECTION}
    file = os.environ.get(FILE_VARIABLE)
    return resolve(ClientSettings, flags, os.environ, Path(file) if file else None)


@contextmanager
def _folder(given: argparse.Namespace) -> Iterator[Path]:
    """Where the dump is made: a place that goes again where it is kept in the tree alone."""
    if given.upload and not given.to:
        with tempfile.TemporaryDirectory(prefix="goggles-") as passing:
            yield Path(passing)
        return
    folder: Path = given.to or Path(".")
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}", "make it first, or name another with --to")
    yield folder


def _name(site: str) -> str:
    """The site and the moment; no name of a site leads elsewhere."""
    now = datetime.fromtimestamp(SystemClock().now(), UTC)
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', site).lstrip('.-')[:100] or 'site'}-{now:%Y%m%dT%H%M%SZ}"


def _upload(settings: ClientSettings, dump: Path, directory: str, keep: int | None) -> str:
    from goggles.cli.client import open_session
    from goggles.paths import join, parse

    above = parse(directory)
    path = join(above, dump.name)
    with open_session(settings) as session:
        session.mkdir(above, parents=True, exist_ok=True)
        session.put(dump, path, overwrite=False)
        for name in surplus(dump.name, session.listdir(above), keep):
            session.rm(join(above, name))
    return path
