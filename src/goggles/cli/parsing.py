"""What the command lines of all programs have in common.

Law: a command line that can not be read raises SettingsError; nothing here ends the program but --help, --version and
--print-completion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from goggles.errors import SettingsError
from goggles.version import __version__

SHELLS = ("bash", "zsh", "fish")


class Parser(argparse.ArgumentParser):
    """Says what is wrong as a SettingsError; `files` are the names of options whose values are files."""

    files: Iterable[str] = ()

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message, f"{self.prog} --help tells more")


def parser(prog: str, *version: str, **more: Any) -> Parser:
    """An empty parser of the program `prog`, with what all of them have; `version` are other names of --version."""
    made = Parser(prog=prog, allow_abbrev=False, **more)
    made.add_argument(*version, "--version", action="version", version=f"{prog} {__version__}")
    made.add_argument(
        *("--print-completion", "--print_completion"),
        action=_PrintCompletion,
        choices=SHELLS,
        default=argparse.SUPPRESS,
        help="print what makes this shell complete the command line, to be put where it looks for that",
    )
    return made


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        import shtab  # only here: no other run of the program needs it

        for each in _with_subparsers(parser):
            files = getattr(each, "files", ())
            for action in each._actions:
                if action.type is Path or action.dest in files:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(shtab.complete(parser, values) + "\n")
        parser.exit()


def _with_subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in set(action.choices.values()):
                yield from _with_subparsers(each)
