"""The nameserver dies between its commit and its answer: the caller asks again and gets the first answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.errors import NotFound
from goggles.testing.cluster import Cluster, Process
from goggles.testing.fsck import fsck

STORAGES = ("alice", "bob")
FLAGS = ["--grace", "3", "--heartbeat", "0.5"]
POINT = "nameserver.decide.after_commit"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("lost"), STORAGES, nameserver_flags=FLAGS) as cluster:
        yield cluster


@pytest.fixture
def fs(cluster: Cluster) -> Iterator[Session]:
    with cluster.connect(timeout=30) as fs:
        yield fs


class Answers:
    """Runs a call while the nameserver dies right after the commit of each of its decisions in turn."""

    def __init__(self, cluster: Cluster, fs: Session) -> None:
        self._cluster = cluster
        self._fs = fs

    def lose(self, call: Callable[[], object], decision: int) -> object:
        """The answer of `call`, though the nameserver dies after `decision` decisions from now were committed.

        Deaths that came before the call (at a decision of the nameserver's own) are not what is wanted: again."""
        dying = self._start(decision)
        self._cluster.wait_active(STORAGES)
        raise NotImplementedError(dying, call)

    def _start(self, decision: int) -> Process:
        assert self._cluster.nameserver is not None
        self._cluster.nameserver.kill()
        return self._cluster.start_nameserver(environment={"GOGGLES_FAILPOINTS": f"{POINT}=crash@{decision}"})
