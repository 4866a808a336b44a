"""Orders in their order."""

from goggles.contracts import orders
from goggles.contracts.orders import before_first
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
