"""Who may do what: roles come from certificates, levels from accounts.

Law: a role gives a ceiling and a default; an account of the same name can only lower it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Role(StrEnum):
    """What a certificate says its holder is."""

    NAMESERVER = "nameserver"
    STORAGE = "storage"
    CLIENT = "client"
    ADMIN = "admin"
    LIBRARIAN = "librarian"


class Level(IntEnum):
    """How much a principal may do; each level includes those below it."""

    NONE = 0
    READONLY = 1
    CALLBACK = 2
    READAPPEND = 3
    READWRITE = 4
    ADMIN = 100


CEILING: dict[Role, Level] = {
    Role.NAMESERVER: Level.NONE,
    Role.STORAGE: Level.NONE,
    Role.CLIENT: Level.READWRITE,
    Role.ADMIN: Level.ADMIN,
    Role.LIBRARIAN: Level.READAPPEND,
}
DEFAULT: dict[Role, Level] = {**CEILING, Role.LIBRARIAN: Level.NONE}


def effective(role: Role, account: Level | None) -> Level:
    """The level of a principal of this role whose account (if any) says `account`."""
    return DEFAULT[role] if account is None else min(account, CEILING[role])
