"""What is over in the database goes: removed trees, old tombstones, old receipts.

Law: in pieces, each a short decision.
"""

from __future__ import annotations

from goggles.nameserver.decisions import Transaction
from goggles.nameserver.site import Site

PIECE = 500
EVERY = 600.0  # seconds
KEEP_TOMBSTONES = 30 * 86_400.0
KEEP_RECEIPTS = 86_400.0


class Housekeeping:
    """`step` now and then; one thread does so."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._due = 0.0

    def step(self) -> bool:
        """A piece of the trash; old tombstones and receipts now and then.  True where there is more trash."""
        site, now = self._site, self._site.clock.monotonic()
        dropped = site.decisions.run(self._purge, changes=False) if site.has_trash else 0
        if now >= self._due:
            self._due = now + EVERY
            wall = site.clock.now()
            site.decisions.run(lambda tx: tx.tree.prune_tombstones(wall - KEEP_TOMBSTONES))
            site.decisions.run(lambda tx: tx.tree.prune_receipts(wall - KEEP_RECEIPTS))
        return bool(dropped)

    def _purge(self, tx: Transaction) -> int:
        purged = tx.tree.purge_trash(PIECE)

        def effect() -> None:
            for storage, (files, size) in purged.freed.items():
                node = self._site.roster.get(storage)
                node.files, node.used = node.files - files, node.used - size
            self._site.has_trash = purged.rows > 0

        tx.on_commit(effect)
        return purged.rows
