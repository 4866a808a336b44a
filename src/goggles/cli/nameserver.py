"""vg-nameserver: keeps the tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from goggles.cli.arguments import parse, run
from goggles.cli.serving import bound_arenas, end_on_signal, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run a nameserver until it is told to stop; the exit code."""

    def program() -> int:
        end_on_signal()
        bound_arenas()
        settings = parse("nameserver", argv)
        from goggles.librarian.librarian import Librarian, planned  # after the settings: --help needs no database
        from goggles.nameserver.program import Nameserver

        plans = planned(settings)  # a mistake in it must not cost the password that is shown once
        nameserver = Nameserver(settings)
        Librarian(nameserver, settings, plans)
        nameserver.need_administrator(lambda name, word: _show(name, word, settings.logformat == "json"))
        return serve(nameserver, settings.durability)

    return run("vg-nameserver", program)


def _show(name: str, password: str, as_json: bool) -> None:
    """The password of a new site's administrator, once, where the operator looks; never in a --logfile."""
    lines = (
        f"The administrator of this site is {name}, with the password {password}",
        "It is shown this once only: keep it, or change it.",
    )
    sys.stderr.writelines((json.dumps({"message": line}) if as_json else line) + "\n" for line in lines)
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
