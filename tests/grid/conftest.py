"""Sites of real processes, and the comparison of database and disks after each test.

Law: a test that uses `cluster` ends with the site at rest and `fsck` silent, except for clusters made with
`tidily=False`.  The shared `site` is for cheap tests that leave every process alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goggles.client.session import Session
from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

QUICK = ("--grace", "1", "--heartbeat", "0.3")
Factory = Callable[..., Cluster]


def problems(cluster: Cluster) -> list[str]:
    """What `fsck` says of a stopped cluster."""
    return fsck(cluster.database, {name: cluster.root(name) for name in cluster.names})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Factory]:
    """Call it for a started cluster below `tmp_path` (`started=False`: not started; `tidily=False`: not compared)."""
    made: list[Cluster] = []
    tidy: list[Cluster] = []

    def make(*names: str, started: bool = True, tidily: bool = True, folder: str = "site", **more: Any) -> Cluster:
        more.setdefault("nameserver_flags", QUICK)
        one = Cluster(tmp_path / folder, names or ("alice", "bob", "carol"), **more)
        made.append(one)
        tidy.extend([one] if tidily else [])
        if started:
            one.start()
        return one

    try:
        yield make
        for one in tidy:
            one.wait_settled(20)
    finally:
        for one in made:
            one.stop()
    assert [problem for one in tidy for problem in problems(one)] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all the cheap tests of a module."""
    with Cluster(tmp_path_factory.mktemp("shared") / "site", nameserver_flags=QUICK) as shared:
        yield shared
        shared.wait_settled(20)
    assert problems(shared) == []


@pytest.fixture
def fs(site: Cluster) -> Iterator[Session]:
    """A session on the shared cluster."""
    with site.connect() as session:
        yield session


@pytest.fixture
def home(fs: Session, request: pytest.FixtureRequest) -> str:
    """A directory of the shared cluster for this test alone."""
    path = f"/{request.node.name[:60].replace('[', '-').replace(']', '')}"
    fs.mkdir(path)
    return path
