"""vg-nameserver: keeps the tree."""

from __future__ import annotations

from collections.abc import Sequence

from goggles.cli.arguments import parse, run
from goggles.cli.serving import serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run a nameserver until it is told to stop; the exit code."""

    def program() -> int:
        settings = parse("nameserver", argv)
        from goggles.nameserver.program import Nameserver  # after the settings: --help needs no database

        return serve(Nameserver(settings))

    return run("vg-nameserver", program)


if __name__ == "__main__":
    raise SystemExit(main())
