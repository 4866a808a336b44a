"""Copies that turned out to be no good are struck from the tree, in the decision that is under way.

Law: bad bytes are put into quarantine where they are now, never deleted; a copy that is not there makes its storage
look at all that it has.
"""

from __future__ import annotations

from goggles.contracts import orders
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site


def drop_bad(site: Site, tx: Transaction, node: Node, version: str) -> None:
    """A copy is bad: it is quarantined where it is now, and owed."""
    entry = tx.tree.by_versions([version]).get(version)
    path = None if entry is None else tx.tree.path_of(entry.id)
    if entry is not None and path is not None:
        _drop(site, tx, node, entry, orders.quarantine(path, version), "has other bytes than it should")


def drop_missing(site: Site, tx: Transaction, node: Node, path: str, version: str) -> None:
    """A copy is not there, or can not be read: it does not count, and the storage looks at all it has."""
    entry = tx.tree.by_versions([version]).get(version)
    if entry is not None and tx.tree.path_of(entry.id) == path:  # else it was renamed while it was looked for
        _drop(site, tx, node, entry, orders.recheck(), "is not there, or can not be read")


def _drop(site: Site, tx: Transaction, node: Node, entry: Entry, order: orders.Order, why: str) -> None:
    if node.id not in tx.tree.instances_of([entry.id]).get(entry.id, ()):
        return
    tx.tree.drop_instances(node.id, [entry.id])
    left = len(tx.tree.instances_of([entry.id]).get(entry.id, ()))
    if entry.copies:
        tx.tree.set_owed(entry.id, left)
    tx.tree.note_corruption(entry.id, node.name, f"the copy on {node.name} {why}")
    path, bad = tx.tree.path_of(entry.id), order[0] == "quarantine"
    how = f"had a bad copy of {path}" if bad else f"can not give its copy of {path}"

    def effect() -> None:
        site.trouble("error", "data_integrity" if bad else "data_availability", f"storage {node.name} {how}")
        if not left:
            why = f"the last copy of {path} here is lost: storage {node.name} had it"
            site.trouble("critical", "data_availability", why)
        node.lose(entry.size, order)
        site.reconsider.append(entry.id)
        site.wake_repair.set()

    tx.on_commit(effect)
