"""Which manager gets a batch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from goggles.errors import Unavailable
from goggles.librarian.managers import Managers


def manager(name: str) -> Any:
    return SimpleNamespace(name=name, valid=lambda facility: True)


def batch(**handle: Any) -> Any:
    return SimpleNamespace(manager="globus", handle=json.dumps(handle))


def test_a_batch_that_may_be_under_way_stays_with_its_manager() -> None:
    globus, goggles = manager("globus"), manager("goggles")
    assert Managers([goggles, globus]).bound(batch(bound=True)) is globus
    assert Managers([goggles, globus]).bound(batch(bound=False)) is None
    assert Managers([goggles, globus]).bound(batch()) is None


def test_it_waits_where_its_manager_is_gone() -> None:
    with pytest.raises(Unavailable):
        Managers([manager("goggles")]).bound(batch(bound=True))
