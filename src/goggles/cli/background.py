"""vg-background: runs a librarian's background tasks beside a nameserver that was started with --background off."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence

from goggles.cli.arguments import parse, run
from goggles.cli.serving import bound_arenas, end_on_signal, serve
from goggles.errors import Unavailable
from goggles.pki.context import Contexts, PkiFiles
from goggles.wire.dial import Address, Dialer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tasks until it is told to stop, or each one once; the exit code."""

    def program() -> int:
        end_on_signal()
        bound_arenas()
        settings = parse("background", argv)
        from goggles.librarian import schedule  # after the settings: --help needs no scheduler
        from goggles.librarian.background import Background

        plans = schedule.load(settings.background)
        dialer = Dialer(Contexts(PkiFiles(settings.ca_cert, settings.certfile, settings.keyfile)))
        background = Background(plans, dialer, Address(settings.ns_hostname, settings.ns_port))
        with contextlib.suppress(Unavailable):  # it is waited for
            background.check()
        if not settings.once:
            return _leave(serve(background), background.busy)
        try:
            return 0 if background.once() else 1
        finally:
            background.stop()

    return run("vg-background", program)


def _leave(code: int, busy: bool) -> int:
    """A thread that waits for an answer of the nameserver would keep the program until it comes."""
    if busy:
        logging.shutdown()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
