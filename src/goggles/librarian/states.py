"""The life of a transfer between two librarians, on either side.

Everything that may change a transfer's state lives in this file.  It knows no database, no socket and no clock;
callers write down what `advance` returns.  An illegal move raises and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

from goggles.contracts.peering import State
from goggles.errors import Conflict


class Event(StrEnum):
    """What may happen to a transfer."""

    START = "start"  # a transfer manager takes it (again)
    ARRIVE = "arrive"  # all bytes are there
    VERIFY = "verify"  # they are right, and the file is in the tree of the destination
    FAIL = "fail"
    CANCEL = "cancel"


S, E = State, Event
LIVE = frozenset({S.INITIATED, S.ONGOING, S.STAGED})
OVER = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED})

# An answer may be lost, come twice or come late: what was said already changes nothing, and what is over stays over.
# A destination may learn that the file is there (VERIFY) before the source has told it that all bytes arrived.
TRANSITIONS: dict[State, dict[Event, State]] = {
    S.INITIATED: {
        E.START: S.ONGOING,
        E.ARRIVE: S.STAGED,
        E.VERIFY: S.COMPLETED,
        E.FAIL: S.FAILED,
        E.CANCEL: S.CANCELLED,
    },
    S.ONGOING: {
        E.START: S.ONGOING,
        E.ARRIVE: S.STAGED,
        E.VERIFY: S.COMPLETED,
        E.FAIL: S.FAILED,
        E.CANCEL: S.CANCELLED,
    },
    S.STAGED: {E.ARRIVE: S.STAGED, E.VERIFY: S.COMPLETED, E.FAIL: S.FAILED, E.CANCEL: S.CANCELLED},
    S.COMPLETED: {E.VERIFY: S.COMPLETED},
    S.FAILED: {E.FAIL: S.FAILED},
    S.CANCELLED: {E.CANCEL: S.CANCELLED},
}


def advance(state: State, event: Event) -> State:
    """The state that `event` leads to, or Conflict."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise Conflict(f"a transfer that is {state.name} cannot {event}", "it is left as it is") from None


def leads_on(state: State, event: Event) -> bool:
    """Whether `event` changes `state`."""
    return TRANSITIONS[state].get(event, state) is not state
