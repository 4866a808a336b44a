"""Which storages get a new copy.  Pure: candidates and chance in, an order out.

Law: no storage twice, none without room, none that has a copy already; different zones first as long as there
are any; beyond that, fuller storages get less, by a weighted draw (so that many writers do not all choose one).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A storage that takes writes.  `free` is bytes that are neither used nor reserved."""

    id: int
    zone: str
    free: int
    capacity: int


def choose(
    candidates: Sequence[Candidate],
    *,
    size: int,
    count: int,
    chance: random.Random,
    taken: Collection[int] = (),
    taken_zones: Collection[str] = (),
) -> list[int]:
    """Up to `count` storage ids for copies of `size` bytes, best first; fewer where there is no room."""
    left = [c for c in candidates if c.free >= size and c.id not in taken]
    zones = set(taken_zones)
    chosen: list[int] = []
    while left and len(chosen) < count:
        fresh = [c for c in left if c.zone not in zones]
        pick = _draw(fresh or left, chance)
        chosen.append(pick.id)
        zones.add(pick.zone)
        left.remove(pick)
    return chosen


def _draw(candidates: Sequence[Candidate], chance: random.Random) -> Candidate:
    weights = [(c.free + 1) / (c.capacity + 1) for c in candidates]
    return chance.choices(candidates, weights)[0]
