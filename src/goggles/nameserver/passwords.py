"""Passwords: how they are kept, checked, and guarded against guessing.

Law: a password is never kept, only its argon2id digest (RFC 9106, the library's defaults).  A name that does not exist
costs as much time as one that does.  Whoever fails has to wait, longer each time; while somebody waits nothing is
computed for them.  Source of the digest's form: the PHC string format.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from goggles.clock import Clock
from goggles.errors import BadRequest, PermissionDenied
from goggles.paths import show

log = logging.getLogger(__name__)
LONGEST, SHORTEST = 1_024, 8  # characters of a password
FREE = 2  # failures that cost nothing
CROWD_FREE = 20  # the same for all of a crowd together
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
MAX_FAILURES = 10_000  # names and callers that are remembered
TOO_MANY, WRONG = "too many failed log-ins", "user name or password is wrong"
AT_ONCE = 2  # digests that are computed at the same moment: each takes 64 MiB


def pause_after(failures: int, free: int = FREE) -> float:
    """Seconds to wait after so many failures in a row."""
    over = failures - free
    return 0.0 if over <= 0 else float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(over - 1, 16)))


def check_form(password: str) -> str:
    """`password` if it may be one."""
    if not SHORTEST <= len(password) <= LONGEST or "\0" in password:
        raise BadRequest(f"a password has {SHORTEST} to {LONGEST} characters", "choose another")
    return password


def invent() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(18)


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0  # monotonic


class Passwords:
    """Makes and checks digests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hasher = PasswordHasher()
        self._computing = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()  # guarded by _lock
        self._nobody = ""

    def digest(self, password: str) -> bytes:
        """What is kept of a password."""
        with self._computing:
            return self._hasher.hash(check_form(password)).encode()

    def check(self, user: str, password: str, kept: bytes | None, caller: str, crowd: str = "") -> None:
        """PermissionDenied unless `kept` is the digest of `password` (None: there is no such user).

        `caller`: who tries, as far as it is certain; whoever else comes from there does not have to wait for it.
        `crowd`: those among whom nobody is certain, who together may fail more often and then wait together."""
        keys = {(user, caller): FREE, ("", caller): FREE}
        if crowd:
            keys["", crowd] = CROWD_FREE
        self._refuse_hasty(keys)
        if self._matches(password, kept):
            with self._lock:
                for key in keys:
                    self._failures.pop(key, None)
            return
        self._failed(keys)
        log.warning("failed log-in as %s from %s", show(user[:64]), caller)
        raise PermissionDenied(WRONG)

    def _matches(self, password: str, kept: bytes | None) -> bool:
        if len(password) > LONGEST:
            return False
        with self._computing:
            if kept is None and not self._nobody:
                self._nobody = self._hasher.hash(secrets.token_hex(16))
            try:
                self._hasher.verify(self._nobody if kept is None else kept, password)
            except (VerificationError, InvalidHashError):
                return False
            return kept is not None

    def _refuse_hasty(self, keys: Iterable[tuple[str, str]]) -> None:
        now = self._clock.monotonic()
        with self._lock:
            left = max(self._failures[key].until - now if key in self._failures else 0.0 for key in keys)
        if left > 0:
            raise PermissionDenied(TOO_MANY, f"try again in {max(1.0, left):.0f} s")

    def _failed(self, keys: Mapping[tuple[str, str], int]) -> None:
        now = self._clock.monotonic()
        with self._lock:
            for key, free in keys.items():
                failures = self._failures.setdefault(key, _Failures())
                failures.count += 1
                failures.until = now + pause_after(failures.count, free)
                self._failures.move_to_end(key)
            while len(self._failures) > MAX_FAILURES:
                self._failures.popitem(last=False)
