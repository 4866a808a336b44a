"""What to do where the two sides of a transfer do not agree.  Pure.

Law: each side moves only its own row, on what it has seen of the other.  A side that is further on has had an answer
that the other has not; a side that knows nothing has lost it for good.  Whatever is decided may be decided again.
"""

from __future__ import annotations

from enum import StrEnum

from goggles.contracts.peering import State
from goggles.librarian.states import LIVE


class Action(StrEnum):
    """What the side that asks does with its own row."""

    WAIT = "wait"  # both agree, or the next ordinary step settles it
    START = "start"
    ARRIVE = "arrive"  # the other side has all bytes
    VERIFY = "verify"  # the other side has the file in its tree
    FAIL = "fail"
    CANCEL = "cancel"
    TELL = "tell"  # the other side has missed what we said: say it again


S, A = State, Action


def at_source(ours: State, theirs: State | None) -> Action:
    """A asks B.  `theirs` is None where B does not know the transfer."""
    if ours not in LIVE:
        return A.TELL if theirs in LIVE and ours is not S.COMPLETED else A.WAIT
    if theirs is None:
        return A.FAIL
    if theirs is S.COMPLETED:
        return A.VERIFY
    if theirs is S.FAILED:
        return A.FAIL
    if theirs is S.CANCELLED:
        return A.CANCEL
    if ours is S.STAGED and theirs is not S.STAGED:
        return A.TELL
    if theirs is S.STAGED and ours is not S.STAGED:
        return A.ARRIVE
    return A.WAIT


def at_destination(ours: State, theirs: State | None) -> Action:
    """B asks A.  `theirs` is None where A does not know the transfer."""
    if ours not in LIVE:
        return A.TELL if theirs in LIVE else A.WAIT
    if theirs is None or theirs is S.FAILED:
        return A.FAIL
    if theirs is S.CANCELLED:
        return A.CANCEL
    if theirs in (S.STAGED, S.COMPLETED) and ours is not S.STAGED:
        return A.ARRIVE  # what has arrived is read anyway: if it is not all there, that is found out
    if theirs is S.ONGOING and ours is S.INITIATED:
        return A.START
    return A.WAIT
