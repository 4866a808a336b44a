"""What is pushed into a shared file system."""

from __future__ import annotations

import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any

from goggles.clock import SystemClock
from goggles.contracts.orders import PushOrder
from goggles.storage.pushing import Pusher
from goggles.wire.data import CHUNK

ID = "a" * 32


class OneFile:
    """A vault with one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, path: str, version: str) -> FileIO:
        return open(self._path, "rb", buffering=0)


class Watching(SystemClock):
    """Looks at a file whenever somebody waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[bytes] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.seen.append(self.path.read_bytes())
        return False


def push(tmp_path: Path, data: bytes, place: Path, clock: Any) -> None:
    (tmp_path / "file").write_bytes(data)
    vault: Any = OneFile(tmp_path / "file")
    dialer: Any = None
    pusher = Pusher(vault, dialer, (tmp_path,), "ssh", clock, threading.Event())
    pusher.push(PushOrder(ID, "local", "/f", "v" * 32, len(data), "store", "", 0, str(place), b"", CHUNK))


def test_bytes_that_were_compared_stay_while_a_second_push_writes_them_again(tmp_path: Path) -> None:
    place, data = tmp_path / "data", os.urandom(3 * CHUNK + 7)
    place.write_bytes(data)
    clock = Watching(place)
    push(tmp_path, data, place, clock)
    assert len(clock.seen) >= 3
    assert all(seen == data for seen in clock.seen)


def test_what_was_left_there_by_somebody_else_is_gone_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.write_bytes(os.urandom(5 * CHUNK))
    push(tmp_path, b"short", place, Watching(place))
    assert place.read_bytes() == b"short"
