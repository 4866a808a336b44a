"""Named places where a test may stop, fail or kill the program.

    failpoints.hit("storage.publish.before_rename")

costs one dictionary look-up when nothing is armed.  Armed from the environment, so that real processes
can be killed at an exact step: GOGGLES_FAILPOINTS="name=crash;other=error*2;third=sleep:0.5;fourth=crash@3"
(crash: SIGKILL to itself; error: raise InjectedFailure; sleep: pause; *N: only the first N hits;
@N: only the Nth hit), or in process with `arm`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from goggles.errors import SettingsError, StorageFailure

_armed: dict[str, Callable[[], None]] = {}
ENVIRONMENT = "GOGGLES_FAILPOINTS"


class InjectedFailure(StorageFailure):
    """Raised by a failpoint that was armed with `error`."""


def hit(name: str) -> None:
    """Do what was armed for `name`; nothing, as a rule."""
    action = _armed.get(name)
    if action is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run `action` at each hit of `name` until `disarm`."""
    _armed[name] = action


def disarm(name: str | None = None) -> None:
    """Forget what was armed for `name`, or everything."""
    if name is None:
        _armed.clear()
    else:
        _armed.pop(name, None)


def arm_from(text: str) -> None:
    """Arm every `name=action` of `text` (see the head of this module)."""
    for item in filter(None, text.split(";")):
        name, _, action = item.strip().partition("=")
        arm(name, _parse(name, action))


def _parse(name: str, text: str) -> Callable[[], None]:
    action, at, nth = text.partition("@")
    action, star, most = action.partition("*")
    kind, _, argument = action.partition(":")
    actions: dict[str, Callable[[], None]] = {
        "crash": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "error": lambda: _fail(name),
        "sleep": lambda: time.sleep(float(argument or 1)),
    }
    if kind not in actions:
        raise SettingsError(f"failpoint {name}: unknown action {kind!r}", "use crash, error or sleep:SECONDS")
    return _counted(actions[kind], int(nth) if at else None, int(most) if star else None)


def _fail(name: str) -> None:
    raise InjectedFailure(f"failpoint {name}")


def _counted(action: Callable[[], None], nth: int | None, most: int | None) -> Callable[[], None]:
    lock, hits = threading.Lock(), [0]

    def run() -> None:
        with lock:
            hits[0] += 1
            due = hits[0] == nth if nth is not None else most is None or hits[0] <= most
        if due:
            action()

    return run


arm_from(os.environ.get(ENVIRONMENT, ""))
