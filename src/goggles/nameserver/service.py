"""The methods that a nameserver exposes, each with those who may call it."""

from __future__ import annotations

from goggles.nameserver.accountdoors import AccountDoors
from goggles.nameserver.doors import Owners
from goggles.nameserver.keepingdoors import KeepingDoors
from goggles.nameserver.storagedoors import StorageDoors
from goggles.nameserver.userdoors import UserDoors

__all__ = ["NameserverService", "Owners"]


class NameserverService(StorageDoors, AccountDoors, UserDoors, KeepingDoors):
    """All doors of a nameserver; which of them open depends on the caller."""
