"""Care for copies: `check_integrity`, `create_local_clone`, `corruption_fixer`, `duplicate_remote_instance_hypervisor`.

Law: what is bad is repaired from copies here first, then from another librarian, and nothing is forgotten before the
file is whole again.  Each task works in pages, and goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, exists, select

from goggles.contracts.peering import State
from goggles.errors import Unavailable
from goggles.librarian import answers
from goggles.librarian.evicting import Evicting
from goggles.librarian.peers import PeerInfo, Peers
from goggles.meta.peering import corruptions, incoming, peers, remote_instances, unavailable
from goggles.meta.tables import entries, instances, owed
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.repair import Repair
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE, NodeState
from goggles.nameserver.verifying import Verifying
from goggles.paths import DfsPath

log = logging.getLogger(__name__)
E, N, R, C, I = entries.c, instances.c, remote_instances.c, corruptions.c, incoming.c  # noqa: E741 - columns
U = unavailable.c
PAGE = 64
ASK = 500
PATIENCE = 600.0  # seconds for one page of copies to be read
Over = Callable[[], bool]


class Keeping:
    """Looks after copies."""

    def __init__(self, site: Site, peers: Peers, repair: Repair, verifying: Verifying, evicting: Evicting) -> None:
        self._site = site
        self._peers = peers
        self._repair = repair
        self._verifying = verifying
        self._evicting = evicting

    # --- check_integrity -------------------------------------------------------------------

    def check_integrity(self, age: float, storage: str | None, over: Over) -> int:
        """Have every copy read that was not for `age` seconds; how many were."""
        nodes = [self._site.roster.need(storage)] if storage else self._site.roster.all()
        return sum(self._check_on(node, self._site.clock.now() - age, over) for node in nodes)

    def _check_on(self, node: Node, before: float, over: Over) -> int:
        after = count = 0
        while not over() and node.state in READABLE:
            query = select(N.entry_id, E.version).join(entries, E.id == N.entry_id)
            query = query.where(N.storage_id == node.id, N.verified_at <= before, N.entry_id > after)
            with self._site.look() as tree:
                rows = tree.tx.execute(query.order_by(N.entry_id).limit(PAGE)).all()
                placed = [(node, tree.path_of(row.entry_id), row.version) for row in rows]
            copies: list[tuple[Node, DfsPath, str]] = [(n, path, v) for n, path, v in placed if path is not None]
            readings = self._verifying.read_copies(copies, PATIENCE)
            count += sum(reading.verdict in ("good", "bad") for reading in readings)
            if len(rows) < PAGE:
                break
            after = rows[-1].entry_id
        return count

    # --- create_local_clone ----------------------------------------------------------------

    def clone(self, since: float, source: str, targets: Sequence[str], limit: int, disable: bool) -> int:
        """Have files on `source` that were made since then copied to the first of `targets` that has room, one copy
        on all of them together; how many copies were begun."""
        come_from, begun = self._site.roster.need(source), 0
        nodes = [self._site.roster.need(name) for name in targets]
        everywhere = [node.id for node in nodes]
        for target in nodes:
            if target.state is not NodeState.ACTIVE or not target.enabled or come_from.state not in READABLE:
                continue
            count, full = self._clone_to(come_from, target, everywhere, since, limit - begun)
            begun += count
            if full:
                why = f"storage {target.name} has no room for more clones ({target.free} bytes are free)"
                log.warning("create_local_clone: %s", why)
                self._site.trouble("warning", "store_full", why)
            if full and disable:
                self.set_enabled(target.name, False)
            if begun >= limit:
                break
        return begun

    def _clone_to(
        self, source: Node, target: Node, everywhere: Sequence[int], since: float, limit: int
    ) -> tuple[int, bool]:
        """(copies begun, whether there is no room for the next).  A file that is on one of `everywhere`, full,
        disabled, and carried away too, needs no second drive."""
        there = exists().where(N.entry_id == E.id, N.storage_id.in_(everywhere))
        gone = exists().where(U.entry_id == E.id, U.storage_id.in_(everywhere))
        here = exists().where(N.entry_id == E.id, N.storage_id == source.id)
        query = select(E.id, E.size).where(E.kind == "f", E.created_at >= since, here, ~there, ~gone)
        with self._site.database.read() as connection:
            rows = connection.execute(query.order_by(E.id).limit(limit)).all()
        begun = 0
        for row in rows:
            if row.size > target.free:
                return begun, True
            begun += self._repair.clone(row.id, source, target)
        return begun, False

    def set_enabled(self, name: str, on: bool) -> None:
        """Whether a storage takes new files."""
        node = self._site.roster.need(name)

        def decide(tx: Transaction) -> None:
            tx.tree.set_enabled(node.id, on)
            tx.on_commit(lambda: setattr(node, "enabled", on))

        self._site.decisions.run(decide)
        self._site.wake_repair.set()

    # --- corruption_fixer ------------------------------------------------------------------

    def fix(self, over: Over) -> int:
        """Have files whose copies were bad, or are all gone, made whole again; how many are."""
        with self._site.database.read() as connection:
            noted = connection.execute(select(C.entry_id).order_by(C.found_at)).scalars().all()
            here = exists().where(N.entry_id == owed.c.entry_id)
            lost = connection.execute(select(owed.c.entry_id).where(~here)).scalars().all()
        done = 0
        for number in dict.fromkeys([*noted, *lost]):
            if over():
                break
            done += self._fix_one(number)
        return done

    def _fix_one(self, number: int) -> bool:
        with self._site.look() as tree:
            found = tree.files([number])
            path = tree.path_of(number)
            coming = path is not None and self._is_coming(tree.tx, path)
        if not found or path is None or not found[0][0].copies:
            self._forget(number)
            return False
        entry, holders = found[0]
        if holders:
            whole = not self._repair.assess(entry, holders).missing
            if whole:
                self._forget(number)
            else:
                self._site.reconsider.append(number)  # there are copies here: repair makes the others
                self._site.wake_repair.set()
            return whole
        if not coming:
            self._from_elsewhere(path, entry)
        return False

    def _is_coming(self, connection: Any, path: str) -> bool:
        live = [int(state) for state in (State.INITIATED, State.ONGOING, State.STAGED)]
        return connection.execute(select(I.id).where(I.path == path, I.state.in_(live))).first() is not None

    def _from_elsewhere(self, path: str, entry: Entry) -> None:
        """No copy is left here: those who hold it, or sent it, are asked, then all others: who sent it may have been
        forgotten."""
        with self._site.database.read() as connection:
            hold = select(peers.c.name).join(remote_instances, R.peer_id == peers.c.id).where(R.entry_id == entry.id)
            sent = select(peers.c.name).join(incoming, I.peer_id == peers.c.id).where(I.path == path)
            every = select(peers.c.name).order_by(peers.c.name)
            names = [name for query in (hold, sent, every) for name in connection.execute(query).scalars()]
        try:
            sender = self._evicting.ask(path, entry, list(dict.fromkeys(names)))
            log.warning("no copy of %s is left here: librarian %s sends it again", path, sender)
        except Unavailable as error:
            self._site.trouble("critical", "data_availability", f"no copy of {path} is left here: {error.message}")
            log.error("no copy of %s is left here: %s", path, error)

    def _forget(self, number: int) -> None:
        self._site.decisions.run(lambda tx: tx.tree.tx.execute(delete(corruptions).where(C.entry_id == number)))

    # --- duplicate_remote_instance_hypervisor ----------------------------------------------

    def check_elsewhere(self, peer: PeerInfo, over: Over) -> int:
        """Compare what a peer is known to hold with what it says; how many remote instances were dropped."""
        after = dropped = 0
        while not over():
            query = select(R.entry_id).where(R.peer_id == peer.id, R.entry_id > after).distinct()
            with self._site.look() as tree:
                ids = tree.tx.execute(query.order_by(R.entry_id).limit(ASK)).scalars().all()
                placed = [(entry, tree.path_of(entry.id)) for entry, _ in tree.files(list(ids))]
            known = [(entry, path) for entry, path in placed if path is not None]
            if known:
                dropped += self._compare(peer, known)
            if len(ids) < ASK:
                break
            after = ids[-1]
        return dropped

    def _compare(self, peer: PeerInfo, known: Sequence[tuple[Entry, str]]) -> int:
        asked = tuple((path, entry.size, entry.sha256) for entry, path in known)
        told = answers.items(peer.name, self._peers.call(peer, "whereabouts", asked), len(known))
        with answers.understood(peer.name):
            stores = [{store[:64] for store in answers.texts(one)} for one in told]
        return self._site.decisions.run(lambda tx: self._correct(tx, peer, known, stores))

    def _correct(
        self, tx: Transaction, peer: PeerInfo, known: Sequence[tuple[Entry, str]], told: list[set[str]]
    ) -> int:
        dropped = 0
        for (entry, path), there in zip(known, told, strict=True):
            rows = [row for row in tx.tree.elsewhere([entry.id]) if row.peer_id == peer.id]
            if not rows or tx.tree.get(entry.id) is None:
                continue
            if {row.store for row in rows} == there:
                continue
            tx.tree.drop_elsewhere(entry.id, peer.id)
            for store in sorted(there):
                tx.tree.add_elsewhere(entry.id, peer.id, store, self._site.name, rows[0].copied_at)
            dropped += max(0, len(rows) - len(there))
            if not there:
                log.warning("librarian %s does not hold %s any more", peer.name, path)
        return dropped
