"""Growing pauses."""

from goggles.nameserver.pauses import CALM, LONGEST, SHORTEST, Pauses


def test_at_once_then_after_pauses_that_double_up_to_the_longest():
    pauses, now, waits = Pauses(), 1_000.0, []
    for _ in range(9):
        due = pauses.due(now)
        waits.append(due - now)
        now = due + 1.0
    assert waits == [0.0, SHORTEST, 10.0, 20.0, 40.0, 80.0, 160.0, LONGEST, LONGEST]


def test_after_some_calm_at_once_again():
    pauses = Pauses()
    assert [pauses.due(now) for now in (1_000.0, 1_001.0)] == [1_000.0, 1_006.0]
    later = 1_006.0 + 2 * 10.0 + CALM
    assert pauses.due(later) == later + 10.0
    much_later = later + 10.0 + 2 * 20.0 + CALM + 1.0
    assert pauses.due(much_later) == much_later
