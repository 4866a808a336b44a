"""The shell: reads lines, runs commands, says what went wrong in one line, and goes on.

Law: a command that fails never ends the shell; Ctrl-C ends the command, never the shell, and leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from goggles.client.session import Session
from goggles.client.shell import words
from goggles.client.shell.changing import Changing
from goggles.client.shell.completion import ShellCompleter
from goggles.client.shell.grammar import COMMAND, Argument, grammars, takes
from goggles.client.shell.keeping import Keeping
from goggles.client.shell.looking import Looking
from goggles.client.shell.moving import Moving
from goggles.client.shell.operating import Operating
from goggles.errors import BadRequest, Cancelled, GogglesError, InternalError, LocalFileError

log = logging.getLogger(__name__)

FOREIGN = frozenset({"|", ";", "&&", "||", ">", ">>", "<", "&"})
USAGE = """\
verbose-goggles: one safe tree of files over a handful of hosts.

Paths of the tree start at / or at the current directory (cd, pwd); local paths at the local directory (lcd, lpwd).
Names may be quoted ("my file") or escaped (my\\ file); * ? [..] stand for many names; after -- names may start with -.

    put notes.txt /docs/        local file into a directory of the tree
    get /docs/notes.txt         back into the local directory
    put -r folder /docs         whole directories
    ls -l /docs                 what is there, and on which storages
    du                          storages and totals

Tab completes, Ctrl-R searches the history, Ctrl-C ends a command, Ctrl-D leaves, !command runs a local command.
help lists all commands, help COMMAND explains one."""

GREETING = "usage tells how this shell is used, help lists the commands, Tab completes, Ctrl-D leaves."


class Shell(Looking, Changing, Moving, Operating, Keeping):
    """All commands of a session."""

    def __init__(self, session: Session, local: Path, *, interactive: bool, as_json: bool) -> None:
        super().__init__(session, local, interactive=interactive, as_json=as_json)
        self.commands = grammars(type(self))
        self.history: History = InMemoryHistory()

    # --- commands about the shell itself ---------------------------------------------------

    @takes()
    def do_usage(self, options: Namespace) -> None:
        """How to use this shell."""
        self.show(options, USAGE, USAGE)

    @takes(Argument("command", COMMAND, "?"))
    def do_help(self, options: Namespace) -> None:
        """List the commands, or explain one."""
        if options.command:
            if options.command not in self.commands:
                raise BadRequest(f"there is no command {options.command}", "help lists them")
            self.show(options, self.commands[options.command].help(), self.commands[options.command].help())
            return
        listed = (item for item in self.commands.items() if item[0] != "EOF")  # which nobody types
        lines = {name: (grammar.text.splitlines() or [""])[0] for name, grammar in listed}
        self.show(options, lines, "\n".join(f"{name:<12} {text}" for name, text in sorted(lines.items())))

    @takes()
    def do_history(self, options: Namespace) -> None:
        """The lines typed so far, oldest first."""
        lines = list(self.history.get_strings())
        self.show(options, lines, "\n".join(words.safe(line) for line in lines))

    @takes()
    def do_clear(self, options: Namespace) -> None:
        """Clear the screen, as Ctrl-L does."""
        self.out.clear()

    @takes()
    def do_quit(self, options: Namespace) -> None:
        """Leave the shell."""
        self.leaving = True

    do_exit = do_quit
    do_EOF = do_quit  # the seeds' name for Ctrl-D

    # --- lines -----------------------------------------------------------------------------

    def run_line(self, line: str) -> int:
        """Run one line; 0, or the exit code of what went wrong (which has been said)."""
        try:
            with self._interruptible(line):
                self._dispatch(line)
        except BrokenPipeError:
            raise
        except GogglesError as error:
            self.complain(error)
            return error.exit_code
        except OSError as error:
            where = words.safe(str(error.filename)) if error.filename else "the output"
            self.complain(LocalFileError(f"{where}: {error.strerror or error}"))
            return LocalFileError.exit_code
        except KeyboardInterrupt:
            self.complain(Cancelled("cancelled"))
            return Cancelled.exit_code
        except Exception:
            log.exception("command failed: %r", line)
            self.complain(
                InternalError("this command failed for an unknown reason", "run with --logfile FILE for more")
            )
            return 1
        return 0

    def _dispatch(self, line: str) -> None:
        text = line.strip()
        if not text or text.startswith("#"):
            return
        if text.startswith("?"):
            text = f"help {text[1:]}"
        if text.startswith("!"):
            self._local_command(text[1:])
            return
        name, *rest = words.split(text)
        if any(word in FOREIGN and word.bare for word in rest):
            raise BadRequest("this shell has no pipes and no redirection", 'in yours: vg -c "ls /" | head')
        self.line_json = "--json" in rest
        grammar = self.commands.get(name)
        if grammar is None:
            near = difflib.get_close_matches(name, self.commands, 1)
            hint = f"did you mean {near[0]}? help lists all" if near else "help lists them"
            raise BadRequest(f"there is no command {words.safe(name)}", hint)
        if grammar.asks_for_help(rest):
            self._dispatch(f"help {name}")
            return
        getattr(self, f"do_{name}")(grammar.parse(rest))

    def _local_command(self, text: str) -> None:
        # The lines of a script are for this shell, not for the command.
        stdin = None if self.interactive else subprocess.DEVNULL
        code = subprocess.call(["/bin/sh", "-c", text], cwd=self.local, stdin=stdin)
        if code:
            raise BadRequest(f"{shlex.quote(text)} ended with {code}")

    @contextlib.contextmanager
    def _interruptible(self, line: str) -> Iterator[None]:
        """Ctrl-C: a transfer is asked to stop and clean up first; anything else, or a second Ctrl-C, stops at once."""
        self.cancel.clear()
        self.line_json = False
        transfer = line.split(maxsplit=1)[:1] and line.split(maxsplit=1)[0] in self.transfers

        def handle(_: int, __: FrameType | None) -> None:
            if transfer and not self.asking and not self.cancel.is_set():
                self.cancel.set()
            else:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def run_lines(self, lines: Iterable[str], stop_on_error: bool = False) -> int:
        """Run lines one after the other, as a rule also after one that failed; 0 only if all went well."""
        worst = 0
        for line in lines:
            code = self.run_line(line)
            worst = worst or code
            if self.leaving or code == Cancelled.exit_code or (code and stop_on_error):
                break
        return worst

    # --- a person --------------------------------------------------------------------------

    def run_interactive(self, keys: str) -> int:
        """Read lines from a terminal until the person leaves."""
        self.history = _history()
        prompt: PromptSession[str] = PromptSession(
            history=self.history,
            completer=ThreadedCompleter(ShellCompleter(self)),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            editing_mode=EditingMode.VI if keys == "vi" else EditingMode.EMACS,
            enable_history_search=False,
        )
        self.note(GREETING)
        while not self.leaving:
            try:
                line = prompt.prompt(self._prompt)
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            self.run_line(line)
        return 0

    def _prompt(self) -> str:
        down = "" if self.session.connected else "(down) "
        return f"{down}goggles:{words.safe(self.cwd)}> "


class _KeptHistory(FileHistory):
    """A disk that takes no more history does not end the shell."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError as error:
            log.info("a line was not kept in the history: %s", error)


def _history() -> History:
    """The history across runs; in memory only where no file can be kept."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = Path(home) / "goggles" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.fchmod(file, 0o600)
        os.close(file)
    except OSError as error:
        log.info("no history is kept: %s", error)
        return InMemoryHistory()
    return _KeptHistory(str(path))


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
