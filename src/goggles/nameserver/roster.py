"""The storages, as the nameserver sees them now: state, room, orders waiting.

Law: changed with the global lock held; what it says of room is books (published, staged, reserved), never a
guess.  Readers without the lock take `view`, a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from goggles.contracts import orders
from goggles.contracts.data import COMING_BACK
from goggles.contracts.orders import NONE, Order, ScrubState
from goggles.contracts.records import StorageInfo
from goggles.errors import NotFound
from goggles.nameserver.outbox import Outbox, Report
from goggles.nameserver.pauses import Pauses
from goggles.nameserver.placement import Candidate
from goggles.nameserver.replication import Standing
from goggles.nameserver.states import CONNECTED, READABLE, RETURNING, Event, NodeState, advance
from goggles.wire.dial import Address


@dataclass(eq=False, slots=True)
class Node:
    """One storage.  Sizes are bytes; `beat` and `since_mono` are monotonic seconds."""

    id: int
    name: str
    storage_id: str
    address: Address
    zone: str
    capacity: int
    state: NodeState = NodeState.DOWN
    session: str = ""
    outbox: Outbox | None = None
    used: int = 0
    reserved: int = 0
    files: int = 0
    disk_free: int = 1 << 62
    since: float = 0.0
    since_mono: float = 0.0
    beat: float = 0.0
    held_because: str = ""
    certificate_expires: float = 0.0
    draining: bool = False
    enabled: bool = True  # takes new files
    ingestable: bool = True  # False: a drive; its copies are beside those that are wanted
    pulls: int = 0  # repairs under way to it
    facilities: str = "{}"  # JSON: by transfer manager, how other sites reach its folder
    busy: frozenset[str] = frozenset()  # uploads and transfers that it said it is working on
    rechecking: bool = False  # it was told to begin its self-check again, and has not
    unfinished: bool = False  # an order of the self-check that is under way failed
    recheck_at: float = 0.0  # when it is to begin one, where the last ones did not help; 0: none waits
    pauses: Pauses = field(default_factory=Pauses)  # between those
    missed: bool = False  # it was not there when an order was given, or may not have carried one out
    misses: int = 0  # how often something was decided while it was here that it was not told of
    heard: int = -1  # change of the tree at its last heartbeat
    returning: bool = False  # it was here before this nameserver started, and has not been ready since

    scrub: ScrubState = field(default_factory=ScrubState)  # as it said last

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.state} used {self.used} of {self.capacity}, {self.reserved} reserved>"

    @property
    def free(self) -> int:
        """Bytes that a new copy may have; never more than the disk itself had at the last heartbeat."""
        return max(0, min(self.capacity - self.used, self.disk_free) - self.reserved)

    @property
    def forgotten(self) -> bool:
        """It was taken out of the site; no folder belongs to it any more."""
        return not self.storage_id

    @property
    def waiting(self) -> int:
        """Orders that it has not carried out yet, as far as is known."""
        if self.outbox is None:
            return 0
        to_check = self.rechecking or self.behind or self.recheck_at > 0
        return self.outbox.last - self.outbox.done + to_check

    def await_orders(self) -> int:
        """The number up to which a reader or writer has to wait for its orders; these are carried soon."""
        outbox = self.outbox  # it may be lost at any moment: no lock is held
        return NONE if outbox is None else outbox.hurry()

    @property
    def behind(self) -> bool:
        """Whether something was decided at the end of its self-check that only another one will find."""
        return self.missed and self.state is NodeState.ACTIVE

    @property
    def standing(self) -> Standing:
        if self.state is NodeState.DOWN:
            return Standing.GONE
        if not self.ingestable:
            return Standing.APART
        if self.state in READABLE:
            return Standing.LEAVING if self.draining else Standing.LIVE
        return Standing.GRACE

    def move(self, event: Event, now: float, mono: float) -> None:
        """Apply `event`; Conflict where the table does not allow it."""
        state = advance(self.state, event)
        if state is not self.state:
            self.state, self.since, self.since_mono = state, now, mono
        if state in READABLE or state is NodeState.DOWN:
            self.returning = False

    def order(self, order: Order, report: Report | None = None) -> None:
        """Queue an order, if it is connected (else it learns of the change in its self-check)."""
        if self.outbox is not None and self.state in CONNECTED:
            self.rechecking |= order[0] == "recheck"
            self.outbox.push(order, report)
        else:
            self.missed = True

    def check_again(self, now: float) -> None:
        """It could not carry out an order: have it check itself, at once or, where that did not help, later."""
        self.unfinished = False
        if not self.rechecking and not self.recheck_at:
            self.recheck_at = self.pauses.due(now)
            self.check_in_time(now)

    def check_in_time(self, now: float) -> None:
        """Have it check itself where that is due."""
        if self.recheck_at and self.recheck_at <= now and not self.rechecking:
            self.recheck_at = 0.0
            self.order(orders.recheck())

    def miss(self) -> None:
        """Something was decided that it is not told of: its self-check will find it."""
        self.missed = True
        self.misses += 1
        if self.outbox is not None:
            self.outbox.stir()

    def lose(self, size: int, order: Order) -> None:
        """A copy of `size` bytes does not belong here any more: strike it from the books, and say so with `order`."""
        self.used, self.files = self.used - size, self.files - 1
        self.order(order)

    def info(self) -> StorageInfo:
        return StorageInfo(
            name=self.name,
            addr=(self.address.host, self.address.port),
            free=self.free,
            capacity=self.capacity,
            state="draining" if self.draining and self.state is NodeState.ACTIVE else self.state.value,
            used=self.used,
            reserved=self.reserved,
            files=self.files,
            zone=self.zone,
            since=self.since,
            held_because=self.held_because,
            certificate_expires=self.certificate_expires,
            scrub_days=self.scrub.days,
            scrub_began=self.scrub.began,
            scrub_ended=self.scrub.ended,
            scrub_files=self.scrub.files,
            scrub_size=self.scrub.size,
            scrub_bad=self.scrub.bad,
        )


class Roster:
    """All storages that this site has ever had; those that were forgotten by their id alone."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._names: dict[str, int] = {}
        self._sessions: dict[str, int] = {}

    def add(self, node: Node) -> None:
        self._nodes = {**self._nodes, node.id: node}
        if not node.forgotten:
            self._names = {**self._names, node.name: node.id}

    def forget(self, node: Node, name: str) -> None:
        """It is there for those who have its id, under another name, and for nobody else."""
        self._names = {known: number for known, number in self._names.items() if number != node.id}
        node.name, node.storage_id, node.draining = name, "", False
        node.used = node.files = node.reserved = 0

    def all(self) -> list[Node]:
        return sorted((node for node in self._nodes.values() if not node.forgotten), key=lambda node: node.name)

    def get(self, node_id: int) -> Node:
        return self._nodes[node_id]

    def find(self, name: str) -> Node | None:
        node_id = self._names.get(name)
        return None if node_id is None else self._nodes[node_id]

    def need(self, name: str) -> Node:
        node = self.find(name)
        if node is None:
            raise NotFound(f"there is no storage {name[:80]!r}", "see the names with: du")
        return node

    def open_session(self, node: Node, session: str) -> None:
        self._sessions.pop(node.session, None)
        node.session, node.outbox = session, Outbox(session)
        node.rechecking, node.unfinished, node.recheck_at = False, False, 0.0
        self._sessions[session] = node.id

    def by_session(self, session: str) -> Node | None:
        node_id = self._sessions.get(session)
        return None if node_id is None else self._nodes[node_id]

    def close_session(self, node: Node) -> None:
        self._sessions.pop(node.session, None)
        if node.outbox is not None:
            node.missed |= node.waiting > 0
            node.outbox.close()
        node.session, node.outbox = "", None

    def connected(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.state in CONNECTED]

    def readable(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.state in READABLE]

    def candidates(self) -> list[Candidate]:
        """Storages that take new copies."""
        return [
            Candidate(node.id, node.zone, node.free, node.capacity)
            for node in self._nodes.values()
            if node.state is NodeState.ACTIVE and not node.draining and node.enabled and node.ingestable
        ]


def returning(nodes: Sequence[Node]) -> str:
    """Words for a caller who may wait for one of these to be active again; none where that is of no use."""
    return f"; one is {COMING_BACK}" if any(node.state in RETURNING for node in nodes) else ""
