"""vg-storage: keeps plain files."""

from __future__ import annotations

from collections.abc import Sequence

from goggles.cli.arguments import parse, run
from goggles.cli.serving import bound_arenas, end_on_signal, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run a storage until it is told to stop; the exit code."""

    def program() -> int:
        end_on_signal()
        bound_arenas()
        settings = parse("storage", argv)
        from goggles.storage.program import Storage  # after the settings: --help needs no folder

        return serve(Storage(settings), settings.durability)

    return run("vg-storage", program)


if __name__ == "__main__":
    raise SystemExit(main())
