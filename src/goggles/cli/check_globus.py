"""check-globus: whether transfers by Globus can work, and what is wrong where they can not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from goggles.cli import globus_arguments
from goggles.cli.arguments import need_streams, run
from goggles.errors import SettingsError
from goggles.log import escape

PROGRAM = "check-globus"


def main(argv: Sequence[str] | None = None) -> int:
    """Look at everything, and say what was found; 0 only if all is well."""

    def program() -> int:
        given = _parser().parse_args(argv)
        settings = globus_arguments.settings(given)
        source = given.source or settings.globus_local_endpoint_id
        if not source and not given.destination:
            raise SettingsError("no collection is given", "set globus_local_endpoint_id, or give --destination")
        from goggles.librarian.managers.globus.checking import Spot, check  # after the settings: for --help
        from goggles.librarian.managers.globus.credentials import Credentials
        from goggles.librarian.managers.globus.service import Globus

        ends = (("source", source, given.source_path), ("destination", given.destination, given.destination_path))
        spots = [Spot(title, end, path, title == "destination") for title, end, path in ends if end]
        good = True
        for found in check(Globus(Credentials.of(settings)), spots):
            print(escape(f"{'ok   ' if found.good else 'WRONG'} {found.what}{': ' if found.said else ''}{found.said}"))
            good = good and found.good
        return 0 if good else 1

    need_streams()
    return run(PROGRAM, program)


def _parser() -> argparse.ArgumentParser:
    made = globus_arguments.parser(
        PROGRAM,
        "Log in to Globus, look at both collections, list a folder of each, and write a probe at the destination.",
        f"example: {PROGRAM} --settings nameserver.toml --source_path /data/alice --destination UUID "
        "--destination_path /data/carol",
    )
    made.add_argument("--source", metavar="UUID", help="collection to send from (default: globus_local_endpoint_id)")
    made.add_argument("--source_path", default="/", metavar="PATH", help="folder of a storage there (default: /)")
    made.add_argument("--destination", metavar="UUID", help="collection to send to")
    made.add_argument("--destination_path", default="/", metavar="PATH", help="folder of a storage there (default: /)")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
