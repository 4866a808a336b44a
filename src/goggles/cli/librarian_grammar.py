"""How the commands of `librarian` are declared, and the parser that is made of them.

Law: a command is one function with its options beside it; it answers a Reply, and neither prints nor ends the program.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from goggles.cli import parsing
from goggles.client.librarian.admin import AdminClient
from goggles.client.librarian.connections import Connections

CONNECTION = "Which Librarian to talk to; as in ~/.hl_client.cfg."
EPILOG = (
    "`librarian COMMAND --help` tells more.  Librarians are named in ~/.hl_client.cfg, or in the file that "
    "HL_CLIENT_CONFIG names; `librarian check-connections` tries them all.  `librarian globus-login` logs in to Globus."
)


@dataclass(frozen=True, slots=True)
class Reply:
    """`data` for --json, `shown` (text or a table) for people; `code` is what the program ends with, `why` what is
    said beside."""

    data: Any
    shown: Any
    code: int = 0
    why: str = ""


Act: TypeAlias = Callable[[Any, argparse.Namespace], Reply]


@dataclass(frozen=True, slots=True)
class Option:
    """One option or argument: what argparse takes."""

    names: tuple[str, ...]
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """One command.  `talks`: it speaks to one librarian, named by its first argument; else it gets all connections."""

    name: str
    text: str
    example: str
    options: tuple[Option, ...]
    act: Act
    talks: bool = True


COMMANDS: dict[str, Command] = {}


def option(*names: str, **more: Any) -> Option:
    return Option(names, more)


def switch(*names: str, help: str) -> Option:  # noqa: A002 - argparse's own word
    return Option(names, {"action": "store_true", "help": help})


def command(
    name: str, text: str, example: str, *options: Option
) -> Callable[[Callable[[AdminClient, argparse.Namespace], Reply]], Act]:
    """Declare the function below as a command."""

    def declare(act: Act) -> Act:
        COMMANDS[name] = Command(name, text, example, options, act)
        return act

    return declare


def on_all(
    name: str, text: str, example: str, *options: Option
) -> Callable[[Callable[[Connections, argparse.Namespace], Reply]], Act]:
    """Declare the function below as a command on all connections."""

    def declare(act: Act) -> Act:
        COMMANDS[name] = Command(name, text, example, options, act, talks=False)
        return act

    return declare


def on_or_off(*what: str) -> tuple[Option, Option]:
    """--enabled and --disabled of something."""
    return (
        switch("--enabled", help=f"Set the {what[0]} to enabled for {what[1]}."),
        switch("--disabled", help=f"Set the {what[0]} to disabled for {what[1]}."),
    )


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = parsing.parser("librarian", "-V", description="Talk to a librarian.", epilog=EPILOG)
    commands = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for each in COMMANDS.values():
        _add(commands, each)
    return made


def _add(commands: Any, command: Command) -> None:
    made = commands.add_parser(
        command.name,
        help=command.text.partition("\n")[0],
        description=command.text,
        epilog=f"example:\n  librarian {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if command.talks:
        made.add_argument("connection", metavar="CONNECTION-NAME", help=CONNECTION)
    for each in command.options:
        made.add_argument(*each.names, **each.more)
    made.add_argument("--json", action="store_true", help="Print the answer as JSON.")
