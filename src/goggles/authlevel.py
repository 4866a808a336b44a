"""The levels of accounts, as scripts for librarians name them.

Law: names and numbers are those of `goggles.roles.Level`.
"""

from __future__ import annotations

from enum import Enum

from goggles.roles import Level


class AuthLevel(Enum):
    """How much an account may do; each level includes those below it."""

    NONE = Level.NONE.value
    READONLY = Level.READONLY.value
    CALLBACK = Level.CALLBACK.value
    READAPPEND = Level.READAPPEND.value
    READWRITE = Level.READWRITE.value
    ADMIN = Level.ADMIN.value
