"""Tells the nameserver what has been staged, many at a time.

Law: a writer hears that its bytes are safe only after the nameserver has been told of them; all who wait at the
same moment share one call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from goggles.contracts.data import MAX_BATCH
from goggles.errors import ConnectionLost, GogglesError, Unavailable, UploadLost
from goggles.wire import faults
from goggles.wire.dial import Peer

log = logging.getLogger(__name__)
PATIENCE = 40.0  # seconds
Notice = tuple[str, int, str]  # upload, size, sha256


class Notifier:
    """`notify` from any thread.  `connect` makes a connection to the nameserver; `session` says which session it is."""

    def __init__(self, connect: Callable[[], Peer], session: Callable[[], str]) -> None:
        self._connect = connect
        self._session = session
        self._peer: Peer | None = None
        self._changed = threading.Condition()
        self._waiting: list[tuple[Notice, Future[str]]] = []  # guarded by _changed
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(5.0)

    def notify(self, upload: str, size: int, sha256: str) -> None:
        """Return when the nameserver knows; UploadLost where nobody waits for these bytes any more."""
        error = self.notify_all([(upload, size, sha256)])[0]
        if error is not None:
            raise error

    def notify_all(self, notices: Sequence[Notice]) -> list[GogglesError | None]:
        """The same for many: None, or what `notify` would raise."""
        waiting = [(notice, Future[str]()) for notice in notices]
        with self._changed:
            if self._stopped:
                return [Unavailable("the storage is stopping") for _ in notices]
            self._waiting += waiting
            self._changed.notify()
        deadline = time.monotonic() + PATIENCE
        return [_outcome(future, deadline - time.monotonic()) for _, future in waiting]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                if self._stopped and not batch:
                    break
            self._tell(batch)
        if self._peer is not None:
            self._peer.close()

    def _ask(self, notices: tuple[Notice, ...]) -> tuple[Any, ...]:
        """The nameserver's answers.  A kept connection that was lost unseen is made again: a notice may come twice."""
        if self._peer is not None:
            with contextlib.suppress(ConnectionLost):
                return tuple(self._peer.call("write_notifications", self._session(), notices))
        self._peer = self._connect()
        return tuple(self._peer.call("write_notifications", self._session(), notices))

    def _tell(self, batch: list[tuple[Notice, Future[str]]]) -> None:
        try:
            answers = self._ask(tuple(notice for notice, _ in batch))
        except GogglesError as error:
            for _, future in batch:
                future.set_exception(error)
            return
        except Exception as error:
            log.exception("notifying the nameserver failed")
            for _, future in batch:
                future.set_exception(faults.known(error, "notify"))
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, str):
                future.set_result(answer)
            else:
                future.set_exception(faults.from_tuple(*answer))


def _outcome(future: Future[str], seconds: float) -> GogglesError | None:
    try:
        answer = future.result(max(0.0, seconds))
    except TimeoutError:
        return Unavailable("the nameserver does not answer", "it may be down; try again")
    except GogglesError as error:
        return error
    return None if answer == "keep" else UploadLost("nobody waits for this upload any more", "put again")
