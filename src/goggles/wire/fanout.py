"""One stream of chunks to several consumers at once, in constant memory.

Law: a consumer sees every chunk once and in order; there are never more than `DEPTH` chunks in memory per
stream, however long it is; the first error of a consumer stops that consumer only (whoever feeds decides).

Hashing, TLS and file I/O release the interpreter's lock, so consumers in threads of their own overlap.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from goggles.errors import Overloaded
from goggles.wire.data import Buffer

DEPTH = 4
Consumer = Callable[[Buffer], None]


class _Lane:
    """A consumer with its thread and its queue."""

    def __init__(self, name: str, consume: Consumer, release: Callable[[Buffer], None]) -> None:
        self.error: BaseException | None = None
        self._consume = consume
        self._release = release
        self._queue: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, buffer: Buffer) -> None:
        self._queue.put(buffer)

    def finish(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (buffer := self._queue.get()) is not None:
            try:
                if self.error is None:
                    self._consume(buffer)
            except Exception as error:  # noqa: BLE001 - kept for whoever feeds; later chunks are let pass
                self.error = error
            finally:
                self._release(buffer)


class Fanout:
    """Feed buffers with `free()` and `feed(buffer)`; `finish()` waits until all have been consumed.

    `errors` maps a consumer's name to what stopped it.  Overloaded where no thread can be started."""

    def __init__(self, consumers: Mapping[str, Consumer], name: str = "fanout") -> None:
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        for _ in range(DEPTH):
            self._free.put(Buffer())
        self._lock = threading.Lock()
        self._pending: dict[int, int] = {}  # id of a buffer to consumers that still use it; guarded by _lock
        self._lanes: dict[str, _Lane] = {}
        try:
            for key, consume in consumers.items():
                self._lanes[key] = _Lane(f"{name}-{key}", consume, self._release)
        except RuntimeError as error:  # the system allows no more
            self.finish()
            hint = "ulimit -u bounds threads, ulimit -v the addresses that they need"
            raise Overloaded(f"no thread can be started to {name}: {error}", hint) from error

    @property
    def errors(self) -> dict[str, BaseException]:
        return {key: lane.error for key, lane in self._lanes.items() if lane.error is not None}

    def free(self) -> Buffer:
        """A buffer that nobody uses; waits for the slowest consumer."""
        return self._free.get()

    def feed(self, buffer: Buffer) -> None:
        with self._lock:
            self._pending[id(buffer)] = len(self._lanes)
        for lane in self._lanes.values():
            lane.put(buffer)

    def finish(self) -> None:
        """Let all consumers come to the end; call it in any case."""
        for lane in self._lanes.values():
            lane.finish()

    def _release(self, buffer: Buffer) -> None:
        with self._lock:
            self._pending[id(buffer)] -= 1
            last = self._pending[id(buffer)] == 0
        if last:
            self._free.put(buffer)
