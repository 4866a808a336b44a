"""Which files that wait for a busy storage are looked at again."""

from goggles.nameserver.repair import whose_turn

LATER = {1: 10, 2: 10, 3: 20, 4: 10, 5: 30, 6: 30}


def test_as_many_as_there_are_free_places_the_longest_waiting_first():
    assert whose_turn(LATER, {10: 2, 20: 0, 30: 0}) == [1, 2]
    assert whose_turn(LATER, {10: 0, 20: 5, 30: -1}) == [3]


def test_nobody_waits_for_a_storage_that_is_gone():
    assert whose_turn(LATER, {10: 0, 20: 0}) == [5, 6]
    assert whose_turn(LATER, {}) == list(LATER)
