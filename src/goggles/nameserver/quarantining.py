"""What storages have in quarantine, for administrators to look at and to fetch.

Law: the nameserver asks the storage and passes on what it says; the bytes go from the storage to whoever may have them,
with a grant for that one entry.  Nothing comes back into the tree from there but by an upload.
"""

from __future__ import annotations

from goggles.contracts.data import Hop
from goggles.contracts.grants import QUARANTINED
from goggles.contracts.orders import Kept
from goggles.contracts.records import Pairs
from goggles.errors import ProtocolError, Unavailable
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import CONNECTED
from goggles.paths import parse
from goggles.roles import Role


class Quarantining:
    """Looks into the quarantine of storages."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def listing(self, storage: str, after: str, limit: int) -> tuple[Pairs, ...]:
        """A page, see Kept; Unavailable where the storage is away."""
        node = self._need(storage)
        peer = self._site.dialer.rpc(node.address, Role.STORAGE, node.name)
        try:
            told = peer.call("quarantined", after, limit)
        finally:
            peer.close()
        try:
            return tuple(Kept.from_wire(one).to_wire() for one in told)
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"storage {storage} does not say what it has in quarantine: {error}") from error

    def open(self, storage: str, entry: str, holder: str) -> Hop:
        """Where, and with what grant, `holder` may read this entry."""
        node = self._need(storage)
        path = parse("/" + entry)[1:]
        grant = self._site.grant(QUARANTINED, "", path, 0, node, holder)
        return Hop(node.name, node.address.host, node.address.port, grant, 0)

    def _need(self, storage: str) -> Node:
        node = self._site.roster.need(storage)
        if node.state not in CONNECTED:
            raise Unavailable(f"storage {storage} is {node.state}", "its quarantine can be seen when it is back")
        return node
