"""Carries orders to storages: one kept connection and one thread for each, many orders in a call.

Law: no lock is held while anything is carried.  Orders go in their order and at most once; when a connection
breaks, what was on its way is forgotten, because the storage will compare its whole disk with the tree when it
comes back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from goggles.contracts.records import Value
from goggles.errors import GogglesError, Unavailable
from goggles.nameserver.outbox import Entry, Outbox
from goggles.nameserver.roster import Node
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

log = logging.getLogger(__name__)
BATCH = 256
TOGETHER = 0.004  # seconds from one call to the next: what comes meanwhile goes together
MANY, LONGER = 4, 0.012  # orders of a call after which the next waits for so many seconds
LONGEST = 0.03  # the same where nobody waits for what they do
PATIENCE = 120.0  # seconds for a batch; a storage that needs longer is taken for lost

Lost = Callable[[str, str], None]
Failed = Callable[[Node, tuple[Value, ...], str], None]


class Courier:
    """`lost(session, why)` is called when a storage can not be reached, `failed(node, order, message)` for each
    order that a storage could not carry out."""

    def __init__(self, dialer: Dialer, lost: Lost, failed: Failed) -> None:
        self._dialer = dialer
        self._lost = lost
        self._failed = failed

    def dial(self, address: Address, name: str) -> Peer:
        """A connection to the storage, or Unavailable in words for the operator of the storage."""
        try:
            return self._dialer.rpc(address, Role.STORAGE, name)
        except GogglesError as error:
            raise Unavailable(
                f"the nameserver can not reach storage {name} at {address}: {error.message}",
                "give the storage an address that the nameserver and clients can reach with --hostname and --port",
            ) from error

    def serve(self, node: Node, peer: Peer, session: str) -> None:
        """Carry the orders of this session from now on."""
        outbox = node.outbox
        if outbox is None or outbox.session != session:
            peer.close()
            return
        threading.Thread(target=self._run, args=(node, peer, outbox), name=f"courier-{node.name}", daemon=True).start()

    def _run(self, node: Node, peer: Peer, outbox: Outbox) -> None:
        try:
            while not outbox.closed:
                first, batch = outbox.take(BATCH, 1.0)
                if batch:
                    began = time.monotonic()
                    self._carry(node, peer, outbox, first, batch)
                    least, most = _pauses(len(batch))
                    spent = time.monotonic() - began
                    outbox.gather(least - spent, most - spent)
        except GogglesError as error:
            self._lost(outbox.session, f"orders can not be carried to it: {error.message}")
        except Exception:
            log.exception("courier for %s failed", node.name)
            self._lost(outbox.session, "the courier failed")
        finally:
            peer.close()
            if outbox.closed:
                self._lost(outbox.session, "too many orders waited for it")

    def _carry(self, node: Node, peer: Peer, outbox: Outbox, first: int, batch: list[Entry]) -> None:
        orders = tuple(entry.order for entry in batch)
        results = peer.call("carry_out", outbox.session, first, orders, timeout=PATIENCE)
        for entry, result in zip(batch, results, strict=True):
            if entry.report is not None:
                entry.report(result)
            if result[0] == "error":
                log.warning("storage %s could not %s: %s", node.name, entry.order[:3], result[2])
                self._failed(node, entry.order, str(result[2]))
        outbox.done = first + len(batch) - 1  # after the failures: who has carried out all has none


def _pauses(count: int) -> tuple[float, float]:
    """Seconds between a call with so many orders and the next: at least, and where nobody waits for any."""
    if count < MANY:
        return TOGETHER, TOGETHER
    return (LONGER, LONGEST) if count < BATCH else (0.0, 0.0)  # more are there already
