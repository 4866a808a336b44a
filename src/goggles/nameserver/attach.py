"""Storages come and go: upgrade, self-check in four steps, activate, heartbeat, loss.

Law: a storage counts only after its self-check; what it holds is compared with the tree in batches, and the
answers travel as orders, in the same stream as all others, so that they can not overtake a rename.  Each order
names the version it means: an answer that comes late hits nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from goggles import failpoints
from goggles.contracts import orders
from goggles.contracts.orders import Held, StorageHello, Welcome
from goggles.errors import Conflict, NotADirectory, NotFound, Stale
from goggles.nameserver.courier import Courier
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.inspection import Inspector
from goggles.nameserver.judging import IdSet, Tally
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import CONNECTED, READABLE, Event, NodeState
from goggles.nameserver.writing import Writing
from goggles.pki.identity import Identity
from goggles.wire.dial import Address

log = logging.getLogger(__name__)
PAGE = 500
MAX_ROUNDS = 4


@dataclass(slots=True)
class Check:
    """A self-check under way."""

    tally: Tally
    adopt: bool = False
    moves: int = 0  # renames that had been ordered when the walk began
    misses: int = 0  # what it had not been told of when the walk began
    rounds: int = 0
    incomplete: bool = False  # there may be more on the storage than was seen
    unchanged: bool = False  # it has missed nothing since its last self-check, and tells only what is staged
    seen: IdSet = field(default_factory=IdSet)


class Attachment:
    """The nameserver's side of every storage's attachment."""

    def __init__(self, site: Site, writing: Writing, courier: Courier) -> None:
        self._site = site
        self._writing = writing
        self._courier = courier
        self._checks: dict[str, Check] = {}  # by session; guarded by the global lock
        self._began_at = site.decisions.changes  # change of the tree at which our epoch began
        self._accepted: dict[str, bool] = {}  # id of a storage's folder: adopt too; guarded by the global lock

    def load(self) -> None:
        """At start: the storages that the database remembers, as if just lost."""
        site = self._site
        with site.look() as tree:
            used = tree.used_by_storage()
            for row in tree.storages():
                files, size = used.get(row.id, (0, 0))
                node = Node(row.id, row.name, row.storage_id, Address(row.host, row.port), row.zone, row.capacity)
                node.enabled, node.ingestable = row.enabled, row.ingestable
                node.used, node.files, node.draining = size, files, row.draining
                node.state = NodeState.GRACE if row.counted else NodeState.DOWN
                node.returning = bool(row.counted)
                node.since, node.since_mono = site.clock.now(), site.clock.monotonic()
                site.roster.add(node)

    # --- step 1 ----------------------------------------------------------------------------

    def upgrade(self, hello: StorageHello, identity: Identity) -> Welcome:
        """A storage presents itself.  Its address is dialled back before it is believed."""
        site = self._site
        self._refuse_foreign(hello, identity)
        address = Address(hello.host, hello.port)
        peer = self._courier.dial(address, hello.name)
        session = secrets.token_hex(16)
        try:
            node = site.decisions.run(lambda tx: self._enroll(tx, hello, address), changes=False)
            with site.decisions.lock:
                self._open(node, hello, session)
                unchanged = self._checks[session].unchanged
        except BaseException:
            peer.close()
            raise
        self._courier.serve(node, peer, session)
        what = "nothing has changed since it was here" if unchanged else "self-check begins"
        log.info("storage %s at %s: %s", node.name, address, what, extra=_facts("storage_came", node))
        return Welcome(
            session,
            site.site_id,
            site.name,
            node.storage_id,
            site.epoch.number,
            site.epoch.token,
            site.grant_key,
            site.policy.heartbeat,
            unchanged,
        )

    def _refuse_foreign(self, hello: StorageHello, identity: Identity) -> None:
        if identity.name != hello.name:
            raise Conflict(
                f"a storage that calls itself {hello.name!r} shows the certificate of {identity.name!r}",
                "give the storage the name of its certificate with --name",
            )
        if hello.site_id and hello.site_id != self._site.site_id:
            raise Conflict(
                f"the folder of storage {hello.name} belongs to another site ({hello.site_id})",
                "check --ns_hostname and --rootpath; to give the folder to this site, empty it first",
            )

    def _enroll(self, tx: Transaction, hello: StorageHello, address: Address) -> Node:
        """Lock held.  The storage's row and node; Conflict where name or folder belong to another that is up."""
        site = self._site
        for other in site.roster.all():
            same_name, same_folder = other.name == hello.name, other.storage_id == hello.storage_id
            if same_name and not same_folder and other.state in CONNECTED:
                raise Conflict(
                    f"another storage called {hello.name} is connected", "names must be unique: choose another --name"
                )
            if same_folder and not same_name:
                raise Conflict(
                    f"this folder belongs to storage {other.name}, not to {hello.name}",
                    "a storage's folder may not be copied or shared; use an empty one",
                )
        values = {"storage_id": hello.storage_id, "host": address.host, "port": address.port}
        values |= {"capacity": hello.capacity, "zone": hello.zone, "ingestable": hello.ingestable}
        row = tx.tree.enroll_storage(hello.name, values)
        node = site.roster.find(hello.name)
        # What a new one has nobody here knows, even if it was here before it was forgotten.
        return node or Node(row.id, row.name, row.storage_id, address, row.zone, row.capacity, missed=True)

    def _open(self, node: Node, hello: StorageHello, session: str) -> None:
        """Lock held."""
        site = self._site
        if node.storage_id != hello.storage_id:
            log.warning("storage %s comes with another folder than before", node.name)
        rechecking = node.rechecking
        if node.session:
            self._leave(node, "it connected anew")
        site.roster.add(node)
        node.storage_id, node.address, node.zone = hello.storage_id, Address(hello.host, hello.port), hello.zone
        node.capacity, node.disk_free = hello.capacity, hello.disk_free
        node.certificate_expires, node.facilities = hello.certificate_expires, hello.facilities
        node.busy, node.ingestable = frozenset(), hello.ingestable
        node.move(Event.UPGRADE, site.clock.now(), site.clock.monotonic())
        node.beat = site.clock.monotonic()
        site.roster.open_session(node, session)
        known = hello.epoch == 0 or site.database.knows_epoch(hello.epoch, hello.epoch_token)
        tally = Tally(epoch_known=known, accepted=hello.storage_id in self._accepted, newcomer=hello.epoch == 0)
        adopt = self._accepted.get(hello.storage_id)
        unchanged = known and adopt is None and not rechecking and self._has_all(node, hello)
        node.missed = not unchanged
        self._checks[session] = Check(tally, adopt=bool(adopt), misses=node.misses, unchanged=unchanged)

    def _has_all(self, node: Node, hello: StorageHello) -> bool:
        """Whether nothing was decided that this storage has not carried out.  Lock held.

        What it has carried out is as the tree of its epoch was at a change.  In the epoch before ours, that must have
        been the last one; since then `missed` would say so."""
        epoch = self._site.epoch
        if node.missed or hello.settled < 0:
            return False
        return hello.epoch == epoch.number or (hello.epoch == epoch.number - 1 and hello.settled == self._began_at)

    # --- steps 2 and 3 ---------------------------------------------------------------------

    def inventory(self, session: str, batch: Sequence[Held]) -> tuple[int, ...]:
        """Compare a batch with the tree; the places in it of what will be moved or taken away if that is safe."""

        def decide(tx: Transaction) -> tuple[int, ...]:
            node, check = self._checking(session)
            inspector = Inspector(self._site, tx, node, check.seen, adopt=check.adopt)
            verdicts, put_off = inspector.inspect(batch)
            tx.on_commit(partial(check.tally.count_all, batch, verdicts))
            return put_off

        return self._site.decisions.run(decide)

    def walk_tree(self, session: str, after: int) -> int:
        """Have the next page of the tree's directories made; where to go on, or -1."""

        def decide(tx: Transaction) -> int:
            node, _ = self._checking(session)
            for _, path in tx.tree.directories(after, PAGE):
                tx.on_commit(partial(node.order, orders.mkdir(path)))
            return tx.tree.last_directory(after, PAGE)

        return self._site.decisions.run(decide)

    def verdict(self, session: str, left_out: int) -> tuple[str, str]:
        """After the inventory: ("go", ""), ("held", why), or ("again", "") where files were renamed meanwhile.

        `left_out`: directories that could not be read; what was in them is not held to be missing."""
        with self._site.decisions.lock:
            node, check = self._checking(session)
            self._need_unmissed(node, check)
            moves = node.outbox.moves if node.outbox is not None else 0
            check.incomplete = bool(left_out) or check.moves != moves
            if check.moves != moves and check.rounds < MAX_ROUNDS:
                # What is renamed under a walk may be missed by it; what any walk has seen counts as there.
                check.moves, check.misses, check.rounds = moves, node.misses, check.rounds + 1
                check.tally = Tally(check.tally.epoch_known, check.tally.accepted, check.tally.newcomer)
                return "again", ""
            why = check.tally.suspicion()
            if not why:
                return "go", ""
            node.held_because = why
            node.move(Event.HOLD, self._site.clock.now(), self._site.clock.monotonic())
        log.warning(
            "storage %s is held in safe mode: %s; nothing is quarantined until: accept %s (or restoretree %s)",
            node.name,
            why,
            node.name,
            node.name,
            extra=_facts("storage_held", node),
        )
        self._site.trouble("error", "data_availability", f"storage {node.name} is held in safe mode: {why}")
        self._settle(node, check)
        return "held", why

    def condemned(self, session: str, batch: Sequence[Held]) -> None:
        """What the inventory put off, once more against the tree as it is now; what is still out of place is moved,
        what is still unknown goes."""

        def decide(tx: Transaction) -> None:
            node, check = self._checking(session)
            Inspector(self._site, tx, node, check.seen, adopt=False).carry_out(batch)

        self._site.decisions.run(decide)

    # --- step 4 ----------------------------------------------------------------------------

    def activate(self, session: str) -> None:
        """The self-check is done: the storage counts, takes writes, and missing copies are planned."""
        site = self._site
        with site.decisions.lock:
            node, check = self._checking(session)
        self._settle(node, check)

        def decide(tx: Transaction) -> None:
            self._checking(session)
            self._need_unmissed(node, check)
            tx.tree.set_counted(node.id, True)
            tx.on_commit(lambda: self._activated(node, check))

        site.decisions.run(decide, changes=False)
        text = "storage %s is active: %d files, %d bytes free"
        log.info(text, node.name, node.files, node.free, extra=_facts("storage_active", node))

    def _activated(self, node: Node, check: Check) -> None:
        site = self._site
        node.held_because, node.missed = "", node.misses != check.misses
        node.move(Event.ACTIVATE, site.clock.now(), site.clock.monotonic())
        if node.unfinished:
            node.check_again(site.clock.monotonic())
        self._checks.pop(node.session, None)
        self._accepted.pop(node.storage_id, None)
        site.sweeps.append(node.id)
        site.wake_repair.set()

    def _settle(self, node: Node, check: Check) -> None:
        """Drop the instances that the tree believed in and the storage does not have; count what it has."""
        after = -1 if check.unchanged else 0
        while after >= 0:

            def decide(tx: Transaction, after: int = after) -> tuple[int, list[int]]:
                page = tx.tree.instances_on(node.id, after, PAGE)
                gone = [entry for entry in page if entry not in check.seen and not check.incomplete]
                tx.tree.drop_instances(node.id, gone)
                left = tx.tree.instances_of(gone)
                self._tell_lost(tx, node, [entry for entry in gone if entry not in left])
                for entry in gone:
                    tx.tree.set_owed(entry, len(left.get(entry, ())))
                return (page[-1] if len(page) == PAGE else -1), gone

            after, gone = self._site.decisions.run(decide)
            self._site.reconsider.extend(gone)
            if gone:
                log.warning("storage %s misses %d files that it should have", node.name, len(gone))
        with self._site.look() as tree:
            files, size = tree.used_by_storage().get(node.id, (0, 0))
        node.files, node.used = files, size

    def _tell_lost(self, tx: Transaction, node: Node, entries: list[int]) -> None:
        """Files that a storage misses and no other has."""
        paths = [path for path in map(tx.tree.path_of, entries) if path is not None]
        if paths:
            why = f"storage {node.name} has lost the last copies here of {len(paths)} files, among them {paths[0]}"
            tx.on_commit(lambda: self._site.trouble("critical", "data_availability", why))

    def _checking(self, session: str) -> tuple[Node, Check]:
        node, check = self._site.roster.by_session(session), self._checks.get(session)
        if node is None or check is None or node.state is not NodeState.CHECKING:
            raise Stale("this session of the storage is over", "upgrade again")
        return node, check

    def _need_unmissed(self, node: Node, check: Check) -> None:
        """What a storage misses while it is let in without a look at its files, only such a look can find."""
        if check.unchanged and node.missed:
            raise Conflict(f"the tree was changed while storage {node.name} came back", "it looks at all its files now")

    # --- from then on ----------------------------------------------------------------------

    def heartbeat(self, session: str, disk_free: int, uploads: Sequence[str]) -> tuple[str, int]:
        """A sign of life of the storage and of the uploads that run through it.

        Answers the storage's state, and the change of the tree up to which it has carried out all orders, or -1."""
        with self._site.decisions.lock:
            node = self._site.roster.by_session(session)
            if node is None:
                raise Stale("this session of the storage is over", "upgrade again")
            node.beat, node.disk_free = self._site.clock.monotonic(), disk_free
            node.busy = frozenset(uploads)
            self._writing.alive(uploads)
            self._catch_up(node)
            quiet = node.state is NodeState.ACTIVE and not node.waiting and not node.missed
            return node.state.value, self._site.decisions.changes if quiet else -1

    def _catch_up(self, node: Node) -> None:
        """A storage that is behind checks itself again, once nothing was decided between two heartbeats: while much is
        decided, that check would end as the last one did.  Lock held."""
        if node.state is NodeState.ACTIVE:
            node.check_in_time(node.beat)
        now = self._site.decisions.changes
        if node.behind and not node.rechecking and node.heard == now:
            node.order(orders.recheck())
        node.heard = now

    def lost(self, session: str, why: str) -> None:
        """The connection with a storage broke, or it is silent."""
        with self._site.decisions.lock:
            node = self._site.roster.by_session(session)
            if node is not None:
                log.warning("storage %s lost: %s", node.name, why, extra=_facts("storage_lost", node))
                self._leave(node, why)

    def _leave(self, node: Node, why: str) -> None:
        """Lock held."""
        site = self._site
        self._checks.pop(node.session, None)
        site.roster.close_session(node)
        node.move(Event.LOSE, site.clock.now(), site.clock.monotonic())
        for upload in site.uploads.on(node.id):
            if upload.entry:
                self._writing.release(upload.id)
        site.sweeps.append(node.id)
        site.wake_repair.set()

    def accept(self, name: str, adopt: bool) -> str:
        """An administrator trusts the tree (adopt: the storage): the self-check runs again without safe mode."""
        with self._site.decisions.lock:
            node = self._site.roster.need(name)
            if node.state is not NodeState.HELD:
                raise Conflict(f"storage {name} is {node.state}, not in safe mode", "there is nothing to accept")
            self._accepted[node.storage_id] = adopt
            failpoints.hit("nameserver.accept.before_order")
            node.order(orders.recheck())
            return node.held_because

    def set_draining(self, name: str, on: bool) -> None:
        """Empty a storage for retirement, or use it again."""

        def decide(tx: Transaction) -> Node:
            node = self._site.roster.need(name)
            tx.tree.set_draining(node.id, on)
            tx.on_commit(lambda: setattr(node, "draining", on))
            return node

        node = self._site.decisions.run(decide)
        self._site.sweeps.append(node.id)
        self._site.wake_repair.set()

    def check_copy(self, path: str, storage: str) -> None:
        """Raise unless `storage` is one that can be asked to verify a copy now."""
        node = self._site.roster.need(storage)
        if node.state not in READABLE:
            raise NotFound(f"storage {storage} is {node.state}")
        if not path.startswith("/"):
            raise NotADirectory(path)


def _facts(event: str, node: Node) -> dict[str, object]:
    """What a line of the log says for machines."""
    return {"facts": {"event": event, "storage": node.name}}
