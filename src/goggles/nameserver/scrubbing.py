"""What storages say they read of their own accord, against the tree.

Law: what differs is suspected, no more: the storage reads that copy once more, and what comes of it is decided as for a
copy that a reader complained of (`verifying`).  What a whole round did not come by is looked for likewise.  What the
tree does not have (any more) is the self-check's business.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum

from goggles.contracts.orders import Held, ScrubState
from goggles.errors import GogglesError, Stale
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.nameserver.tree import Tree
from goggles.nameserver.verifying import Verifying
from goggles.paths import DfsPath, parse

log = logging.getLogger(__name__)
ASKED = 1000  # copies that are asked for after a round; one that is gone makes the storage look at all that it has


class Finding(StrEnum):
    GOOD = "good"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"  # not in the tree, or not on this storage as the tree has it


def judge(held: Held, entry: Entry | None, is_here: bool) -> Finding:
    """What a file that was read means.  `entry`: the file of the tree that it should be."""
    if entry is None or not is_here:
        return Finding.UNKNOWN
    same = (held.size, held.hash) == (entry.size, entry.sha256)
    return Finding.GOOD if same else Finding.SUSPECT


class Scrubbing:
    """The nameserver's side of every storage's scrub."""

    def __init__(self, site: Site, verifying: Verifying) -> None:
        self._site = site
        self._verifying = verifying

    def told(self, session: str, batch: Sequence[Held], state: ScrubState) -> tuple[int, ...]:
        """The places in `batch` of what is not what it should be; Stale where this session is over."""
        node = self._site.roster.by_session(session)
        if node is None or node.state not in READABLE:
            raise Stale("this session of the storage is over, or has not begun", "it goes on after the self-check")
        before, node.scrub = node.scrub, state
        if before.began == state.began and before.ended < state.began <= state.ended:
            self._ask_for_unread(node, state.ended - state.began)
        if not batch:
            return ()
        with self._site.look() as tree:
            files = _files(tree, batch)
            holders = tree.instances_of([entry.id for entry in files if entry is not None])
            found = [
                judge(held, entry, entry is not None and node.id in holders.get(entry.id, ()))
                for held, entry in zip(batch, files, strict=True)
            ]
        good = [entry.id for entry, one in zip(files, found, strict=True) if one is Finding.GOOD and entry is not None]
        self._site.decisions.run(lambda tx: _mark(tx, good, node.id), changes=False)
        wrong = tuple(place for place, one in enumerate(found) if one is Finding.SUSPECT)
        for place in wrong:
            entry, path = files[place], DfsPath(batch[place].path)
            log.error(
                "storage %s read its copy of %s, and it is not what it should be",
                node.name,
                path,
                extra={"facts": {"event": "scrub_suspects", "path": path, "storage": node.name}},
            )
            if entry is not None:
                self._verifying.suspect(node, path, entry.version)
        return wrong

    def _ask_for_unread(self, node: Node, seconds: float) -> None:
        """Have the copies looked for that a round of so many seconds, which is over now, did not come by."""
        with self._site.look() as tree:
            unread = tree.unread_on(node.id, tree.now - seconds, ASKED)
            placed = [(tree.path_of(entry), version) for entry, version in unread]
        for path, version in placed:
            if path is not None:
                self._verifying.suspect(node, path, version)


def _files(tree: Tree, batch: Sequence[Held]) -> list[Entry | None]:
    """The file of the tree that each should be: by its version; by its path where there is no note of that."""
    known = tree.by_versions([held.version for held in batch if held.version])
    return [known.get(held.version) if held.version else _at(tree, held.path) for held in batch]


def _at(tree: Tree, path: str) -> Entry | None:
    try:
        entry = tree.find(parse(path))
    except GogglesError:
        return None
    return None if entry is None or entry.is_dir else entry


def _mark(tx: Transaction, good: Sequence[int], storage: int) -> None:
    for entry in good:
        tx.tree.set_verified(entry, storage)
