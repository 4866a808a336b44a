"""vg: the shell of a site; commands from -c, from standard input, or from a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from goggles.cli.arguments import need_streams, parse, run
from goggles.client.session import Session
from goggles.client.shell.loop import Shell, is_terminal
from goggles.errors import SettingsError
from goggles.pki.context import Contexts, PkiFiles
from goggles.settings import ClientSettings
from goggles.wire.dial import Address, Dialer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the shell; the exit code: 1 where a command failed."""

    need_streams()

    def program() -> int:
        settings = parse("client", argv)
        local = Path(settings.local)
        if not local.is_dir():
            raise SettingsError(f"--local {local} is not a directory", "give the folder that get and put start from")
        with open_session(settings) as session:
            return _serve(settings, session, local)

    return run("vg", program)


def open_session(settings: ClientSettings) -> Session:
    """A session as these settings say."""
    contexts = Contexts(PkiFiles(settings.ca_cert, settings.certfile, settings.keyfile))
    session = Session(Dialer(contexts), Address(settings.ns_hostname, settings.ns_port), settings.timeout)
    session.on_wait(lambda: print(f"waiting for the nameserver at {session.address} ...", file=sys.stderr))
    session.check()
    return session


def _serve(settings: ClientSettings, session: Session, local: Path) -> int:
    interactive = not settings.command and is_terminal()
    shell = Shell(session, local, interactive=interactive, as_json=settings.json)
    if settings.command:
        return shell.run_lines(settings.command, settings.stop_on_error)
    if interactive:
        return shell.run_interactive(settings.keys)
    return shell.run_lines((line.rstrip("\n") for line in sys.stdin), settings.stop_on_error)


if __name__ == "__main__":
    raise SystemExit(main())
