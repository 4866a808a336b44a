"""Which manager gets a batch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from goggles.errors import Unavailable
from goggles.librarian.managers import Managers, Progress
from goggles.librarian.managers.steps import joined


def manager(name: str) -> Any:
    return SimpleNamespace(name=name, valid=lambda facility: True)


def batch(**handle: Any) -> Any:
    return SimpleNamespace(manager="globus", handle=json.dumps(handle))


def test_a_batch_that_may_be_under_way_stays_with_its_manager() -> None:
    globus, goggles = manager("globus"), manager("goggles")
    assert Managers([goggles, globus]).bound(batch(bound=True)) is globus
    assert Managers([goggles, globus]).bound(batch(bound=False)) is None
    assert Managers([goggles, globus]).bound(batch()) is None


@pytest.mark.parametrize(
    ("root", "place", "path"),
    [("/", "/a/b", "/a/b"), ("/r/", "a", "/r/a"), ("//r//s", ".goggles/x", "/r/s/.goggles/x"), ("/~/", "a", "/~/a")],
)
def test_a_place_below_a_root_has_no_empty_parts(root: str, place: str, path: str) -> None:
    assert joined(root, place) == path


def test_of_a_manager_that_is_gone_no_progress_is_known() -> None:
    assert Managers([manager("goggles")]).progress(batch(bound=True), []) == Progress()


def test_after_each_failed_try_the_next_is_the_first() -> None:
    made = Managers([manager("goggles"), manager("local"), manager("rsync")])
    ways: dict[str, Any] = {"goggles": {}, "rsync": {}, "local": {}}
    names = [[one.name for one in made.ordered(("rsync", "globus", "goggles"), ways, tries)] for tries in range(3)]
    assert names == [["rsync", "goggles"], ["goggles", "rsync"], ["rsync", "goggles"]]
    with pytest.raises(Unavailable, match="none of globus leads"):
        made.ordered(("globus",), ways, 0)


def test_it_waits_where_its_manager_is_gone() -> None:
    with pytest.raises(Unavailable):
        Managers([manager("goggles")]).bound(batch(bound=True))
