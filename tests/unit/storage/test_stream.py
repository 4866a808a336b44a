"""Who waits for an order, and for how long."""

import threading
import time

import pytest

from goggles.contracts import orders
from goggles.contracts.orders import NONE, before_first
from goggles.errors import ProtocolError, Stale
from goggles.storage import stream
from goggles.storage.stream import OrderStream

OLD, NEW = "a" * 32, "b" * 32
SOON = 2.0  # seconds; far less than a reader waits for an order that is still to come


@pytest.fixture
def carried(box):
    """A stream that has carried out three orders of a session."""
    made = OrderStream(box.vault, lambda order: None)
    made.begin(OLD)
    made.carry_out(OLD, before_first(OLD) + 1, [orders.mkdir(f"/{number}") for number in range(3)])
    return made


def seconds(action):
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_what_was_carried_out_is_not_waited_for_in_the_next_session_and_after_it_either(carried):
    for session in (OLD, "", NEW):
        carried.begin(session)
        for number in (NONE, before_first(OLD), before_first(OLD) + 1, before_first(OLD) + 3):
            assert seconds(lambda number=number: carried.wait_for(number)) < SOON


@pytest.mark.parametrize("session", ["", NEW])
def test_what_was_lost_with_a_session_is_stale_at_once(carried, session):
    carried.begin(session)
    began = time.monotonic()
    for number in (before_first(OLD) + 4, before_first(OLD) + 1_000, before_first("c" * 32) + 1):
        with pytest.raises(Stale):
            carried.wait_for(number)
    assert time.monotonic() - began < SOON


def test_an_order_that_is_still_to_come_is_waited_for(carried):
    number = before_first(OLD) + 4
    thread = threading.Timer(0.3, lambda: carried.carry_out(OLD, number, [orders.mkdir("/late")]))
    thread.start()
    assert 0.2 < seconds(lambda: carried.wait_for(number)) < stream.WAIT
    thread.join()


def test_who_waits_in_a_session_that_ends_meanwhile_is_told(carried):
    threading.Timer(0.3, lambda: carried.begin(NEW)).start()
    with pytest.raises(Stale):
        carried.wait_for(before_first(OLD) + 4)


@pytest.mark.parametrize("first", [0, 1, -1, before_first(NEW) + 1, 1 << 62])
def test_orders_that_are_numbered_otherwise_are_refused_not_taken_for_done(carried, first):
    with pytest.raises(ProtocolError):
        carried.carry_out(OLD, first, [orders.mkdir("/other")])


def test_numbers_of_two_sessions_are_far_apart_and_fit_into_what_crosses():
    numbers = [before_first(f"{n:032x}") for n in range(1_000)]
    assert all(0 <= number < 2**63 - 2**32 for number in numbers)
    assert len({number >> 32 for number in numbers}) == len(numbers)
