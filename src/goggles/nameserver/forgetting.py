"""A storage that died for good is taken out of the site, and its name may be used again.

Law: only one that is not connected, and its copies are struck first, piece by piece, each in the decision that writes
down what is owed for it; so it may be broken off anywhere and done again.  Its row stays, without a folder's id and
under a name that nobody can have, because what came from other sites tells of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from goggles import failpoints
from goggles.contracts.records import Record
from goggles.errors import Conflict
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import CONNECTED, Event, NodeState

log = logging.getLogger(__name__)
PAGE = 500


@dataclass(frozen=True, slots=True)
class Forgotten(Record):
    """What was on it: copies; files that had no other copy here, and how many of them other librarians hold."""

    storage: str
    copies: int
    lost: int
    elsewhere: int


class Forgetting:
    """Takes storages out of the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def forget(self, name: str, lost: bool) -> Forgotten:
        """Strike all that the storage had; Conflict while it is connected, or where it has the only copy of a file and
        `lost` does not say that these are given up."""
        node = self._site.roster.need(name)
        self._need_gone(node)
        with self._site.look() as tree:
            only, elsewhere, example = tree.only_on(node.id)
        if only and not lost:
            raise Conflict(
                f"{only} files have their only copy here on storage {name}, among them {example}",
                f"bring it back; or give them up: forget --lost {name} ({elsewhere} of them other librarians hold)",
            )
        copies = self._strike_all(node, name)
        failpoints.hit("nameserver.forget.before_take_out")
        self._site.decisions.run(partial(self._take_out, node=node, name=name))
        failpoints.hit("nameserver.forget.after_take_out")
        facts = {"facts": {"event": "storage_forgotten", "storage": name}}
        log.warning("storage %s is forgotten: %d copies, %d of them the last here", name, copies, only, extra=facts)
        return Forgotten(name, copies, only, elsewhere)

    def _need_gone(self, node: Node) -> None:
        if node.state in CONNECTED:
            raise Conflict(f"storage {node.name} is {node.state}", f"drain it, then stop it; then forget {node.name}")

    def _strike_all(self, node: Node, name: str) -> int:
        copies, page = 0, PAGE
        while page == PAGE:
            page = self._site.decisions.run(partial(self._strike, node=node, name=name))
            copies += page
            failpoints.hit("nameserver.forget.after_page")
            self._site.wake_repair.set()
        return copies

    def _strike(self, tx: Transaction, node: Node, name: str) -> int:
        """A page of its copies; how many."""
        self._need_gone(node)
        tx.tree.set_counted(node.id, False)
        page = tx.tree.instances_on(node.id, 0, PAGE)
        tx.tree.drop_instances(node.id, page)
        left = tx.tree.instances_of(page)
        for entry in page:
            tx.tree.set_owed(entry, len(left.get(entry, ())))
            if entry not in left and tx.tree.path_of(entry) is not None:
                tx.tree.note_corruption(entry, name, f"the last copy here was on storage {name}, which was given up")
        tx.on_commit(partial(self._struck, node, page))
        return len(page)

    def _struck(self, node: Node, page: list[int]) -> None:
        if node.state is NodeState.GRACE:
            node.move(Event.EXPIRE, self._site.clock.now(), self._site.clock.monotonic())
        self._site.reconsider.extend(page)

    def _take_out(self, tx: Transaction, node: Node, name: str) -> None:
        self._need_gone(node)
        gone = f"{name[:40]} (forgotten {node.id})"
        tx.tree.retire_storage(node.id, gone)
        tx.on_commit(lambda: self._site.roster.forget(node, gone))
