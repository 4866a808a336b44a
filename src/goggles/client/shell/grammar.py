"""What each command takes: declared beside it, used for parsing, for help and for completion.

Law: a command's docstring is its help, its declaration its usage; neither is written twice.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from goggles.client.shell.words import Word
from goggles.errors import BadRequest

F = TypeVar("F", bound=Callable[..., Any])

REMOTE, LOCAL, STORAGE, COMMAND, TEXT = "remote", "local", "storage", "command", "text"
RUN, TASK = "run", "task"
PUT_AWAY, ENTRY = "put away", "entry"  # what is done with a quarantine, and one thing in it
ACTIONS = ("ls", "get", "restore")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument.  `kind` says how it is completed."""

    name: str
    kind: str = TEXT
    nargs: str | None = None
    help: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option without a value, or with one (`value`)."""

    names: tuple[str, ...]
    help: str
    value: str = ""


def flag(*names: str, help: str, value: str = "") -> Flag:  # noqa: A002 - argparse's word
    return Flag(names, help, value)


JSON = flag("--json", help="print the answer as JSON")


class _Parser(argparse.ArgumentParser):
    """argparse that raises where it would end the program."""

    def error(self, message: str) -> NoReturn:
        raise BadRequest(f"{self.prog}: {message.replace(': -- ', ': ', 1)}", f"see: help {self.prog}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise BadRequest(message or f"see: help {self.prog}")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Usage lines that are the same on every terminal."""
    return argparse.HelpFormatter(prog, width=100)


class Grammar:
    """What one command takes."""

    def __init__(self, name: str, items: tuple[Argument | Flag, ...], text: str) -> None:
        self.name = name
        self.arguments = [item for item in items if isinstance(item, Argument)]
        self.flags = [*(item for item in items if isinstance(item, Flag)), JSON]
        self.text = text
        self._parser = _Parser(prog=name, add_help=False, allow_abbrev=False, formatter_class=_formatter)
        for one in self.flags:
            action: dict[str, Any] = {"metavar": one.value} if one.value else {"action": "store_true"}
            self._parser.add_argument(*one.names, help=one.help, **action)
        for argument in self.arguments:
            self._parser.add_argument(argument.name, nargs=argument.nargs, help=argument.help)

    def asks_for_help(self, words: list[Word]) -> bool:
        """Whether --help is among the options, or -h where that means nothing else to this command."""
        wanted = {"--help", "-h"} - {name for one in self.flags for name in one.names}
        return any(option in wanted for option in self._sorted(words)[0])

    def parse(self, words: list[Word]) -> argparse.Namespace:
        """The words after the command's name, by name; BadRequest where they do not fit."""
        options, arguments = self._sorted(words)
        return self._parser.parse_args([*options, *(["--"] if arguments else []), *arguments])

    def _sorted(self, words: list[Word]) -> tuple[list[str], list[str]]:
        """Options (with their values) and arguments, which may stand in any order; after -- all are arguments."""
        valued = {name for one in self.flags if one.value for name in one.names}
        options: list[str] = []
        arguments: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--":
                arguments += rest
            elif word.startswith("-") and word != "-":
                options.append(word)
                options += itertools.islice(rest, int(word in valued))
            else:
                arguments.append(word)
        return options, arguments

    def help(self) -> str:
        usage = self._parser.format_usage().replace("usage: ", "").strip()
        lines = [usage, "", self.text.strip(), ""]
        lines += [f"  {', '.join(one.names):<18} {one.help}" for one in self.flags]
        return "\n".join(lines)

    def kind(self, place: int) -> str:
        """How the positional argument at this place is completed."""
        if not self.arguments:
            return TEXT
        if place < len(self.arguments):
            return self.arguments[place].kind
        last = self.arguments[-1]
        return last.kind if last.nargs in ("*", "+") else TEXT


def takes(*items: Argument | Flag) -> Callable[[F], F]:
    """Declare what a `do_` method takes."""

    def mark(function: F) -> F:
        function.__items__ = items  # type: ignore[attr-defined]  # read by `grammars`
        return function

    return mark


def grammars(shell: type) -> dict[str, Grammar]:
    """All commands of a shell class, by name."""
    found: dict[str, Grammar] = {}
    for name in dir(shell):
        if name.startswith("do_"):
            method = getattr(shell, name)
            lines = [line.strip() for line in (method.__doc__ or "").splitlines()]
            found[name[3:]] = Grammar(name[3:], getattr(method, "__items__", ()), "\n".join(lines))
    return found
