"""Orders in their order."""

import threading
import time

from goggles.contracts import orders
from goggles.contracts.orders import before_first
from goggles.nameserver import courier
from goggles.nameserver.outbox import Outbox


def test_first_in_first_out_and_numbered_within_the_session():
    box, before = Outbox("s"), before_first("s")
    assert [box.push(orders.mkdir(f"/{n}")) - before for n in range(5)] == [1, 2, 3, 4, 5]
    first, batch = box.take(2, 0)
    assert first == before + 1
    assert [entry.order for entry in batch] == [orders.mkdir("/0"), orders.mkdir("/1")]
    first, batch = box.take(9, 0)
    assert (first - before, len(batch)) == (3, 3)
    assert box.take(9, 0) == (before + 6, [])


def test_a_closed_outbox_gives_back_what_was_not_carried():
    box = Outbox("s")
    box.push(orders.mkdir("/a"))
    assert len(box.close()) == 1
    assert box.closed
    assert box.take(9, 0)[1] == []


def took(action) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_more_orders_are_waited_for_unless_somebody_waits_for_those_that_are_there():
    outbox = Outbox("a session")
    outbox.push(orders.mkdir("/a"))
    assert took(lambda: outbox.gather(0.0, 0.1)) >= 0.1
    threading.Timer(0.02, outbox.hurry).start()
    assert took(lambda: outbox.gather(0.0, 10.0)) < 5
    outbox.hurry()
    assert 0.05 <= took(lambda: outbox.gather(0.05, 10.0)) < 5, "not less than the least"
    outbox.done = outbox.last
    outbox.gather(0.0, 0.0)
    assert took(lambda: outbox.gather(0.0, 0.1)) >= 0.1, "what was waited for is done"


def test_what_is_waited_for_hurries_until_it_is_carried_out():
    outbox = Outbox("a session")
    for _ in range(3):
        outbox.push(orders.mkdir("/a"))
    outbox.hurry()
    outbox.done += 2
    assert took(lambda: outbox.gather(0.0, 10.0)) < 5, "the first call"
    assert took(lambda: outbox.gather(0.0, 10.0)) < 5, "it is not done yet"
    outbox.done += 1
    outbox.gather(0.0, 0.0)
    assert took(lambda: outbox.gather(0.0, 0.1)) >= 0.1


def test_an_order_to_begin_something_is_waited_for():
    outbox = Outbox("a session")
    outbox.push(orders.mkdir("/a"))
    assert took(lambda: outbox.gather(0.0, 0.1)) >= 0.1
    outbox.push(orders.check("/a", "0" * 32, "1" * 32))
    assert took(lambda: outbox.gather(0.0, 10.0)) < 5


def test_nobody_waits_for_orders_that_are_carried_out():
    outbox = Outbox("a session")
    outbox.push(orders.mkdir("/a"))
    outbox.done = outbox.last
    outbox.hurry()
    assert took(lambda: outbox.gather(0.0, 0.1)) >= 0.1


def test_an_outbox_that_is_closed_lets_its_courier_go_at_once():
    outbox = Outbox("a session")
    threading.Timer(0.02, outbox.close).start()
    assert took(lambda: outbox.gather(0.0, 10.0)) < 5


def test_a_backlog_is_carried_without_a_pause():
    assert courier._pauses(courier.BATCH) == (0.0, 0.0)
    assert courier._pauses(1) == (courier.TOGETHER, courier.TOGETHER)
    assert courier._pauses(courier.MANY) == (courier.LONGER, courier.LONGEST)
