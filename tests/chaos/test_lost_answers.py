"""The nameserver dies between a commit and its answer: the caller asks again and gets the first answer.

Each kind of call is made many times in a row, and the nameserver dies after one of these commits; so every call
must come back as done, and what the calls together did must be there once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

STORAGES = ("alice", "bob")
FLAGS = ["--grace", "3", "--heartbeat", "0.5"]
AFTER_COMMIT = "nameserver.decide.after_commit"
CALLS = 60
DIES_AT = 60  # decisions after its start; coming up takes it fewer than that, coming up and CALLS calls more


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("lost"), STORAGES, nameserver_flags=FLAGS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fs(cluster: Cluster) -> Session:
    return cluster.connect(timeout=60)


@contextmanager
def dying(cluster: Cluster, armed: str) -> Iterator[None]:
    """A nameserver that dies within the block as `armed` says, and is started again at once."""
    assert cluster.nameserver is not None
    cluster.nameserver.kill()
    process = cluster.start_nameserver(environment={"GOGGLES_FAILPOINTS": armed})
    cluster.wait_active(STORAGES)
    assert process.running, "it died while it came up: raise DIES_AT"

    def revive() -> None:
        process.wait(60)
        cluster.start_nameserver()

    reviver = threading.Thread(target=revive)
    reviver.start()
    try:
        yield
        assert not process.running, "it did not die in the block: no answer was lost"
    finally:
        process.kill()
        reviver.join()
    cluster.wait_active(STORAGES)


def check(cluster: Cluster) -> None:
    cluster.wait_settled()
    assert fsck(cluster.database, {name: cluster.root(name) for name in STORAGES}) == []


def test_a_directory_is_made_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/made")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.mkdir(f"/made/{number:03}")
    assert fs.listdir("/made") == [f"{number:03}" for number in range(CALLS)]
    check(cluster)


def test_a_file_is_removed_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/removed")
    for number in range(CALLS):
        fs.write(f"/removed/{number:03}", b"gone soon")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.rm(f"/removed/{number:03}")
    assert fs.listdir("/removed") == []
    check(cluster)


def test_a_file_is_renamed_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/renamed")
    fs.write("/renamed/000", b"on the way")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.mv(f"/renamed/{number:03}", f"/renamed/{number + 1:03}")
    assert fs.listdir("/renamed") == [f"{CALLS:03}"]
    assert b"".join(fs.read(f"/renamed/{CALLS:03}")) == b"on the way"
    check(cluster)


def test_a_directory_is_removed_once(cluster: Cluster, fs: Session) -> None:
    for number in range(CALLS):
        fs.mkdir(f"/trees/{number:03}/below", parents=True)
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.rmdir(f"/trees/{number:03}", recursive=True)
    assert fs.listdir("/trees") == []
    check(cluster)


@pytest.mark.parametrize("armed", ["nameserver.commit.before_orders=crash@1", f"{AFTER_COMMIT}=crash@{DIES_AT}"])
def test_a_file_is_written_once(cluster: Cluster, fs: Session, tmp_path: Path, armed: str) -> None:
    local = tmp_path / "local"
    local.write_bytes(b"first")
    path = f"/written-{armed[11:17]}"
    with dying(cluster, armed):
        for number in range(1, CALLS // 2):
            answer = fs.put(local, path)
            assert answer.generation == number, "an upload whose answer was lost was not made again"
    info = fs.stat(path)
    assert isinstance(info, FileInfo)
    assert info.generation == CALLS // 2 - 1
    assert b"".join(fs.read(path)) == b"first"
    check(cluster)
