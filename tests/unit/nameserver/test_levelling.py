"""What is moved from where to where: it comes to an end, keeps zones apart, and overshoots nothing."""

from __future__ import annotations

import random

import pytest

from goggles.nameserver.levelling import WITHIN, Load, Pair, Plan, gap, gives_up, pairs
from goggles.nameserver.replication import Copy, Standing, assess

L = Standing.LIVE


def test_the_most_uneven_come_first_and_nothing_overshoots():
    loads = [Load(1, 90, 100), Load(2, 50, 100), Load(3, 10, 100), Load(4, 0, 400)]
    assert pairs(loads)[0] == Pair(1, 4, 72)
    assert [(pair.source, pair.target) for pair in pairs(loads)] == [(1, 4), (1, 3), (2, 4), (1, 2), (2, 3), (3, 4)]
    for pair in pairs(loads):
        source, target = (next(load for load in loads if load.id == number) for number in (pair.source, pair.target))
        assert (source.used - pair.most) / source.room >= (target.used + pair.most) / target.room


@pytest.mark.parametrize("loads", [[], [Load(1, 5, 10)], [Load(1, 50, 100), Load(2, 52, 100)], [Load(1, 0, 0)] * 2])
def test_what_is_as_good_as_even_is_left_alone(loads):
    assert pairs(loads) == []
    assert gap(loads) <= WITHIN


def test_moves_come_to_an_end_wherever_they_begin():
    chance = random.Random(7)
    for _ in range(200):
        loads = [Load(number, chance.randrange(1000), 1000 * chance.randint(1, 4)) for number in range(5)]
        moves = 0
        while found := [pair for pair in pairs(loads) if pair.most]:
            pair = chance.choice(found)
            size, moves = chance.randint(1, pair.most), moves + 1
            change = {pair.source: -size, pair.target: size}
            loads = [Load(load.id, load.used + change.get(load.id, 0), load.room) for load in loads]
            assert moves < 5_000
        assert gap(loads) <= WITHIN


def copies(*zones: str, fills: tuple[float, ...] = (0.9, 0.5, 0.5, 0.5)) -> list[Copy]:
    return [Copy(number, L, zone, fill) for number, (zone, fill) in enumerate(zip(zones, fills, strict=False), 1)]


@pytest.mark.parametrize(
    ("zones", "target", "expected"),
    [
        (("", ""), "", 1),
        (("a", "b"), "a", 1),  # takes the place of its zone
        (("a", "b"), "b", 2),
        (("a", "b"), "c", 1),
        (("b", "a", "a"), "b", 1),
        (("b", "a", "a"), "c", 3),
    ],
)
def test_the_fullest_gives_up_but_zones_are_kept_apart(zones, target, expected):
    assert gives_up(len(zones), copies(*zones), Copy(9, L, target, 0.1)) == expected


def test_a_file_that_is_short_or_has_too_many_is_not_touched():
    target = Copy(9, L, "", 0.1)
    assert gives_up(3, copies("", ""), target) is None
    assert gives_up(1, copies("", ""), target) is None
    assert gives_up(1, copies(""), target) == 1
    leaving = Copy(2, Standing.LEAVING, "", 0.5)
    assert gives_up(2, [*copies(""), leaving], target) is None


def test_only_to_where_there_is_none_and_where_it_would_stay():
    assert gives_up(2, copies("", ""), Copy(2, L, "", 0.1)) is None
    assert gives_up(2, copies("", ""), Copy(9, L, "", 0.95)) is None
    for standing in set(Standing) - {L}:
        assert gives_up(2, copies("", ""), Copy(9, standing, "", 0.1)) is None


def test_whichever_goes_there_are_as_many_live_copies_and_as_many_zones_as_before():
    chance = random.Random(3)
    moved = 0
    for _ in range(3000):
        standings = [chance.choice([L, L, L, *Standing]) for _ in range(chance.randint(1, 4))]
        held = [Copy(n, s, chance.choice("abc"), chance.random()) for n, s in enumerate(standings, 1)]
        wanted, target = chance.randint(1, 3), Copy(9, L, chance.choice("abc"), chance.random())
        giver = gives_up(wanted, held, target)
        if giver is not None:
            moved += 1
            after = [copy for copy in [*held, target] if copy.storage != giver]
            assert assess(wanted, after).live >= min(wanted, assess(wanted, held).live)
            live = lambda these: {copy.zone for copy in these if copy.standing is L}  # noqa: E731 - in a line
            assert len(live(after)) >= min(wanted, len(live(held)))
    assert moved > 100


def test_many_moves_of_one_plan_do_not_overshoot_together():
    loads = [Load(1, 90, 100), Load(2, 90, 100), Load(3, 0, 100)]
    plan, moved = Plan(loads), 0
    while any(plan.allows(source, 3, 5) for source in (1, 2)):
        fills = {number: load.fill for number, load in plan.loads.items()}
        held = [Copy(number, L, "", fills[number]) for number in (1, 2)]
        giver = gives_up(2, held, Copy(3, L, "", fills[3]))
        assert giver is not None
        plan.moved(giver, 3, 5)
        moved += 1
    assert moved == 12
    assert [load.used for load in plan.loads.values()] == [60, 60, 60]
    assert not plan.allows(3, 1, 1)
