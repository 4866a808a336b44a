"""Work that takes long: copies fetched from other storages, copies read again.

Law: a copy is fetched, verified, staged and reported like an upload; it is published by an order like any other.
A few threads do it, beside the orders and the readers.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial

from goggles.contracts import orders
from goggles.contracts.orders import Order, PullOrder
from goggles.errors import (
    ChecksumMismatch,
    GogglesError,
    IsADirectory,
    NotADirectory,
    NotFound,
    ProtocolError,
    StorageFailure,
    UploadLost,
)
from goggles.storage.pacing import Pace
from goggles.storage.receiving import Tell
from goggles.storage.staging import StagedWrite
from goggles.storage.vault import Vault
from goggles.wire import faults
from goggles.wire.data import DataLink, Kind
from goggles.wire.dial import Address
from goggles.wire.fanout import Fanout
from goggles.wire.links import Links

log = logging.getLogger(__name__)
THREADS = 4
LEAST = 256 << 10  # bytes a second: who sends must not wait so long that it gives up

Report = Callable[..., object]  # (method, *arguments): says something to the nameserver


class Workers:
    """A few threads and the queue of what they have to do."""

    def __init__(
        self, vault: Vault, links: Links, tell: Tell, report: Report, recheck: Callable[[], None], pace: Pace
    ) -> None:
        self._vault = vault
        self._links = links
        self._tell = tell
        self._report = report
        self._recheck = recheck
        self._pace = pace  # of all copies that are fetched, together
        self._queue: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pulls: set[str] = set()  # uploads asked for and not done; guarded by _lock
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{number}", daemon=True) for number in range(THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def active(self) -> tuple[str, ...]:
        """The uploads of copies that are to be fetched or are being fetched."""
        with self._lock:
            return tuple(self._pulls)

    def aside(self, order: Order) -> None:
        """Take an order that would hold up the others."""
        if order[0] == "recheck":
            self._recheck()
            return
        if order[0] == "pull":
            with self._lock:
                self._pulls.add(PullOrder.from_wire(order[1]).upload)
        self._queue.put(order)

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            try:
                if order[0] == "pull":
                    self._pull(PullOrder.from_wire(order[1]))
                elif order[0] == "check":
                    self._check(*order[1:])
            except GogglesError as error:
                log.warning("%s: %s", order[0], error)
            except Exception:
                log.exception("%s failed", order[0])

    # --- copies ----------------------------------------------------------------------------

    def _pull(self, pull: PullOrder) -> None:
        try:
            self._fetch(pull)
            self._tell(pull.upload, pull.size, pull.hash)
        except UploadLost:
            self._vault.apply([orders.discard(pull.upload)])
        except Exception as error:  # noqa: BLE001 - told to the caller; `faults.known` logs what is not ours
            known = faults.known(error, f"copying {pull.path}")
            log.warning("a copy of %s from %s failed: %s", pull.path, pull.source, known)
            self._report("pull_failed", pull.upload, known.message)
        finally:
            with self._lock:
                self._pulls.discard(pull.upload)

    def _fetch(self, pull: PullOrder) -> None:
        with self._links.to(pull.source, Address(pull.host, pull.port)) as link:
            link.send_value(Kind.REQUEST, ("read", pull.grant, 0, pull.size, pull.after))
            length = link.answer_of(int)
            staged = self._vault.stage(pull.upload, pull.size)
            try:
                digest = copy_stream(link, staged, partial(self._pace.take, rate=pull.rate and max(LEAST, pull.rate)))
                if (length, digest) != (pull.size, pull.hash):
                    raise ChecksumMismatch(
                        f"storage {pull.source} sent other bytes for {pull.path} than it should have"
                    )
                staged.finish(digest, pull.version)
            except BaseException:
                staged.abort()
                raise

    # --- verification ----------------------------------------------------------------------

    def _check(self, path: str, version: str, job: str) -> None:
        try:
            verdict = self._vault.check(path, version)
        except (NotFound, NotADirectory, IsADirectory) as error:
            verdict = f"missing: {error.message}"
        except StorageFailure as error:
            verdict = f"unreadable: {error.message}"
        except GogglesError as error:
            verdict = error.message
        self._report("check_done", job, verdict)


def copy_stream(link: DataLink, staged: StagedWrite, pace: Callable[[int], None]) -> str:
    """Write the DATA frames that come until END; the sha256 of them.  `pace` is told of the bytes of each."""
    digest = hashlib.sha256()
    lanes = Fanout(
        {"hash": lambda buffer: digest.update(buffer.data), "write": lambda buffer: staged.write(buffer.data)}
    )
    try:
        while True:
            buffer = lanes.free()
            kind, value = link.receive(buffer)
            if kind is not Kind.DATA:
                break
            count = buffer.used
            lanes.feed(buffer)
            pace(count)
            if lanes.errors:
                break
    finally:
        lanes.finish()
    for error in lanes.errors.values():
        raise error
    if kind is Kind.ERROR:
        raise link.refusal(kind, value)
    if kind is not Kind.END:
        raise ProtocolError(f"{link.peer} sent {kind.name} in the middle of a file")
    return digest.hexdigest()
