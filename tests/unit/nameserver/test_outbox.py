"""Orders in their order."""

from goggles.contracts import orders
from goggles.nameserver.outbox import Outbox


def test_first_in_first_out_and_numbered_from_one():
    box = Outbox("s")
    assert [box.push(orders.mkdir(f"/{n}")) for n in range(5)] == [1, 2, 3, 4, 5]
    first, batch = box.take(2, 0)
    assert first == 1
    assert [entry.order for entry in batch] == [orders.mkdir("/0"), orders.mkdir("/1")]
    first, batch = box.take(9, 0)
    assert (first, len(batch)) == (3, 3)
    assert box.take(9, 0) == (6, [])


def test_a_closed_outbox_gives_back_what_was_not_carried():
    box = Outbox("s")
    box.push(orders.mkdir("/a"))
    assert len(box.close()) == 1
    assert box.closed
    assert box.take(9, 0)[1] == []
