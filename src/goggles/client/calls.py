"""Calls to the nameserver that outlive a lost connection.

Law: every call is safe to repeat: looking changes nothing, and changes carry a request id that the nameserver
answers only once.  So a lost connection is made again, with growing pauses, until `patience` is over.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from goggles.errors import (
    BadRequest,
    CertificateError,
    ConnectionLost,
    DatabaseAway,
    DeadlinePassed,
    GogglesError,
    Overloaded,
    Unavailable,
)
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_IDLE = 16
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
TELL = 0.8  # a pause from which on the waiting is told: after about a second and a half


def _silently() -> None:
    """Scripts are not told."""


class Calls:
    """A few kept connections to one nameserver, used by any number of threads."""

    def __init__(self, dialer: Dialer, address: Address, patience: float) -> None:
        self.address = address
        self.patience = patience
        self._dialer = dialer
        self._lock = threading.Lock()
        self._idle: list[Peer] = []  # guarded by _lock
        self._closed = False
        self.connected = False
        self.on_wait: Callable[[], None] = _silently  # called once for a call that has to wait for the nameserver

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of the nameserver's method."""
        return self._insist(lambda peer: peer.call(method, *args, **kwargs))

    def each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """The answers for each tuple of arguments, many calls in flight; errors come as values."""
        answers: list[Any] = self._insist(lambda peer: list(peer.call_each(method, arguments)))
        for args, answer in zip(arguments, answers, strict=True):
            yield self._again(method, args) if isinstance(answer, Overloaded) else answer

    def several(self, *calls: tuple[str, tuple[Any, ...]]) -> list[Any]:
        """The answers of a few (method, arguments) that are sent together; errors come as values."""
        answers: list[Any] = self._insist(lambda peer: peer.call_all(calls))
        late = Overloaded, DatabaseAway
        return [self._again(*call) if isinstance(one, late) else one for call, one in zip(calls, answers, strict=True)]

    def following(
        self, method: str, args: tuple[Any, ...], read: Callable[[Any], tuple[T, tuple[Any, ...] | None]]
    ) -> Iterator[T]:
        """What `read` makes of answers; it also says what to ask next, None at the end.

        That is sent before anything is given out: the other side works while it is looked at here."""
        made, after = read(self(method, *args))
        while after is not None:
            with self._sent(method, after) as heard:
                yield made
                made, after = read(heard())
        yield made

    @contextlib.contextmanager
    def _sent(self, method: str, args: tuple[Any, ...]) -> Iterator[Callable[[], Any]]:
        """What takes the answer of a call that was sent now; where that fails, it calls again, with patience."""
        peer = waiting = None
        with contextlib.suppress(GogglesError):
            peer = self._take()
            waiting = peer.begin(method, args)

        def heard() -> Any:
            nonlocal peer
            try:
                answer = self(method, *args) if peer is None or waiting is None else peer.finish(waiting, method)
            except GogglesError:
                return self(method, *args)
            if peer is not None:
                self._give_back(peer)
                peer = None
            return answer

        try:
            yield heard
        finally:
            if peer is not None:  # its answer was not taken: it must not meet the next call
                peer.close()

    def _again(self, method: str, args: tuple[Any, ...]) -> Any:
        try:
            return self(method, *args)
        except GogglesError as error:
            return error

    def check(self) -> None:
        """Connect once, now; raises what is wrong."""
        self._give_back(self._take())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for peer in idle:
            peer.close()
        self.connected = False

    def _insist(self, action: Callable[[Peer], T]) -> T:
        deadline, pause, told = time.monotonic() + self.patience, FIRST_PAUSE, False
        while True:
            try:
                return self._once(action)
            except CertificateError:
                raise
            except (ConnectionLost, DatabaseAway, Overloaded, _NotThere) as error:
                self.connected = self.connected and isinstance(error, DatabaseAway | Overloaded)
                if self._closed or time.monotonic() + pause > deadline:
                    raise _plain(error, self.address) from error
                log.info("nameserver: %s; trying again", error)
            if not told and pause >= TELL:
                told = True
                self.on_wait()
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _once(self, action: Callable[[Peer], T]) -> T:
        peer = self._take()
        try:
            answer = action(peer)
        except (ConnectionLost, DeadlinePassed):
            peer.close()
            self._drop_idle()
            raise
        except Exception:
            self._give_back(peer)
            raise
        except BaseException:  # interrupted in the middle of an answer: the rest of it must not meet the next call
            peer.close()
            raise
        self._give_back(peer)
        return answer

    def _take(self) -> Peer:
        with self._lock:
            if self._closed:
                raise BadRequest("this session was closed", "connect again")
            while self._idle:
                peer = self._idle.pop()
                if not peer.closed:
                    return peer
        try:
            peer = self._connect()
        except (ConnectionLost, Overloaded):
            raise
        except Unavailable as error:
            raise _NotThere(error.message, error.hint) from error
        self.connected = True
        return peer

    def _connect(self) -> Peer:
        """A new connection, ready to be used."""
        return self._dialer.rpc(self.address, Role.NAMESERVER)

    def _give_back(self, peer: Peer) -> None:
        with self._lock:
            if not peer.closed and not self._closed and len(self._idle) < MAX_IDLE:
                self._idle.append(peer)
                return
        peer.close()

    def _drop_idle(self) -> None:
        """One connection broke: the others of that moment are most likely gone too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for peer in idle:
            peer.close()


class _NotThere(Unavailable):
    """Nobody answers at the nameserver's address (as against a nameserver that has no storage to offer)."""


def _plain(error: Unavailable, address: Address) -> Unavailable:
    if isinstance(error, _NotThere):
        return _NotThere(
            f"no connection to the nameserver at {address}: {error.message}",
            "is it running? check --ns_hostname and --ns_port",
        )
    return error
