"""The rows of transfers, read and written within one transaction.

Law: nothing here decides what may happen next; `states` does, and `move_outgoing` and `move_incoming` ask it.  While an
outgoing transfer lives its file is shared, so that its path and its bytes stay as they were offered.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update

from goggles.contracts.peering import Offer, Place, State
from goggles.librarian.states import LIVE, Event, advance
from goggles.meta.peering import incoming, outgoing, remote_instances, send_queue
from goggles.meta.tables import entries, instances
from goggles.nameserver.tree import Tree

O, I, Q = outgoing.c, incoming.c, send_queue.c  # noqa: E741 - columns
LIVE_NUMBERS = sorted(int(state) for state in LIVE)
WAITING, SENT, DONE, FAILED = "waiting", "sent", "done", "failed"  # states of a batch
Record: TypeAlias = Any  # a row of one of the tables


# --- what is to be sent ----------------------------------------------------------------------


def unsent(
    connection: Connection, peer: int, after: int, since: float, refused: float, limit: int, storage: int | None = None
) -> list[Record]:
    """Files with ids above `after` that this peer neither has nor gets, nor has refused since `refused`; changed at or
    after `since`; with a copy here, where a storage is given there."""
    there = exists().where(remote_instances.c.entry_id == entries.c.id, remote_instances.c.peer_id == peer)
    on_its_way = exists().where(
        O.entry_id == entries.c.id,
        O.peer_id == peer,
        or_(O.state.in_(LIVE_NUMBERS), and_(O.state == int(State.FAILED), O.updated_at > refused)),
    )
    here = exists().where(instances.c.entry_id == entries.c.id)
    if storage is not None:
        here = here.where(instances.c.storage_id == storage)
    query = (
        select(entries)
        .where(entries.c.id > after, entries.c.kind == "f", entries.c.modified_at >= since, ~there, ~on_its_way, here)
        .order_by(entries.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def add_outgoing(tree: Tree, peer: int, row: Record, path: str) -> str:
    """Write down that a file goes to a peer; the transfer's id."""
    transfer = new_id()
    values = {"id": transfer, "peer_id": peer, "entry_id": row.id, "path": path, "version": row.version}
    values |= {"size": row.size, "sha256": row.sha256, "state": int(State.INITIATED), "remote_id": "", "place": ""}
    values |= {"batch_id": "", "error": "", "created_at": tree.now, "updated_at": tree.now}
    tree.tx.execute(insert(outgoing).values(values))
    tree.share(row.id)
    return transfer


def unanswered(connection: Connection, peer: int, limit: int) -> list[Record]:
    """Transfers that were offered, or meant to be, and have no answer yet."""
    query = select(outgoing).where(O.peer_id == peer, O.state == int(State.INITIATED), O.remote_id == "")
    return list(connection.execute(query.order_by(O.created_at).limit(limit)).all())


def live_outgoing(connection: Connection, entry: int, peer: int) -> Record | None:
    """The transfer of this file to this peer that is under way, if there is one."""
    query = select(outgoing).where(O.entry_id == entry, O.peer_id == peer, O.state.in_(LIVE_NUMBERS)).limit(1)
    return connection.execute(query).first()


def new_id() -> str:
    """For a transfer or a batch."""
    return secrets.token_hex(16)


def offer_of(connection: Connection, row: Record) -> Offer:
    """What is said of a file to the peer that it is offered to."""
    entry = connection.execute(select(entries).where(entries.c.id == row.entry_id)).first()
    if entry is None:
        return Offer(row.id, row.path, row.size, row.sha256, "", "", row.created_at)
    return Offer(row.id, row.path, row.size, row.sha256, entry.uploader, entry.source, entry.created_at)


def placed(connection: Connection, transfer: str, answer: Place, batch: str, now: float) -> None:
    values = {"remote_id": answer.id, "place": answer.place, "batch_id": batch, "updated_at": now}
    connection.execute(update(outgoing).where(O.id == transfer).values(values))


def outgoing_rows(connection: Connection, ids: Sequence[str]) -> dict[str, Record]:
    rows = connection.execute(select(outgoing).where(O.id.in_(list(ids)))).all() if ids else []
    return {row.id: row for row in rows}


def move_outgoing(tree: Tree, row: Record, event: Event, error: str = "") -> State:
    """Apply an event to our side of a transfer; Conflict where it is illegal."""
    before, after = State(row.state), advance(State(row.state), event)
    if after is not before or error:
        values = {"state": int(after), "updated_at": tree.now, "error": error[:1000]}
        tree.tx.execute(update(outgoing).where(O.id == row.id).values(values))
    if before in LIVE and after not in LIVE:
        tree.unshare(row.entry_id)
    return after


def old_outgoing(
    connection: Connection, peer: int, state: State, before: float, after: str, limit: int
) -> list[Record]:
    """Transfers in this state that a peer has answered and that have not moved since, by its ids above `after`."""
    query = select(outgoing).where(
        O.peer_id == peer, O.state == int(state), O.remote_id > after, O.updated_at <= before
    )
    return list(connection.execute(query.order_by(O.remote_id).limit(limit)).all())


# --- the send queue --------------------------------------------------------------------------


def add_batch(connection: Connection, peer: int, store: str, facilities: str, priority: int, now: float) -> str:
    batch = new_id()
    row = {"id": batch, "peer_id": peer, "store": store, "facilities": facilities, "manager": "", "handle": "{}"}
    row |= {"state": WAITING, "priority": priority, "tries": 0, "not_before": 0.0, "created_at": now, "updated_at": now}
    connection.execute(insert(send_queue).values(row))
    return batch


