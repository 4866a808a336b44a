"""The global lock and the group commit.

Law: every change of the tree and of what the nameserver remembers about storages and uploads is a *decision*:
a function that runs with the lock held, inside a database transaction, and does no other I/O.  Requests that
wait for the lock at the same moment share one transaction, so durable decisions cost one fsync per group.

A decision that refuses raises a GogglesError before its first write, and the others of its group go on.  When
anything else goes wrong before the commit, the whole group is rolled back and each decision runs again alone, so a
decision may run twice; what it changes in memory it changes through `on_commit`, or takes back through `on_rollback`.
When the commit itself goes wrong nobody knows whether it happened: the process ends at once, and what the database says
then is what counts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from goggles import failpoints
from goggles.clock import Clock
from goggles.errors import DatabaseAway, GogglesError, Overloaded
from goggles.meta.database import Database
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.tree import Tree

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_GROUP = 512


class Transaction:
    """What a decision works on: the rules of the tree in this transaction, and its effects on memory."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._commit: list[Callable[[], None]] = []
        self._rollback: list[Callable[[], None]] = []

    def on_commit(self, effect: Callable[[], None]) -> None:
        """Run `effect` (memory only) once the transaction is durable, with the lock still held."""
        self._commit.append(effect)

    def on_rollback(self, effect: Callable[[], None]) -> None:
        """Run `effect` (memory only) if the transaction comes to nothing."""
        self._rollback.append(effect)

    def mark(self) -> tuple[int, int]:
        return len(self._commit), len(self._rollback)

    def forget_since(self, mark: tuple[int, int]) -> None:
        """Drop the effects of a decision that refused."""
        for effect in reversed(self._rollback[mark[1] :]):
            effect()
        del self._commit[mark[0] :], self._rollback[mark[1] :]

    def committed(self) -> None:
        self.tree.committed()
        for effect in self._commit:
            effect()

    def rolled_back(self) -> None:
        self.tree.rolled_back()
        for effect in reversed(self._rollback):
            effect()


def outcome_unknown(error: BaseException) -> bool:
    """Whether a commit that raised this may have happened all the same: its answer was lost, or its disk failed."""
    cause = error.__cause__ or error
    return bool(getattr(cause, "connection_invalidated", False)) or "disk I/O error" in str(cause)


def end_at_once(error: BaseException) -> None:
    """What is in memory may not be what the database says: only a start from the database puts that right."""
    log.critical("it is not known whether a change was committed; ending at once", exc_info=error)
    logging.shutdown()
    os._exit(1)


Decide = Callable[[Transaction], T]


class _Request(Generic[T]):
    """A decision that waits for its turn, and what came of it."""

    __slots__ = ("answer", "changed", "changes", "decide", "done", "error")

    def __init__(self, decide: Decide[T], changes: bool) -> None:
        self.decide = decide
        self.changes = changes
        self.changed = False
        self.done = False
        self.answer: Any = None
        self.error: BaseException | None = None

    def attempt(self, tx: Transaction) -> None:
        """Run it; a refusal is its answer, anything else is for the group to handle."""
        mark = tx.mark()
        try:
            self.answer, self.error = self.decide(tx), None
            self.changed = self.changes and tx.mark()[0] > mark[0]
        except GogglesError as refusal:
            tx.forget_since(mark)
            self.error = refusal


class Decisions:
    """Runs decisions, one group at a time."""

    def __init__(self, database: Database, cache: DirCache, clock: Clock, copies: int) -> None:
        self.lock = threading.RLock()
        self._database = database
        self._cache = cache
        self._clock = clock
        self._copies = copies
        self._waiting: deque[_Request[Any]] = deque()  # appended by anyone, taken with the lock held
        self.groups = self.decided = 0
        self.changes = 0  # as `Copies.changes` says, of the last commit; with the lock held
        self.give_up: Callable[[BaseException], None] = end_at_once

    def load(self) -> None:
        """At start: what the database knows."""
        with self._database.read() as connection:
            self.changes = Tree(connection, self._cache, self._clock.now(), self._copies).changes()

    def run(self, decide: Decide[T], changes: bool = True) -> T:
        """The answer of `decide` once its transaction is durable; raises what it raised.

        `changes`: whether what storages should hold may be other afterwards (if it has effects at all)."""
        result = self.run_all([decide], changes)[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def run_all(self, decides: Sequence[Decide[T]], changes: bool = True) -> list[T | BaseException]:
        """Several decisions, in order, in as few groups as possible; errors come as values.

        DatabaseAway is raised: whoever asked asks again for all of it."""
        requests = [_Request(decide, changes) for decide in decides]
        self._waiting.extend(requests)
        for request in requests:
            if not request.done:
                with self.lock:
                    while not request.done:
                        self._next_group()
        away = next((request.error for request in requests if isinstance(request.error, DatabaseAway)), None)
        if away is not None:
            raise away
        return [request.error or request.answer for request in requests]

    def _next_group(self) -> None:
        """Lock held."""
        group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        self.groups, self.decided = self.groups + 1, self.decided + len(group)
        try:
            self._together(group)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must reach those it belongs to
            self._one_by_one(group, error)
        for request in group:
            request.done = True

    def _together(self, group: Sequence[_Request[Any]]) -> None:
        tx, committing = None, False
        try:
            with self._database.write() as connection:
                tx = Transaction(Tree(self._database.quick(connection), self._cache, self._clock.now(), self._copies))
                for request in group:
                    request.attempt(tx)
                tx.tree.flush()
                changed = any(request.changed and request.error is None for request in group)
                if changed:
                    tx.tree.add_change()
                failpoints.hit("nameserver.decide.before_commit")
                committing = True
        except BaseException as error:
            if committing and outcome_unknown(error):
                self.give_up(error)
            if tx is not None:
                tx.rolled_back()
            raise
        failpoints.hit("nameserver.decide.after_commit")
        self.changes += changed
        try:
            tx.committed()
        except BaseException as error:
            self.give_up(error)
            raise

    def _one_by_one(self, group: Sequence[_Request[Any]], error: Exception) -> None:
        """Also for a single one that the database put back for the sake of another program (Overloaded)."""
        if isinstance(error, DatabaseAway) or (len(group) == 1 and not isinstance(error, Overloaded)):
            for request in group:
                request.error = error
            return
        for request in group:
            try:
                self._together([request])
            except Exception as own:  # noqa: BLE001 - its own answer
                request.error = own
