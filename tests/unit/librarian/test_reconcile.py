"""Every pair of states that the two sides of a transfer can be in, and what each side makes of it."""

from __future__ import annotations

import itertools

import pytest

from goggles.contracts.peering import State
from goggles.errors import Conflict
from goggles.librarian.reconcile import Action, at_destination, at_source
from goggles.librarian.states import LIVE, OVER, TRANSITIONS, Event, advance, leads_on

# ours (rows) by theirs (columns): unknown INITIATED ONGOING STAGED COMPLETED FAILED CANCELLED
AT_SOURCE = """
INITIATED   fail   wait   wait   arrive verify fail   cancel
ONGOING     fail   wait   wait   arrive verify fail   cancel
STAGED      fail   tell   tell   wait   verify fail   cancel
COMPLETED   wait   wait   wait   wait   wait   wait   wait
FAILED      wait   tell   tell   tell   wait   wait   wait
CANCELLED   wait   tell   tell   tell   wait   wait   wait
"""
AT_DESTINATION = """
INITIATED   fail   wait   start  arrive arrive fail   cancel
ONGOING     fail   wait   wait   arrive arrive fail   cancel
STAGED      fail   wait   wait   wait   wait   fail   cancel
COMPLETED   wait   tell   tell   tell   wait   wait   wait
FAILED      wait   tell   tell   tell   wait   wait   wait
CANCELLED   wait   tell   tell   tell   wait   wait   wait
"""
THEIRS = [None, *State]


def cells(text: str) -> list[tuple[State, State | None, Action]]:
    rows = [line.split() for line in text.strip().splitlines()]
    return [(State[row[0]], theirs, Action(word)) for row in rows for theirs, word in zip(THEIRS, row[1:], strict=True)]


@pytest.mark.parametrize(("ours", "theirs", "action"), cells(AT_SOURCE))
def test_at_the_source(ours: State, theirs: State | None, action: Action) -> None:
    assert at_source(ours, theirs) is action


@pytest.mark.parametrize(("ours", "theirs", "action"), cells(AT_DESTINATION))
def test_at_the_destination(ours: State, theirs: State | None, action: Action) -> None:
    assert at_destination(ours, theirs) is action


def test_the_tables_are_complete() -> None:
    for text in (AT_SOURCE, AT_DESTINATION):
        assert len(cells(text)) == len(State) * len(THEIRS)


@pytest.mark.parametrize("decide", [at_source, at_destination])
def test_what_is_decided_can_be_done(decide) -> None:
    for ours, theirs in itertools.product(State, THEIRS):
        action = decide(ours, theirs)
        if action.value in set(Event):
            advance(ours, Event(action.value))


def test_two_sides_that_ask_each_other_come_to_an_end() -> None:
    """From every pair of states that can arise, asking in turn leads to where both have nothing left to say."""
    for source, destination in itertools.product(State, State):
        for _ in range(6):
            source, destination = ask_source(source, destination)
            source, destination = ask_destination(source, destination)
        given_up = source in (State.FAILED, State.CANCELLED)
        stuck = (source in LIVE and destination in OVER) or (destination in LIVE and given_up)
        assert not stuck, (source, destination)


def ask_source(source: State, destination: State) -> tuple[State, State]:
    action = at_source(source, destination)
    if action is Action.TELL:
        event = {State.STAGED: Event.ARRIVE, State.FAILED: Event.FAIL, State.CANCELLED: Event.CANCEL}[source]
        return source, TRANSITIONS[destination].get(event, destination)
    return (source, destination) if action is Action.WAIT else (advance(source, Event(action.value)), destination)


def ask_destination(source: State, destination: State) -> tuple[State, State]:
    action = at_destination(destination, source)
    if action is Action.TELL:
        event = {State.COMPLETED: Event.VERIFY, State.CANCELLED: Event.CANCEL}.get(destination, Event.FAIL)
        return TRANSITIONS[source].get(event, source), destination
    return (source, destination) if action is Action.WAIT else (source, advance(destination, Event(action.value)))


def test_what_is_over_stays_over_and_illegal_moves_change_nothing() -> None:
    for state, event in itertools.product(State, Event):
        after = TRANSITIONS[state].get(event)
        if after is None:
            with pytest.raises(Conflict):
                advance(state, event)
            assert not leads_on(state, event)
        elif state in OVER:
            assert advance(state, event) is state