def batches(connection: Connection, state: str, peer: int, now: float, limit: int) -> list[Record]:
    """Batches of a peer in this state whose time has come, the most urgent first."""
    query = select(send_queue).where(Q.state == state, Q.peer_id == peer, Q.not_before <= now)
    return list(connection.execute(query.order_by(Q.priority.desc(), Q.created_at).limit(limit)).all())


def batch(connection: Connection, number: str) -> Record | None:
    """A batch as it is now."""
    return connection.execute(select(send_queue).where(Q.id == number)).first()


def cut_batch(connection: Connection, batch: Record, rows: Sequence[Record], now: float) -> None:
    """Put these transfers of a batch into one of their own, that waits."""
    made = add_batch(connection, batch.peer_id, batch.store, batch.facilities, batch.priority, now)
    set_batch(connection, made, now, tries=batch.tries)
    connection.execute(update(outgoing).where(O.id.in_([row.id for row in rows])).values(batch_id=made))


def in_flight(connection: Connection, peer: int) -> int:
    query = select(func.count()).select_from(send_queue).where(Q.state == SENT, Q.peer_id == peer)
    return int(connection.execute(query).scalar() or 0)


def set_batch(connection: Connection, batch: str, now: float, **values: Any) -> None:
    connection.execute(update(send_queue).where(Q.id == batch).values(updated_at=now, **values))


def of_batch(connection: Connection, batch: str) -> list[Record]:
    return list(connection.execute(select(outgoing).where(O.batch_id == batch).order_by(O.id)).all())


# --- what comes ------------------------------------------------------------------------------


def incoming_by_remote(connection: Connection, peer: int, remote_ids: Sequence[str]) -> dict[str, Record]:
    query = select(incoming).where(I.peer_id == peer, I.remote_id.in_(list(remote_ids)))
    return {row.remote_id: row for row in connection.execute(query).all()} if remote_ids else {}


def incoming_rows(connection: Connection, ids: Sequence[str]) -> dict[str, Record]:
    rows = connection.execute(select(incoming).where(I.id.in_(list(ids)))).all() if ids else []
    return {row.id: row for row in rows}


def coming_to(connection: Connection, path: str) -> Record | None:
    """A live transfer that will be a file at this path."""
    query = select(incoming).where(I.path == path, I.state.in_(LIVE_NUMBERS)).limit(1)
    return connection.execute(query).first()


def add_incoming(tree: Tree, peer: int, offer: Offer, storage: int) -> str:
    arrival = new_id()
    row = {"id": arrival, "peer_id": peer, "remote_id": offer.id, "path": offer.path, "size": offer.size}
    row |= {"sha256": offer.sha256, "uploader": offer.uploader[:255], "source": offer.source[:255]}
    row |= {"made_at": offer.made_at, "storage_id": storage, "state": int(State.INITIATED), "told": False}
    row |= {"error": "", "created_at": tree.now, "updated_at": tree.now}
    tree.tx.execute(insert(incoming).values(row))
    return arrival


def move_incoming(tree: Tree, row: Record, event: Event, error: str = "") -> State:
    """Apply an event to our side of a transfer; Conflict where it is illegal."""
    before, after = State(row.state), advance(State(row.state), event)
    if after is not before or error:
        values = {"state": int(after), "updated_at": tree.now, "error": error[:1000]}
        tree.tx.execute(update(incoming).where(I.id == row.id).values(values))
    return after


def redirect(tree: Tree, row: Record, storage: int) -> None:
    """A transfer that has not begun goes to another storage."""
    tree.tx.execute(update(incoming).where(I.id == row.id).values(storage_id=storage, updated_at=tree.now))


def staged(connection: Connection, storages: Sequence[int], limit: int) -> list[Record]:
    """Transfers whose bytes wait on one of these storages to be read, the oldest first."""
    query = select(incoming).where(I.state == int(State.STAGED), I.storage_id.in_(list(storages)))
    return list(connection.execute(query.order_by(I.updated_at).limit(limit)).all())


def untold(connection: Connection, peer: int, limit: int) -> list[Record]:
    """Transfers that are over here, and whose source has not been told."""
    over = [int(state) for state in State if state not in LIVE]
    query = select(incoming).where(I.told.is_(False), I.peer_id == peer, I.state.in_(over))
    return list(connection.execute(query.order_by(I.updated_at).limit(limit)).all())


def set_told(connection: Connection, ids: Sequence[str]) -> None:
    if ids:
        connection.execute(update(incoming).where(I.id.in_(list(ids))).values(told=True))


def live_incoming(connection: Connection, peer: int | None = None) -> list[Record]:
    """What is on its way here, from one peer or from all."""
    query = select(I.id, I.size, I.storage_id).where(I.state.in_(LIVE_NUMBERS))
    return list(connection.execute(query if peer is None else query.where(I.peer_id == peer)).all())


def old_incoming(
    connection: Connection, peer: int, state: State, before: float, after: str, limit: int
) -> list[Record]:
    """Transfers from a peer in this state that have not moved since, by our ids above `after`."""
    query = select(incoming).where(I.peer_id == peer, I.state == int(state), I.id > after, I.updated_at <= before)
    return list(connection.execute(query.order_by(I.id).limit(limit)).all())
