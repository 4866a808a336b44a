"""The life of a storage, as its nameserver sees it.

Everything that may change a storage's state lives in this file.  It knows no database, no socket and no clock;
callers apply what `advance` returns.  An illegal move raises and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

from goggles.errors import Conflict


class NodeState(StrEnum):
    """Where a storage is in its life."""

    DOWN = "down"  # its copies do not count
    CHECKING = "checking"  # connected, comparing its disk with the tree
    ACTIVE = "active"  # finished its self-check and answers heartbeats
    HELD = "held"  # safe mode: readable, waits for an administrator
    GRACE = "grace"  # just lost; its copies count a while longer


class Event(StrEnum):
    """What may happen to it."""

    UPGRADE = "upgrade"
    ACTIVATE = "activate"
    HOLD = "hold"
    RECHECK = "recheck"
    LOSE = "lose"
    EXPIRE = "expire"


S, E = NodeState, Event

TRANSITIONS: dict[NodeState, dict[Event, NodeState]] = {
    S.DOWN: {E.UPGRADE: S.CHECKING, E.LOSE: S.DOWN, E.EXPIRE: S.DOWN},
    S.GRACE: {E.UPGRADE: S.CHECKING, E.LOSE: S.GRACE, E.EXPIRE: S.DOWN},
    S.CHECKING: {E.ACTIVATE: S.ACTIVE, E.HOLD: S.HELD, E.LOSE: S.GRACE, E.UPGRADE: S.CHECKING},
    S.ACTIVE: {E.LOSE: S.GRACE, E.UPGRADE: S.CHECKING, E.RECHECK: S.CHECKING},
    S.HELD: {E.RECHECK: S.CHECKING, E.LOSE: S.GRACE, E.UPGRADE: S.CHECKING},
}

READABLE = frozenset({S.ACTIVE, S.HELD})
CONNECTED = frozenset({S.CHECKING, S.ACTIVE, S.HELD})
RETURNING = frozenset({S.CHECKING, S.GRACE})  # most likely active again in a moment


def advance(state: NodeState, event: Event) -> NodeState:
    """The state that `event` leads to, or Conflict."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise Conflict(f"a storage that is {state} cannot {event}") from None
