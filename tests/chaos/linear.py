"""Is there an order of these operations, each at a moment between its beginning and its end, that explains all answers?

Law: pure.  Names are judged one by one: each is a register that holds a value or nothing.  A put writes; a removal
needs a value, and leaves nothing; a look tells what is there.  A mv is a removal of one name and, on the other, a put
of one of the values that the first may have had.  An operation whose outcome is unknown happens at any time after its
beginning, or never.

The search is that of Wing and Gong (1993), with Lowe's memory of what was tried.  An operation of unknown outcome is
only tried right before one that could not be explained without it: anywhere else the next write would hide it, or
nothing would be different.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.history import ABSENT, DONE, NEVER, SHARED, UNKNOWN, Record

NOTHING = ""  # what a register holds whose name is not there
State = frozenset[str]  # one of these is what the register holds
START: State = frozenset({NOTHING})


@dataclass(frozen=True, slots=True)
class Event:
    """One operation on one name.

    `values`: what a put may write, what a look found (NOTHING: not there); empty for a removal."""

    kind: str  # put, rm, look
    values: State
    began: float
    ended: float
    known: bool
    text: str = ""

    def after(self, state: State) -> State | None:
        """What the register holds after it; None where it could not have had this answer."""
        if self.kind == "put":
            return self.values
        if self.kind == "look":
            return (state & self.values) or None
        return START if state != START else None


def explain(events: Sequence[Event]) -> str:
    """Why no order explains these events on one name; empty where one does."""
    known = sorted((one for one in events if one.known), key=lambda one: one.began)
    loose = sorted((one for one in events if not one.known and one.kind != "look"), key=lambda one: one.began)
    far, open_ = 0, [(0, 0, START)]  # bits of the known that are done, bits of the loose that are used
    tried = set(open_)
    while open_:
        done, used, state = open_.pop()
        if done == (1 << len(known)) - 1:
            return ""
        far = max(far, done, key=int.bit_count)
        for step in _steps(known, loose, done, used, state):
            if step not in tried:
                tried.add(step)
                open_.append(step)
    return f"no order explains {'; '.join(one.text for one in _minimal(known, far))}"


def _steps(
    known: Sequence[Event], loose: Sequence[Event], done: int, used: int, state: State
) -> Iterator[tuple[int, int, State]]:
    """Every way to go on by one known event."""
    for index, event in _next(known, done):
        after = event.after(state)
        if after is not None:
            yield done | 1 << index, used, after
            if event.kind != "look" or after == state:
                continue
        latest = _limit(known, done)
        for number, one in enumerate(loose):
            if not used >> number & 1 and one.began < latest:
                between = event.after(one.after(state) or START)
                if between is not None:
                    yield done | 1 << index, used | 1 << number, between


def _limit(known: Sequence[Event], done: int) -> float:
    """The time by which the next event must have happened: the first end among those to come."""
    return min(one.ended for index, one in enumerate(known) if not done >> index & 1)


def _next(known: Sequence[Event], done: int) -> Iterator[tuple[int, Event]]:
    """The events that may come next: begun before any that is to come had ended."""
    limit = _limit(known, done)
    return ((index, one) for index, one in enumerate(known) if not done >> index & 1 and one.began <= limit)


def _minimal(known: Sequence[Event], done: int) -> list[Event]:
    return [one for _, one in _next(known, done)]


# --- from what clients wrote down ------------------------------------------------------------


def events_of(records: Iterable[Record]) -> dict[str, list[Event]]:
    """The events of each shared name."""
    wanted = [one for one in records if one.home == SHARED and one.outcome in (DONE, UNKNOWN, ABSENT)]
    values = _values(wanted)
    found: dict[str, list[Event]] = defaultdict(list)
    for one in wanted:
        for name, event in _events(one, values):
            found[name].append(event)
    return found


def _events(one: Record, values: dict[str, set[str]]) -> Iterator[tuple[str, Event]]:
    def event(kind: str, told: Iterable[str] = ()) -> Event:
        ended = NEVER if one.outcome == UNKNOWN else one.ended
        return Event(kind, frozenset(told), one.began, ended, one.outcome != UNKNOWN, f"{one.who} {one}")

    if one.outcome == ABSENT:
        yield one.path, event("look", {NOTHING})
    elif one.kind == "get":
        yield one.path, event("look", {one.found})
    elif one.kind == "put":
        yield one.path, event("put", {one.digest})
    else:
        yield one.path, event("rm")
        if one.kind == "mv" and values[one.path]:
            yield one.other, event("put", values[one.path])


def _values(records: Sequence[Record]) -> dict[str, set[str]]:
    """What each name may ever have held."""
    values: dict[str, set[str]] = defaultdict(set)
    for one in records:
        if one.kind == "put":
            values[one.path].add(one.digest)
    moves = {(one.path, one.other) for one in records if one.kind == "mv" and one.outcome != ABSENT}
    while any(not values[source] <= values[target] for source, target in moves):
        for source, target in moves:
            values[target] |= values[source]
    return values
