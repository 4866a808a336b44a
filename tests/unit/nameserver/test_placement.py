"""Placement: the laws of its module, against random candidates."""

import random

from hypothesis import given
from hypothesis import strategies as st

from goggles.nameserver.placement import Candidate, choose

candidates = st.lists(
    st.builds(
        Candidate,
        id=st.integers(1, 50),
        zone=st.sampled_from(["", "a", "b", "c"]),
        free=st.integers(0, 1000),
        capacity=st.just(1000),
    ),
    unique_by=lambda c: c.id,
    max_size=8,
)


@given(candidates, st.integers(0, 1000), st.integers(0, 5), st.integers(), st.sets(st.integers(1, 50)))
def test_never_twice_never_without_room_never_where_a_copy_is(found, size, count, seed, taken):
    chosen = choose(found, size=size, count=count, chance=random.Random(seed), taken=taken)
    by_id = {c.id: c for c in found}
    assert len(set(chosen)) == len(chosen) <= count
    assert all(by_id[c].free >= size and c not in taken for c in chosen)
    possible = [c for c in found if c.free >= size and c.id not in taken]
    assert len(chosen) == min(count, len(possible))


@given(candidates, st.integers(1, 5), st.integers())
def test_as_many_zones_as_there_are(found, count, seed):
    chosen = choose(found, size=1, count=count, chance=random.Random(seed))
    possible = {c.zone for c in found if c.free >= 1}
    zones = {c.zone for c in found if c.id in chosen}
    assert len(zones) == min(len(possible), len(chosen))


def test_zones_that_have_a_copy_come_last():
    nodes = [Candidate(1, "a", 10, 10), Candidate(2, "b", 10, 10)]
    for seed in range(20):
        assert choose(nodes, size=1, count=1, chance=random.Random(seed), taken_zones=["a"]) == [2]


def test_fuller_storages_get_less():
    nodes = [Candidate(1, "", 900, 1000), Candidate(2, "", 100, 1000)]
    chance = random.Random(7)
    first = sum(choose(nodes, size=1, count=1, chance=chance) == [1] for _ in range(1000))
    assert 830 < first < 960
