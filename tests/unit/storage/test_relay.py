"""Passing an upload on: how long a storage that hangs is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from goggles.errors import Unavailable
from goggles.storage.receiving import relay
from goggles.wire.server import STALL


class Pool:
    """Links that notes how long it was told to wait, and reaches nobody."""

    def __init__(self) -> None:
        self.stalls: list[float] = []

    @contextlib.contextmanager
    def to(self, name: str, address: object, stall: float = STALL) -> Iterator[Any]:
        self.stalls.append(stall)
        raise Unavailable(f"{name} is not there")
        yield


def waited(further: int) -> float:
    pool = Pool()
    hops = tuple((f"s{n}", "host", 1, b"", 0) for n in range(further))
    with relay(pool, hops) as onward:  # type: ignore[arg-type]
        assert onward is not None
        assert onward.failed
    return pool.stalls[0]


@pytest.mark.parametrize("further", range(1, 16))
def test_each_storage_of_a_chain_gives_up_before_the_one_that_waits_for_it(further: int):
    before = waited(further + 1) if further < 15 else STALL
    assert STALL / 2 <= waited(further) < before - 0.1
