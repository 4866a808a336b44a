"""What administrators may ask over the years: storages balanced or forgotten, the quarantine seen."""

from __future__ import annotations

from goggles.contracts.records import Pairs
from goggles.nameserver.doors import Doors
from goggles.roles import Level, Role
from goggles.wire.service import exposed


class KeepingDoors(Doors):
    """What keeps a site sound, for those who run it."""

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def forget(self, name: str, lost: bool = False) -> Pairs:
        """Take a storage that is gone for good out of the site; `lost`: also where it had the only copy of files."""
        return self._owners.forgetting.forget(name, lost).to_wire()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def quarantine(self, storage: str, after: str = "", limit: int = 500) -> tuple[Pairs, ...]:
        """A page of what a storage has in quarantine, after the entry `after`; see Kept."""
        return self._owners.quarantining.listing(storage, after, limit)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def open_quarantined(self, storage: str, entry: str) -> Pairs:
        """Where one of these can be read; see Hop."""
        return self._owners.quarantining.open(storage, entry, self.caller.identity.uri).to_wire()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def balance(self, on: bool = True) -> Pairs:
        """Begin to even out how full the storages are, or (`on` False) begin no more of it; see BalanceState."""
        balancing = self._owners.balancing
        return (balancing.start() if on else balancing.stop()).to_wire()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def balance_state(self) -> Pairs:
        """How far that is, or how it ended."""
        return self._owners.balancing.state().to_wire()
