"""Which copies are owed, and which are surplus.  Pure: what there is in, what should happen out.

Law: a copy is surplus only beside enough others on storages that are connected now; a copy on a storage that
was lost a moment ago still counts, unless only one other is left (then nobody waits).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What a copy is worth now."""

    LIVE = "live"  # on a connected storage
    GRACE = "grace"  # on one that was lost a moment ago, or is still checking itself
    GONE = "gone"  # on one that is down
    LEAVING = "leaving"  # on one that is being drained: readable, but does not count
    APART = "apart"  # on a drive that is filled on purpose: never counts, and is never too much


@dataclass(frozen=True, slots=True)
class Copy:
    """One instance.  `fill` is the used share of its storage, 0 to 1."""

    storage: int
    standing: Standing
    zone: str
    fill: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """`missing` copies should be made; `surplus` (storage ids) may go; `live` copies count now."""

    missing: int
    surplus: tuple[int, ...]
    live: int


def assess(wanted: int, copies: Sequence[Copy]) -> Assessment:
    """Compare the copies of a file with the number wanted."""
    live = [c for c in copies if c.standing is Standing.LIVE]
    readable = len(live) + sum(c.standing is Standing.LEAVING for c in copies)
    waiting = sum(c.standing is Standing.GRACE for c in copies) if readable != 1 else 0
    missing = max(0, wanted - len(live) - waiting)
    surplus: tuple[int, ...] = ()
    if len(live) >= wanted:
        leaving = tuple(c.storage for c in copies if c.standing is Standing.LEAVING)
        surplus = leaving + _least_useful(live, len(live) - wanted)
    return Assessment(missing, surplus, len(live))


def _least_useful(live: list[Copy], count: int) -> tuple[int, ...]:
    """`count` copies to give up: those that share a zone with another first, then those on the fullest storages."""
    left, chosen = list(live), []
    for _ in range(count):
        zones = Counter(c.zone for c in left)
        worst = max(left, key=lambda c: (zones[c.zone] > 1, c.fill, c.storage))
        left.remove(worst)
        chosen.append(worst.storage)
    return tuple(chosen)
