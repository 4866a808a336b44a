"""Which copies are moved so that storages fill evenly.  Pure: how full they are in, what to move where out.

Law: a move never makes the emptier storage the fuller one, so moving comes to an end.  Which copy goes once the new one
is there is for `replication` to say, which keeps zones apart; it has to be one on a fuller storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from goggles.nameserver.replication import Copy, Standing, assess

WITHIN = 0.03  # shares of their room by which storages may differ


@dataclass(frozen=True, slots=True)
class Load:
    """How full a storage will be when what is under way has come to its end.  Bytes."""

    id: int
    used: int
    room: int  # that it has altogether

    @property
    def fill(self) -> float:
        """The used share, 0 to 1."""
        return self.used / max(1, self.room)


@dataclass(frozen=True, slots=True)
class Pair:
    """Up to `most` bytes may go from one storage to the other."""

    source: int
    target: int
    most: int


def gap(loads: Sequence[Load]) -> float:
    """How far the fullest and the emptiest are apart, 0 to 1."""
    fills = [load.fill for load in loads]
    return max(fills) - min(fills) if fills else 0.0


def pairs(loads: Sequence[Load], within: float = WITHIN) -> list[Pair]:
    """From where to where something should be moved, the most uneven first; none where all are as good as even."""
    found = [
        (source.fill - target.fill, Pair(source.id, target.id, _to_even(source, target)))
        for source in loads
        for target in loads
        if source.fill - target.fill > within
    ]
    return [pair for _, pair in sorted(found, key=lambda one: (-one[0], one[1].source, one[1].target))]


def _to_even(source: Load, target: Load) -> int:
    """The bytes after whose move both are equally full."""
    return (source.used * target.room - target.used * source.room) // max(1, source.room + target.room)


class Plan:
    """What may be moved now.  `most`: the bytes that may go from one storage to another, the most uneven first."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self.loads = {load.id: load for load in loads}
        self.most = {(pair.source, pair.target): pair.most for pair in pairs(loads)}

    def allows(self, source: int, target: int, size: int) -> bool:
        """Whether so many bytes may go there still."""
        if size > self.most.get((source, target), 0):
            return False
        return size <= _to_even(self.loads[source], self.loads[target])

    def moved(self, source: int, target: int, size: int) -> None:
        """They are on their way."""
        self.most[source, target] -= size
        for number, change in ((source, -size), (target, size)):
            load = self.loads[number]
            self.loads[number] = replace(load, used=load.used + change)


def gives_up(wanted: int, copies: Sequence[Copy], target: Copy) -> int | None:
    """The storage whose copy goes once there is one more on `target`; None where nothing would be won by that: the new
    one would go, or the file has not just the copies that it should have."""
    now = assess(wanted, copies)
    if target.standing is not Standing.LIVE or target.storage in {copy.storage for copy in copies}:
        return None
    if now.missing or now.surplus:
        return None
    surplus = assess(wanted, [*copies, target]).surplus
    return surplus[0] if len(surplus) == 1 and surplus[0] != target.storage else None
