"""Transfers that have been over for long are forgotten, on either side, a page at a time.

Law: only rows that nothing changes any more go: what lives stays, and so does what its source has yet to be told.
Whoever asks for one that is gone hears that it is not known, which ends what it has of it; whoever offers it again is
told that the file is there.  What was refused is remembered for as long as it is not offered again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Select, Table, delete, exists, select

from goggles.librarian.ledger import DONE, FAILED
from goggles.librarian.states import OVER
from goggles.meta.peering import incoming, outgoing, send_queue
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.site import Site

PAGE = 500
O, I, Q = outgoing.c, incoming.c, send_queue.c  # noqa: E741 - columns
ENDED = sorted(int(state) for state in OVER)


class Purging:
    """Forgets.  `offer_again`: seconds for which a refusal counts."""

    def __init__(self, site: Site, offer_again: float) -> None:
        self._site = site
        self._offer_again = offer_again

    def purge(self, age: float, over: Callable[[], bool]) -> int:
        """Forget what has been over for `age` seconds; how many transfers and batches."""
        now = self._site.clock.now()
        before = now - age
        sent = select(O.id).where(O.state.in_(ENDED), O.updated_at < min(before, now - self._offer_again))
        came = select(I.id).where(I.state.in_(ENDED), I.told, I.updated_at < before)
        in_use = exists().where(O.batch_id == Q.id)
        queued = select(Q.id).where(Q.state.in_((DONE, FAILED)), Q.updated_at < before, ~in_use)
        return sum(
            self._pages(table, query, over)
            for table, query in ((outgoing, sent), (incoming, came), (send_queue, queued))
        )

    def _pages(self, table: Table, query: Select[Any], over: Callable[[], bool]) -> int:
        count = 0
        while not over():
            with self._site.database.read() as connection:
                ids = connection.execute(query.limit(PAGE)).scalars().all()

            if ids:
                self._site.decisions.run(partial(_drop, table=table, ids=ids))
            count += len(ids)
            if len(ids) < PAGE:
                break
        return count


def _drop(tx: Transaction, table: Table, ids: Sequence[str]) -> None:
    tx.tree.tx.execute(delete(table).where(table.c.id.in_(ids)))
