"""The receiving side: offers are answered, arrivals are verified and become files of the tree, sources are told.

Law: what another librarian says is checked like any input; what it sends is believed only after a storage of ours has
read it.  An answer is written down before it is given.  A file appears in the tree in the same transaction that ends
its transfer, so that neither can be there without the other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from goggles import failpoints
from goggles.contracts import orders
from goggles.contracts.grants import PUSH
from goggles.contracts.peering import Offer, Place, Reception, State
from goggles.contracts.records import Value
from goggles.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    Conflict,
    GogglesError,
    HaveIt,
    NoSpace,
    NotFound,
    Stale,
    Unavailable,
)
from goggles.librarian import ledger
from goggles.librarian.ledger import Record
from goggles.librarian.offers import check_offer, offered
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.places import make_places
from goggles.librarian.states import LIVE, Event, leads_on
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import NodeState
from goggles.paths import DfsPath, parse, split
from goggles.wire import faults

log = logging.getLogger(__name__)
GIVEN_UP = frozenset({State.FAILED, State.CANCELLED})
TELL = 500  # transfers in one message to their source


@dataclass(slots=True)
class _Answers:
    """What a batch came to, in the order of its offers."""

    values: list[tuple[Value, ...]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


class Inbox:
    """Everything that comes from other librarians."""

    def __init__(self, site: Site, peers: Peers) -> None:
        self._site = site
        self._peers = peers
        self._lock = threading.Lock()
        self._expected: dict[str, tuple[int, int]] = {}  # live arrivals: (storage, size); guarded by _lock
        self._deletable = False  # whether what comes may be let go here again
        self._reading: set[str] = set()  # arrivals that a storage was told to ingest; guarded by _lock
        peers.forgotten = self._forget

    def load(self) -> None:
        """At start: what is on its way here, and the room that it needs."""
        with self._site.database.read() as connection:
            rows = ledger.live_incoming(connection)
        for row in rows:
            self._expect(row.id, row.storage_id, row.size)
        self._site.expected = lambda arrival, storage: self._expected.get(arrival, (0, 0))[0] == storage

    # --- offers ----------------------------------------------------------------------------

    def batch_stage(self, source: PeerInfo, offers: Sequence[Offer]) -> Reception:
        """Answer a batch of offers: a place for each, or why not.  One refusal does not spoil the others."""
        self._peers.heard(source.name)
        node = self._site.decisions.run(lambda tx: self._choose(tx, source, offers))
        answers = self._site.decisions.run(lambda tx: self._answer(tx, source, offers, node))
        make_places(self._site, node, answers.places)
        return Reception(
            node.name, node.address.host, node.address.port, offered(node.facilities), node.free, tuple(answers.values)
        )

    def _choose(self, tx: Transaction, source: PeerInfo, offers: Sequence[Offer]) -> Node:
        """The storage for a batch: the one that the first part of it came to, else the one with the most room."""
        known = ledger.incoming_by_remote(tx.tree.tx, source.id, [offer.id for offer in offers])
        for row in known.values():
            node = self._site.roster.get(row.storage_id)
            if State(row.state) in LIVE and node.state is NodeState.ACTIVE:
                return node
        active = [self._site.roster.get(candidate.id) for candidate in self._site.roster.candidates()]
        if not active:
            raise Unavailable("no storage takes files here now", "try again later")
        return max(active, key=lambda node: node.free)

    def _answer(self, tx: Transaction, source: PeerInfo, offers: Sequence[Offer], node: Node) -> _Answers:
        answers, room = _Answers(), node.free
        known = ledger.incoming_by_remote(tx.tree.tx, source.id, [offer.id for offer in offers])
        met = set[str]()
        for offer in offers:
            try:
                if offer.id in met:
                    raise BadRequest("a transfer can be offered once in a batch")
                met.add(offer.id)
                arrival = self._again(tx, known[offer.id], node) if offer.id in known else ""
                if not arrival:
                    arrival = self._accept(tx, source, offer, node, room)
                    room -= offer.size
                answers.places.append(arrival)
                answers.values.append(Place(arrival, f".goggles/incoming/{arrival}/data").to_wire())
            except GogglesError as error:
                answers.values.append(faults.to_tuple(error))
        return answers

    def _again(self, tx: Transaction, row: Record, node: Node) -> str:
        """An offer whose answer was lost; its place, which is where the rest of the batch goes."""
        if State(row.state) not in LIVE:
            raise Stale(f"this transfer is over here: {State(row.state).name.lower()}", "offer it anew")
        if row.storage_id == node.id:
            return str(row.id)
        if State(row.state) is not State.INITIATED:
            raise Conflict("this transfer goes to another storage", "offer it with those of its batch")
        if row.size > node.free:
            raise NoSpace(f"no storage here has room for {row.size} bytes now", "offer it again later")
        before = self._site.roster.get(row.storage_id)
        ledger.redirect(tx.tree, row, node.id)
        tx.on_commit(lambda: self._redirected(row, before, node))
        return str(row.id)

    def _redirected(self, row: Record, before: Node, node: Node) -> None:
        before.order(orders.drop_arrival(row.id))
        self._done_with(row.id)
        self._expect(row.id, node.id, row.size)

    def _accept(self, tx: Transaction, source: PeerInfo, offer: Offer, node: Node, room: int) -> str:
        path = check_offer(offer)
        there = tx.tree.find(path)
        if there is not None and not _lacks(tx, there, offer.size, offer.sha256):
            raise self._refusal(tx, offer, there)
        if ledger.coming_to(tx.tree.tx, path) is not None:
            raise AlreadyExists(f"{path} is on its way here from somebody else already", "offer it again later")
        if offer.size > room:
            why = f"no storage here has room for what librarian {source.name} sends"
            tx.on_commit(lambda: self._site.trouble("warning", "store_full", why))
            raise NoSpace(f"no storage here has room for {offer.size} bytes now", "offer it again later")
        arrival = ledger.add_incoming(tx.tree, source.id, offer, node.id)
        tx.on_commit(lambda: self._expect(arrival, node.id, offer.size))
        return arrival

    def _refusal(self, tx: Transaction, offer: Offer, there: Entry) -> GogglesError:
        if there.is_dir or (there.size, there.sha256) != (offer.size, offer.sha256):
            return Conflict(f"something else stands at {offer.path} here", "rename or remove one of them")
        holders = tx.tree.instances_of([there.id]).get(there.id, [])
        stores = [self._site.roster.get(holder).name for holder in holders]
        return HaveIt(f"{offer.path} is here already", ",".join(stores))

    def _expect(self, arrival: str, storage: int, size: int) -> None:
        with self._lock:
            if arrival in self._expected:
                return
            self._expected[arrival] = (storage, size)
        self._site.roster.get(storage).reserved += size

    def _done_with(self, arrival: str) -> None:
        with self._lock:
            storage, size = self._expected.pop(arrival, (0, 0))
            self._reading.discard(arrival)
        if storage:
            node = self._site.roster.get(storage)
            node.reserved = max(0, node.reserved - size)

    # --- while they come -------------------------------------------------------------------

    def open_push(self, source: PeerInfo, items: Sequence[tuple[str, str]]) -> list[bytes | GogglesError]:
        """For each (arrival, identity of the storage that will send it) a grant; the transfer is under way then."""
        self._peers.heard(source.name)

        def decide(tx: Transaction) -> list[bytes | GogglesError]:
            rows = ledger.incoming_rows(tx.tree.tx, [arrival for arrival, _ in items])
            return [self._open_one(tx, source, rows.get(arrival), holder) for arrival, holder in items]

        return self._site.decisions.run(decide)

    def _open_one(self, tx: Transaction, source: PeerInfo, row: Record | None, holder: str) -> bytes | GogglesError:
        if row is None or row.peer_id != source.id:
            return NotFound("this transfer is not known here")
        try:
            ledger.move_incoming(tx.tree, row, Event.START)
        except Conflict as error:
            return Stale(f"{row.path}: {error.message}")
        node = self._site.roster.get(row.storage_id)
        return self._site.grant(PUSH, row.id, f"/{row.id}", row.size, node, holder)

    def update(self, source: PeerInfo, arrivals: Sequence[str], event: Event, why: str = "") -> list[bool]:
        """What the source says of its transfers; for each whether it is so here now."""
        self._peers.heard(source.name)
        if event not in (Event.START, Event.ARRIVE, Event.FAIL, Event.CANCEL):
            raise BadRequest("only the destination says that")

        def decide(tx: Transaction) -> list[bool]:
            rows = ledger.incoming_rows(tx.tree.tx, arrivals)
            return [self._update_one(tx, source, rows.get(arrival), event, why) for arrival in arrivals]

        return self._site.decisions.run(decide)

    def _update_one(self, tx: Transaction, source: PeerInfo, row: Record | None, event: Event, why: str) -> bool:
        if row is None or row.peer_id != source.id:
            return False
        if not leads_on(State(row.state), event):
            return True
        after = ledger.move_incoming(tx.tree, row, event, why)
        if after not in LIVE:
            ledger.set_told(tx.tree.tx, [row.id])
            self._let_go(tx, row)
        return True

    def _let_go(self, tx: Transaction, row: Record) -> None:
        """A transfer is over: its place goes, its room is free."""
        node = self._site.roster.get(row.storage_id)

        def effect() -> None:
            node.order(orders.drop_arrival(row.id))
            node.order(orders.discard(row.id))
            self._done_with(row.id)

        tx.on_commit(effect)

    def _forget(self, tx: Transaction, source: int) -> None:
        """A peer is not known any more, nor what comes from it."""
        for row in ledger.live_incoming(tx.tree.tx, source):
            self._let_go(tx, row)

    def give_up(self, row: Record) -> None:
        """What waits to be read on a storage that is gone has failed; its source is told."""
        node = self._site.roster.get(row.storage_id)
        if node.state is not NodeState.DOWN:
            return

        def decide(tx: Transaction) -> None:
            fresh = ledger.incoming_rows(tx.tree.tx, [row.id]).get(row.id)
            if fresh is not None and State(fresh.state) is State.STAGED:
                ledger.move_incoming(tx.tree, fresh, Event.FAIL, f"storage {node.name}, which has it, is gone")
                self._let_go(tx, fresh)

        self._site.decisions.run(decide)

    def status(self, source: PeerInfo, arrivals: Sequence[str]) -> list[tuple[int, str]]:
        """(state, storage) of each, (-1, '') where it is not known."""
        with self._site.database.read() as connection:
            rows = ledger.incoming_rows(connection, arrivals)
        known = [rows.get(arrival) for arrival in arrivals]
        roster = self._site.roster
        mine = [row if row is not None and row.peer_id == source.id else None for row in known]
        return [(-1, "") if row is None else (row.state, roster.get(row.storage_id).name) for row in mine]

    # --- receive_clone ---------------------------------------------------------------------

    def receive(self, limit: int, deletable: bool = False) -> int:
        """Have up to `limit` staged arrivals read by their storages; how many were begun.

        `deletable`: rolling deletion may let go here what comes."""
        self._deletable = deletable
        with self._site.database.read() as connection:
            here = [node.id for node in self._site.roster.all() if node.state is NodeState.ACTIVE]
            rows = ledger.staged(connection, here, limit)
        begun = 0
        for row in rows:
            node = self._site.roster.get(row.storage_id)
            if row.id in node.busy:
                continue
            with self._lock:
                first = row.id not in self._reading
                self._reading.add(row.id)
            begun += first
            version = self._version(row)
            with self._site.decisions.lock:
                node.order(orders.ingest(row.id, row.size, row.sha256, version))
        return begun

    def _version(self, row: Record) -> str:
        """What the bytes will be called here: as the file whose last copy they replace, else as their transfer."""
        with self._site.look() as tree:
            there = tree.find(parse(row.path))
            return there.version if there is not None and there.sha256 == row.sha256 else str(row.id)

    def ingested(self, session: str, arrival: str, code: str, message: str) -> None:
        """A storage has read an arrival: it becomes a file, or the transfer has failed."""
        failpoints.hit("librarian.ingested.before_commit")
        node = self._site.roster.by_session(session)
        if node is None:
            raise Stale("this session of the storage is over", "upgrade again")

        def decide(tx: Transaction) -> None:
            row = ledger.incoming_rows(tx.tree.tx, [arrival]).get(arrival)
            if row is None or row.storage_id != node.id or State(row.state) is not State.STAGED:
                tx.on_commit(lambda: self._reading.discard(arrival))
                if row is not None and row.storage_id == node.id and State(row.state) in GIVEN_UP:
                    self._let_go(tx, row)  # it ended while it was read: what was read is staged now
                return
            if code == Conflict.code:  # somebody is still sending it: it is read when that ends
                tx.on_commit(lambda: self._reading.discard(arrival))
            elif code:
                self._refuse(tx, row, message, "data_integrity" if code == ChecksumMismatch.code else "transfer")
            else:
                self._publish(tx, row, node)

        self._site.decisions.run(decide)

    def _refuse(self, tx: Transaction, row: Record, why: str, category: str = "transfer") -> None:
        ledger.move_incoming(tx.tree, row, Event.FAIL, why)
        self._let_go(tx, row)
        log.warning("%s did not arrive as it was sent: %s", row.path, why)
        tx.on_commit(lambda: self._site.trouble("error", category, f"{row.path} did not arrive as it was sent: {why}"))

    def _publish(self, tx: Transaction, row: Record, node: Node) -> None:
        path = parse(row.path)
        there = tx.tree.find(path)
        if there is not None:
            if _lacks(tx, there, row.size, row.sha256):
                self._restock(tx, row, node, path, there)
            else:
                self._refuse(tx, row, f"something else was put at {path} meanwhile")
            return
        above, name = split(path)
        try:
            made = tx.tree.mkdir(above, parents=True, exist_ok=True)
        except GogglesError as error:
            self._refuse(tx, row, error.message)
            return
        copies = tx.tree.copies_for(tx.tree.need_dir(above).id)
        written = tx.tree.commit_file(
            tx.tree.need_dir(above).id,
            name,
            size=row.size,
            sha256=row.sha256,
            version=row.id,
            uploader=row.uploader,
            source=row.source,
            copies=copies,
            holders=[node.id],
        )
        tx.tree.set_created(written.entry.id, row.made_at)
        if self._deletable:
            tx.tree.set_deletable(written.entry.id, True)
        if copies > 1:
            tx.tree.set_owed(written.entry.id, 1)
        ledger.move_incoming(tx.tree, row, Event.VERIFY)
        tx.on_commit(lambda: self._published(row, node, path, written.entry, made))

    def _restock(self, tx: Transaction, row: Record, node: Node, path: DfsPath, entry: Entry) -> None:
        """The file was known here without a copy; now it has one, and as many are wanted as before."""
        copies = tx.tree.want_again(entry.id, entry.copies or 0, self._site.policy.copies)
        tx.tree.add_instances(node.id, {entry.id: entry.size})
        if copies > 1:
            tx.tree.set_owed(entry.id, 1)
        else:
            tx.tree.clear_owed(entry.id)
        ledger.move_incoming(tx.tree, row, Event.VERIFY)
        tx.on_commit(lambda: self._published(row, node, path, entry, []))

    def _published(self, row: Record, node: Node, path: DfsPath, entry: Entry, made: list[DfsPath]) -> None:
        self._done_with(row.id)
        for each in self._site.roster.all():
            for directory in made:
                each.order(orders.mkdir(directory))
        node.used, node.files = node.used + entry.size, node.files + 1
        node.order(orders.publish(row.id, path, entry.version, entry.generation, ""))
        if node.draining:
            self._site.reconsider.append(entry.id)
        self._site.wake_repair.set()
        self._site.story.tell("came", "%s came from another librarian, %d bytes", path=path, size=entry.size)

    # --- telling the source ----------------------------------------------------------------

    def tell(self, peer: PeerInfo) -> int:
        """Tell a source how its transfers ended; how many it knows now."""
        with self._site.database.read() as connection:
            rows = ledger.untold(connection, peer.id, TELL)
        if not rows:
            return 0
        items = tuple(
            (row.remote_id, row.id, row.state, self._site.roster.get(row.storage_id).name, row.error) for row in rows
        )
        failpoints.hit("librarian.tell.before_call")
        self._peers.call(peer, "clone_complete", items)
        self._site.decisions.run(lambda tx: ledger.set_told(tx.tree.tx, [row.id for row in rows]))
        return len(rows)


def _lacks(tx: Transaction, there: Entry, size: int, sha256: str) -> bool:
    """Whether this is a file with these bytes of which no copy is left here."""
    same = not there.is_dir and (there.size, there.sha256) == (size, sha256)
    return same and not tx.tree.instances_of([there.id]).get(there.id)
