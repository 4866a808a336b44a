"""The hypervisors: transfers that take too long are compared with the other side, and what does not agree is settled.

Law: `reconcile` decides, this carries out; a peer that does not answer settles nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from goggles.contracts.peering import State
from goggles.librarian import answers, ledger
from goggles.librarian.inbox import Inbox
from goggles.librarian.ledger import Record
from goggles.librarian.outbox import Outbox
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.reconcile import Action, at_destination, at_source
from goggles.librarian.states import LIVE, Event
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
PAGE = 500
EVENTS = {
    Action.START: Event.START,
    Action.ARRIVE: Event.ARRIVE,
    Action.FAIL: Event.FAIL,
    Action.CANCEL: Event.CANCEL,
}
WHY = "the other side does not go on with it"


class Hypervisors:
    """Both of them."""

    def __init__(self, site: Site, peers: Peers, inbox: Inbox, outbox: Outbox) -> None:
        self._site = site
        self._peers = peers
        self._inbox = inbox
        self._outbox = outbox

    def outgoing(self, peer: PeerInfo, age: float) -> int:
        """Settle our transfers to a peer that have not moved for `age` seconds; how many were looked at."""
        before = self._site.clock.now() - age
        return sum(self._outgoing(peer, state, before) for state in sorted(LIVE))

    def _outgoing(self, peer: PeerInfo, state: State, before: float) -> int:
        count, after = 0, ""
        while True:
            with self._site.database.read() as connection:
                rows = ledger.old_outgoing(connection, peer.id, state, before, after, PAGE)
            if not rows:
                return count
            told = self._ask(peer, "checkin_status", [row.remote_id for row in rows])
            for row, (theirs, store) in zip(rows, told, strict=True):
                self._settle_outgoing(peer, row, theirs, store)
            count, after = count + len(rows), rows[-1].remote_id

    def _settle_outgoing(self, peer: PeerInfo, row: Record, theirs: State | None, store: str) -> None:
        action = at_source(State(row.state), theirs)
        if action is Action.VERIFY:
            self._outbox.completed(peer, [(row.id, row.remote_id, int(State.COMPLETED), store, "")])
        elif action is Action.TELL:
            self._outbox.tell_again(peer, row)
        elif action in EVENTS:
            self._outbox.settle(row, EVENTS[action], WHY)
        if action is not Action.WAIT:
            log.warning("%s for librarian %s is %s: %s", row.path, peer.name, State(row.state).name, action)

    def incoming(self, peer: PeerInfo, age: float) -> int:
        """Settle transfers from a peer that have not moved for `age` seconds; how many were looked at."""
        before = self._site.clock.now() - age
        return sum(self._incoming(peer, state, before) for state in sorted(LIVE))

    def _incoming(self, peer: PeerInfo, state: State, before: float) -> int:
        count, after = 0, ""
        while True:
            with self._site.database.read() as connection:
                rows = ledger.old_incoming(connection, peer.id, state, before, after, PAGE)
            if not rows:
                return count
            told = self._ask(peer, "outgoing_status", [row.remote_id for row in rows])
            for row, (theirs, _) in zip(rows, told, strict=True):
                action = at_destination(State(row.state), theirs)
                if action is Action.WAIT and State(row.state) is State.STAGED:
                    self._inbox.give_up(row)
                if action in EVENTS:
                    self._inbox.update(peer, [row.id], EVENTS[action], WHY)
                if action is not Action.WAIT:
                    log.warning("%s from librarian %s is %s: %s", row.path, peer.name, State(row.state).name, action)
            count, after = count + len(rows), rows[-1].id

    def _ask(self, peer: PeerInfo, method: str, ids: Sequence[str]) -> list[tuple[State | None, str]]:
        told = answers.items(peer.name, self._peers.call(peer, method, tuple(ids)), len(ids))
        with answers.understood(peer.name):
            return [(None if state < 0 else State(state), str(store)[:64]) for state, store in told]
