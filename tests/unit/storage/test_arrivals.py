"""Places for what comes from other sites: filled from outside, dropped when not needed, believed after reading."""

from __future__ import annotations

import contextlib
import stat
import threading

import pytest

from goggles import failpoints
from goggles.contracts import orders

A = "a" * 32


def places(box):
    return [path.name for path in (box.root / ".goggles" / "incoming").iterdir()]


def fill(box, data):
    box.vault.arrivals.make((A,))
    with box.vault.arrivals.append(A, 0) as file:
        file.write(data)


def test_a_place_that_is_dropped_is_gone(box):
    fill(box, b"half of it")
    assert box.do(orders.drop_arrival(A)) == ("ok",)
    assert places(box) == []


def test_a_place_that_is_dropped_while_somebody_writes_goes_when_that_ends(box):
    box.vault.arrivals.make((A,))
    with box.vault.arrivals.append(A, 0) as file:
        file.write(b"half of it")
        assert box.do(orders.drop_arrival(A)) == ("ok",)
        assert places(box) == [A]
    assert places(box) == []
    fill(box, b"a new one")
    assert places(box) == [A]


def test_what_was_read_before_a_crash_leaves_no_place_behind(box):
    data = b"all of it"
    fill(box, data)
    failpoints.arm("storage.ingest.after_rename", lambda: failpoints._fail("a crash"))
    with contextlib.suppress(failpoints.InjectedFailure):
        box.vault.arrivals.ingest(A, len(data), box.sha(data), A)
    failpoints.disarm()
    box.reopen().arrivals.ingest(A, len(data), box.sha(data), A)
    assert places(box) == []
    assert [held.path for held in box.walk("staged")] == [A]


@pytest.mark.parametrize(("mode", "kept"), [(0o666, 0o644), (0o600, 0o600), (0o6777, 0o755)])
def test_whatever_mode_it_was_carried_with_nobody_else_may_change_it(box, mode, kept):
    data = b"all of it"
    fill(box, data)
    (box.root / ".goggles" / "incoming" / A / "data").chmod(mode)
    box.vault.arrivals.ingest(A, len(data), box.sha(data), A)
    (staged,) = (path for path in (box.root / ".goggles").rglob(A) if path.is_file())
    assert stat.S_IMODE(staged.stat().st_mode) == kept


def test_a_place_that_is_dropped_while_it_is_read_goes_when_that_ends(box):
    data, reading, go_on = b"all of it", threading.Event(), threading.Event()
    fill(box, data)

    def stand_still():
        reading.set()
        go_on.wait(10)

    failpoints.arm("storage.ingest.before_fsync", stand_still)
    reader = threading.Thread(target=box.vault.arrivals.ingest, args=(A, len(data), box.sha(data), A))
    reader.start()
    assert reading.wait(10)
    assert box.do(orders.drop_arrival(A)) == ("ok",)
    go_on.set()
    reader.join()
    failpoints.disarm()
    assert places(box) == []
    assert box.do(orders.discard(A)) == ("ok",)  # the nameserver says so when it hears that it was read
    assert box.walk("staged") == []
