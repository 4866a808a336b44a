"""Logging in, and the administration of accounts.

Law: a log-in counts for the connection that it was made on, and never raises a level above what the role of the
certificate allows.
"""

from __future__ import annotations

from goggles.nameserver.doors import Doors
from goggles.roles import Level, Role
from goggles.wire.service import USERS, exposed


class AccountDoors(Doors):
    """What is asked about accounts."""

    @exposed(*USERS, Role.LIBRARIAN)
    def login(self, user: str, password: str) -> str:
        """From now on this connection speaks as `user`; the level that it has."""
        host = self.caller.address.rpartition(":")[0]
        level = self._owners.accounts.login(self.caller.identity, host, user, password)
        self.caller.level, self.caller.account = level, user
        return level().name

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def accounts(self) -> tuple[tuple[str, str], ...]:
        """Each account with its level."""
        return self._owners.accounts.listing()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_user(self, name: str) -> str:
        """The level of an account."""
        return self._owners.accounts.get(name).level.name

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def create_user(self, name: str, password: str, level: str) -> None:
        self._owners.accounts.create(name, password, level)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def update_user(self, name: str, password: str = "", level: str = "") -> None:
        """Another password, another level, or both."""
        self._owners.accounts.change(name, password, level)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def delete_user(self, name: str) -> None:
        self._owners.accounts.delete(name)

    @exposed(*USERS, Role.LIBRARIAN, level=Level.READONLY)
    def change_password(self, old: str, new: str) -> None:
        """Another password for the account that this connection logged in with; log in again afterwards."""
        user = self.caller.account
        host = self.caller.address.rpartition(":")[0]
        self._owners.accounts.login(self.caller.identity, host, user, old)
        self._owners.accounts.change(user, new)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def set_account(self, name: str, level: str) -> None:
        """Lower what the holder of a certificate of this name may do ('' removes the account)."""
        self._owners.accounts.set_level(name, level)
