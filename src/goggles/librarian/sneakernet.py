"""SneakerNet: a manifest says what is on a drive, the drive is carried, and the manifest is taken in elsewhere.

Law: a manifest is believed in nothing: paths, sizes and digests are checked like any input, and the bytes are read
before they become files.  The same manifest may be made, or come, any number of times.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, exists, insert, literal, select, union_all, update

from goggles import checksums
from goggles.contracts.peering import State
from goggles.contracts.records import Record
from goggles.errors import BadRequest, Conflict, NotFound
from goggles.librarian import ledger
from goggles.librarian.keeping import Keeping
from goggles.librarian.peers import PeerInfo, Peers
from goggles.meta.peering import incoming, outgoing, unavailable
from goggles.meta.tables import entries, instances
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.paths import parse

log = logging.getLogger(__name__)
N, U, O = instances.c, unavailable.c, outgoing.c  # noqa: E741 - columns
PAGE = 500
BY_HAND = "manifest"  # the place of a transfer that is carried
FORMAT = 1
MAX_SIZE = 1 << 60


@dataclass(frozen=True, slots=True)
class ManifestEntry(Record):
    """One file on a drive; times are seconds since 1970, UTC.  `instance_path` is below the drive's root."""

    name: str
    create_time: float
    size: int
    checksum: str
    uploader: str
    source: str
    instance_path: str
    deletion_policy: str = "disallowed"
    instance_create_time: float = 0.0
    instance_available: bool = True
    outgoing_transfer_id: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a manifest; `after`: where to go on, -1 at the end."""

    header: tuple[tuple[str, object], ...]
    entries: tuple[tuple[tuple[str, object], ...], ...]
    after: int


class SneakerNet:
    """Manifests out and in."""

    def __init__(self, site: Site, peers: Peers, keeping: Keeping) -> None:
        self._site = site
        self._peers = peers
        self._keeping = keeping

    # --- out -------------------------------------------------------------------------------

    def manifest(self, store: str, destination: str, disable: bool, carried: bool, after: int) -> Page:
        """What is on a storage, page by page.  With a destination each file is a transfer to that librarian from now
        on, which it ends when it has taken the manifest in."""
        node = self._site.roster.need(store)
        peer = self._peers.need(destination) if destination else None
        if disable and not after:
            self._keeping.set_enabled(store, False)
        found = self._site.decisions.run(lambda tx: self._page(tx, node, peer, carried, after))
        header = (("librarian_name", self._site.name), ("store_name", node.name), ("format", FORMAT))
        last = found[-1][0] if len(found) == PAGE else -1
        return Page(header, tuple(entry.to_wire() for _, entry in found if entry is not None), last)

    def _page(
        self, tx: Transaction, node: Node, peer: PeerInfo | None, carried: bool, after: int
    ) -> list[tuple[int, ManifestEntry | None]]:
        rows = tx.tree.tx.execute(_on_drive(node.id, peer, after)).all()
        known = {entry.id: entry for entry, _ in tx.tree.files([row.entry_id for row in rows])}
        deletable = tx.tree.deletable(list(known))
        found: list[tuple[int, ManifestEntry | None]] = []
        for number, created, there in rows:
            entry = known.get(number)
            if entry is None:
                found.append((number, None))
                continue
            told = replace(self._entry(tx, entry, created, peer, number in deletable), instance_available=bool(there))
            if carried and there:
                self._carried_away(tx, entry, node)
            found.append((number, told))
        return found

    def _entry(
        self, tx: Transaction, entry: Entry, created: float, peer: PeerInfo | None, deletable: bool
    ) -> ManifestEntry:
        path = tx.tree.path_of(entry.id) or ""
        return ManifestEntry(
            name=path,
            create_time=entry.created,
            size=entry.size,
            checksum=entry.sha256,
            uploader=entry.uploader,
            source=entry.source or self._site.name,
            instance_path=path,
            deletion_policy="allowed" if deletable else "disallowed",
            instance_create_time=created,
            outgoing_transfer_id=self._transfer(tx, entry, path, peer) if peer is not None else "",
        )

    def _transfer(self, tx: Transaction, entry: Entry, path: str, peer: PeerInfo) -> str:
        """The transfer by hand of this file to this librarian; '' where it has the file, or gets it another way."""
        connection = tx.tree.tx
        live = ledger.live_outgoing(connection, entry.id, peer.id)
        if live is not None:
            return str(live.id) if live.place == BY_HAND else ""
        if any(row.peer_id == peer.id for row in tx.tree.elsewhere([entry.id])):
            return ""
        transfer = ledger.add_outgoing(tx.tree, peer.id, entry, path)
        values = {"state": int(State.ONGOING), "place": BY_HAND}
        connection.execute(update(outgoing).where(outgoing.c.id == transfer).values(values))
        return transfer

    def _carried_away(self, tx: Transaction, entry: Entry, node: Node) -> None:
        """The copy leaves with its drive; its bytes stay where they are."""
        tx.tree.set_unavailable(entry.id, node.id)
        tx.tree.drop_instances(node.id, [entry.id])
        self._site.linked = True
        tx.on_commit(lambda: self._site.reconsider.append(entry.id))

    # --- in --------------------------------------------------------------------------------

    def stage(self, entry: ManifestEntry) -> tuple[str, str]:
        """Whether the file is here ("have") or has to be brought ("wanted"); Conflict where it can not be."""
        path = parse(entry.name)
        with self._site.look() as tree:
            there = tree.find(path)
            here = there is not None and bool(tree.instances_of([there.id]).get(there.id))
        if there is None:
            return "wanted", ""
        if there.is_dir or (there.size, there.sha256) != (entry.size, entry.checksum):
            raise Conflict(f"something else stands at {path} here", "rename or remove one of them")
        return ("have" if here else "wanted"), ""

    def complete(self, source: str, entry: ManifestEntry, caller: str) -> tuple[str, str]:
        """The file of this entry is here: it keeps where it came from, and its librarian will be told."""
        peer = self._peers.find(source)
        return self._site.decisions.run(lambda tx: self._complete_one(tx, peer, source, entry, caller))

    def _complete_one(
        self, tx: Transaction, peer: PeerInfo | None, source: str, entry: ManifestEntry, caller: str
    ) -> tuple[str, str]:
        path = parse(entry.name)
        there = tx.tree.find(path)
        if there is None or there.is_dir or (there.size, there.sha256) != (entry.size, entry.checksum):
            raise NotFound(f"{path} is not here with these bytes", "bring it first")
        holders = tx.tree.instances_of([there.id]).get(there.id, [])
        if not holders:
            raise NotFound(f"no copy of {path} is here", "bring it first")
        if there.uploader == caller and there.generation == 1:
            origin = {"uploader": entry.uploader, "source": entry.source or source, "created_at": entry.create_time}
            tx.tree.tx.execute(update(entries).where(entries.c.id == there.id).values(origin))
        if not entry.outgoing_transfer_id:
            return "done", ""
        if peer is None:
            return "done", f"librarian {source[:64]} is not known here, so it is not told"
        self._write_down(tx, peer, entry, holders[0])
        return "done", ""

    def _write_down(self, tx: Transaction, peer: PeerInfo, entry: ManifestEntry, holder: int) -> None:
        """A transfer that is over, of which its source has yet to hear."""
        known = ledger.incoming_by_remote(tx.tree.tx, peer.id, [entry.outgoing_transfer_id])
        if known:
            return
        row: dict[str, object] = {"id": ledger.new_id(), "peer_id": peer.id, "remote_id": entry.outgoing_transfer_id}
        row |= {"path": entry.name, "size": entry.size, "sha256": entry.checksum, "uploader": entry.uploader}
        row |= {"source": entry.source, "made_at": entry.create_time, "storage_id": holder, "told": False}
        row |= {"state": int(State.COMPLETED), "error": "", "created_at": tx.tree.now, "updated_at": tx.tree.now}
        tx.tree.tx.execute(insert(incoming).values(row))


def _on_drive(storage: int, peer: PeerInfo | None, after: int) -> Select[Any]:
    """(file, when its copy was made, whether it is available) of a page: what is on the storage, and what was marked as
    carried away from it and is still on its way to `peer` by hand.  So a manifest that got lost can be made again."""
    here = select(N.entry_id, N.created_at, literal(1).label("there")).where(N.storage_id == storage)
    if peer is None:
        return here.where(N.entry_id > after).order_by(N.entry_id).limit(PAGE)
    going = (O.peer_id == peer.id, O.place == BY_HAND, O.state == int(State.ONGOING))
    on_its_way = exists().where(O.entry_id == U.entry_id, *going)
    again = exists().where(N.entry_id == U.entry_id, N.storage_id == storage)
    away = select(U.entry_id, U.created_at, literal(0)).where(U.storage_id == storage, on_its_way, ~again)
    both = union_all(here, away).subquery()
    return select(both).where(both.c.entry_id > after).order_by(both.c.entry_id).limit(PAGE)


def checked(pairs: Any) -> ManifestEntry:
    """An entry of a manifest, if it makes sense: BadRequest, BadPath."""
    try:
        entry: Any = ManifestEntry.from_wire(pairs)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"that is no entry of a manifest: {error}"[:200]) from error
    texts = (entry.name, entry.uploader, entry.source, entry.instance_path, entry.outgoing_transfer_id)
    if not all(isinstance(text, str) and len(text) <= 8192 for text in texts):
        raise BadRequest("an entry of a manifest has text where it should")
    if not isinstance(entry.size, int) or not 0 <= entry.size <= MAX_SIZE:
        raise BadRequest(f"{entry.name[:200]}: a file can not have {entry.size!r:.40} bytes")
    if not isinstance(entry.checksum, str) or not checksums.is_digest(entry.checksum):
        raise BadRequest(f"{entry.name[:200]}: its checksum is not a sha256")
    if isinstance(entry.create_time, bool) or not isinstance(entry.create_time, int | float):
        raise BadRequest(f"{entry.name[:200]}: its create_time is not in seconds")
    if entry.outgoing_transfer_id and len(entry.outgoing_transfer_id) != 32:
        raise BadRequest(f"{entry.name[:200]}: its transfer's id does not have 32 digits")
    if parse(entry.name) == "/" or len(entry.uploader) > 255 or len(entry.source) > 255:
        raise BadRequest(f"{entry.name[:200]!r} can not be taken in")
    made: ManifestEntry = entry
    return made
