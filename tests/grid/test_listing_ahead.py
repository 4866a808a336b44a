"""Long listings: the next page is asked for while one is read, whatever becomes of it."""

from __future__ import annotations

import pytest
from tests.grid.conftest import Factory

from goggles.client.session import PAGE, Session
from goggles.errors import GogglesError, NotFound
from goggles.paths import DfsPath
from goggles.testing.cluster import Cluster

MANY = 2 * PAGE + 300
NAMES = [f"d{number:05}" for number in range(MANY)]


@pytest.fixture
def long(fs: Session, home: str) -> str:
    """A directory of three pages."""
    fs.mkdirs([f"{home}/{name}" for name in NAMES])
    return home


def test_all_pages_come_in_their_order(fs: Session, long: str) -> None:
    assert [entry.path for entry in fs.ls(long)] == [f"{long}/{name}" for name in NAMES]
    assert next(fs._each(DfsPath(long))).path.startswith(long)


@pytest.mark.parametrize("more", [0, 1])
def test_a_directory_of_just_a_page_or_one_more(fs: Session, home: str, more: int) -> None:
    fs.mkdirs([f"{home}/{name}" for name in NAMES[: PAGE + more]])
    assert len(fs.ls(home)) == PAGE + more


def test_an_answer_that_nobody_waits_for_meets_no_other_call(fs: Session, long: str) -> None:
    walk = fs._each(DfsPath(long))
    next(walk)
    walk.close()
    for _ in range(3):
        assert fs.stat(f"{long}/d00000").path == f"{long}/d00000"
        assert len(fs.ls(long)) == MANY


def test_a_directory_that_goes_between_two_pages(fs: Session, long: str) -> None:
    walk = fs._each(DfsPath(long))
    next(walk)
    fs.rmdir(long, recursive=True)
    found = 1
    with pytest.raises(NotFound):
        for _ in walk:
            found += 1
    assert found in (PAGE, 2 * PAGE), "whole pages; the second was asked for before it went"


@pytest.mark.slow
def test_a_nameserver_that_starts_anew_between_two_pages(cluster: Factory) -> None:
    site: Cluster = cluster("alice")
    with site.connect() as fs:
        fs.mkdirs([f"/{name}" for name in NAMES])
        walk = fs._each(DfsPath("/"))
        found = [next(walk).path]
        assert site.nameserver is not None
        site.nameserver.kill()
        site.start_nameserver()
        found += [entry.path for entry in walk]
    assert found == [f"/{name}" for name in NAMES]


def test_a_session_that_was_closed_says_so(site: Cluster, long: str) -> None:
    with site.connect() as fs:
        walk = fs._each(DfsPath(long))
        next(walk)
    with pytest.raises(GogglesError, match="closed"):
        list(walk)
