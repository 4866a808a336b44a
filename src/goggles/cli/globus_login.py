"""librarian globus-login: walk a person through the login of a native app, once; the nameserver goes on by itself.

Law: the refresh token goes from Globus into the file globus_client_secret_file, mode 600, and is never shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from goggles.cli import globus_arguments
from goggles.cli.arguments import need_streams, run
from goggles.errors import Cancelled

PROGRAM = "librarian globus-login"


def main(argv: Sequence[str] | None = None) -> int:
    """Log in; the exit code."""

    def program() -> int:
        given = _parser().parse_args(argv)
        settings = globus_arguments.settings(given)
        from goggles.librarian.managers.globus.credentials import Credentials, Login  # after the settings: for --help

        credentials = Credentials.of(settings)
        login = Login(credentials, given.consent, _session(given))
        print(f"Go to this address, log in, and allow what is asked:\n\n{login.url}\n")
        login.finish(_asked("Paste the code that is shown there: "))
        print(f"The login is kept in {credentials.file}.  Check it with: check-globus")
        return 0

    need_streams()
    return run(PROGRAM, program)


def _asked(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise Cancelled("no code was given", "run it where you can paste one") from None


def _parser() -> argparse.ArgumentParser:
    made = globus_arguments.parser(
        PROGRAM,
        "Log in to Globus as a person, for a nameserver with --globus_client_native_app.",
        f"example: {PROGRAM} --settings /etc/goggles/nameserver.toml --consent COLLECTION",
    )
    add = made.add_argument
    add("--consent", action="append", default=[], metavar="UUID", help="a collection that asks for consent; repeatable")
    add("--session_identity", action="append", default=[], metavar="ID", help="an identity that a collection asks for")
    add("--session_domain", action="append", default=[], metavar="DOMAIN", help="an organisation that it asks for")
    add("--session_policy", action="append", default=[], metavar="UUID", help="a policy that it asks for")
    add("--session_mfa", action="store_true", help="log in with a second factor")
    add("--again", action="store_true", help="log in also where the browser is logged in already")
    return made


def _session(given: argparse.Namespace) -> dict[str, Any]:
    """What Globus is asked to demand of the login."""
    wanted: dict[str, Any] = {
        "session_required_identities": given.session_identity,
        "session_required_single_domain": given.session_domain,
        "session_required_policies": given.session_policy,
        "session_required_mfa": given.session_mfa,
        "prompt": "login" if given.again else "",
    }
    return {name: value for name, value in wanted.items() if value}


if __name__ == "__main__":
    raise SystemExit(main())
