"""vg-nameserver: keeps the tree."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from goggles.cli.arguments import parse, run
from goggles.cli.serving import serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run a nameserver until it is told to stop; the exit code."""

    def program() -> int:
        settings = parse("nameserver", argv)
        from goggles.librarian.librarian import Librarian, planned  # after the settings: --help needs no database
        from goggles.nameserver.program import Nameserver

        plans = planned(settings)  # a mistake in it must not cost the password that is shown once
        nameserver = Nameserver(settings)
        if nameserver.first_administrator is not None:
            name, password = nameserver.first_administrator
            sys.stderr.write(f"The administrator of this site is {name}, with the password {password}\n")
            sys.stderr.write("It is shown this once only: keep it, or change it.\n")
            sys.stderr.flush()
        Librarian(nameserver, settings, plans)
        return serve(nameserver)

    return run("vg-nameserver", program)


if __name__ == "__main__":
    raise SystemExit(main())
