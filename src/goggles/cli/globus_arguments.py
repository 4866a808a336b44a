"""What globus-login and check-globus have in common: the nameserver's settings for Globus, on a command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goggles import log
from goggles.cli import parsing
from goggles.cli.arguments import FILE_VARIABLE, shown_default
from goggles.kinds import SWITCH
from goggles.settings import NameserverSettings, options, resolve

NAMES = ("globus_client_id", "globus_client_native_app", "globus_client_secret_file", "globus_local_endpoint_id")


@dataclass(frozen=True, kw_only=True)
class _Settings(NameserverSettings):
    """Those of the nameserver; its certificates are not needed here."""

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> dict[str, Path]:
        return dict.fromkeys(("ca_cert", "certfile", "keyfile"), Path())


def parser(prog: str, description: str, epilog: str) -> parsing.Parser:
    """With the flags of the nameserver that matter for Globus."""
    made = parsing.parser(prog, description=description, epilog=epilog)
    made.add_argument("--settings", metavar="FILE", help="settings file of the nameserver")
    for option in options(NameserverSettings):
        if option.name in NAMES:
            text = f"{option.help} ({shown_default(option)})".replace("%", "%%")
            more: dict[str, Any] = {"nargs": "?", "const": "yes", "metavar": "yes|no"} if option.kind is SWITCH else {}
            names = dict.fromkeys([option.flag, option.flag.replace("_", "-")])
            made.add_argument(*names, dest=option.name, default=argparse.SUPPRESS, help=text, **more)
    return made


def settings(given: argparse.Namespace) -> NameserverSettings:
    """As the nameserver would have them, from flags, environment and settings file."""
    log.setup("warning", process="globus", tracebacks=False)
    flags = {name: value for name, value in vars(given).items() if name in NAMES}
    file = given.settings or os.environ.get(FILE_VARIABLE)
    return resolve(_Settings, flags, os.environ, Path(file) if file else None)
