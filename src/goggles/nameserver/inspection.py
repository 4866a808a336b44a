"""A batch of a self-check against the tree: what is known of each thing, the verdict, and the orders.

Law: one transaction a batch; the verdicts are `judging`'s, this module only looks up and carries out.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from goggles.contracts import orders
from goggles.contracts.orders import ARRIVING, DIRECTORY, FILE, STAGED, Held
from goggles.errors import BadPath
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.judging import CONDEMNED, IdSet, Known, Verdict, judge_file, judge_staged
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.paths import DfsPath, join, parse, split


class Inspector:
    """Looks at what `node` holds, within one decision."""

    def __init__(self, site: Site, tx: Transaction, node: Node, seen: IdSet, adopt: bool) -> None:
        self._site = site
        self._tx = tx
        self._node = node
        self._seen = seen
        self._adopt = adopt
        self._current: dict[str, tuple[Entry, DfsPath | None]] = {}

    def inspect(self, batch: Sequence[Held]) -> list[Verdict]:
        """The verdict on each; all but the condemned are acted on at once."""
        self._look_up(batch)
        verdicts = [self._judge(held) for held in batch]
        kept: dict[int, int] = {}
        for place, (held, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is Verdict.UNKNOWN and self._adopt and held.kind in (FILE, DIRECTORY):
                verdicts[place] = verdict = self._adopt_one(held)
            entry = self._act(held, verdict)
            if entry is not None:
                kept[entry.id] = entry.size
        self._keep(kept)
        return verdicts

    def condemn(self, batch: Sequence[Held]) -> None:
        """Quarantine those that are still condemned."""
        self._look_up(batch)
        for held in batch:
            if self._judge(held) in CONDEMNED:
                self._order(_farewell(held))

    def _look_up(self, batch: Sequence[Held]) -> None:
        entries = self._tx.tree.by_versions([held.version for held in batch if held.version])
        self._current = {version: (entry, self._tx.tree.path_of(entry.id)) for version, entry in entries.items()}

    def _judge(self, held: Held) -> Verdict:
        if held.kind == ARRIVING:
            return Verdict.LEAVE if self._site.expected(held.path) else Verdict.DISCARD
        if held.kind == STAGED:
            in_flight = self._site.uploads.get(held.path) is not None or self._site.expected(held.path)
            return judge_staged(held, self._known(held, in_flight=in_flight))
        path = parse(held.path)
        there = self._at(path)
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

    def _act(self, held: Held, verdict: Verdict) -> Entry | None:
        """Send the order that goes with the verdict; the entry that this storage holds a copy of, if any."""
        entry, path = self._current.get(held.version, (None, None))
        if verdict is Verdict.DISCARD:
            self._order((orders.drop_arrival if held.kind == ARRIVING else orders.discard)(held.path))
        if verdict is Verdict.STAMP:
            entry = self._at(parse(held.path))
            assert entry is not None
            self._order(orders.stamp(held.path, entry.version, entry.generation, entry.sha256))
            return entry
        if entry is None or path is None:
            return None
        if verdict is Verdict.MOVE:
            if not held.version:
                self._order(orders.stamp(held.path, entry.version, entry.generation, entry.sha256))
            self._order(orders.move_file(held.path, path, entry.version))
        if verdict is Verdict.PUBLISH:
            self._order(orders.publish(held.path, path, entry.version, entry.generation, ""))
        return entry if verdict in (Verdict.KEEP, Verdict.MOVE, Verdict.PUBLISH) else None

    def _keep(self, kept: dict[int, int]) -> None:
        """Write down the instances that are new to the tree."""
        present = self._tx.tree.instances_of(list(kept))
        new = {entry: size for entry, size in kept.items() if self._node.id not in present.get(entry, ())}
        self._tx.tree.add_instances(self._node.id, new)
        self._tx.on_commit(partial(self._seen.update, list(kept)))

    def _adopt_one(self, held: Held) -> Verdict:
        """Take something unknown into the tree, at its path or, where that is taken, beside it."""
        try:
            path = parse(held.path)
        except BadPath:
            return Verdict.UNKNOWN
        if held.kind == DIRECTORY:
            if self._at(path) is None:
                self._tx.tree.mkdir(path, parents=True, exist_ok=True)
            return Verdict.KEEP
        if not held.hash or (held.version and held.version in self._current):
            return Verdict.UNKNOWN  # unreadable, or another copy of what was taken in a moment ago
        self._current[held.version] = self._enter(held, path)
        return Verdict.STAMP if self._current[held.version][1] == held.path else Verdict.MOVE

    def _enter(self, held: Held, path: DfsPath) -> tuple[Entry, DfsPath]:
        parent, name = split(path)
        self._tx.tree.mkdir(parent, parents=True, exist_ok=True)
        if self._at(path) is not None:
            name = f"{name[:180]}.restored-{secrets.token_hex(4)}"
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

    def _order(self, order: orders.Order) -> None:
        self._tx.on_commit(partial(self._node.order, order))


def _farewell(held: Held) -> orders.Order:
    if held.kind == STAGED:
        return orders.quarantine_staged(held.path)
    if held.kind == DIRECTORY:
        return orders.rmdir(held.path)
    return orders.quarantine(held.path, held.version)
