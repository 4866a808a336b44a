"""What all parts of one nameserver share: the database, the lock, the roster, the uploads, the settings.

Law: there is one Site in a process; whatever changes goes through `decisions`, whatever only looks takes a
snapshot of the database (`look`) and never waits for the lock.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from goggles.clock import Clock
from goggles.contracts.grants import LIFETIME, Grant
from goggles.meta.database import Database, Epoch
from goggles.nameserver.decisions import Decisions
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.roster import Node, Roster
from goggles.nameserver.story import Story
from goggles.nameserver.tree import Tree
from goggles.nameserver.uploads import Uploads
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.wire.dial import Dialer


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers an operator may set.  Seconds, where nothing else is said."""

    copies: int = 2
    grace: float = 30.0
    heartbeat: float = 2.0
    lease: float = 60.0
    repair_streams: int = 4  # repairs under way to one storage
    repair_rate: int = 0  # bytes a second of them, together; 0: no limit
    resumable: float = 3600.0


def _nothing(_: str, __: int) -> bool:
    return False


def _none() -> int:
    return 0


def _unheard(severity: str, category: str, message: str) -> None:
    """Without a librarian troubles stand in the log alone."""


@dataclass(eq=False)
class Site:
    """One nameserver's shared state."""

    database: Database
    epoch: Epoch
    site_id: str
    name: str
    dialer: Dialer
    clock: Clock
    policy: Policy
    cache: DirCache = field(default_factory=DirCache)
    roster: Roster = field(default_factory=Roster)
    uploads: Uploads = field(default_factory=Uploads)
    story: Story = field(default_factory=Story)
    chance: random.Random = field(default_factory=random.SystemRandom)
    grant_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    reconsider: deque[int] = field(default_factory=deque)  # entry ids whose copies may be too few or too many
    sweeps: deque[int] = field(default_factory=deque)  # storage ids all of whose files are to be reconsidered
    expected: Callable[[str, int], bool] = (
        _nothing  # whether an arrival is waited for on a storage; the librarian knows
    )
    trouble: Callable[[str, str, str], None] = _unheard  # severity, category, message: for the table of errors
    reviews: Callable[[], int] = _none  # as in SiteInfo; repair knows
    linked: bool = False  # there are, or were, other librarians, or copies were let go: files may be elsewhere
    has_trash: bool = True  # removed directories wait to be purged
    wake_repair: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.decisions = Decisions(self.database, self.cache, self.clock, self.policy.copies)
        self.started = self.clock.monotonic()

    def look(self) -> AbstractContextManager[Tree]:
        """The tree as it is now, for reading only."""
        return _Look(self, self.database.read())

    def glance(self) -> AbstractContextManager[Tree]:
        """The same for `Tree.glance` alone."""
        return _Look(self, self.database.glance())

    def grant(self, kind: str, subject: str, path: str, size: int, node: Node, holder: str) -> bytes:
        """Proof for `node` that `holder` may do this."""
        return Grant(kind, subject, path, size, node.name, holder, self.clock.now() + LIFETIME).seal(self.grant_key)

    def storage_uri(self, node: Node) -> str:
        """The identity of a storage of this site."""
        return Identity(self.dialer.contexts.identity.site, Role.STORAGE, node.name).uri


class _Look(AbstractContextManager[Tree]):
    """One look at the tree; what it found of directories is kept for the next ones if the block ends well."""

    __slots__ = ("_reading", "_site", "_tree")
    _tree: Tree

    def __init__(self, site: Site, reading: AbstractContextManager[Connection]) -> None:
        self._site = site
        self._reading = reading

    def __enter__(self) -> Tree:
        site, connection = self._site, self._reading.__enter__()
        try:
            self._tree = Tree(site.database.quick(connection), site.cache, site.clock.now(), site.policy.copies)
        except BaseException as error:
            self._reading.__exit__(type(error), error, error.__traceback__)
            raise
        return self._tree

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._tree.committed()
        self._reading.__exit__(kind, error, trace)
