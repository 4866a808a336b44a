"""The transfer managers of a librarian, and which of them is used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from goggles.errors import Unavailable
from goggles.librarian.ledger import Record
from goggles.librarian.managers.base import Facility, Progress, Status, TransferManager

__all__ = ["Managers", "Progress", "Status", "TransferManager"]


class Managers:
    """All that this site has, by name."""

    def __init__(self, managers: Sequence[TransferManager]) -> None:
        self._managers = {manager.name: manager for manager in managers}

    def named(self, name: str) -> TransferManager:
        """Unavailable where this site does not have it (any more)."""
        if name not in self._managers:
            raise Unavailable(f"there is no transfer manager {name!r} here", "enable it, or choose others for the peer")
        return self._managers[name]

    def progress(self, batch: Record, rows: Sequence[Record]) -> Progress:
        """How far a batch under way is; nothing is known where its manager is not here any more."""
        manager = self._managers.get(batch.manager)
        return Progress() if manager is None else manager.progress(batch, rows)

    def close(self) -> None:
        for manager in self._managers.values():
            manager.close()

    def bound(self, batch: Record) -> TransferManager | None:
        """The manager that alone may go on with a batch, where there is one."""
        return self.named(batch.manager) if json.loads(batch.handle).get("bound") else None

    def ordered(
        self, preference: Sequence[str], facilities: Mapping[str, Facility], tries: int
    ) -> list[TransferManager]:
        """Those that can be used, in the order of preference; after each failed try from the one behind on, and around.
        Unavailable where there is none."""
        valid = [
            self._managers[name]
            for name in preference
            if name in self._managers and name in facilities and self._managers[name].valid(facilities[name])
        ]
        if not valid:
            ways = ", ".join(facilities) or "no way"
            raise Unavailable(
                f"none of {', '.join(preference)} leads to that storage, which offers {ways}",
                "choose other transfer managers for the peer, or set up one on both sides",
            )
        first = tries % len(valid)
        return valid[first:] + valid[:first]
