"""What the two servers have in common: start, wait for a signal, stop cleanly.

Law: SIGTERM and SIGINT end a server in good order; a second one ends it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import threading
from types import FrameType
from typing import Protocol

log = logging.getLogger(__name__)
ARENAS, M_ARENA_MAX = 2, -8  # the number of the option: malloc.h of glibc


class Runs(Protocol):
    """A server."""

    trouble: bool  # something could not be done at the stop

    def start(self) -> None: ...

    def stop(self, drain: float = ...) -> None: ...


def end_on_signal() -> None:
    """From now on SIGTERM ends the program, as it does of itself, but not where the program is the first process of a
    container.  `serve` takes over as soon as there is something to stop."""

    def handle(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, handle)


def bound_arenas() -> None:
    """Have memory allocated from few heaps: glibc reserves 64 MiB of addresses for each of up to eight a core, and no
    thread can be started under `ulimit -v` when they are used up.  MALLOC_ARENA_MAX goes before; elsewhere nothing
    is done."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def serve(server: Runs, durability: str = "disk", drain: float = 5.0) -> int:
    """Run `server` until a signal comes; the exit code."""
    if durability != "disk":
        log.warning("--durability %s: a power cut may lose changes that were answered", durability)
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    server.start()
    gc.collect()
    gc.freeze()  # what has been there since the start is not looked through again and again
    while not stop.wait(3600):
        pass
    server.stop(drain)
    return 1 if server.trouble else 0
