"""Copies here are let go because others hold the file: `evict`, and the task `rolling_deletion`.  And back: `recall`.

Law: a copy is let go only while enough copies at other librarians have just been read and found good, each counted
once, none of them ours; and only if the file is still the one that they have.  Where an operator trusts copies unread,
those who hold them must say that they keep them.  The file stays in the tree, and what was let go is remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import exists, select

from goggles.contracts import orders
from goggles.errors import BadRequest, Conflict, GogglesError, NotFound, Shared, Unavailable
from goggles.librarian import answers
from goggles.librarian.peers import Peers
from goggles.librarian.validating import Validating, good_copies
from goggles.meta.peering import marks, remote_instances
from goggles.meta.tables import entries, instances
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.site import Site
from goggles.paths import DfsPath, parse
from goggles.roles import Level

log = logging.getLogger(__name__)
E, N, R, M = entries.c, instances.c, remote_instances.c, marks.c
PATIENCE = 300.0  # seconds for the reading of all copies of one file
PAGE = 200
TRUST = 86_400.0  # seconds for which a copy elsewhere is believed without reading, where that is asked for


@dataclass(frozen=True, slots=True)
class Rules:
    """When a copy may be let go.  `storage`: only those on this one ('' for all); `copies`: how many elsewhere."""

    copies: int = 1
    storage: str = ""
    verify: bool = True
    remember: bool = True


class Evicting:
    """Lets copies go, and calls files back."""

    def __init__(self, site: Site, peers: Peers, validating: Validating) -> None:
        self._site = site
        self._peers = peers
        self._validating = validating

    # --- letting go ------------------------------------------------------------------------

    def evict(self, path: str, rules: Rules) -> int:
        """Let the copies of a file here go; how many.  Conflict where too few others are good."""
        wanted = parse(path)
        if rules.copies < 1:
            raise BadRequest("at least one copy must be elsewhere", "--copies N, from 1 up")
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        if not holders:
            raise NotFound(f"{wanted} has no copy here", "stat shows where it is")
        with self._validating.leaving(wanted):
            self._need_others(wanted, entry, rules)
            return self._site.decisions.run(lambda tx: self._let_go(tx, wanted, entry, rules))

    def _need_others(self, path: DfsPath, entry: Entry, rules: Rules) -> None:
        """Conflict where fewer copies elsewhere are good than must be."""
        with self._site.look() as tree:
            others = tree.holders_elsewhere([entry.id]).get(entry.id)
            now = tree.now
        remote = others.remote if others is not None else []
        if rules.verify:
            holders = sorted({librarian for librarian, *_ in remote})
            told = self._validating.elsewhere(path, holders, (), PATIENCE)
            good = len(good_copies(told, self._site.name, entry.sha256, entry.size))
            why = "; ".join(f"{one.librarian} {one.store}: {one.error or 'other bytes'}" for one in told if one.error)
        else:
            known = {(name, store) for name, store, _, verified, _ in remote if verified > now - TRUST}
            kept, why = self._kept(path, entry, sorted({name for name, _ in known}))
            good = len(known & kept)
        if good < rules.copies:
            raise Conflict(
                f"{path} is not let go: {good} good copies elsewhere, {rules.copies} are needed"
                + (f" ({why})"[:500] if why else ""),
                "send it to another librarian first, or see validate-file",
            )

    def _kept(self, path: DfsPath, entry: Entry, holders: Sequence[str]) -> tuple[set[tuple[str, str]], str]:
        """(librarian, store) of the copies that these librarians have and keep, as they say; why others do not say."""
        found, reasons = set[tuple[str, str]](), list[str]()
        for name in holders:
            try:
                asked = ((path, entry.size, entry.sha256),)
                told = answers.items(name, self._peers.call(self._peers.need(name), "whereabouts", asked, True), 1)
                with answers.understood(name):
                    found |= {(name, store[:64]) for store in answers.texts(told[0])}
            except GogglesError as error:
                reasons.append(f"{name}: {error.message}")
        return found, "; ".join(reasons)

    def _let_go(self, tx: Transaction, path: DfsPath, before: Entry, rules: Rules) -> int:
        entry = tx.tree.need_file(path)
        if entry.version != before.version:
            raise Conflict(f"{path} was replaced meanwhile", "try again")
        holders = tx.tree.instances_of([entry.id]).get(entry.id, [])
        going = [one for one in holders if not rules.storage or self._site.roster.get(one).name == rules.storage]
        for holder in going:
            if rules.remember:
                tx.tree.set_unavailable(entry.id, holder)
            tx.tree.drop_instances(holder, [entry.id])
            node = self._site.roster.get(holder)
            tx.on_commit(partial(node.lose, entry.size, orders.remove(path, entry.version)))
        if going:
            tx.tree.want_fewer(entry.id, entry.copies or 0, min(entry.copies or 0, len(holders) - len(going)))
            tx.tree.clear_owed(entry.id)
            tx.on_commit(lambda: self._done(path, len(going)))
        return len(going)

    def _done(self, path: str, count: int) -> None:
        self._site.linked = True
        log.info(
            "%d copies of %s were let go: others hold it",
            count,
            path,
            extra={"facts": {"event": "evicted", "path": path}},
        )

    # --- rolling_deletion ------------------------------------------------------------------

    def roll(self, rules: Rules, before: float, forced: bool, over: Callable[[], bool]) -> int:
        """Let go what was made before `before` and may go; how many copies."""
        after = done = 0
        while not over():
            page = self._candidates(rules, before, forced, after)
            for number in page:
                done += self._roll_one(number, rules)
                if over():
                    return done
            if len(page) < PAGE:
                return done
            after = page[-1]
        return done

    def _candidates(self, rules: Rules, before: float, forced: bool, after: int) -> Sequence[int]:
        here = [N.entry_id == E.id]
        if rules.storage:
            here.append(N.storage_id == self._site.roster.need(rules.storage).id)
        conditions = [E.kind == "f", E.id > after, E.created_at < before, exists().where(*here)]
        conditions.append(exists().where(R.entry_id == E.id))
        if not forced:
            conditions.append(exists().where(M.entry_id == E.id, M.deletable))
        with self._site.database.read() as connection:
            return connection.execute(select(E.id).where(*conditions).order_by(E.id).limit(PAGE)).scalars().all()

    def _roll_one(self, number: int, rules: Rules) -> int:
        with self._site.look() as tree:
            path = tree.path_of(number)
        if path is None:
            return 0
        try:
            return self.evict(path, rules)
        except GogglesError as error:
            log.warning("rolling deletion: %s", error)
            return 0

    # --- recall ----------------------------------------------------------------------------

    def recall(self, path: str) -> str:
        """Ask those who hold a file that is not here to push it back; the librarian that will."""
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            if tree.instances_of([entry.id]).get(entry.id):
                raise Shared(f"{wanted} is here already", "stat shows its copies")
            known = tree.holders_elsewhere([entry.id]).get(entry.id)
        return self.ask(wanted, entry, sorted({name for name, *_ in known.remote}) if known else [])

    def ask(self, path: str, entry: Entry, holders: Sequence[str]) -> str:
        """Have one of these librarians push the file to us; the one that will.  Unavailable where none will."""
        reasons: list[str] = []
        with self._site.look() as tree:
            levels = {name: Level(level) for name, level, _ in tree.accounts()}
        for name in holders:
            if levels.get(name, Level.NONE) < Level.READAPPEND:
                has = levels[name].name if name in levels else "no level"
                reasons.append(f"{name} may not send to us: its account here has {has}, and needs READAPPEND")
                continue
            try:
                self._peers.call(self._peers.need(name), "please_send", path, entry.size, entry.sha256)
            except GogglesError as error:
                reasons.append(f"{name}: {error.message}")
            else:
                return name
        why = "; ".join(reasons) or "no librarian is known to hold it"
        hint = "see get-librarian-list --ping, and for levels update-user"
        raise Unavailable(f"{path} can not be called back ({why})"[:1000], hint)
