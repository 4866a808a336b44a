"""A batch of a self-check against the tree: what is known of each thing, the verdict, and the orders.

Law: one transaction a batch; the verdicts are `judging`'s, this module only looks up and carries out.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from goggles import failpoints
from goggles.contracts import orders
from goggles.contracts.orders import ARRIVING, DIRECTORY, STAGED, Held
from goggles.errors import BadPath
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.judging import CONDEMNED, DEFERRED, IdSet, Known, Verdict, judge_file, judge_staged
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.paths import ROOT, DfsPath, join, parse, parts, shorten, split


class Inspector:
    """Looks at what `node` holds, within one decision."""

    def __init__(self, site: Site, tx: Transaction, node: Node, seen: IdSet, adopt: bool) -> None:
        self._site = site
        self._tx = tx
        self._node = node
        self._seen = seen
        self._adopt = adopt
        self._current: dict[str, tuple[Entry, DfsPath | None]] = {}
        self._kept: dict[int, int] = {}  # entries that stand here: sizes

    def inspect(self, batch: Sequence[Held]) -> tuple[list[Verdict], tuple[int, ...]]:
        """The verdict on each, and the places of those that were put off until the whole is found to be safe.

        What is as it should be counts from now on; nothing is moved but what is adopted."""
        self._look_up(batch)
        verdicts = [self._judge(held) for held in batch]
        put_off = []
        for place, (held, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is Verdict.UNKNOWN and self._adopt:
                verdicts[place] = self._adopt_one(held)
            if verdicts[place] in DEFERRED and verdicts[place] is verdict:
                put_off.append(place)
            else:
                self._act(held, verdicts[place])
        self._keep()
        return verdicts, tuple(put_off)

    def carry_out(self, batch: Sequence[Held]) -> None:
        """Judge again what had to wait until the whole was found to be safe, and act on it."""
        self._look_up(batch)
        for held in batch:
            self._act(held, self._judge(held))
        self._keep()

    def _look_up(self, batch: Sequence[Held]) -> None:
        entries = self._tx.tree.by_versions([held.version for held in batch if held.version])
        self._current = {version: (entry, self._tx.tree.place_of(entry)) for version, entry in entries.items()}

    def _is_expected(self, held: Held) -> bool:
        return self._site.expected(held.path, self._node.id)

    def _judge(self, held: Held) -> Verdict:
        if held.kind == ARRIVING:
            return Verdict.LEAVE if self._is_expected(held) else Verdict.DISCARD
        if held.kind == STAGED:
            in_flight = self._site.uploads.get(held.path) is not None or self._is_expected(held)
            return judge_staged(held, self._known(held, in_flight=in_flight))
        entry, path = self._current.get(held.version, (None, None))
        there = entry if entry is not None and path == held.path else self._at(parse(held.path))
        if held.kind == DIRECTORY:
            return Verdict.KEEP if there is not None and there.is_dir else Verdict.UNKNOWN
        same = there is not None and not there.is_dir and (there.size, there.sha256) == (held.size, held.hash)
        return judge_file(held, self._known(held, same_here=same))

    def _at(self, path: DfsPath) -> Entry | None:
        return self._tx.tree.find(path)

    def _known(self, held: Held, same_here: bool = False, in_flight: bool = False) -> Known:
        entry, path = self._current.get(held.version, (None, None))
        if entry is not None and path is not None:
            return Known(path, entry.sha256, entry.size, same_here, False, in_flight)
        removed = entry is not None or self._tx.tree.is_tombstoned(held.version, held.hash, held.size)
        return Known(None, "", -1, same_here, removed, in_flight)

    def _act(self, held: Held, verdict: Verdict) -> None:
        """Send the order that goes with the verdict."""
        entry, path = self._current.get(held.version, (None, None))
        if verdict in CONDEMNED:
            self._order(_farewell(held))
        if verdict is Verdict.DISCARD:
            self._order((orders.drop_arrival if held.kind == ARRIVING else orders.discard)(held.path))
        if verdict is Verdict.STAMP:
            entry = self._at(parse(held.path))
            assert entry is not None
            self._order(orders.stamp(held.path, entry.version, entry.generation, entry.sha256))
            self._kept[entry.id] = entry.size
        if entry is None or path is None:
            return
        if verdict is Verdict.MOVE:
            if not held.version:
                self._order(orders.stamp(held.path, entry.version, entry.generation, entry.sha256))
            self._order(orders.move_file(held.path, path, entry.version))
        if verdict is Verdict.PUBLISH:
            self._order(orders.publish(held.path, path, entry.version, entry.generation, ""))
        if verdict in (Verdict.KEEP, Verdict.MOVE, Verdict.PUBLISH):
            self._kept[entry.id] = entry.size

    def _keep(self) -> None:
        """Write down the instances that are new to the tree."""
        present = self._tx.tree.instances_of(list(self._kept))
        new = {entry: size for entry, size in self._kept.items() if self._node.id not in present.get(entry, ())}
        self._tx.tree.add_instances(self._node.id, new)
        self._tx.on_commit(partial(self._seen.update, list(self._kept)))

    def _adopt_one(self, held: Held) -> Verdict:
        """Take something unknown into the tree, at its path or, where that is taken, beside it."""
        try:
            path = parse((held.was or f"/staged-{held.path}") if held.kind == STAGED else held.path)
        except BadPath:
            return Verdict.UNKNOWN
        if held.kind == DIRECTORY:
            there = self._at(path)
            if there is not None or self._beside(path) != path:
                return Verdict.KEEP if there is not None and there.is_dir else Verdict.UNKNOWN
            self._mkdir(path)
            return Verdict.KEEP
        if not held.hash or (held.version and held.version in self._current):
            return Verdict.UNKNOWN  # unreadable, or another copy of what was taken in a moment ago
        try:
            self._current[held.version] = self._enter(held, self._beside(path))
        except BadPath:
            return Verdict.UNKNOWN  # there is no room for a longer name
        if held.kind == STAGED:
            return Verdict.PUBLISH
        return Verdict.STAMP if self._current[held.version][1] == held.path else Verdict.MOVE

    def _beside(self, path: DfsPath) -> DfsPath:
        """`path`, but for directories of it that are files in the tree: another one beside each of those."""
        here = ROOT
        names = parts(path)
        for name in names[:-1]:
            there, ending = self._at(join(here, name)), f".restored-{self._node.name}"
            while there is not None and not there.is_dir:
                name, ending = shorten(name, ending), f".restored-{secrets.token_hex(4)}"
                there = self._at(join(here, name))
            here = join(here, name)
        return parse(join(here, names[-1]))

    def _enter(self, held: Held, path: DfsPath) -> tuple[Entry, DfsPath]:
        parent, name = split(path)
        self._mkdir(parent)
        if self._at(path) is not None:
            name = shorten(name, f".restored-{secrets.token_hex(4)}")
        written = self._tx.tree.commit_file(
            self._tx.tree.need_dir(parent).id,
            name,
            size=held.size,
            sha256=held.hash,
            version=held.version or secrets.token_hex(16),
            uploader="restoretree",
            source=self._node.name,
            copies=self._tx.tree.copies_for(self._tx.tree.need_dir(parent).id),
            holders=[],
        )
        return written.entry, join(parent, name)

    def _mkdir(self, path: DfsPath) -> None:
        """Take a directory into the tree, and have it made everywhere."""
        for made in self._tx.tree.mkdir(path, parents=True, exist_ok=True):
            for node in self._site.roster.all():
                self._tx.on_commit(partial(node.order, orders.mkdir(made)))

    def _order(self, order: orders.Order) -> None:
        self._tx.on_commit(partial(self._send, order))

    def _send(self, order: orders.Order) -> None:
        failpoints.hit("nameserver.selfcheck.before_order")
        self._node.order(order)


def _farewell(held: Held) -> orders.Order:
    if held.kind == STAGED:
        return orders.quarantine_staged(held.path)
    if held.kind == DIRECTORY:
        return orders.rmdir(held.path)
    return orders.quarantine(held.path, held.version)
