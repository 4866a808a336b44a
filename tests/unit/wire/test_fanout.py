"""One stream to several consumers: what happens where the system has no thread for one of them."""

from __future__ import annotations

import threading

import pytest

from goggles.errors import Overloaded
from goggles.wire.fanout import Fanout


def test_no_thread_is_left_where_the_system_has_none_for_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = threading.Thread.start, list[threading.Thread]()

    def one_only(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_only)
    with pytest.raises(Overloaded, match="ulimit -u"):
        Fanout({"hash": lambda _: None, "write": lambda _: None}, "get")
    assert not begun[0].is_alive()
