"""Who may do how much: accounts lower what the role of a certificate allows, and let librarians in.

Law: no account means the role's default; an account can take away, never give more than the role's ceiling.  Who logs
in with a password has that account's level, within the ceiling of the certificate, for as long as the account and its
password stay as they are.  There is always an administrator left.  Read on every call, so kept in memory; the database
has it first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from goggles import failpoints
from goggles.errors import AlreadyExists, BadRequest, Conflict, NotFound, PermissionDenied
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.passwords import Passwords, check_form, invent
from goggles.nameserver.site import Site
from goggles.nameserver.tree import Tree
from goggles.pki.identity import NAME, Identity
from goggles.roles import CEILING, Level, effective

FIRST = ("admin", "administrator")  # what the first administrator is called


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of a name.  Without a digest nobody can log in with it."""

    name: str
    level: Level
    digest: bytes | None = None

    @property
    def rules(self) -> bool:
        return self.level is Level.ADMIN and self.digest is not None


class Accounts:
    """The accounts of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._passwords = Passwords(site.clock)
        with site.look() as tree:
            self._known = _in(tree)

    def level(self, identity: Identity) -> Level:
        """What this principal may do now, by its certificate."""
        known = self._known.get(identity.name)
        return effective(identity.role, None if known is None else known.level)

    def need(self, identity: Identity, level: Level) -> Level:
        """The level of the principal, or PermissionDenied where it is below `level`."""
        has = self.level(identity)
        if has < level:
            raise PermissionDenied(f"{identity} needs level {level.name}", f"the account has {has.name}")
        return has

    def login(self, identity: Identity, address: str, user: str, password: str) -> Callable[[], Level]:
        """Check the password; what the principal may do as this user, to be asked at each call."""
        known = self._known.get(user)
        kept = None if known is None else known.digest
        self._passwords.check(user, password, kept, *self._caller(identity, address))

        def level() -> Level:
            now = self._known.get(user)
            valid = now is not None and now.digest == kept
            return min(now.level, CEILING[identity.role]) if now is not None and valid else Level.NONE

        return level

    def _caller(self, identity: Identity, address: str) -> tuple[str, str]:
        """Who waits after a failed log-in, alone and with whom.  The CA of another site can make any name."""
        if identity.site == self._site.dialer.contexts.identity.site:
            return f"{identity} at {address}", ""
        return f"site {identity.site} at {address}", f"other sites at {address}"

    def listing(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((account.name, account.level.name) for account in self._known.values()))

    def get(self, name: str) -> Account:
        """NotFound where there is none."""
        return _need(self._known, name)

    # --- changing --------------------------------------------------------------------------

    def first(self, show: Callable[[str, str], None]) -> None:
        """Make the first administrator where there is none.  `show` is told the name and the password once, before they
        are written down: whoever dies in between shows others the next time, and no site has one that nobody knows."""
        if any(account.rules for account in self._known.values()):
            return
        name = next((name for name in FIRST if name not in self._known), "")
        if name:
            password = invent()
            show(name, password)
            failpoints.hit("nameserver.start.before_administrator")
            self.create(name, password, Level.ADMIN.name)
            failpoints.hit("nameserver.start.after_administrator")

    def create(self, name: str, password: str, level: str) -> None:
        """A new account with a password."""
        account = Account(check_name(name), level_of(level), self._passwords.digest(password))

        def decide(tx: Transaction) -> None:
            if name in _in(tx.tree):
                raise AlreadyExists(
                    f"there is an account {name} already", "change it with update-user, or delete it first"
                )
            self._write(tx, account)

        self._site.decisions.run(decide)

    def change(self, name: str, password: str = "", level: str = "") -> None:
        """Another password, another level, or both."""
        digest = self._passwords.digest(check_form(password)) if password else None

        def decide(tx: Transaction) -> None:
            before = _need(_in(tx.tree), name)
            after = replace(before, level=level_of(level)) if level else before
            after = replace(after, digest=digest) if digest else after
            _keep_one(_in(tx.tree), name, after)
            self._write(tx, after)

        self._site.decisions.run(decide)

    def delete(self, name: str) -> None:
        def decide(tx: Transaction) -> None:
            there = _in(tx.tree)
            _need(there, name)
            _keep_one(there, name, None)
            tx.tree.drop_account(name)
            tx.on_commit(lambda: self._forget(name))

        self._site.decisions.run(decide)

    def set_level(self, name: str, level: str) -> None:
        """Set the level of a name, with or without a password, or with '' remove it (fine where there is none)."""
        if not level:
            if name in self._known:
                self.delete(name)
            return
        check_name(name)
        wanted = level_of(level)

        def decide(tx: Transaction) -> None:
            there = _in(tx.tree)
            after = replace(there.get(name, Account(name, wanted)), level=wanted)
            _keep_one(there, name, after)
            self._write(tx, after)

        self._site.decisions.run(decide)

    def _write(self, tx: Transaction, account: Account) -> None:
        tx.tree.set_account(account.name, account.level, account.digest)
        tx.on_commit(lambda: self._known.update({account.name: account}))

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)


def _in(tree: Tree) -> dict[str, Account]:
    return {name: Account(name, Level(level), digest) for name, level, digest in tree.accounts()}


def _need(accounts: dict[str, Account], name: str) -> Account:
    if name not in accounts:
        raise NotFound(f"there is no account {name[:80]!r}", "get-user-list shows those there are")
    return accounts[name]


def _keep_one(accounts: dict[str, Account], name: str, after: Account | None) -> None:
    """Conflict where no administrator with a password would be left."""
    rulers = [account.name for account in accounts.values() if account.rules]
    if rulers == [name] and (after is None or not after.rules):
        raise Conflict(f"{name} is the last administrator of this site", "make another one first")


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise BadRequest(f"{name[:80]!r} is not a name that a certificate can have")
    return name


def level_of(text: str) -> Level:
    if text.upper() not in Level.__members__:
        raise BadRequest(f"{text[:40]!r} is not a level", "levels: " + " ".join(Level.__members__))
    return Level[text.upper()]
