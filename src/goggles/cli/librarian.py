"""librarian: talk to a librarian, under the commands and options that users of librarians know.

Law: the exit code is 0 only where what was asked for was done, 1 where it was not, 2 for a command line or a
connection that can not be used.  An answer goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from goggles import log
from goggles.cli import librarian_accounts, librarian_files, librarian_linking  # noqa: F401 - they declare commands
from goggles.cli.arguments import need_streams, run
from goggles.cli.librarian_grammar import COMMANDS, Reply, parser
from goggles.client.librarian.admin import AdminClient
from goggles.client.librarian.connections import load
from goggles.client.shell import render
from goggles.client.shell.words import safe
from goggles.errors import GogglesError
from goggles.exceptions import LibrarianPartialError

PROGRAM = "librarian"
LOGIN = "globus-login"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [LOGIN]:
        from goggles.cli import globus_login  # talks to Globus, not to a librarian

        return globus_login.main(words[1:])

    def program() -> int:
        options = parser().parse_args(words)
        log.setup("warning", None, "text", PROGRAM, tracebacks=False)
        try:
            return _finish(_reply(options), options.json)
        except GogglesError as error:
            if not isinstance(error, LibrarianPartialError) and not options.json:
                raise
            return _complain(error, options.json)

    need_streams()
    return run(PROGRAM, program)


def _reply(options: Namespace) -> Reply:
    command = COMMANDS[options.command]
    connections = load()
    if connections.open_to_others is not None:
        file = safe(str(connections.open_to_others))
        sys.stderr.write(f"{PROGRAM}: warning: others can read {file} (chmod 600 {file})\n")
    if not command.talks:
        return command.act(connections, options)
    with AdminClient.from_info(connections.need(options.connection)) as client:
        return command.act(client, options)


def _finish(reply: Reply, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(render.as_json(reply.data) + "\n")
    elif reply.shown != "":
        shown = reply.shown
        render.console().print(render.lines(shown) if isinstance(shown, str) else shown)
    if reply.why and not as_json:
        sys.stderr.write(f"{PROGRAM}: {log.escape(reply.why)}\n")
    sys.stdout.flush()
    return reply.code


def _complain(error: GogglesError, as_json: bool) -> int:
    """An error with more than a line, or one for a program."""
    failed = error.failed if isinstance(error, LibrarianPartialError) else []
    if as_json:
        data = {"code": error.code, "message": error.message, "hint": error.hint}
        told = {"failed": [{"path": path, "message": why} for path, why in failed]} if failed else {}
        sys.stderr.write(render.as_json({**data, **told}) + "\n")
        return error.exit_code
    for path, why in failed:
        sys.stderr.write(f"{PROGRAM}: {log.escape(f'{path}: {why}')}\n")
    sys.stderr.write(f"{PROGRAM}: {log.escape(str(error))}\n")
    return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
