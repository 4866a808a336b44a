"""Before a surplus copy goes, one that stays is read again.

Law: nothing is trimmed unless a copy that stays was read and found good just now.  Whatever becomes of a reading, the
file is looked at again: at once where the copy was good or its storage went away, after a while where it was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import NodeState
from goggles.paths import DfsPath

FRESH = 600.0  # seconds for which a copy that was read counts as good enough to let others go
ASK_AGAIN = 120.0  # seconds until a copy is sent to be read once more
AT_ONCE = 200  # readings that are begun in one round


class Checks(Protocol):
    """Who has copies read."""

    def check(self, node: Node, path: DfsPath, version: str, then: Callable[[], None]) -> None:
        """Have one copy read; `then` is called when it was good, or when its storage went away."""

    def under_way(self) -> int:
        """Readings that were asked for so and have not ended."""

    def drop_lost(self) -> None:
        """End those whose storage went away."""


class Rereading:
    """The files whose surplus copies wait for a reading.  Used by the thread of repair; `is_good` in a decision."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._asked: dict[int, float] = {}  # entry id: monotonic time at which a copy was sent to be read
        self._waiting: deque[tuple[Node, DfsPath, Entry]] = deque()
        self.checks: Checks | None = None

    def is_good(self, tx: Transaction, entry: Entry, staying: Sequence[Node]) -> bool:
        """Whether one of these copies was read and found good just now; else one is going to be read."""
        if tx.tree.verified_on(entry.id, tx.tree.now - FRESH) & {node.id for node in staying}:
            return True
        path = tx.tree.path_of(entry.id)
        readable = [node for node in staying if node.state is NodeState.ACTIVE]
        if path is not None and readable and entry.id not in self._asked:
            self._asked[entry.id] = self._site.clock.monotonic()
            waiting = (self._site.chance.choice(readable), path, entry)
            tx.on_commit(lambda: self._waiting.append(waiting))
        return False

    def under_way(self) -> int:
        return len(self._waiting) + (self.checks.under_way() if self.checks is not None else 0)

    def step(self) -> bool:
        """Have some of them read; True where there are more."""
        if self.checks is None:
            return False
        self.checks.drop_lost()
        self._give_up_old()
        for _ in range(min(AT_ONCE, len(self._waiting))):
            node, path, entry = self._waiting[0]
            self.checks.check(node, path, entry.version, partial(self._look_again, entry.id))
            self._waiting.popleft()
        return bool(self._waiting)

    def _give_up_old(self) -> None:
        before = self._site.clock.monotonic() - ASK_AGAIN
        for entry in [entry for entry, when in list(self._asked.items()) if when <= before]:  # others add meanwhile
            self._look_again(entry)

    def _look_again(self, entry: int) -> None:
        self._asked.pop(entry, None)
        self._site.reconsider.append(entry)
        self._site.wake_repair.set()
