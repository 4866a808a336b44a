"""Peers that do not answer are asked less and less often, and named once in a while."""

from __future__ import annotations

import pytest

from goggles.clock import ManualClock
from goggles.errors import ConnectionLost, Unavailable
from goggles.librarian import patience
from goggles.librarian.patience import Rests, Said


def test_pauses_grow_to_their_limit_and_end_with_an_answer():
    clock = ManualClock()
    rests = Rests(clock)
    pauses = []
    for _ in range(7):
        rests.check(1)
        rests.failed(1, ConnectionLost("gone"))
        began = clock.monotonic()
        while True:
            try:
                rests.check(1)
                break
            except ConnectionLost:
                clock.advance(0.5)
        pauses.append(clock.monotonic() - began)
    assert pauses == [1, 2, 4, 8, 15, 15, 15]
    rests.failed(1, ConnectionLost("gone"))
    rests.over(1)
    rests.check(1)
    rests.failed(1, ConnectionLost("gone"))
    clock.advance(patience.FIRST)
    rests.check(1)


def test_several_failures_at_once_are_one():
    rests = Rests(ManualClock())
    for _ in range(5):
        rests.failed(1, Unavailable("nobody answers", "is it running?"))
    with pytest.raises(Unavailable, match="nobody answers") as caught:
        rests.check(1)
    assert caught.value.hint == "is it running?"
    rests._clock.advance(patience.FIRST)
    rests.check(1)
    rests.check(2)


def test_the_same_is_said_again_after_a_while_only():
    clock = ManualClock()
    said = Said(clock)
    assert said.news("a", "it is down")
    assert not said.news("a", "it is down")
    assert said.news("a", "it is confused")
    assert said.news("b", "it is down")
    clock.advance(patience.REPEAT)
    assert said.news("b", "it is down")
    assert said.over("b")
    assert said.news("b", "it is down")
