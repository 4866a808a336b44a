"""The same piece of work with each peer, side by side.

Law: no piece runs twice at the same moment for one peer, and whoever takes long is left behind: the round ends without
it, and it is passed over until it has come to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from goggles.librarian.peers import PeerInfo

PATIENCE = 10.0  # seconds that a round waits for its slowest
THREADS = 32
Action = Callable[[PeerInfo], int]


class Rounds:
    """`attempt(kind, peer, action)` does one piece, and raises nothing."""

    def __init__(self, attempt: Callable[[str, PeerInfo, Action], int]) -> None:
        self._attempt = attempt
        self._pool = ThreadPoolExecutor(THREADS, "peer")
        self._lock = threading.Lock()
        self._busy: set[tuple[str, int]] = set()  # guarded by _lock

    def go(self, kind: str, peers: Sequence[PeerInfo], action: Action) -> int:
        """What was done for all of them, as far as it is known at the end of the round."""
        if len(peers) == 1:
            return self._one(kind, peers[0], action)
        work = [self._pool.submit(self._one, kind, peer, action) for peer in peers]
        done, _ = wait(work, PATIENCE)
        return sum(one.result() for one in done)

    def _one(self, kind: str, peer: PeerInfo, action: Action) -> int:
        key = (kind, peer.id)
        with self._lock:
            if key in self._busy:
                return 0
            self._busy.add(key)
        try:
            return self._attempt(kind, peer, action)
        finally:
            with self._lock:
                self._busy.discard(key)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
