"""The command line of every program: flags to settings, errors to one line and an exit code.

Law: a user never sees a traceback.  Settings come from the table in goggles.settings and from nowhere else.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Literal, overload

from goggles import log
from goggles.cli import parsing
from goggles.errors import GogglesError, InternalError, SettingsError
from goggles.kinds import LINES, PATH, SWITCH
from goggles.settings import (
    PROGRAMS,
    BackgroundSettings,
    ClientSettings,
    NameserverSettings,
    Option,
    S,
    Settings,
    StorageSettings,
    options,
    resolve,
)

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE
FILE_VARIABLE = "GOGGLES_SETTINGS"
DESCRIPTIONS = {
    "nameserver": "Keep the tree of a site.",
    "storage": "Keep plain files for a site.",
    "background": "Run a librarian's background tasks beside a nameserver that has --background off.",
    "client": "The shell of a site.  Commands also come from -c, or as a script on standard input.",
}
EPILOG = f"""\
Every setting can also be given as an environment variable (GOGGLES_ and its name in capitals) or as a key of the
settings file (TOML, or JSON by its suffix; --settings or {FILE_VARIABLE}).  A flag is stronger than the environment,
the environment stronger than the file.  Dashes may be written for underscores.
"""
COMMANDS_EPILOG = """\
vg -c help lists the commands of the shell, vg -c "help put" explains one.  Exit codes: 0 all went well; 1 a command
failed; 2 the flags, settings or certificates are wrong; 130 interrupted.
"""


@overload
def parse(program: Literal["nameserver"], argv: Sequence[str] | None = ...) -> NameserverSettings: ...
@overload
def parse(program: Literal["storage"], argv: Sequence[str] | None = ...) -> StorageSettings: ...
@overload
def parse(program: Literal["background"], argv: Sequence[str] | None = ...) -> BackgroundSettings: ...
@overload
def parse(program: Literal["client"], argv: Sequence[str] | None = ...) -> ClientSettings: ...
def parse(program: str, argv: Sequence[str] | None = None) -> Settings:
    """The settings of a program from its command line, the environment and a settings file; starts its log.

    Raises SettingsError.  `--help` and `--version` print and end the program."""
    settings = read(PROGRAMS[program], sys.argv[1:] if argv is None else argv, os.environ)
    process = f"storage/{settings.name}" if isinstance(settings, StorageSettings) else program
    # the terminal of a user is no place for tracebacks; that of a server is its log
    tracebacks = program != "client" or settings.logfile is not None or settings.loglevel == "debug"
    log.setup(settings.loglevel, settings.logfile, settings.logformat, process, tracebacks)
    return settings


def read(cls: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """The settings of one program, and nothing else done.  Raises SettingsError."""
    given, unknown = parser(cls).parse_known_args([_underscored(arg) for arg in argv])
    if unknown:
        raise _unknown(cls, unknown[0])
    flags: dict[str, str | list[str]] = vars(given)
    texts = {name: "\n".join(text) if isinstance(text, list) else text for name, text in flags.items()}
    file = texts.pop("settings", "") or environ.get(FILE_VARIABLE)
    return resolve(cls, texts, environ, Path(file) if file else None)


def parser(cls: type[Settings]) -> argparse.ArgumentParser:
    """An argument parser that leaves all reading of values to the table: each flag given is a text."""
    made = parsing.parser(
        cls.prog,
        description=DESCRIPTIONS[cls.program],
        epilog=COMMANDS_EPILOG + EPILOG if cls is ClientSettings else EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    made.files = {option.name for option in options(cls) if option.kind is PATH}
    made.add_argument("--settings", metavar="FILE", help="settings file")
    for option in options(cls):
        _add(made, option)
    return made


def _add(to: argparse.ArgumentParser, option: Option) -> None:
    names = [*filter(None, [option.short]), option.flag]
    text = f"{option.help} ({shown_default(option)})".replace("%", "%%")
    if option.kind is SWITCH:
        to.add_argument(*names, nargs="?", const="yes", metavar="yes|no", help=text)
    elif option.kind is LINES:
        to.add_argument(*names, action="append", help=text)
    else:
        to.add_argument(*names, help=text)


def shown_default(option: Option) -> str:
    """The default of a setting in words, for help and reference."""
    if option.found:
        return f"default: {option.found}"
    if option.default is MISSING:
        return "must be given"
    if option.default in (None, "", ()):
        return "default: none"
    if isinstance(option.default, bool):
        return f"default: {'yes' if option.default else 'no'}"
    return f"default: {option.default:g}" if isinstance(option.default, float) else f"default: {option.default}"


def _underscored(arg: str) -> str:
    name, equals, value = arg.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else arg


def _unknown(cls: type[Settings], arg: str) -> SettingsError:
    flags = [option.flag for option in options(cls)]
    near = difflib.get_close_matches(arg.partition("=")[0], flags, 1)
    hint = f"did you mean {near[0]}?" if near else f"{cls.prog} --help lists all flags"
    return SettingsError(f"unknown argument {arg!r}", hint)


# --- the end of a program --------------------------------------------------------------------


def need_streams() -> None:
    """Whoever started us may have closed them (`vg ... >&-`)."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - until the end of the program
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - the same


def run(program: str, function: Callable[[], int]) -> int:
    """Call `function` and answer its exit code; what it raises becomes one line and an exit code."""
    threading.excepthook = log.uncaught
    try:
        return function()
    except GogglesError as error:
        return fail(program, error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        return _missing(program, error)
    except OSError as error:
        return _quiet_end() if error.errno == errno.EPIPE else _bug(program, error)
    except Exception as error:  # noqa: BLE001 - the outermost door; _bug logs it
        return _bug(program, error)


def fail(program: str, error: GogglesError) -> int:
    """Say `error` in one line on standard error; the exit code it asks for."""
    sys.stderr.write(f"{program}: {log.escape(str(error))}\n")
    return error.exit_code


def _missing(program: str, error: ModuleNotFoundError) -> int:
    if (error.name or "goggles").partition(".")[0] == "goggles":
        return _bug(program, error)
    return fail(program, SettingsError(f"the library {error.name} is not installed", "run: make venv"))


def _bug(program: str, error: Exception) -> int:
    if logging.getLogger().handlers:  # else the traceback would land on the terminal
        logging.getLogger(__name__).critical("%s ends: %r", program, error, exc_info=error)
    what = f"internal error, {type(error).__name__}: {error}"
    return fail(program, InternalError(what, "this is a bug; run again with --logfile FILE and report what it says"))


def _quiet_end() -> int:
    """Whoever read our output has gone (`vg -c ls | head`): no one is left to be told."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
