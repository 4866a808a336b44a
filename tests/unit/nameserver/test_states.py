"""The table of a storage's life."""

import pytest

from goggles.errors import Conflict
from goggles.nameserver.states import READABLE, TRANSITIONS, Event, NodeState, advance


def test_every_state_has_its_moves():
    assert set(TRANSITIONS) == set(NodeState)


def test_the_usual_life():
    state = NodeState.DOWN
    for event, after in [
        (Event.UPGRADE, NodeState.CHECKING),
        (Event.ACTIVATE, NodeState.ACTIVE),
        (Event.LOSE, NodeState.GRACE),
        (Event.EXPIRE, NodeState.DOWN),
    ]:
        state = advance(state, event)
        assert state is after


@pytest.mark.parametrize("state", [NodeState.DOWN, NodeState.GRACE, NodeState.ACTIVE, NodeState.HELD])
def test_only_a_checking_storage_can_be_activated(state):
    with pytest.raises(Conflict, match=f"{state} cannot activate"):
        advance(state, Event.ACTIVATE)


def test_a_storage_can_be_lost_from_any_state():
    assert all(advance(state, Event.LOSE) not in READABLE for state in NodeState)
