"""The reference pages that are made from the code: `python -m goggles.cli.reference` writes them.

Law: tests/test_house.py compares them with the code, so a page can not fall behind it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from goggles.cli import librarian  # noqa: F401 - it declares the commands of librarian
from goggles.cli.arguments import DESCRIPTIONS, EPILOG, shown_default
from goggles.cli.librarian_grammar import COMMANDS, Command
from goggles.cli.librarian_grammar import Option as CommandOption
from goggles.errors import BY_CODE
from goggles.librarian.schedule import COMMON, DEFAULT, KINDS, WORK, Key
from goggles.settings import PROGRAMS, Option, Settings, options

NOTE = "<!-- made by `python -m goggles.cli.reference`: do not edit -->"


def settings_page() -> str:
    """docs/reference/settings.md."""
    head = ["# Settings", NOTE, " ".join(EPILOG.split())]
    example = '```toml\n[storage]\nname = "alice"\ncapacity = "10G"\n\n[client]\nns_hostname = "nameserver"\n```'
    head += [
        "In a settings file, keys at the top are for the program that reads it; a table named after a program "
        "(`[nameserver]`, `[storage]`, `[client]`) is for that program only, and stronger. An unknown key is an error. "
        "Relative paths are relative to the directory in which the program is started.",
        example,
    ]
    return "\n\n".join([*head, *(_program(cls) for cls in PROGRAMS.values())]) + "\n"


def _program(cls: type[Settings]) -> str:
    rows = "\n".join(_row(option) for option in options(cls))
    table = f"| flag | environment | what it is | default |\n|---|---|---|---|\n{rows}"
    return f"## {cls.prog}\n\n{DESCRIPTIONS[cls.program]}\n\n{table}"


def _row(option: Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (option.short, option.flag) if flag)
    variables = " or ".join(f"`{name}`" for name in option.variables)
    return f"| {flags} | {variables} | {option.help} | {shown_default(option).removeprefix('default: ')} |"


def errors_page() -> str:
    """docs/reference/errors.md."""
    rows = [f"| `{code}` | `{cls.__name__}` | {cls.exit_code} | {_first_line(cls)} |" for code, cls in BY_CODE.items()]
    text = (
        "Every error is a class of `goggles.errors`. The code crosses the wire and is stable. A program that an error "
        "ends prints one line, `PROGRAM: what happened to what (what to do next)`, and has the exit code given here."
    )
    table = "| code | class | exit code | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    return "\n\n".join(["# Errors", NOTE, text, table]) + "\n"


def _first_line(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def librarian_page() -> str:
    """docs/reference/librarian.md."""
    text = (
        "`librarian COMMAND CONNECTION-NAME ...`, a connection of [`~/.hl_client.cfg`](../librarian.md#connections)."
        " Each command also has `--json` and `--help`."
    )
    parts = [_command(each) for _, each in sorted(COMMANDS.items())]
    return "\n\n".join(["# Commands of `librarian`", NOTE, text, *parts]) + "\n"


def _command(command: Command) -> str:
    rows = "\n".join(_command_row(each) for each in command.options)
    table = [f"| option | what it is |\n|---|---|\n{rows}"] if rows else []
    example = f"    librarian {command.example}"
    return "\n\n".join([f"## {command.name}", command.text, *table, example])


def _command_row(option: CommandOption) -> str:
    more = option.more
    value = "" if "action" in more else more.get("metavar") or option.names[-1].lstrip("-").upper().replace("-", "_")
    names = ", ".join(f"`{name}`" for name in option.names) if option.names[0].startswith("-") else ""
    default = str(more.get("default"))
    text = more.get("help", "").replace("%(default)s", default).replace("|", "\\|")
    choices = f" One of {', '.join(f'`{word}`' for word in more['choices'])}." if "choices" in more else ""
    needed = " Must be given." if more.get("required") else ""
    return f"| {f'{names} {value}'.strip()} | {text}{choices}{needed} |"


TASKS = """\
The schedule that `--background` names, for `vg-nameserver` as for `vg-background`: a JSON file (or TOML, by its suffix)
that holds for each kind of task a list of tasks. It is read at the start; a mistake in it is told with its key, and
nothing starts. `recieve_clone` and `recv_clone` are taken for `receive_clone`."""


def tasks_page() -> str:
    """docs/reference/tasks.md."""
    kinds = [f"## {kind}\n\nIt {WORK[kind]}.\n\n{_keys(keys)}".strip() for kind, keys in KINDS.items()]
    usual = [f"| {plan.kind} | {plan.every:g} s | {_values(plan.values)} |" for plan in DEFAULT]
    without = "## Without a schedule\n\nThese run, and nothing is sent or let go by itself:\n\n"
    without += "| kind | every | with |\n|---|---|---|\n" + "\n".join(usual)
    return "\n\n".join(["# Background tasks", NOTE, TASKS, f"## Every task\n\n{_keys(COMMON)}", *kinds, without]) + "\n"


def _keys(keys: Mapping[str, Key]) -> str:
    if not keys:
        return "No more keys."
    rows = [f"| `{name}` | {key.shape} | {key.says} | {_default(key)} |" for name, key in keys.items()]
    return "| key | value | what it is | default |\n|---|---|---|---|\n" + "\n".join(rows)


def _default(key: Key) -> str:
    return "must be given" if key.needed else json.dumps(key.default)


def _values(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "-"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "librarian.md": librarian_page,
    "tasks.md": tasks_page,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages below docs/reference (or the folder given)."""
    arguments = sys.argv[1:] if argv is None else argv
    folder = Path(arguments[0]) if arguments else Path("docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
