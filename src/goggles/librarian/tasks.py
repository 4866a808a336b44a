"""The background work of a librarian.

Law: one task that fails stops no other, and no task runs twice at the same moment; what a task can not finish in its
time it goes on with the next time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from goggles.clock import Clock
from goggles.errors import GogglesError, NotFound
from goggles.librarian.hypervisors import Hypervisors
from goggles.librarian.inbox import Inbox
from goggles.librarian.outbox import Limits, Outbox
from goggles.librarian.peers import PeerInfo, Peers
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
ROUND = 1.0  # seconds
FILES_PER_RUN = 1_024


class Tasks:
    """All tasks of this librarian; those that keep transfers going run by themselves."""

    def __init__(self, site: Site, peers: Peers, inbox: Inbox, outbox: Outbox) -> None:
        self._clock: Clock = site.clock
        self._peers = peers
        self._inbox = inbox
        self._outbox = outbox
        self._hypervisors = Hypervisors(site, peers, inbox, outbox)
        self._limits = Limits()
        self._stopping = threading.Event()
        self._running = threading.Lock()
        self._tasks: dict[str, Callable[[], int]] = {
            "send_clone": lambda: self._each(lambda peer: self._outbox.send(peer, self._limits, 0.0)),
            "consume_queue": lambda: self._each(lambda peer: self._outbox.consume(peer, self._limits)),
            "check_consumed_queue": lambda: self._each(lambda peer: self._outbox.check(peer, self._limits)),
            "receive_clone": self._receive,
            "outgoing_transfer_hypervisor": lambda: self._each(lambda peer: self._hypervisors.outgoing(peer, 0.0)),
            "incoming_transfer_hypervisor": lambda: self._each(lambda peer: self._hypervisors.incoming(peer, 0.0)),
        }
        self._thread = threading.Thread(target=self._run, name="librarian", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)

    def names(self) -> list[str]:
        return list(self._tasks)

    def run(self, name: str) -> int:
        """Run a task now; how much it did."""
        task = self._tasks.get(name.replace("recieve", "receive"))
        if task is None:
            raise NotFound(f"there is no task {name[:80]!r}", "there are " + ", ".join(self._tasks))
        with self._running:
            return task()

    def _run(self) -> None:
        while not self._clock.wait(self._stopping, ROUND):
            for name in ("consume_queue", "check_consumed_queue", "receive_clone"):
                try:
                    self.run(name)
                except GogglesError as error:
                    log.warning("%s: %s", name, error)
                except Exception:
                    log.exception("%s failed; it goes on the next time", name)

    def _each(self, action: Callable[[PeerInfo], int]) -> int:
        """`action` for each peer that is enabled; one that fails spoils nothing for the others."""
        done = 0
        for peer in self._peers.all():
            if not peer.enabled or self._stopping.is_set():
                continue
            try:
                done += action(peer)
            except GogglesError as error:
                log.warning("librarian %s: %s", peer.name, error)
        return done

    def _receive(self) -> int:
        begun = self._inbox.receive(FILES_PER_RUN)
        for peer in self._peers.all():
            try:
                self._inbox.tell(peer)
            except GogglesError as error:
                log.warning("librarian %s could not be told what arrived: %s", peer.name, error)
        return begun
