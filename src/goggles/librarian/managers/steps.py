"""The steps of a start that all managers share: who holds the files, and telling the destination that they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goggles.errors import Unavailable
from goggles.librarian import answers
from goggles.librarian.ledger import Record
from goggles.librarian.peers import PeerInfo, Peers
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import NodeState


def holders(site: Site, rows: Sequence[Record]) -> dict[str, list[Node]]:
    """For each transfer the storages that are up and hold the file; Unavailable where there is none."""
    with site.look() as tree:
        known = tree.instances_of([row.entry_id for row in rows])
    found: dict[str, list[Node]] = {}
    for row in rows:
        nodes = [site.roster.get(holder) for holder in known.get(row.entry_id, [])]
        found[row.id] = [node for node in nodes if node.state is NodeState.ACTIVE]
        if not found[row.id]:
            raise Unavailable(f"no storage that is up holds {row.path}", "it is sent when one is back")
    return found


def begin(site: Site, peers: Peers, peer: PeerInfo, items: Sequence[tuple[Record, Node]]) -> dict[str, Any]:
    """Tell the destination that it begins; for each transfer a grant for its sender, or an error."""
    asked = tuple((row.remote_id, site.storage_uri(node)) for row, node in items)
    told = answers.items(peer.name, peers.call(peer, "open_push", asked), len(items))
    return {row.id: answers.ticket(answer) for (row, _), answer in zip(items, told, strict=True)}


def joined(root: object, place: str) -> str:
    """A place below a root, as a path without empty parts."""
    return "/" + "/".join(part for part in f"{root}/{place}".split("/") if part)
