"""Copies that are owed are made, surplus ones are trimmed, what is over is cleaned up.

Law: one thread drives it; each step is a short decision, so that repair never holds the lock for long.  What is
owed is written in the database with the change that made it so; this thread only has to be told where to look
again: storages that came or went (`sweeps`) and single files (`reconsider`).  Nothing is planned in the first
moments after a start, while storages are still coming back.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from goggles import failpoints
from goggles.contracts import orders
from goggles.contracts.grants import READ
from goggles.contracts.orders import PullOrder
from goggles.errors import GogglesError
from goggles.nameserver.attach import Attachment
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.housekeeping import PIECE, Housekeeping
from goggles.nameserver.placement import choose
from goggles.nameserver.replication import Assessment, Copy, Standing, assess
from goggles.nameserver.rereading import Rereading
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import CONNECTED, READABLE, Event, NodeState
from goggles.nameserver.uploads import Upload
from goggles.nameserver.writing import Writing

log = logging.getLogger(__name__)
SILENCE = 5.0  # heartbeats that may be missed
RETRY = 10.0  # seconds until a failed repair is tried again
AHEAD = 1_000  # files whose storage is busy, beyond which no others are looked at
FIRST_TO_GO = 2.0  # fuller than any storage


def _nothing() -> None:
    """Until somebody has more to do."""


def whose_turn(later: Mapping[int, int], free: Mapping[int, int]) -> list[int]:
    """Of the entries that wait for a storage (by id): as many as it has free places, all where it is not there."""
    left, found = dict(free), []
    for entry, storage in later.items():
        if storage not in left:
            found.append(entry)
        elif left[storage] > 0:
            left[storage] -= 1
            found.append(entry)
    return found


@dataclass(slots=True)
class Sweep:
    """All files of one storage are looked at again, in pieces."""

    storage: int
    after: int = 0


class Repair:
    """Run `step` again and again; `run` does so in a thread until the site stops."""

    def __init__(self, site: Site, writing: Writing, attachment: Attachment) -> None:
        self._site = site
        self._writing = writing
        self._attachment = attachment
        self._sweeps: dict[int, Sweep] = {}
        self._failed: dict[int, float] = {}  # entry id: monotonic time before which it is not tried again
        self._stuck: set[int] = set()  # entries for which there was no source or no room
        self._room: tuple[object, ...] = ()  # what the storages were like when they got stuck
        self._later: dict[int, int] = {}  # entry id: the storage that has to make other copies first
        self.rereading = Rereading(site)
        self.leaving: dict[int, int] = {}  # entry id: the storage whose copy goes, if one is too many
        self.beside: Callable[[], None] = _nothing  # more to do in each round, when what is owed has been planned
        site.reviews = self.reviews
        self._housekeeping = Housekeeping(site)
        self._unstick = 0.0

    def reviews(self) -> int:
        """How many files are to be looked at, or are being read, before what is owed or over is known."""
        return len(self._site.reconsider) + len(self._site.sweeps) + len(self._sweeps) + self.rereading.under_way()

    def run(self) -> None:
        while not self._site.stopping.is_set():
            try:
                busy = self.step()
            except GogglesError as error:
                log.error("repair: %s", error)
                busy = False
            except Exception:
                log.exception("repair failed; it goes on")
                busy = False
            if not busy:
                self._site.clock.wait(self._site.wake_repair, 0.5)
                self._site.wake_repair.clear()

    def step(self) -> bool:
        """One round; True where there is more to do at once."""
        self._writing.expire()
        self._watch_nodes()
        busy = self._housekeeping.step()
        if self._settling():
            return busy
        more = any([self._sweep(), self._reconsider(), self.rereading.step(), self._plan(), busy])
        self.beside()
        return more

    # --- time passes -----------------------------------------------------------------------

    def _watch_nodes(self) -> None:
        """Silent storages are lost, lost ones stop counting after the grace time."""
        site, now = self._site, self._site.clock.monotonic()
        for node in site.roster.all():
            if node.state in CONNECTED and node.beat + SILENCE * site.policy.heartbeat < now:
                self._attachment.lost(node.session, "no heartbeat")
            if node.state is NodeState.GRACE and node.since_mono + site.policy.grace < now:
                self._expire(node)

    def _expire(self, node: Node) -> None:
        site = self._site

        def decide(tx: Transaction) -> None:
            if node.state is NodeState.GRACE:
                tx.tree.set_counted(node.id, False)
                tx.on_commit(lambda: node.move(Event.EXPIRE, site.clock.now(), site.clock.monotonic()))

        site.decisions.run(decide)
        site.sweeps.append(node.id)
        why = f"storage {node.name} has been away for {site.policy.grace:g} s: its copies do not count any more"
        log.warning("%s", why, extra={"facts": {"event": "storage_down", "storage": node.name}})
        site.trouble("error", "data_availability", why)

    def _settling(self) -> bool:
        """True in the first moments after a start while storages that were there are not back yet."""
        site = self._site
        young = site.clock.monotonic() < site.started + site.policy.grace
        return young and any(node.returning for node in site.roster.all())

    # --- what is owed ----------------------------------------------------------------------

    def _sweep(self) -> bool:
        """A piece of each sweep."""
        while self._site.sweeps:
            storage = self._site.sweeps[0]
            self._sweeps[storage] = Sweep(storage)
            self._site.sweeps.popleft()
        for sweep in list(self._sweeps.values()):
            with self._site.look() as tree:
                page = tree.instances_on(sweep.storage, sweep.after, PIECE)
            self._assess(page)
            if len(page) < PIECE:
                del self._sweeps[sweep.storage]
            else:
                sweep.after = page[-1]
        return bool(self._sweeps)

    def _reconsider(self) -> bool:
        """Files leave the queue when that is done: a failure of the database loses none of them."""
        pending = self._site.reconsider
        entries = [pending[place] for place in range(min(PIECE, len(pending)))]  # others append meanwhile
        self._assess(entries)
        for _ in entries:
            pending.popleft()
        return bool(pending)

    def _assess(self, entries: list[int]) -> None:
        """Write down what is owed for these files, and trim what is over."""
        if entries:
            self._site.decisions.run(lambda tx: self._assess_in(tx, entries))

    def _assess_in(self, tx: Transaction, entries: list[int]) -> None:
        files = tx.tree.files(entries)
        owed = tx.tree.owed_among(entries)
        for entry, holders in files:
            found = self.assess(entry, holders)
            if found.missing and owed.get(entry.id) != found.live:
                tx.tree.set_owed(entry.id, found.live)
            elif not found.missing and entry.id in owed:
                tx.tree.clear_owed(entry.id)
            staying = [self._site.roster.get(holder) for holder in holders if holder not in found.surplus]
            if found.surplus and self.rereading.is_good(tx, entry, staying):
                for storage in found.surplus:
                    self._trim(tx, entry, self._site.roster.get(storage))

    def assess(self, entry: Entry, holders: list[int]) -> Assessment:
        return assess(
            1 if entry.copies is None else entry.copies,
            [self._copy(entry.id, self._site.roster.get(holder)) for holder in holders],
        )

    def _copy(self, entry: int, node: Node) -> Copy:
        copy = self.copy_on(node)
        return replace(copy, fill=FIRST_TO_GO) if self.leaving.get(entry) == node.id else copy

    def copy_on(self, node: Node) -> Copy:
        return Copy(node.id, node.standing, node.zone, node.used / max(1, node.capacity))

    def _trim(self, tx: Transaction, entry: Entry, node: Node) -> None:
        path = tx.tree.path_of(entry.id)
        if path is None:
            return
        tx.tree.drop_instances(node.id, [entry.id])
        tx.on_commit(partial(failpoints.hit, "nameserver.trim.before_order"))
        tx.on_commit(partial(node.lose, entry.size, orders.remove(path, entry.version)))
        tx.on_commit(partial(self._site.story.trimmed, path, node.name))

    # --- making copies ---------------------------------------------------------------------

    def _plan(self) -> bool:
        """Start repairs, fewest copies first, as many as the storages may have under way."""
        site, now = self._site, self._site.clock.monotonic()
        limit = site.policy.repair_streams
        active = [node for node in site.roster.all() if node.state is NodeState.ACTIVE]
        slots = sum(max(0, limit - node.pulls) for node in active)
        if not slots:
            return False
        self._failed = {entry: when for entry, when in self._failed.items() if when > now}
        room = tuple((node.id, node.state, node.draining, node.free) for node in site.roster.all())
        if room != self._room or now >= self._unstick:
            self._stuck.clear()
            self._room, self._unstick = room, now + RETRY
        for entry in whose_turn(self._later, {node.id: limit - node.pulls for node in active}):
            del self._later[entry]
        waited = len(self._later)
        busy = set(site.uploads.pulls) | set(self._failed) | self._stuck | set(self._later)
        with site.look() as tree:
            entries = tree.owed_first(slots, skip=busy)
            self._site.story.standing(bool(entries or busy), tree.owed_count)
        if entries:
            site.decisions.run(lambda tx: self._plan_all(tx, entries))
        return waited < len(self._later) < AHEAD  # others have room; else what is under way wakes us when it ends

    def _plan_all(self, tx: Transaction, entries: list[int]) -> None:
        planned: Counter[int] = Counter()
        for entry in entries:
            self._plan_one(tx, entry, planned)

    def _plan_one(self, tx: Transaction, entry_id: int, planned: Counter[int]) -> None:
        found = tx.tree.files([entry_id])
        if not found or not self.assess(*found[0]).missing:
            tx.tree.clear_owed(entry_id)
            return
        entry, holders = found[0]
        sources = [n for n in map(self._site.roster.get, holders) if n.state in READABLE]
        target = self._target(entry, holders)
        path = tx.tree.path_of(entry.id)
        if not sources or target is None or path is None:
            self._stuck.add(entry_id)
            return
        if target.pulls + planned[target.id] >= self._site.policy.repair_streams:
            self._later[entry_id] = target.id
            return
        planned[target.id] += 1
        source = self._site.chance.choice(sources)
        tx.on_commit(lambda: self._send(entry, path, source, target))

    def _target(self, entry: Entry, holders: list[int]) -> Node | None:
        roster = self._site.roster
        counted = [h for h in holders if roster.get(h).standing in (Standing.LIVE, Standing.GRACE)]
        zones = [roster.get(holder).zone for holder in counted]
        chosen = choose(
            roster.candidates(),
            size=entry.size,
            count=1,
            chance=self._site.chance,
            taken=holders,
            taken_zones=zones,
        )
        return roster.get(chosen[0]) if chosen else None

    def clone(self, entry_id: int, source: Node, target: Node) -> bool:
        """Make one more copy on this very storage; False where it is there, or on its way, or can not be made now."""

        def decide(tx: Transaction) -> bool:
            found = tx.tree.files([entry_id])
            path = tx.tree.path_of(entry_id) if found else None
            if path is None or entry_id in self._site.uploads.pulls or entry_id in self._failed:
                return False
            entry, holders = found[0]
            if target.id in holders or source.id not in holders or target.free < entry.size:
                return False
            tx.on_commit(lambda: self._send(entry, path, source, target))
            return True

        return self._site.decisions.run(decide)

    def _send(self, entry: Entry, path: str, source: Node, target: Node) -> None:
        """After the commit, lock held."""
        site, token = self._site, secrets.token_hex(16)
        lease = site.clock.monotonic() + site.policy.lease
        upload = Upload(token, 0, "", entry.size, 1, "", (target.id,), lease, entry.version, entry=entry.id)
        site.uploads.add(upload)
        target.reserved += entry.size
        target.pulls += 1
        holder = site.storage_uri(target)
        pull = PullOrder(
            upload=token,
            path=path,
            version=entry.version,
            size=entry.size,
            hash=entry.sha256,
            source=source.name,
            host=source.address.host,
            port=source.address.port,
            grant=site.grant(READ, entry.version, path, entry.size, source, holder),
            after=source.await_orders(),
            rate=site.policy.repair_rate,
        )
        target.order(orders.pull(pull))
        site.story.copying(path, source.name, target.name)

    def pulled(self, session: str, upload: str, size: int, sha256: str) -> str:
        """A storage has staged a copy that it was told to make.  Answers keep or discard."""

        def decide(tx: Transaction) -> str:
            node = self._site.roster.by_session(session)
            pull = self._site.uploads.get(upload)
            if node is None or pull is None or not pull.entry:
                return "discard"
            tx.on_commit(lambda: self._finish(upload, node))
            found = tx.tree.files([pull.entry])
            path = tx.tree.path_of(pull.entry) if found else None
            if path is None or (found[0][0].version, size, sha256) != (pull.version, pull.size, found[0][0].sha256):
                return "discard"
            entry, holders = found[0]
            if node.id not in holders:
                tx.tree.add_instances(node.id, {entry.id: entry.size})
            tx.on_commit(lambda: self._arrived(node, upload, path, entry))
            if not self.assess(entry, [*holders, node.id]).missing:
                tx.tree.clear_owed(entry.id)
            return "keep"

        return self._site.decisions.run(decide)

    def _arrived(self, node: Node, upload: str, path: str, entry: Entry) -> None:
        node.used, node.files = node.used + entry.size, node.files + 1
        node.order(orders.publish(upload, path, entry.version, entry.generation, ""))
        self._site.reconsider.append(entry.id)
        self._site.story.copied(path, node.name)

    def _finish(self, upload: str, node: Node) -> None:
        """Lock held."""
        if self._site.uploads.get(upload) is not None:
            self._writing.release(upload, keep=[node.id])
        self._site.wake_repair.set()

    def pull_failed(self, session: str, upload: str, message: str) -> None:
        """A storage could not make a copy that it was told to make."""
        site = self._site
        with site.decisions.lock:
            pull, node = site.uploads.get(upload), site.roster.by_session(session)
            if pull is None or node is None or not pull.entry:
                return
            self._failed[pull.entry] = site.clock.monotonic() + RETRY
            self._writing.release(upload)
        log.warning("a copy could not be made on %s: %s", node.name, message[:500])

    def order_failed(self, node: Node, order: tuple[object, ...], message: str) -> None:
        """An order that a storage could not carry out: what it says it has is compared with the tree again."""
        if order[0] not in ("publish", "move", "move_file", "remove", "remove_tree", "stamp", "mkdir"):
            return
        with self._site.decisions.lock:
            if node.state is NodeState.ACTIVE:
                node.check_again(self._site.clock.monotonic())
            elif node.outbox is not None:
                node.unfinished = True
                node.outbox.stir()
