"""What goes with a peer that is removed: its transfers, and what it was known to hold.

Law: called within a decision; whoever forgets a peer forgets all of it.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from goggles.contracts.peering import State
from goggles.errors import Conflict
from goggles.librarian.states import LIVE
from goggles.meta.peering import incoming, outgoing, peers, remote_instances, send_queue
from goggles.nameserver.decisions import Transaction


def forget(tx: Transaction, peer: int, name: str, with_transfers: bool) -> int:
    """How many outgoing transfers went with it; Conflict where transfers are under way and may not."""
    connection = tx.tree.tx
    if not with_transfers and _live(connection, peer):
        raise Conflict(f"transfers to or from {name} are under way", "--remove-outgoing-transfers removes them with it")
    theirs = select(remote_instances.c.entry_id).where(remote_instances.c.peer_id == peer)
    for entry in set(connection.execute(theirs).scalars()):
        tx.tree.drop_elsewhere(entry, peer)
    sending = select(outgoing.c.entry_id).where(outgoing.c.peer_id == peer, outgoing.c.state.in_(_numbers()))
    for entry in list(connection.execute(sending).scalars()):
        tx.tree.unshare(entry)
    count = 0
    for table in (outgoing, incoming, send_queue):
        gone = connection.execute(delete(table).where(table.c.peer_id == peer)).rowcount
        count += gone if table is outgoing else 0
    connection.execute(delete(peers).where(peers.c.id == peer))
    return count


def _live(connection: Connection, peer: int) -> bool:
    for table in (outgoing, incoming):
        rows = select(table.c.id).where(table.c.peer_id == peer, table.c.state.in_(_numbers())).limit(1)
        if connection.execute(rows).first() is not None:
            return True
    return False


def _numbers() -> list[int]:
    return [int(state) for state in State if state in LIVE]
