"""The sending side: files are chosen and offered, batches go to a transfer manager, their end is noted.

Law: a transfer is written down before the other side hears of it, and what the other side answered before anything is
done about it; so every step may be taken again after a crash.  Nothing is offered to a peer that is disabled, and what
waits for a peer holds up no other.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from goggles import failpoints
from goggles.contracts.peering import Place, Reception, State
from goggles.errors import Conflict, GogglesError, HaveIt, NoSpace, NotFound, Overloaded, Stale, Unavailable
from goggles.librarian import answers, ledger
from goggles.librarian.ledger import Record
from goggles.librarian.managers import Managers, Status, TransferManager
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.states import LIVE, Event, leads_on
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.site import Site
from goggles.paths import parse

log = logging.getLogger(__name__)
MAX_TRIES = 5
BEFORE_ARRIVAL = frozenset({State.INITIATED, State.ONGOING})
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds between two tries of a batch


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch`: files offered at once; `flying`: batches under way to one peer; `storage`: only files with a copy there
    (None: all)."""

    batch: int = 128
    flying: int = 8
    storage: int | None = None


class Outbox:
    """Everything that goes to other librarians."""

    def __init__(self, site: Site, peers: Peers, managers: Managers, offer_again: float) -> None:
        self._site = site
        self._peers = peers
        self._managers = managers
        self._offer_again = offer_again  # seconds
        self._lock = threading.Lock()
        # By peer and storage: the last entry that was looked at.
        self._cursors: dict[tuple[int, int | None], int] = {}
        self._offering: dict[int, threading.Lock] = {}  # by peer: one offer at a time; guarded by _lock

    # --- send_clone ------------------------------------------------------------------------

    def send(self, peer: PeerInfo, limits: Limits, since: float, priority: int = 0) -> int:
        """Offer the next batch of files to a peer; how many it has taken."""
        with self._one_offer(peer):
            with self._site.database.read() as connection:
                rows = ledger.unanswered(connection, peer.id, limits.batch)
            if not rows:
                rows = self._choose(peer, limits, since)
            return self._offer(peer, rows, priority) if rows else 0

    def offer_waiting(self, peer: PeerInfo, limits: Limits) -> int:
        """Offer what was promised to a peer, or has no answer yet; how many it has taken."""
        with self._one_offer(peer):
            with self._site.database.read() as connection:
                rows = ledger.unanswered(connection, peer.id, limits.batch)
            return self._offer(peer, rows, 1) if rows else 0

    def _one_offer(self, peer: PeerInfo) -> threading.Lock:
        with self._lock:
            return self._offering.setdefault(peer.id, threading.Lock())

    def _choose(self, peer: PeerInfo, limits: Limits, since: float) -> list[Record]:
        """Write down which files go next.  The lock is taken only where there are any."""
        key, refused = (peer.id, limits.storage), self._site.clock.now() - self._offer_again

        def unsent(connection: Connection, after: int) -> list[Record]:
            return ledger.unsent(connection, peer.id, after, since, refused, limits.batch, limits.storage)

        with self._site.database.read() as connection:
            first = unsent(connection, self._cursors.get(key, 0))
        if not first:
            self._cursors[key] = 0
            return []

        def decide(tx: Transaction) -> list[Record]:
            found = unsent(tx.tree.tx, first[0].id - 1)
            made: list[str] = []
            for row in found:
                path = tx.tree.path_of(row.id)
                if path is not None:
                    made.append(ledger.add_outgoing(tx.tree, peer.id, row, path))
            last = found[-1].id if len(found) == limits.batch else 0
            tx.on_commit(lambda: self._cursors.update({key: last}))
            return list(ledger.outgoing_rows(tx.tree.tx, made).values())

        return self._site.decisions.run(decide)

    def promise(self, peer: PeerInfo, path: str, size: int, sha256: str) -> None:
        """A peer asks for a file that it needs: it is offered to it soon, also if it was sent before."""
        self._peers.heard(peer.name)
        if not peer.enabled:
            raise Conflict(f"transfers to librarian {peer.name} are disabled here", "enable them first")

        def decide(tx: Transaction) -> None:
            entry = tx.tree.need_file(parse(path))
            if (entry.size, entry.sha256) != (size, sha256):
                raise Conflict(f"{path} has other bytes here", "see validate-file on both sides")
            if not tx.tree.instances_of([entry.id]).get(entry.id):
                raise NotFound(f"no copy of {path} is here")
            if ledger.live_outgoing(tx.tree.tx, entry.id, peer.id) is None:
                ledger.add_outgoing(tx.tree, peer.id, entry, path)

        self._site.decisions.run(decide)

    def _offer(self, peer: PeerInfo, rows: Sequence[Record], priority: int) -> int:
        with self._site.database.read() as connection:
            offers = [ledger.offer_of(connection, row) for row in rows]
        failpoints.hit("librarian.offer.before_call")
        answer = self._peers.call(peer, "batch_stage", self._site.name, tuple(offer.to_wire() for offer in offers))
        failpoints.hit("librarian.offer.after_call")
        told = answers.reception(peer.name, answer, len(rows))
        return self._site.decisions.run(lambda tx: self._taken(tx, peer, rows, told, priority))

    def _taken(
        self, tx: Transaction, peer: PeerInfo, rows: Sequence[Record], reception: Reception, priority: int
    ) -> int:
        """Write down what the peer made of each offer."""
        now, connection = tx.tree.now, tx.tree.tx
        fresh = ledger.outgoing_rows(connection, [row.id for row in rows])
        batch, count = "", 0
        for row, answer in zip(rows, reception.answers, strict=True):
            place = answers.place(answer)
            if row.id not in fresh or State(fresh[row.id].state) not in LIVE:
                continue
            if isinstance(place, Place):
                batch = batch or ledger.add_batch(
                    connection, peer.id, reception.store, reception.facilities, priority, now
                )
                ledger.placed(connection, row.id, place, batch, now)
                count += 1
            else:
                self._refused(tx, peer, fresh[row.id], place)
        return count

    def _refused(self, tx: Transaction, peer: PeerInfo, row: Record, error: GogglesError) -> None:
        if isinstance(error, HaveIt):
            self._complete(tx, peer, row, answers.stores(error))
            return
        log.info("librarian %s does not take %s: %s", peer.name, row.path, error.message)
        if isinstance(error, NoSpace):
            tx.on_commit(
                lambda: self._site.trouble("error", "store_full", f"librarian {peer.name} has no room for more")
            )
        ledger.move_outgoing(tx.tree, row, Event.FAIL, str(error))

    def _complete(self, tx: Transaction, peer: PeerInfo, row: Record, stores: Sequence[str]) -> None:
        """The peer has the file: a remote instance of it, where it is still here."""
        if tx.tree.get(row.entry_id) is not None:
            for store in stores:
                tx.tree.add_elsewhere(row.entry_id, peer.id, store[:64], self._site.name, tx.tree.now)
        ledger.move_outgoing(tx.tree, row, Event.VERIFY)

    # --- consume_queue ---------------------------------------------------------------------

    def consume(self, peer: PeerInfo, limits: Limits) -> int:
        """Give waiting batches of a peer to a transfer manager; how many."""
        with self._site.database.read() as connection:
            room = limits.flying - ledger.in_flight(connection, peer.id)
            now = self._site.clock.now()
            found = ledger.batches(connection, ledger.WAITING, peer.id, now, max(0, room))
        begun = 0
        for batch in found:
            try:
                begun += self._start(peer, batch)
            except Stale as error:  # somebody else has it
                log.info("a batch for librarian %s: %s", peer.name, error)
            except Overloaded as error:  # by no fault of the way that was chosen
                log.info("a batch for librarian %s has to wait: %s", peer.name, error)
                self._put_off(batch, str(error), tried=False)
            except GogglesError as error:
                log.info("a batch for librarian %s has to wait: %s", peer.name, error)
                self._put_off(batch, str(error), tried=not isinstance(error, Unavailable))
                if not self._peers.reached(peer):
                    raise
        return begun

    def _start(self, peer: PeerInfo, batch: Record) -> bool:
        with self._site.database.read() as connection:
            rows = [row for row in ledger.of_batch(connection, batch.id) if State(row.state) in BEFORE_ARRIVAL]
        rows = self._drop_removed(peer, rows)
        if not rows:
            self._needless(batch)
            return False
        manager, handle = self._begin(peer, batch, rows)
        failpoints.hit("librarian.consume.before_commit")

        def decide(tx: Transaction) -> None:
            for row in ledger.of_batch(tx.tree.tx, batch.id):  # which the manager may have cut
                if leads_on(State(row.state), Event.START):
                    ledger.move_outgoing(tx.tree, row, Event.START)
            values = {"state": ledger.SENT, "manager": manager.name, "handle": json.dumps(handle)}
            ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, **values)

        self._site.decisions.run(decide)
        return True

    def _begin(self, peer: PeerInfo, batch: Record, rows: Sequence[Record]) -> tuple[TransferManager, dict[str, Any]]:
        """Have a manager take a batch.  One that is not there just now gives way to the next at once, which is no try;
        but not one that has bound the batch, and not where it is the peer that is not there."""
        bound, wrong = self._managers.bound(batch), list[GogglesError]()
        ways = json.loads(batch.facilities)
        for manager in [bound] if bound else self._managers.ordered(peer.managers, ways, batch.tries):
            try:
                return manager, manager.start(peer, batch, rows)
            except Overloaded:
                raise
            except Unavailable as error:
                wrong.append(error)
                if not self._peers.reached(peer) or self._is_bound(batch):
                    break
        raise wrong[0]

    def _is_bound(self, batch: Record) -> bool:
        """As it is written down now."""
        with self._site.database.read() as connection:
            fresh = ledger.batch(connection, batch.id)
        return fresh is None or self._managers.bound(fresh) is not None

    def _needless(self, batch: Record) -> None:
        """Nothing of a batch is left to be sent."""
        bound = self._managers.bound(batch)
        if bound is not None:
            bound.stop(batch)
        self._site.decisions.run(lambda tx: ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, state=ledger.DONE))

    def _drop_removed(self, peer: PeerInfo, rows: list[Record]) -> list[Record]:
        """Cancel the transfers of files that are gone."""
        with self._site.look() as tree:
            there = tree.by_versions([row.version for row in rows])
        gone = [row for row in rows if row.version not in there]
        if gone:
            self._cancel(peer, gone)
        lost = {row.id for row in gone}
        return [row for row in rows if row.id not in lost]

    def _cancel(self, peer: PeerInfo, rows: Sequence[Record]) -> None:
        why = "the file was removed at its source"
        self._peers.call(peer, "checkin_update", tuple(row.remote_id for row in rows), int(State.CANCELLED), why)
        self._move(rows, Event.CANCEL, why)

    def _put_off(self, batch: Record, why: str, *, tried: bool = True, **more: Any) -> None:
        """Try a batch again later; after too many tries it has failed.  Where somebody was not there, it was no try."""

        def decide(tx: Transaction) -> None:
            tries = batch.tries + tried
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 16)) if tried else FIRST_PAUSE
            values: dict[str, Any] = {"tries": tries, "state": ledger.WAITING, "not_before": tx.tree.now + pause}
            values |= more
            ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, **values)

        self._site.decisions.run(decide)
        log.debug("batch %s put off: %s", batch.id, why)

    # --- check_consumed_queue --------------------------------------------------------------

    def check(self, peer: PeerInfo, limits: Limits) -> int:
        """See what became of the batches under way; how many are over.  One that can not be looked after holds up no
        other; what is wrong with the first such is raised in the end."""
        with self._site.database.read() as connection:
            found = ledger.batches(connection, ledger.SENT, peer.id, float("inf"), limits.flying * 2)
        done, wrong = 0, list[GogglesError]()
        for batch in found:
            try:
                done += self._check(peer, batch)
            except GogglesError as error:
                wrong.append(error)
                if not self._peers.reached(peer):
                    break
        if wrong:
            raise wrong[0]
        return done

    def _check(self, peer: PeerInfo, batch: Record) -> bool:
        with self._site.database.read() as connection:
            rows = [row for row in ledger.of_batch(connection, batch.id) if State(row.state) is State.ONGOING]
        rows = self._drop_removed(peer, rows)
        if not rows:
            self._needless(batch)
            return True
        manager = self._managers.named(batch.manager)
        statuses = manager.poll(batch, rows)
        arrived = [row for row in rows if statuses[row.id].done]
        failed = [row for row in rows if statuses[row.id].error]
        if arrived:
            self._arrived(peer, arrived)
        if len(arrived) + len(failed) < len(rows):
            return False
        manager.forget([row.id for row in rows])
        if failed:
            self._again(peer, batch, failed, statuses)
        else:
            self._site.decisions.run(lambda tx: ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, state=ledger.DONE))
        return True

    def _arrived(self, peer: PeerInfo, rows: Sequence[Record]) -> None:
        """Tell the destination that all bytes are there, then write it down."""
        failpoints.hit("librarian.arrived.before_call")
        ids = tuple(row.remote_id for row in rows)
        so = answers.items(peer.name, self._peers.call(peer, "checkin_update", ids, int(State.STAGED), ""), len(ids))
        self._move([row for row, known in zip(rows, so, strict=True) if known], Event.ARRIVE)
        self._move([row for row, known in zip(rows, so, strict=True) if not known], Event.FAIL, "not known there")

    def _again(self, peer: PeerInfo, batch: Record, rows: Sequence[Record], statuses: dict[str, Status]) -> None:
        """What failed is tried once more, with the next manager; after too many tries the destination is told."""
        why = statuses[rows[0].id].error
        if all(statuses[row.id].lost for row in rows):
            self._put_off(batch, why, tried=False)
            return
        if batch.tries + 1 < MAX_TRIES:
            log.warning("%d of a batch for librarian %s failed: %s", len(rows), peer.name, why)
            self._put_off(batch, why, handle="{}")
            return
        log.error("%d of a batch for librarian %s failed for good: %s", len(rows), peer.name, why)
        self._peers.call(peer, "checkin_update", tuple(row.remote_id for row in rows), int(State.FAILED), why[:500])
        self._move(rows, Event.FAIL, why)
        self._site.decisions.run(lambda tx: ledger.set_batch(tx.tree.tx, batch.id, tx.tree.now, state=ledger.FAILED))
        self._site.trouble("error", "transfer", f"files could not be sent to librarian {peer.name}: {why}")

    def _move(self, rows: Sequence[Record], event: Event, why: str = "") -> None:
        """Apply an event to our side; what is over already stays as it is."""
        if not rows:
            return

        def decide(tx: Transaction) -> None:
            for row in ledger.outgoing_rows(tx.tree.tx, [row.id for row in rows]).values():
                if leads_on(State(row.state), event):
                    ledger.move_outgoing(tx.tree, row, event, why)

        self._site.decisions.run(decide)

    # --- what the hypervisors find ---------------------------------------------------------

    def settle(self, row: Record, event: Event, why: str) -> None:
        """Apply to our side what the other side's state means."""
        self._move([row], event, why if event in (Event.FAIL, Event.CANCEL) else "")

    def tell_again(self, peer: PeerInfo, row: Record) -> None:
        """The destination has missed what we said of a transfer."""
        self._peers.call(peer, "checkin_update", (row.remote_id,), int(row.state), row.error)

    def status(self, peer: PeerInfo, transfers: Sequence[str]) -> list[tuple[int, str]]:
        """(state, '') of each of our transfers to this peer, (-1, '') where it is not known."""
        self._peers.heard(peer.name)
        with self._site.database.read() as connection:
            rows = ledger.outgoing_rows(connection, transfers)
        mine = [rows.get(transfer) for transfer in transfers]
        return [(row.state, "") if row is not None and row.peer_id == peer.id else (-1, "") for row in mine]

    # --- what the destination says ---------------------------------------------------------

    def completed(self, peer: PeerInfo, items: Sequence[tuple[str, str, int, str, str]]) -> None:
        """(our id, its id, state, its storage, error) of transfers that are over at the destination."""
        self._peers.heard(peer.name)

        def decide(tx: Transaction) -> None:
            rows = ledger.outgoing_rows(tx.tree.tx, [item[0] for item in items])
            for ours, theirs, state, store, error in items:
                row = rows.get(ours)
                carried = row is not None and not row.remote_id and bool(row.place)
                if row is not None and row.peer_id == peer.id and (row.remote_id == theirs or carried):
                    self._over(tx, peer, row, State(state), store, error)

        self._site.decisions.run(decide)

    def _over(self, tx: Transaction, peer: PeerInfo, row: Record, state: State, store: str, error: str) -> None:
        event = {State.COMPLETED: Event.VERIFY, State.CANCELLED: Event.CANCEL}.get(state, Event.FAIL)
        if not leads_on(State(row.state), event):
            return
        if event is Event.VERIFY:
            self._complete(tx, peer, row, [store])
        else:
            ledger.move_outgoing(tx.tree, row, event, error)
            if event is Event.FAIL:
                why = f"librarian {peer.name} could not take {row.path}: {error}"
                tx.on_commit(lambda: self._site.trouble("warning", "transfer", why))
