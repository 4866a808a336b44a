"""What administrators may ask of a librarian.

Law: as with all doors, only the shape of what comes is checked here.
"""

from __future__ import annotations

from goggles.contracts.records import Pairs, Value
from goggles.errors import GogglesError
from goggles.librarian.doors import Desks, PeerDoors
from goggles.librarian.peers import PeerInfo
from goggles.librarian.tasks import Tasks
from goggles.nameserver.doors import Owners
from goggles.roles import Level, Role
from goggles.wire.service import Caller, exposed


class AdminDoors(PeerDoors):
    """The doors for administrators."""

    def __init__(self, caller: Caller, owners: Owners, desks: Desks, tasks: Tasks) -> None:
        super().__init__(caller, owners, desks)
        self._tasks = tasks

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_librarian_list(self, ping: bool = False) -> tuple[Pairs, ...]:
        """All peers; with `ping` also whether each answers now, and if not, why."""
        return tuple(self._told(peer, ping) for peer in self._desks.peers.all())

    def _told(self, peer: PeerInfo, ping: bool) -> Pairs:
        known: dict[str, Value] = {"name": peer.name, "url": peer.url, "port": peer.port, "enabled": peer.enabled}
        known |= {"managers": ",".join(peer.managers), "certificate_name": peer.certificate_name}
        known |= {"last_seen": peer.last_seen, "last_heard": peer.last_heard}
        if ping:
            try:
                self._desks.peers.ping(peer)
                known |= {"available": True, "why_not": "", "last_seen": self._owners.site.clock.now()}
            except GogglesError as error:
                known |= {"available": False, "why_not": str(error)}
        return tuple(known.items())

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def add_librarian(
        self,
        name: str,
        url: str,
        port: int,
        authenticator: str,
        check_connection: bool = True,
        certificate_name: str = "",
        managers: tuple[str, ...] = (),
    ) -> None:
        """Make another librarian known; with `check_connection` only if it lets us in with that password."""
        peers = self._desks.peers
        if check_connection:
            peers.ping(peers.draft(name, url, port, authenticator, certificate_name, managers))
        peers.add(name, url, port, authenticator, certificate_name, managers, seen=check_connection)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def remove_librarian(self, name: str, remove_outgoing_transfers: bool = False) -> int:
        """Forget a peer; how many outgoing transfers went with it."""
        return self._desks.peers.remove(name, remove_outgoing_transfers)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def set_librarian_transfer(self, name: str, enabled: bool) -> None:
        """Whether files are pushed to a peer."""
        self._desks.peers.set_enabled(name, enabled)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def run_task(self, name: str) -> int:
        """Run a background task now; how much it did."""
        return self._tasks.run(name)
