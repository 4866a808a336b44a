"""Who may do how much: accounts lower what the role of a certificate allows.

Law: no account means the role's default; an account can take away, never give.  Read on every call, so kept in
memory; the database has it first.
"""

from __future__ import annotations

from goggles.errors import BadRequest, PermissionDenied
from goggles.nameserver.site import Site
from goggles.pki.identity import NAME, Identity
from goggles.roles import Level, effective


class Accounts:
    """The accounts of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        with site.look() as tree:
            self._levels = {name: Level(level) for name, level in tree.accounts()}

    def level(self, identity: Identity) -> Level:
        """What this principal may do now."""
        return effective(identity.role, self._levels.get(identity.name))

    def need(self, identity: Identity, level: Level) -> Level:
        """The level of the principal, or PermissionDenied where it is below `level`."""
        has = self.level(identity)
        if has < level:
            raise PermissionDenied(f"{identity} needs level {level.name}", f"the account has {has.name}")
        return has

    def listing(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((name, level.name) for name, level in self._levels.items()))

    def set_level(self, name: str, level: str) -> None:
        """Set or, with '', remove an account."""
        if not NAME.match(name):
            raise BadRequest(f"{name[:80]!r} is not a name that a certificate can have")
        if level and level not in Level.__members__:
            raise BadRequest(f"{level[:40]!r} is not a level", "levels: " + " ".join(Level.__members__))
        number = Level[level] if level else None
        self._site.decisions.run(lambda tx: tx.tree.set_account(name, number))
        if number is None:
            self._levels.pop(name, None)
        else:
            self._levels[name] = number
