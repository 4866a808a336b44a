"""The judge of histories: which it explains, and which it must refuse."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.chaos.history import ABSENT, DONE, NEVER, SHARED, UNKNOWN, Record
from tests.chaos.linear import Event, events_of, explain

A, B, C = "a" * 64, "b" * 64, "c" * 64


def put(value: str, began: float, ended: float = NEVER) -> Event:
    return Event("put", frozenset({value}), began, ended, ended != NEVER, f"put {value[:1]}")


def any_of(values: str, began: float, ended: float = NEVER) -> Event:
    return Event("put", frozenset(value * 64 for value in values), began, ended, ended != NEVER, f"put one of {values}")


def rm(began: float, ended: float = NEVER) -> Event:
    return Event("rm", frozenset(), began, ended, ended != NEVER, "rm")


def look(value: str, began: float, ended: float) -> Event:
    return Event("look", frozenset({value}), began, ended, known=True, text=f"look {value[:1] or 'nothing'}")


EXPLAINED = {
    "nothing at all": [],
    "one after the other": [put(A, 0, 1), look(A, 2, 3), rm(4, 5), look("", 6, 7)],
    "a look during a put sees the old": [put(A, 0, 1), put(B, 2, 9), look(A, 3, 4)],
    "a look during a put sees the new": [put(A, 0, 1), put(B, 2, 9), look(B, 3, 4)],
    "puts at the same time in either order": [put(A, 0, 9), put(B, 0, 9), look(A, 10, 11)],
    "a lost put that happened": [put(A, 0), look(A, 5, 6)],
    "a lost put that never happened": [put(A, 0), look("", 5, 6)],
    "a lost put that happened late": [put(A, 0), put(B, 1, 2), look(B, 3, 4), look(A, 5, 6)],
    "a lost removal that happened late": [put(A, 0, 1), rm(2), look(A, 3, 4), look("", 5, 6)],
    "a lost put lets two removals be": [put(A, 0, 1), put(B, 0), rm(2, 3), rm(4, 5)],
    "what came by mv is one of those": [any_of("ab", 0, 1), look(B, 2, 3), look(B, 4, 5)],
    "a lost mv": [any_of("ab", 0), look(A, 2, 3)],
    "touching ends": [put(A, 0, 1), look("", 1, 2)],
}
REFUSED = {
    "a put that is gone": [put(A, 0, 1), look("", 2, 3)],
    "a removal that came back": [put(A, 0, 1), rm(2, 3), look(A, 4, 5)],
    "what nobody put": [put(A, 0, 1), look(B, 2, 3)],
    "the old after the new": [put(A, 0, 1), put(B, 2, 9), look(B, 3, 4), look(A, 5, 6)],
    "back and forth": [put(A, 0, 9), put(B, 0, 9), look(A, 1, 2), look(B, 3, 4), look(A, 5, 6)],
    "before it began": [look(A, 0, 1), put(A, 2, 3)],
    "a lost put before it began": [look(A, 0, 1), put(A, 2)],
    "a lost put twice": [put(A, 0), look(A, 1, 2), rm(3, 4), look(A, 5, 6)],
    "two removals of one": [put(A, 0, 1), rm(2, 3), rm(4, 5)],
    "two removals of one at once": [put(A, 0, 1), rm(2, 9), rm(2, 9)],
    "what came by mv is one, and stays it": [any_of("ab", 0, 1), look(B, 2, 3), look(A, 4, 5)],
    "overwritten, and back": [put(A, 0, 1), put(B, 2, 3), look(A, 4, 5)],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_history_that_can_be_explained_is(name: str) -> None:
    assert explain(EXPLAINED[name]) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_a_history_that_nothing_explains_is_refused(name: str) -> None:
    assert explain(REFUSED[name]).startswith("no order explains")


def by_trial(events: list[Event]) -> bool:
    """The same question, put to every order of every choice."""
    known, loose = [one for one in events if one.known], [one for one in events if not one.known]
    for count in range(len(loose) + 1):
        for chosen in itertools.combinations(loose, count):
            for order in itertools.permutations([*known, *chosen]):
                if holds(order):
                    return True
    return False


def holds(order: tuple[Event, ...]) -> bool:
    began, state = 0.0, frozenset({""})
    for one in order:
        began = max(began, one.began)
        after = one.after(state)
        if after is None and not one.known:
            after = state
        if began > one.ended or after is None:
            return False
        state = after
    return True


@pytest.mark.parametrize("seed", range(60))
def test_it_says_what_trying_every_order_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(5):
        events = []
        for _ in range(chance.randint(2, 6)):
            began = chance.randrange(12)
            kind = chance.choice(("put", "put", "rm", "look", "look"))
            values = frozenset() if kind == "rm" else frozenset({chance.choice((A, B, "" if kind == "look" else C))})
            known = kind == "look" or chance.random() < 0.7
            ended = began + chance.randint(1, 6) + 0.5 if known else NEVER
            events.append(Event(kind, values, began, ended, known, kind))
        assert (explain(events) == "") == by_trial(events), events


def record(kind: str, path: str, began: float, *, other: str = "", digest: str = "", outcome: str = DONE) -> Record:
    ended = NEVER if outcome == UNKNOWN else began + 1
    return Record("c0", kind, SHARED, path, other, digest, began=began, ended=ended, outcome=outcome)


def verdicts(*records: Record) -> dict[str, bool]:
    return {name: explain(events) == "" for name, events in events_of(records).items()}


def test_a_mv_takes_one_name_and_gives_the_other():
    first, moved = record("put", "x", 0, digest=A), record("mv", "x", 2, other="y")
    seen = record("get", "y", 4)
    seen.found = A
    assert verdicts(first, moved, seen, record("rm", "x", 6, outcome=ABSENT)) == {"x": True, "y": True}
    assert verdicts(first, moved, seen, record("rm", "x", 6)) == {"x": False, "y": True}
    assert verdicts(first, moved, seen, record("rm", "y", 6), record("rm", "y", 8)) == {"x": True, "y": False}
    seen.found = B
    assert verdicts(first, moved, seen) == {"x": True, "y": False}
