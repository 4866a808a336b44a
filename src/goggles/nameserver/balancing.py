"""Copies are moved from full storages to empty ones, when an administrator asks for it.

Law: nothing new is done to the copies: one more is made as a repair would make it, and what is then too much is trimmed
as always, with a copy that stays read and found good before.  So at no moment are there fewer than before, and whatever
breaks it off leaves a copy too many at most, which is trimmed.  Copies that are owed go first.

Driven by the thread of `repair`; what is under way is in memory alone, and a new nameserver has forgotten it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from goggles.contracts.records import BalanceState
from goggles.errors import Conflict
from goggles.nameserver.entry import Entry
from goggles.nameserver.levelling import Load, Plan, gap, gives_up
from goggles.nameserver.repair import Repair
from goggles.nameserver.replication import Copy
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
PAGE = 500
PAGES = 8  # that one step looks at
MOST = 256  # moves on their way at once, with those whose old copy has not gone yet
LATE = 180.0  # seconds until a move that comes to no end is given up


@dataclass(frozen=True, slots=True)
class Move:
    """One copy on its way, for which one on `source` is to go.

    `copies`: how many there were before; `since`: monotonic."""

    source: Node
    target: Node
    size: int
    copies: int
    since: float


@dataclass(slots=True)
class Run:
    """What began with one command."""

    state: BalanceState
    moves: dict[int, Move] = field(default_factory=dict)  # by entry id
    given_up: set[int] = field(default_factory=set)  # entries that could not be moved
    places: dict[tuple[int, int], int] = field(default_factory=dict)  # by source and target: where to look on
    useful: set[tuple[int, int]] = field(default_factory=set)  # where the pass over all files has moved some
    spent: set[tuple[int, int]] = field(default_factory=set)  # where a whole pass has moved nothing
    stopping: bool = False


class Balancing:
    """At most one run at a time.  Its fields are changed with the global lock held, or by the thread of `repair`."""

    def __init__(self, site: Site, repair: Repair) -> None:
        self._site = site
        self._repair = repair
        self._run: Run | None = None
        self._last = BalanceState()
        repair.beside = self.step

    def start(self) -> BalanceState:
        """Begin; Conflict where it runs already."""
        with self._site.decisions.lock:
            if self._run is not None:
                raise Conflict("the storages are being balanced already", "balance --status shows how far it is")
            self._run = Run(BalanceState(running=True, began=self._site.clock.now(), gap=gap(self._loads({}))))
            log.info("balance begins: the storages are %.1f %% apart", 100 * self._run.state.gap)
        self._site.wake_repair.set()
        return self.state()

    def stop(self) -> BalanceState:
        """Begin nothing more; what is on its way comes to its end."""
        with self._site.decisions.lock:
            if self._run is not None:
                self._run.stopping = True
        self._site.wake_repair.set()
        return self.state()

    def state(self) -> BalanceState:
        """How it stands, or how the last run ended."""
        run = self._run
        return self._last if run is None else replace(run.state, under_way=len(run.moves))

    # --- a step ----------------------------------------------------------------------------

    def step(self) -> None:
        """See to what is on its way, and begin more of it."""
        run = self._run
        if run is None:
            return
        self._settle(run)
        loads = self._loads(run.moves)
        run.state = replace(run.state, gap=gap(loads))
        plan = Plan(loads)
        more = [key for key in plan.most if key not in run.spent]
        if run.stopping or not more:
            if not run.moves:
                self._end(run, "even" if not plan.most else "stopped" if run.stopping else "as even as it gets")
            return
        pages = PAGES
        for key in more:
            pages = self._begin(run, key, plan, pages)

    def _end(self, run: Run, result: str) -> None:
        with self._site.decisions.lock:
            now = self._site.clock.now()
            self._last = replace(run.state, running=False, ended=now, under_way=0, result=result)
            self._run = None
        text = "balance ended (%s): %d copies moved, %d bytes; the storages are %.1f %% apart"
        log.info(text, result, run.state.moved, run.state.size, 100 * run.state.gap)

    def _loads(self, moves: dict[int, Move]) -> list[Load]:
        """Of the storages that take new copies: as if what is on its way had arrived, and left where it comes from."""
        roster = self._site.roster
        nodes = [roster.get(candidate.id) for candidate in roster.candidates()]
        leaving = {node.id: sum(move.size for move in moves.values() if move.source is node) for node in nodes}
        return [
            Load(node.id, max(0, node.used + node.reserved - leaving[node.id]), node.used + node.reserved + node.free)
            for node in nodes
        ]

    def _settle(self, run: Run) -> None:
        """Which moves have come to their end."""
        if not run.moves:
            return
        now, pulls = self._site.clock.monotonic(), set(self._site.uploads.pulls)
        with self._site.look() as tree:  # after that: what is no pull any more has arrived, or never will
            holders = {entry.id: held for entry, held in tree.files(list(run.moves))}
        for entry, move in list(run.moves.items()):
            held = holders.get(entry)
            arrived = held is not None and move.target.id in held
            if held is not None and arrived and len(held) <= move.copies:
                run.state = replace(run.state, moved=run.state.moved + 1, size=run.state.size + move.size)
            elif held is not None and (arrived or entry in pulls) and now - move.since < LATE:
                continue
            elif held is not None:
                run.given_up.add(entry)
                run.state = replace(run.state, failed=run.state.failed + 1)
            del run.moves[entry]
            self._repair.leaving.pop(entry, None)

    # --- moves begin -----------------------------------------------------------------------

    def _begin(self, run: Run, key: tuple[int, int], plan: Plan, pages: int) -> int:
        """Begin what there is room for of what one storage has and another has not; the `pages` left to look at."""
        source, target = map(self._site.roster.get, key)
        while pages and self._slots(run, target):
            with self._site.look() as tree:
                page = tree.instances_on(source.id, run.places.get(key, 0), PAGE)
                files = tree.files(page)
            for entry, holders in sorted(files, key=lambda file: -file[0].size):
                if not self._slots(run, target):
                    return pages
                if self._move(run, entry, holders, source, target, plan):
                    run.useful.add(key)
            pages -= 1
            if len(page) == PAGE:
                run.places[key] = page[-1]
                continue
            if key not in run.useful:
                run.spent.add(key)
            run.useful.discard(key)
            run.places.pop(key, None)
            return pages
        return pages

    def _slots(self, run: Run, target: Node) -> bool:
        return target.pulls < self._site.policy.repair_streams and len(run.moves) < MOST

    def _move(self, run: Run, entry: Entry, holders: list[int], source: Node, target: Node, plan: Plan) -> bool:
        """Whether this file is on its way now."""
        if entry.id in run.moves or entry.id in run.given_up or not 0 < entry.size <= target.free:
            return False
        giver = gives_up(
            entry.copies or 1, [self._copy(plan, holder) for holder in holders], self._copy(plan, target.id)
        )
        if giver is None or not plan.allows(giver, target.id, entry.size):
            return False
        self._repair.leaving[entry.id] = giver
        if not self._repair.clone(entry.id, source, target):
            del self._repair.leaving[entry.id]
            return False
        plan.moved(giver, target.id, entry.size)
        leaving, now = self._site.roster.get(giver), self._site.clock.monotonic()
        run.moves[entry.id] = Move(leaving, target, entry.size, len(holders), now)
        return True

    def _copy(self, plan: Plan, holder: int) -> Copy:
        """A copy there, as full as the storage will be."""
        copy = self._repair.copy_on(self._site.roster.get(holder))
        return replace(copy, fill=plan.loads[holder].fill) if holder in plan.loads else copy
