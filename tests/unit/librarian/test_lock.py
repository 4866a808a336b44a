"""Telling a trouble and reading figures: neither waits for the global lock, and a flood has an end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from goggles.clock import ManualClock
from goggles.errors import ChecksumMismatch, InternalError, NoSpace, NotFound, ProtocolError, Unavailable
from goggles.librarian import troubles as module
from goggles.librarian.figures import Reader
from goggles.librarian.keyring import Keyring
from goggles.librarian.managers import Managers
from goggles.librarian.peers import Peers
from goggles.librarian.tasks import Tasks
from goggles.librarian.troubles import Query, Troubles, category_of
from goggles.librarian.underway import UnderWay
from goggles.meta.database import Database
from goggles.nameserver.site import Policy, Site


class NoTasks:
    def report(self) -> list[Any]:
        return []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    database = Database.open(tmp_path / "goggles.db")
    clock = ManualClock()
    database.prepare("site", clock.now())
    epoch = database.begin_epoch(clock)
    nobody = cast(Any, SimpleNamespace(contexts=SimpleNamespace(expires_at=0.0)))
    yield Site(database, epoch, *database.site(), dialer=nobody, clock=clock, policy=Policy())
    database.close()


@pytest.fixture
def troubles(site: Site) -> Troubles:
    return Troubles(site)


def within(seconds: float, action: Callable[[], Any]) -> bool:
    """Whether `action` ends in time, in a thread of its own."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def test_telling_waits_for_nobody(site: Site, troubles: Troubles) -> None:
    troubles.start()
    with site.decisions.lock:
        assert within(5, lambda: [site.trouble("error", "transfer", f"number {n}") for n in range(5_000)])
    troubles.stop()
    assert 0 < len(troubles.search(Query(max_results=10_000))) <= 5_000


def test_a_flood_of_the_same_is_one_row(site: Site, troubles: Troubles) -> None:
    troubles.start()
    for _ in range(5_000):
        site.trouble("error", "transfer", "the same")
    troubles.stop()
    assert [row.message for row in troubles.search(Query())] == ["the same"]


def test_what_stands_has_an_end(site: Site, troubles: Troubles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STANDING", 10)
    troubles.start()
    for number in range(50):
        site.trouble("error", "transfer", f"number {number}")
    troubles.stop()
    assert len(troubles.search(Query(max_results=1000))) == 10


def test_whatever_is_told_is_taken(site: Site, troubles: Troubles) -> None:
    site.trouble("worse", "nonsense", "a\0b" * 10_000)
    troubles.start()
    troubles.stop()
    (row,) = troubles.search(Query())
    assert (row.severity, row.category, len(row.message) <= module.LONGEST) == ("error", "programming", True)
    assert "\0" not in row.message
    assert row.caller.endswith("test_whatever_is_told_is_taken")


def test_a_database_that_fails_costs_rows_and_nothing_else(site: Site, troubles: Troubles) -> None:
    def refuse(_: Any) -> Any:
        raise InternalError("no database")

    works, site.decisions.run = site.decisions.run, refuse  # type: ignore[method-assign]
    troubles.start()
    site.trouble("error", "transfer", "lost")
    site.decisions.run = works  # type: ignore[method-assign]
    troubles.stop()
    assert len(troubles.search(Query())) <= 1


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (ChecksumMismatch("x"), "data_integrity"),
        (NoSpace("x"), "store_full"),
        (Unavailable("x"), "librarian_network_availability"),
        (NotFound("x"), "configuration"),
        (InternalError("x"), "programming"),
        (ProtocolError("x"), "transfer"),
        (KeyError("x"), "programming"),
    ],
)
def test_errors_have_categories(error: BaseException, category: str) -> None:
    assert category_of(error) == category


def test_figures_are_read_without_the_lock_and_once_in_a_second(site: Site, tmp_path: Path) -> None:
    peers = Peers(site, None, Keyring(tmp_path / "key"))
    reader = Reader(site, peers, cast(Tasks, NoTasks()), UnderWay(site, peers, Managers([])))
    read: list[Any] = []
    with site.decisions.lock:
        assert within(5, lambda: read.append(reader.read()))
    assert reader.read() is read[0]
    clock = cast(ManualClock, site.clock)
    clock.advance(0.9)
    assert reader.read() is read[0]
    clock.advance(0.2)
    assert reader.read() is not read[0]
    assert reader.read().since_upload is None
